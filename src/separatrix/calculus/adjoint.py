r"""Backpropagation as what it is: the costate system, run backwards along a trajectory.

    map    lambda[n] = DF(n, x[n])^T lambda[n+1] + grad l(n, x[n])
    flow   -d lambda/dt = Df(t, x(t))^T lambda + grad l(t, x(t))

started from the gradient of the final loss. The costate at the start is the gradient with respect to the initial state;
its norm along the way is the gradient-through-time profile. The system's own clock counts backwards from the end: step
m (or time s) of the adjoint is step N - 1 - m (or time t1 - s) of the trajectory.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from separatrix._errors import explain
from separatrix._tree import add, float_dtype
from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.calculus._undefined import undefined
from separatrix.systems._signature import as_pytree
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.trajectory import Trajectory


class AdjointMap(FiniteMap):
    """lambda -> DF(n, x[n])^T lambda + grad l(n, x[n]), with n = N - 1 - m."""

    map: Map
    states: State
    first: Any
    key: Key | None
    cost: Function | None
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        row = self.length - 1 - n
        number = self.first + row
        point = jax.tree.map(lambda leaf: leaf[row], self.states)
        key = None if self.key is None else jax.random.fold_in(self.key, number)
        return _pull(lambda x: self.map.step(number, x, key=key), self.cost, number, point, state)


class AdjointFlow(Flow):
    """d lambda/ds = Df(t, x(t))^T lambda + grad l(t, x(t)), with t = t1 - s."""

    flow: Flow
    interpolation: Callable[[Any], Any]
    end: Scalar
    cost: Function | None

    def velocity(self, t: Scalar, state: State) -> State:
        time = jnp.asarray(self.end, float_dtype(state)) - t
        point = self.interpolation(time)
        return _pull(lambda x: self.flow.velocity(time, x), self.cost, time, point, state)


def adjoint(system: System, trajectory: Trajectory, *, key: Key | None = None, cost: Function | None = None) -> System:
    r"""Return the costate system along a trajectory.

    **Arguments:**

    - `system`: the `Map` or `Flow` that made the trajectory.
    - `trajectory`: of a map with every step saved; of a flow with `dense=True`.
    - `key`: the key of a random map's trajectory, so that the same noise is met.
    - `cost`: a running cost l(n, x) or l(t, x) whose gradient is added along the way.

    **Returns:** for a map a `FiniteMap` of as many steps; for a flow a `Flow` to be run over (0, t1 - t0). Start either
    from the gradient of the loss at the end.

    **Raises:** `ValueError` for a trajectory that was saved too thinly; `TypeError` for an SDE.

    **Example:** the gradient of x[3]^2 with respect to x[0], for x[n+1] = x[n]/2.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> halving = sx.as_map(lambda x: 0.5 * x)
    >>> path = sx.evolve(halving, jnp.array(8.0), steps=3)
    >>> sx.evolve(sx.adjoint(halving, path), 2.0 * path.final).final.item()
    0.25

    **Reference:** Pontryagin et al., *The Mathematical Theory of Optimal Processes* (1962); Chen et al., *Neural ordinary
    differential equations* (2018), section 2, for flows.
    """
    cost = None if cost is None else as_pytree(cost)
    match system:
        case Map():
            return _adjoint_map(system, trajectory, key, cost)
        case Flow():
            if trajectory.interpolation is None:
                raise ValueError(
                    explain(
                        "adjoint of a flow",
                        "a trajectory of saved states only",
                        "one with an interpolation",
                        "Evolve the flow with dense=True.",
                    )
                )
            return AdjointFlow(system, trajectory.interpolation, trajectory.times[-1], cost)
    raise undefined("adjoint", system, "Map or Flow", "Discretise an SDE first: its path is that of a random map.")


def _adjoint_map(map: Map, trajectory: Trajectory, key: Key | None, cost: Function | None) -> AdjointMap:
    rows = trajectory.times.shape[0]
    length = rows - 1
    forms = [jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(trajectory.states)]
    complete = forms == [jnp.shape(leaf) for leaf in jax.tree.leaves(trajectory.final)]
    taken = trajectory.stats.get("steps", length)
    if length < 1 or not complete or (not isinstance(taken, Tracer) and int(taken) != length):
        raise ValueError(
            explain(
                "adjoint of a map",
                f"{rows} rows saved of {taken} steps",
                "every state of the orbit",
                'Evolve the map with save="all".',
            )
        )
    first = trajectory.stats.get("start", 0)
    return AdjointMap(map, trajectory.states, first, key, cost, length)


def _pull(function: Function, cost: Function | None, clock: Any, point: State, costate: State) -> State:
    """DF(x)^T lambda + grad l(x)."""
    pulled = jax.vjp(function, point)[1](costate)[0]
    return pulled if cost is None else add(pulled, jax.grad(lambda x: cost(clock, x))(point))
