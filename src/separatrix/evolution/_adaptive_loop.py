r"""The adaptive loop: one `while_loop` from t0 to t1, for every method that `_stepper` knows.

After each accepted step the rows whose times it covers are read off its interpolant. What else is to be kept of the steps
(for a gradient, or for dense output) a recorder keeps. An event ends the loop within the step in which it comes true.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import where
from separatrix._types import State
from separatrix.evolution._adaptive_step import RUNNING, Carry, Control, Span, advance, init_carry
from separatrix.evolution._event import WatchedEvent, locate, not_yet, watch
from separatrix.evolution._stepper import Step, Stepper
from separatrix.systems.trajectory import OutcomeKind


class LoopPlan(NamedTuple):
    """What does not change along a solve: the method, the controller, the interval, the times of the rows, the event.

    `event` is None or g(t, x) on the loop's own states, `kept` how many steps a gradient or dense output has room for.
    """

    stepper: Stepper
    control: Control
    span: Span
    save_times: Any
    event: Any = None
    kept: int = 1024
    dense: bool = False


class Solved(NamedTuple):
    """The end of a solve, its rows, what was recorded of its steps, and the time past the last step."""

    carry: Carry
    rows: State
    record: Any
    stepped_to: Any


class Recorder(NamedTuple):
    """What to keep of the accepted steps: `empty(carry, step)` makes room, `write(record, carry, step)` fills it.

    `carry` is what the step was tried from; a rejected step is written over by the next try. To make room only the shapes
    of a step are known.
    """

    empty: Callable[[Carry, Any], Any]
    write: Callable[[Any, Carry, Step], Any]


NOTHING = Recorder(lambda carry, step: (), lambda record, carry, step: record)


def integrate(field: Any, x: State, plan: LoopPlan, recorder: Recorder = NOTHING) -> Solved:
    """Run from t0 to t1, or to the event."""
    start = init_carry(field, plan.stepper, plan.control, x, plan.span)
    count = plan.save_times.shape[0]
    rows = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), x)

    def body(loop: Any) -> Any:
        carry, (rows, filled), record, seen = loop
        after, step = advance(field, plan.stepper, plan.control, plan.span, carry)
        record = recorder.write(record, carry, step)
        rows, filled = _fill(rows, filled, plan, step, after.t) if count else (rows, filled)
        if plan.event is not None:
            seen, code = watch(plan.event, plan.stepper, step, after.code, step.t == plan.span.t0)
            after = after._replace(code=code)
        return after, (rows, filled), record, seen

    shapes = None
    if plan.dense or plan.event is not None:
        one = lambda carry: advance(field, plan.stepper, plan.control, plan.span, carry)[1]  # noqa: E731
        shapes = eqx.filter_eval_shape(one, start)
    seen = None if plan.event is None else not_yet(shapes, plan.span.t0)
    loop = (start, (rows, jnp.zeros((), jnp.int32)), recorder.empty(start, shapes), seen)
    carry, (rows, filled), record, seen = jax.lax.while_loop(lambda loop: loop[0].code == RUNNING, body, loop)
    stepped_to, good = carry.t, jnp.arange(count, dtype=jnp.int32) < filled
    if plan.event is not None:
        carry = _at_event(carry, plan, seen)
        good = good & (plan.save_times <= carry.t)
    return Solved(carry, _blank(rows, good), record, stepped_to)


def _at_event(carry: Carry, plan: LoopPlan, seen: WatchedEvent) -> Carry:
    """The end of a solve moved back to its event."""
    happened = carry.code == int(OutcomeKind.EVENT)
    # Nobody looks where nothing happened: a step of size one keeps the interpolant from dividing by zero.
    size = jnp.where(happened, seen.step.step_size, 1)
    seen = seen._replace(step=seen.step._replace(step_size=size))
    at = locate(plan.event, plan.stepper, seen)
    x = where(happened, plan.stepper.interpolate(seen.step, at), carry.x)
    return carry._replace(x=x, t=jnp.where(happened, at, carry.t))


def _fill(rows: State, filled: Any, plan: LoopPlan, step: Step, reached: Any) -> tuple[State, Any]:
    """Write the rows whose times lie in an accepted step."""
    count = plan.save_times.shape[0]

    def due(loop: Any) -> Any:
        index = loop[1]
        time = plan.save_times[jnp.minimum(index, count - 1)]
        return step.accepted & (index < count) & (time <= reached)

    def write(loop: Any) -> Any:
        rows, index = loop
        time = plan.save_times[index]
        value = where(time == reached, step.end, plan.stepper.interpolate(step, time))
        return jax.tree.map(lambda row, v: row.at[index].set(v), rows, value), index + 1

    return jax.lax.while_loop(due, write, (rows, filled))


def _blank(rows: State, good: Any) -> State:
    def blank(leaf: Any) -> Any:
        shape = (good.shape[0],) + (1,) * (leaf.ndim - 1)
        return jnp.where(good.reshape(shape), leaf, jnp.asarray(jnp.nan, leaf.dtype))

    return jax.tree.map(blank, rows)
