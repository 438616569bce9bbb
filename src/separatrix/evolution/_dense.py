"""Dense output: what the interpolant needs of every accepted step, as a function of time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import poison
from separatrix._types import State
from separatrix.evolution._adaptive_loop import Recorder, Solved
from separatrix.evolution._adaptive_step import Carry
from separatrix.evolution._form import StateForm
from separatrix.evolution._stepper import Step, Stepper


class Interpolation(eqx.Module):
    """t -> x(t) on the accepted steps; NaN outside the interval, and past a break or an event."""

    stepper: Stepper
    starts: Any
    sizes: Any
    states: State
    inside: Any
    count: Any
    first: Any
    last: Any
    form: StateForm

    def __call__(self, t: Any) -> State:
        t = jnp.asarray(t, self.starts.dtype)
        known = jnp.where(jnp.arange(self.starts.shape[0], dtype=jnp.int32) < self.count, self.starts, jnp.inf)
        n = jnp.clip(jnp.searchsorted(known, t, side="right").astype(jnp.int32) - 1, 0, self.count - 1)
        x, inside = jax.tree.map(lambda leaf: leaf[n], (self.states, self.inside))
        step = Step(self.starts[n], x, self.sizes[n], x, inside, True)
        return self.form.restore(poison((t >= self.first) & (t <= self.last), self.stepper.interpolate(step, t)))


def dense_recorder(capacity: int) -> Recorder:
    """Keep (t, h), x, what the method carried and what the interpolant needs of the first `capacity` accepted steps."""

    def room(leaf: Any) -> Any:
        return jnp.zeros((capacity, *leaf.shape), leaf.dtype)

    def empty(carry: Carry, step: Any) -> Any:
        times = jnp.ones((2, capacity), carry.t.dtype)
        return times, *jax.tree.map(room, (step.x, carry.memory, step.inside))

    def write(record: Any, carry: Carry, step: Step) -> Any:
        place = jnp.minimum(carry.accepted, capacity - 1)

        def put(buffer: Any, leaf: Any) -> Any:
            return buffer.at[place].set(jnp.where(step.accepted, leaf, buffer[place]))

        times, *rest = record
        now = jnp.stack([step.t, step.step_size])
        times = times.at[:, place].set(jnp.where(step.accepted, now, times[:, place]))
        return times, *jax.tree.map(put, tuple(rest), (step.x, carry.memory, step.inside))

    return Recorder(empty, write)


def interpolation(solved: Solved, stepper: Stepper, first: Any, form: StateForm) -> Interpolation:
    """The dense output of a solve that was recorded."""
    (starts, sizes), states, _, inside = solved.record
    count = jnp.maximum(solved.carry.accepted, 1)
    return Interpolation(stepper, starts, sizes, states, inside, count, first, solved.carry.t, form)
