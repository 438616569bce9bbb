r"""The tangent system: perturbations carried along.

    map:   (x, V) -> (F(x), DF(x) V)          flow:  d/dt (x, V) = (f(x), Df(x) V)
    SDE:   d(x, V) = (f, Df V) dt + (g dW, (Dg V) dW)

It is of the same kind as the system, so it evolves by the same loops. V is one perturbation of the state's form, or a
block of k of them with a leading axis of length k.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from separatrix._errors import explain
from separatrix._tree import structure
from separatrix._types import Function, Key, Operator, Scalar, State, StepIndex
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map, NearIdentityMap
from separatrix.systems.sde import SDE


class TangentState(NamedTuple):
    """A point and one perturbation, or a block of them with a leading axis."""

    point: Any
    perturbation: Any


class TangentMap(Map):
    """(x, V) -> (F(n, x), DF(n, x) V)."""

    map: Map

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return _push(lambda x: self.map.step(n, x, key=key), state)


class TangentFiniteMap(FiniteMap):
    """(x, V) -> (F(n, x), DF(n, x) V), for the steps that a finite map has."""

    map: FiniteMap
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return _push(lambda x: self.map.step(n, x, key=key), state)


class TangentNearIdentityMap(NearIdentityMap):
    """(x, V) -> (F_h(t, x), DF_h(t, x) V), near the identity as F_h is."""

    map: NearIdentityMap

    @property
    def step_size(self) -> Any:
        """Step size of the map below."""
        return self.map.step_size

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return _push(lambda x: self.map.advance(t, x, step_size, key=key), state)


class TangentFlow(Flow):
    """d/dt (x, V) = (f(t, x), Df(t, x) V)."""

    flow: Flow

    def velocity(self, t: Scalar, state: State) -> State:
        return _push(lambda x: self.flow.velocity(t, x), state)


class TangentSDE(SDE):
    """d(x, V) = (f, Df V) dt + (g dW, (Dg V) dW), with one Brownian motion for all."""

    sde: SDE

    def drift(self, t: Scalar, state: State) -> State:
        return _push(lambda x: self.sde.drift(t, x), state)

    def diffusion(self, t: Scalar, state: State) -> Operator:
        noise = self.sde.diffusion(t, state[0]).in_structure()
        return lx.FunctionLinearOperator(lambda dw: _push(lambda x: self.sde.diffusion(t, x).mv(dw), state), noise)


def tangent(system: System) -> System:
    """Return the system on (x, V) that carries perturbations V along with x.

    **Arguments:**

    - `system`: a `Map`, `FiniteMap`, `NearIdentityMap`, `Flow` or `SDE`.

    **Returns:** a system of the same kind, whose state is the pair (point, perturbation).

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> doubling = sx.tangent(sx.as_map(lambda x: 2.0 * x))
    >>> doubling.step(0, (jnp.array(1.0), jnp.array(0.5))).perturbation.item()
    1.0
    """
    match system:
        case NearIdentityMap():
            return TangentNearIdentityMap(system)
        case FiniteMap():
            return TangentFiniteMap(system, system.length)
        case Map():
            return TangentMap(system)
        case Flow():
            return TangentFlow(system)
        case SDE():
            return TangentSDE(system)
    raise undefined("tangent", system, "Map, Flow or SDE", "make it one with as_map, as_flow or as_sde")


def _push(function: Function, state: State) -> TangentState:
    """(F(x), DF(x) V) for one V or for a block of them."""
    point, perturbation = state
    if _shapes(perturbation) == _shapes(point):
        return TangentState(*jax.jvp(function, (point,), (perturbation,)))
    image, pushforward = jax.linearize(function, point)
    _require_block(point, perturbation)
    return TangentState(image, jax.vmap(pushforward)(perturbation))


def _shapes(tree: State) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]


def _require_block(point: State, block: State) -> None:
    if [shape[1:] for shape in _shapes(block)] != _shapes(point):
        raise ValueError(
            explain(
                "perturbation of the wrong form",
                eqx.tree_pformat(structure(block)),
                f"the form of the point {eqx.tree_pformat(structure(point))}, or a block with one leading axis",
                "start from jnp.eye(d) reshaped to (d, *state.shape), or from one vector",
            )
        )
