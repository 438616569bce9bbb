r"""Backpropagation as what it is: the costate system, run backwards along a trajectory.

    map    lambda[n] = DF(n, x[n])^T lambda[n+1] + grad l(n, x[n])
    flow   -d lambda/dt = Df(t, x(t))^T lambda + grad l(t, x(t))

started from the gradient of the final loss. The costate at the start is the gradient with respect to the initial state;
its norm along the way is the gradient-through-time profile. The system's own clock counts backwards from the end: step
m (or time s) of the adjoint is step N - 1 - m (or time t1 - s) of the trajectory. The end t1 is where the trajectory
ended: at its event, if one came true. Along a trajectory that broke every costate is NaN, if it was not refused.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import add, float_dtype, is_traced, scale, where
from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.signature import as_pytree
from separatrix.systems.trajectory import Trajectory


class AdjointMap(FiniteMap):
    """lambda -> DF(n, x[n])^T lambda + grad l(n, x[n]), with n = N - 1 - m."""

    map: Map
    states: State
    first: Any
    key: Key | None
    cost: Function | None
    sound: Any
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        row = self.length - 1 - n
        number = self.first + row
        point = jax.tree.map(lambda leaf: leaf[row], self.states)
        key = None if self.key is None else jax.random.fold_in(self.key, number)
        pulled = _pull(lambda x: self.map.step(number, x, key=key), self.cost, number, point, state)
        return where(self.sound, pulled, scale(jnp.nan, state))


class AdjointFlow(Flow):
    """d lambda/ds = Df(t, x(t))^T lambda + grad l(t, x(t)), with t = t1 - s."""

    flow: Flow
    interpolation: Callable[[Any], Any]
    end: Scalar
    cost: Function | None
    sound: Any

    def velocity(self, t: Scalar, state: State) -> State:
        time = jnp.asarray(self.end, float_dtype(state)) - t
        point = self.interpolation(time)
        pulled = _pull(lambda x: self.flow.velocity(time, x), self.cost, time, point, state)
        return where(self.sound, pulled, scale(jnp.nan, state))


def adjoint(system: System, trajectory: Trajectory, *, key: Key | None = None, cost: Function | None = None) -> System:
    r"""Return the costate system along a trajectory.

    **Arguments:**

    - `system`: the `Map` or `Flow` that made the trajectory.
    - `trajectory`: of a map with every step saved; of a flow with `dense=True`.
    - `key`: the key of a random map's trajectory, so that the same noise is met.
    - `cost`: a running cost l(n, x) or l(t, x) whose gradient is added along the way.

    **Returns:** for a map a `FiniteMap` of as many steps; for a flow a `Flow` to be run over (0, t1 - t0), with t1 the
    time at which the trajectory ended (that of its event, if one came true). Start either from the gradient of the loss
    at the end. While tracing, when it is not known yet that a trajectory broke, its costate is NaN.

    **Raises:** `ValueError` for a trajectory that broke, that was saved too thinly, or whose rows are not its states;
    `TypeError` for an SDE.

    **Example:** the gradient of x[3]^2 with respect to x[0], for x[n+1] = x[n]/2.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> halving = sx.as_map(lambda x: 0.5 * x)
    >>> path = sx.evolve(halving, jnp.array(8.0), steps=3)
    >>> sx.evolve(sx.adjoint(halving, path), 2.0 * path.final).final.item()
    0.25

    **Reference:** Pontryagin et al., *The Mathematical Theory of Optimal Processes* (1962); Chen et al., *Neural ordinary
    differential equations* (2018), section 2, for flows.
    """
    if not isinstance(system, Map | Flow):
        raise undefined("adjoint", system, "Map or Flow", "Discretise an SDE first: its path is that of a random map.")
    cost = None if cost is None else as_pytree(cost)
    sound = _require_end(trajectory)
    if isinstance(system, Map):
        return _adjoint_map(system, trajectory, key, cost, sound)
    if trajectory.interpolation is None:
        expected, do = "one with an interpolation", "Evolve the flow with dense=True."
        raise ValueError(explain("adjoint of a flow", "a trajectory of saved states only", expected, do))
    return AdjointFlow(system, trajectory.interpolation, trajectory.last_time, cost, sound)


def _adjoint_map(map: Map, trajectory: Trajectory, key: Key | None, cost: Function | None, sound: Any) -> AdjointMap:
    rows = trajectory.times.shape[0]
    length = rows - 1
    forms = [jnp.shape(leaf)[1:] for leaf in jax.tree.leaves(trajectory.states)]
    complete = forms == [jnp.shape(leaf) for leaf in jax.tree.leaves(trajectory.last)]
    taken = trajectory.stats.get("steps", length)
    last = jax.tree.map(lambda leaf: leaf[-1], trajectory.states) if complete else None
    known = not is_traced(taken, last, trajectory.last)
    if length < 1 or not complete or (known and (int(taken) != length or not eqx.tree_equal(last, trajectory.last))):
        got, expected = f"{rows} rows saved of {taken} steps", "every state of the orbit, and the states themselves"
        raise ValueError(explain("adjoint of a map", got, expected, 'Evolve the map with save="all".'))
    first = trajectory.stats.get("start", 0)
    return AdjointMap(map, trajectory.states, first, key, cost, sound, length)


def _require_end(trajectory: Trajectory) -> Any:
    """Whether it came to an end that was asked for, its last time or an event; refused where it is known not to have."""
    outcome = trajectory.outcome
    if jnp.ndim(outcome.code):
        do = "Take the adjoint of each: jax.vmap over the function that evolves and pulls back."
        raise ValueError(explain("adjoint", f"{outcome.code.shape} trajectories", "one", do))
    if not is_traced(outcome) and not bool(outcome.reached):
        expected, do = "a trajectory that came to its end", f"Mend it first: {outcome.advice}."
        raise ValueError(explain("adjoint", f"one that ended as {outcome.name}", expected, do))
    return outcome.reached


def _pull(function: Function, cost: Function | None, clock: Any, point: State, costate: State) -> State:
    """DF(x)^T lambda + grad l(x)."""
    pulled = jax.vjp(function, point)[1](costate)[0]
    return pulled if cost is None else add(pulled, jax.grad(lambda x: cost(clock, x))(point))
