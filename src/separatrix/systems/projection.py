r"""Projected systems: what is seen of a system through u = P(x).

With a completion x = C(u), P(C(u)) = u, the projected system is

    map   u[n+1] = P(F(n, C(u[n])))          flow   du/dt = DP(x) f(t, x) at x = C(u).

Without one, P maps the state space to a constraint set in it (a sphere, a box): C is the identity.
"""

from typing import Any

import equinox as eqx
import jax

from separatrix._errors import explain
from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.signature import as_pytree


class ProjectedMap(Map):
    """u -> P(F(n, C(u)))."""

    map: Map
    projection: Function
    complete: Function | None

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.projection(self.map.step(n, _complete(self.complete, state), key=key))


class ProjectedFiniteMap(FiniteMap):
    """u -> P(F(n, C(u))), for the steps that a finite map has."""

    map: FiniteMap
    projection: Function
    complete: Function | None
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.projection(self.map.step(n, _complete(self.complete, state), key=key))


class ProjectedFlow(Flow):
    """du/dt = DP(C(u)) f(t, C(u))."""

    flow: Flow
    projection: Function
    complete: Function | None

    def velocity(self, t: Scalar, state: State) -> State:
        point = _complete(self.complete, state)
        return jax.jvp(self.projection, (point,), (self.flow.velocity(t, point),))[1]


def project(system: Any, projection: Function, complete: Function | None = None) -> System:
    r"""Return the system that is seen through a projection.

    **Arguments:**

    - `system`: a `Map` or a `Flow`.
    - `projection`: u = P(x), differentiable for a flow.
    - `complete`: x = C(u), by default the identity.

    **Returns:** a system of the same kind on u.

    **Raises:** `TypeError` for an SDE, whose projection needs Ito's correction.

    **Example:** power iteration is a linear map projected to the unit sphere.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> linear = sx.as_map(lambda x: jnp.array([2.0, 1.0]) * x)
    >>> power = sx.project(linear, lambda x: x / jnp.linalg.norm(x))
    >>> sx.evolve(power, jnp.array([0.6, 0.8]), steps=60).final.round(6).tolist()
    [1.0, 0.0]
    """
    complete = None if complete is None else as_pytree(complete)
    match system:
        case FiniteMap():
            return ProjectedFiniteMap(system, as_pytree(projection), complete, system.length)
        case Map():
            return ProjectedMap(system, as_pytree(projection), complete)
        case Flow():
            return ProjectedFlow(system, as_pytree(projection), complete)
    raise TypeError(
        explain(
            "project is not defined here",
            f"a {type(system).__name__}",
            "Map or Flow",
            "Project the paths of an SDE with save=fn, or its discretisation.",
        )
    )


def _complete(complete: Function | None, state: Any) -> Any:
    return state if complete is None else complete(state)
