"""Plain functions as systems."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import PyTree

from separatrix._errors import explain
from separatrix._tree import is_inexact, structure
from separatrix._types import Function, Key, Operator, Scalar, State, StepIndex
from separatrix.systems.base import as_step_size
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.open import OpenFlow, OpenMap
from separatrix.systems.sde import SDE
from separatrix.systems.signature import accepts_key, as_pytree, positional_count


class FunctionMap(Map):
    """x[n+1] = function(n, x[n])."""

    function: Function
    takes_index: bool = eqx.field(static=True)
    takes_key: bool = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        arguments = (n, state) if self.takes_index else (state,)
        return self.function(*arguments, key=key) if self.takes_key else self.function(*arguments)


class FunctionNearIdentityMap(NearIdentityMap):
    """x[n+1] = function(n h, x[n], h)."""

    function: Function
    step_size: Scalar
    takes_key: bool = eqx.field(static=True)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        keywords = {"key": key} if self.takes_key else {}
        return self.function(t, state, step_size, **keywords)


class FunctionFlow(Flow):
    """dx/dt = function(t, x)."""

    function: Function
    takes_time: bool = eqx.field(static=True)

    def velocity(self, t: Scalar, state: State) -> State:
        return self.function(t, state) if self.takes_time else self.function(state)


class FunctionSDE(SDE):
    """dx = drift_function(t, x) dt + diffusion_function(t, x) dW."""

    drift_function: Function
    diffusion_function: Function
    drift_takes_time: bool = eqx.field(static=True)
    diffusion_takes_time: bool = eqx.field(static=True)

    def drift(self, t: Scalar, state: State) -> State:
        return self.drift_function(t, state) if self.drift_takes_time else self.drift_function(state)

    def diffusion(self, t: Scalar, state: State) -> Operator:
        arguments = (t, state) if self.diffusion_takes_time else (state,)
        return as_operator(self.diffusion_function(*arguments), state)


class FunctionOpenMap(OpenMap):
    """x[n+1] = function(n, x[n], u[n])."""

    function: Function
    takes_index: bool = eqx.field(static=True)
    takes_key: bool = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, inputs: PyTree, *, key: Key | None = None) -> State:
        arguments = (n, state, inputs) if self.takes_index else (state, inputs)
        return self.function(*arguments, key=key) if self.takes_key else self.function(*arguments)


class FunctionOpenFlow(OpenFlow):
    """dx/dt = function(t, x, u)."""

    function: Function
    takes_time: bool = eqx.field(static=True)

    def velocity(self, t: Scalar, state: State, inputs: PyTree) -> State:
        return self.function(t, state, inputs) if self.takes_time else self.function(state, inputs)


def as_map(function: Function) -> Map:
    """Make a `Map` of a function F(n, x) or F(x), which may take a keyword `key`.

    **Arguments:**

    - `function`: returns x[n+1] with the structure, shapes and dtypes of x[n]. Where it is itself a pytree (an
      `equinox.Module`), its arrays are parameters of the map.

    **Returns:** a `Map`. **Raises:** `TypeError` for any other signature.

    **Example:**

    >>> import separatrix as sx
    >>> logistic = sx.as_map(lambda x: 4.0 * x * (1.0 - x))
    >>> round(float(sx.evolve(logistic, 0.3, steps=2).final), 4)
    0.5376
    """
    takes_index = positional_count(function, (1, 2), "f(x) or f(n, x)") == 2
    return FunctionMap(as_pytree(function), takes_index, accepts_key(function))


def as_near_identity(function: Function, step_size: Scalar) -> NearIdentityMap:
    """Make a `NearIdentityMap` of a function F(t, x, h), which may take a keyword `key`, at a step size.

    **Arguments:**

    - `function`: returns F_h(t, x), equal to x at h = 0.
    - `step_size`: h, a traced leaf of the map.

    **Raises:** `TypeError` for any other signature, or a step size that is no number; `ValueError` for a step size of 0,
    NaN or infinity.

    **Example:**

    >>> import separatrix as sx
    >>> decay = sx.as_near_identity(lambda t, x, h: x - h * x, 0.5)
    >>> float(decay.step(0, 1.0))
    0.5
    """
    positional_count(function, (3,), "f(t, x, h)")
    size = as_step_size("as_near_identity: step_size", step_size)
    return FunctionNearIdentityMap(as_pytree(function), size, accepts_key(function))


def as_flow(function: Function) -> Flow:
    """Make a `Flow` of a velocity f(t, x) or f(x).

    **Example:**

    >>> import separatrix as sx
    >>> decay = sx.as_flow(lambda x: -x)
    >>> round(float(sx.evolve(decay, 1.0, times=(0.0, 1.0)).final), 4)
    0.3679
    """
    return FunctionFlow(as_pytree(function), positional_count(function, (1, 2), "f(x) or f(t, x)") == 2)


def as_sde(drift: Function, diffusion: Function) -> SDE:
    """Make an `SDE` of a drift f(t, x) and a diffusion g(t, x), in the sense of Ito. Both may leave out t.

    **Arguments:**

    - `drift`: returns f with the structure of x.
    - `diffusion`: returns a scalar (the same noise amplitude for every component, each with its own Brownian motion),
      an array or tree of the state's shape (diagonal noise), or a lineax operator from noise to state.

    **Example:**

    >>> import jax, separatrix as sx
    >>> ornstein_uhlenbeck = sx.as_sde(lambda x: -x, lambda x: 0.1)
    >>> path = sx.evolve(ornstein_uhlenbeck, 1.0, times=(0.0, 1.0), step_size=0.01, key=jax.random.key(0))
    >>> str(path.outcome)
    'completed'
    """
    counts = [positional_count(function, (1, 2), "f(x) or f(t, x)") for function in (drift, diffusion)]
    return FunctionSDE(as_pytree(drift), as_pytree(diffusion), counts[0] == 2, counts[1] == 2)


def as_open_map(function: Function) -> OpenMap:
    """Make an `OpenMap` of a function F(n, x, u) or F(x, u)."""
    takes_index = positional_count(function, (2, 3), "f(x, u) or f(n, x, u)") == 3
    return FunctionOpenMap(as_pytree(function), takes_index, accepts_key(function))


def as_open_flow(function: Function) -> OpenFlow:
    """Make an `OpenFlow` of a velocity f(t, x, u) or f(x, u)."""
    return FunctionOpenFlow(as_pytree(function), positional_count(function, (2, 3), "f(x, u) or f(t, x, u)") == 3)


def as_operator(value: Any, state: State) -> Operator:
    """Read a diffusion as a lineax operator onto the structure of a state.

    A scalar or an array of the state's shape becomes a diagonal operator; an operator is taken as it is.
    """
    if isinstance(value, lx.AbstractLinearOperator):
        return value
    if jax.tree.structure(value) == jax.tree.structure(state):
        shapes = [
            jnp.shape(v) in ((), jnp.shape(x)) for v, x in zip(*map(jax.tree.leaves, (value, state)), strict=True)
        ]
        if all(shapes):
            return lx.DiagonalLinearOperator(jax.tree.map(_fill, value, state))
    if jax.tree.structure(value) == jax.tree.structure(0) and jnp.shape(value) == ():
        return lx.DiagonalLinearOperator(jax.tree.map(lambda leaf: _fill(value, leaf), state))
    raise ValueError(
        explain(
            "diffusion of the wrong form",
            eqx.tree_pformat(value),
            f"a scalar, an array of the state's shape {eqx.tree_pformat(structure(state))}, or a lineax operator",
            "wrap a matrix of general noise as lineax.MatrixLinearOperator(matrix)",
        )
    )


def _fill(value: Any, leaf: Any) -> Any:
    dtype = jnp.result_type(leaf) if is_inexact(leaf) else jnp.zeros(()).dtype
    return jnp.broadcast_to(jnp.asarray(value, dtype), jnp.shape(leaf))
