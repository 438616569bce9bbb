"""Dense output: the stages of every accepted step, as a function of time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import float_dtype
from separatrix._types import State
from separatrix.evolution._adaptive_loop import Recorder, Solved, interpolate
from separatrix.evolution._adaptive_step import Step
from separatrix.evolution._form import Form
from separatrix.evolution._tableau import Tableau


class Interpolation(eqx.Module):
    """t -> x(t) on the accepted steps; outside them the nearest step is continued."""

    tableau: Tableau = eqx.field(static=True)
    starts: Any
    sizes: Any
    states: State
    stages: tuple[State, ...]
    count: Any
    form: Form

    def __call__(self, t: Any) -> State:
        t = jnp.asarray(t, self.starts.dtype)
        known = jnp.where(jnp.arange(self.starts.shape[0], dtype=jnp.int32) < self.count, self.starts, jnp.inf)
        n = jnp.clip(jnp.searchsorted(known, t, side="right").astype(jnp.int32) - 1, 0, self.count - 1)
        x, stages = jax.tree.map(lambda leaf: leaf[n], (self.states, self.stages))
        step = Step(self.starts[n], x, self.sizes[n], stages, (x,), True)
        return self.form.restore(interpolate(self.tableau, step, t))


def dense_recorder(tableau: Tableau, capacity: int) -> Recorder:
    """Keep the last `capacity` accepted steps with their stages."""

    def room(leaf: Any) -> Any:
        return jnp.zeros((capacity, *leaf.shape), leaf.dtype)

    def empty(x: State) -> Any:
        stages = tuple(jax.tree.map(room, x) for _ in range(tableau.stages))
        return jnp.ones((2, capacity), float_dtype(x)), jax.tree.map(room, x), stages

    def write(record: Any, n: Any, step: Step) -> Any:
        times, states, stages = record
        place = jnp.minimum(n, capacity - 1)

        def put(buffer: Any, leaf: Any) -> Any:
            return buffer.at[place].set(jnp.where(step.accepted, leaf, buffer[place]))

        times = times.at[:, place].set(jnp.where(step.accepted, jnp.stack([step.t, step.step_size]), times[:, place]))
        return times, jax.tree.map(put, states, step.x), jax.tree.map(put, stages, step.stages)

    return Recorder(empty, write)


def interpolation(solved: Solved, tableau: Tableau, form: Form) -> Interpolation:
    """The dense output of a solve that was recorded."""
    times, states, stages = solved.record
    return Interpolation(tableau, times[0], times[1], states, stages, jnp.maximum(solved.carry.accepted, 1), form)
