r"""Driven systems: an open system with inputs that depend on time.

map   x[n+1] = F(n, x[n], u[n])          flow   dx/dt = f(t, x, u(t))
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from separatrix._errors import explain
from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.open import OpenFlow, OpenMap
from separatrix.systems.signature import as_pytree


class RecordedDrive(FiniteMap):
    """x[n+1] = F(n, x[n], u[n]) for a recorded sequence u[0], ..., u[T-1]."""

    open: OpenMap
    inputs: PyTree
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.open.step(n, state, jax.tree.map(lambda leaf: leaf[n], self.inputs), key=key)


class DrivenMap(Map):
    """x[n+1] = F(n, x[n], u(n))."""

    open: OpenMap
    inputs: Function

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.open.step(n, state, self.inputs(n), key=key)


class DrivenFlow(Flow):
    """dx/dt = f(t, x, u(t))."""

    open: OpenFlow
    inputs: Function

    def velocity(self, t: Scalar, state: State) -> State:
        return self.open.velocity(t, state, self.inputs(t))


def drive(system: Any, inputs: PyTree | Function) -> System:
    r"""Close an open system with inputs that depend on time.

    **Arguments:**

    - `system`: an `OpenMap` or `OpenFlow`.
    - `inputs`: a function u(n) or u(t); for a map also arrays with a leading axis of length T.

    **Returns:** a `Map` (a `FiniteMap` of T steps for recorded inputs) or a `Flow`.

    **Raises:** `ValueError` for inputs of unequal or zero length; `TypeError` for recorded inputs of a flow.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> leaky = sx.as_open_map(lambda x, u: 0.5 * x + u)
    >>> sx.evolve(sx.drive(leaky, jnp.ones(3)), 0.0).final.item()
    1.75
    """
    match system:
        case OpenMap() if callable(inputs):
            return DrivenMap(system, as_pytree(inputs))
        case OpenMap():
            inputs = jax.tree.map(jnp.asarray, inputs)
            return RecordedDrive(system, inputs, _length(inputs))
        case OpenFlow() if callable(inputs):
            return DrivenFlow(system, as_pytree(inputs))
        case OpenFlow():
            raise TypeError(
                explain(
                    "drive: inputs of a flow",
                    "recorded values",
                    "a function u(t)",
                    "Interpolate them, for example diffrax.LinearInterpolation(ts, us).evaluate.",
                )
            )
    raise TypeError(
        explain(
            "drive: system",
            type(system).__name__,
            "an OpenMap or OpenFlow",
            "Make one with as_open_map, as_open_flow or as_cell.",
        )
    )


def _length(inputs: Any) -> int:
    shapes = [leaf.shape for leaf in jax.tree.leaves(inputs)]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            explain(
                "drive: inputs",
                f"shapes {shapes}",
                "arrays with one leading axis of equal length >= 1",
                "Put time first: (T, ...).",
            )
        )
    return lengths.pop()
