r"""The adaptive loop over an explicit pair.

One `while_loop` runs until t1; after each accepted step the rows whose times it covers are read off its interpolant,
x + h sum_i w_i(theta) k_i. What else is to be kept of the steps (for a gradient, dense output, an event) a recorder keeps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from separatrix._tree import where
from separatrix._types import State
from separatrix.evolution._adaptive_step import RUNNING, Carry, Control, Step, advance, init_carry, weigh
from separatrix.evolution._tableau import Tableau

# How many steps a solve may take, and how many a solve that stores them.
Limits = tuple[int, int]


class Plan(NamedTuple):
    """What does not change along a solve: the pair, the controller, the limits and the times of the rows."""

    tableau: Tableau
    max_steps: int
    control: Control
    t0: Any
    t1: Any
    save_times: Any


class Solved(NamedTuple):
    """The end of a solve, its rows, and what was recorded of its steps."""

    carry: Carry
    rows: State
    record: Any


class Recorder(NamedTuple):
    """What to keep of the accepted steps: `empty(x)` makes room, `write(record, n, step)` fills it."""

    empty: Callable[[State], Any]
    write: Callable[[Any, Any, Step], Any]
    stop: Callable[[Carry, Step], Any] | None = None


def integrate(field: Any, x: State, plan: Plan, recorder: Recorder | None = None) -> Solved:
    """Run from t0 to t1."""
    recorder = recorder or Recorder(lambda x: (), lambda record, n, step: record)
    start = init_carry(field, plan.tableau, plan.control, x, plan.t0, plan.t1)
    count = plan.save_times.shape[0]
    rows = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), x)

    def body(loop: Any) -> Any:
        carry, (rows, filled), record = loop
        after, step = advance(field, plan.tableau, plan.control, plan.max_steps, plan.t0, plan.t1, carry)
        record = recorder.write(record, carry.accepted, step)
        rows, filled = _fill(rows, filled, plan, step, after.t) if count else (rows, filled)
        if recorder.stop is not None:
            after = after._replace(code=jnp.where(step.accepted, recorder.stop(after, step), after.code))
        return after, (rows, filled), record

    loop = (start, (rows, jnp.zeros((), jnp.int32)), recorder.empty(x))
    carry, (rows, filled), record = jax.lax.while_loop(lambda loop: loop[0].code == RUNNING, body, loop)
    return Solved(carry, _blank(rows, jnp.arange(count, dtype=jnp.int32) < filled), record)


def interpolate(tableau: Tableau, step: Step, t: Any) -> State:
    """The solution at a time inside a step."""
    return weigh(interpolation_weights(tableau, step, t), step.stages, step.step_size, step.x)


def interpolation_weights(tableau: Tableau, step: Step, t: Any) -> list[Any]:
    """w_i(theta), by Horner's rule."""
    theta = (t - step.t) / step.step_size
    out = []
    for row in tableau.weights:
        value = jnp.zeros_like(theta)
        for coefficient in reversed(row):
            value = (value + coefficient) * theta
        out.append(value)
    return out


def _fill(rows: State, filled: Any, plan: Plan, step: Step, reached: Any) -> tuple[State, Any]:
    """Write the rows whose times lie in an accepted step."""
    count = plan.save_times.shape[0]

    def due(loop: Any) -> Any:
        index = loop[1]
        time = plan.save_times[jnp.minimum(index, count - 1)]
        return step.accepted & (index < count) & (time <= reached)

    def write(loop: Any) -> Any:
        rows, index = loop
        time = plan.save_times[index]
        value = where(time == reached, step.end, interpolate(plan.tableau, step, time))
        return jax.tree.map(lambda row, v: row.at[index].set(v), rows, value), index + 1

    return jax.lax.while_loop(due, write, (rows, filled))


def _blank(rows: State, good: Any) -> State:
    def blank(leaf: Any) -> Any:
        shape = (good.shape[0],) + (1,) * (leaf.ndim - 1)
        return jnp.where(good.reshape(shape), leaf, jnp.asarray(jnp.nan, leaf.dtype))

    return jax.tree.map(blank, rows)
