r"""Terminating events: the first time at which g(t, x(t)) changes sign.

The sign is watched at the ends of accepted steps; inside the step that sees it change, the root is found by bisection on
the interpolant, to the resolution of the time itself. An even number of crossings inside one step goes unseen: bound the
step with a controller's dtmax where that matters.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import where
from separatrix._types import Function, State
from separatrix.evolution._adaptive_loop import Plan, Recorder, Solved, interpolate
from separatrix.evolution._adaptive_step import Carry, Step
from separatrix.systems._signature import as_pytree, positional_count
from separatrix.systems.trajectory import OutcomeKind

# Halvings after which the bracket is one unit in the last place of a float64 time.
_HALVINGS = 54


Condition = Callable[[Any, Any], Any]


class Event(eqx.Module):
    """g as a function of (t, x)."""

    function: Function
    takes_time: bool = eqx.field(static=True)

    def __call__(self, t: Any, x: State) -> Any:
        value = self.function(t, x) if self.takes_time else self.function(x)
        return jnp.asarray(value, jnp.result_type(t))


def as_event(function: Function) -> Event:
    """Read g(x) or g(t, x)."""
    return Event(as_pytree(function), positional_count(function, (1, 2), "g(x) or g(t, x)") == 2)


def event_recorder(inner: Recorder, event: Condition) -> Recorder:
    """Stop after the step in which g changes sign; a start on the event itself does not count."""

    def stop(carry: Carry, step: Step) -> Any:
        before, after = event(step.t, step.x), event(carry.t, step.end)
        crossed = (before * after < 0) | ((after == 0) & (before != 0))
        return jnp.where(crossed, int(OutcomeKind.EVENT), carry.code).astype(jnp.int32)

    return Recorder(inner.empty, inner.write, stop)


def finish_at_event(solved: Solved, plan: Plan, event: Condition, dense: bool) -> Solved:
    """Move the end of a solve back to the event, and blank the rows past it."""
    carry = solved.carry
    times, states, stages = solved.record
    n = jnp.maximum(carry.accepted - 1, 0) if dense else 0
    x, stages = jax.tree.map(lambda leaf: leaf[n], (states, stages))
    step = Step(times[0, n], x, times[1, n], stages, (x,), True)
    left = event(step.t, x)

    def halve(_: Any, bracket: Any) -> Any:
        low, high = bracket
        middle = 0.5 * (low + high)
        past = event(middle, interpolate(plan.tableau, step, middle)) * left <= 0
        return jnp.where(past, low, middle), jnp.where(past, middle, high)

    _, at = jax.lax.fori_loop(0, _HALVINGS, halve, (step.t, step.t + step.step_size))
    happened = carry.code == int(OutcomeKind.EVENT)
    final = where(happened, interpolate(plan.tableau, step, at), carry.x)
    t = jnp.where(happened, at, carry.t)
    kept = ~happened | (plan.save_times <= t)
    rows = jax.tree.map(
        lambda leaf: jnp.where(
            kept.reshape(kept.shape + (1,) * (leaf.ndim - 1)), leaf, jnp.asarray(jnp.nan, leaf.dtype)
        ),
        solved.rows,
    )
    return solved._replace(carry=carry._replace(x=final, t=t), rows=rows)
