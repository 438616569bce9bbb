r"""Adaptive members of one batch, none of which waits for another.

Each member takes its own steps (`_adaptive_step`) in a batch that shrinks as members finish (`_compaction`). Rows are
read off the interpolant of a member's last accepted step, a few at a time: a member with more rows inside one step
than that waits a turn before its next. With T/32 rows a turn this costs a member at most 32 turns more than its steps.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import where
from separatrix._types import Function, State
from separatrix.evolution._adaptive_loop import LoopPlan
from separatrix.evolution._adaptive_step import RUNNING, Carry, Span, advance, init_carry
from separatrix.evolution._compaction import Loop, run_compacted
from separatrix.evolution._replay import solve
from separatrix.evolution._stepper import Step
from separatrix.systems.trajectory import OutcomeKind

_TURNS = 32


class MemberField(eqx.Module):
    """One member's velocity: a function of (what is its own in the system, t, x)."""

    velocity: Function
    own: Any

    def __call__(self, t: Any, state: State) -> State:
        return self.velocity(self.own, t, state)


class Member(NamedTuple):
    """A solve under way: the next step, the last accepted one, the time it reached, and the next row."""

    carry: Carry
    step: Step | None
    reached: Any
    cursor: Any


class Batch(NamedTuple):
    """What a gradient may be asked for: the velocity, what is each member's own in it, their states, and the times."""

    velocity: Function
    own: Any
    states: State
    times: tuple[Any, Any, Any]


def solve_members(batch: Batch, plan: LoopPlan) -> tuple[Carry, State]:
    """Solve every member; return their final carries and their rows (members, times, ...), NaN past a break."""
    count = plan.save_times.shape[0]

    def field(own: Any) -> MemberField:
        return MemberField(batch.velocity, own)

    loop = Loop(
        lambda own, member: _advance(field(own), plan, member),
        lambda member: (member.carry.code != RUNNING) & _clear(plan, member),
        _retire,
        lambda rows, members, written: _write(rows, members, written, count),
        batch.own,
    )
    members = jax.vmap(lambda own, x: _begin(field(own), plan, x))(batch.own, batch.states)
    rows = jax.tree.map(lambda x: jnp.full((x.shape[0], count, *x.shape[1:]), jnp.nan, x.dtype), batch.states)
    members, rows = run_compacted(loop, members, rows)
    return members.carry, rows


def _timed(batch: Batch, plan: LoopPlan) -> LoopPlan:
    t0, t1, save_times = batch.times
    return plan._replace(span=Span(t0, t1, plan.span.max_steps), save_times=save_times)


@eqx.filter_custom_vjp
def solve_members_by_replay(batch: Batch, plan: LoopPlan) -> tuple[Carry, State]:
    """`solve_members`, whose gradient replays the members' steps, all members in step with the longest."""
    return solve_members(batch, _timed(batch, plan))


@solve_members_by_replay.def_fwd
def _forward(perturbed: Any, batch: Batch, plan: LoopPlan) -> Any:
    return solve_members(batch, _timed(batch, plan)), None


@solve_members_by_replay.def_bwd
def _backward(residuals: None, cotangent: Any, perturbed: Any, batch: Batch, plan: LoopPlan) -> Any:
    moving, still = eqx.partition(batch, eqx.is_inexact_array)

    def lockstep(moving: Any) -> Any:
        batch = eqx.combine(moving, still)

        def one(own: Any, x: State) -> Any:
            solved = solve((MemberField(batch.velocity, own), x, *batch.times), plan)
            return solved.carry.x, solved.rows

        return jax.vmap(one)(batch.own, batch.states)

    out, pull = jax.vjp(lockstep, moving)
    fill = lambda leaf, bar: jnp.zeros_like(leaf) if bar is None else bar  # noqa: E731
    return pull(jax.tree.map(fill, out, (cotangent[0].x, cotangent[1])))[0]


def _begin(field: MemberField, plan: LoopPlan, x: State) -> Member:
    carry = init_carry(field, plan.stepper, plan.control, x, plan.span)
    none, before = jnp.zeros((), jnp.int32), jnp.full_like(plan.span.t0, -jnp.inf)
    if plan.save_times.shape[0] == 0:
        return Member(carry, None, before, none)
    shapes = eqx.filter_eval_shape(lambda carry: _tried(field, plan, carry)[1], carry)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return Member(carry, nothing, before, none)


def _tried(field: MemberField, plan: LoopPlan, carry: Carry) -> tuple[Carry, Step]:
    return advance(field, plan.stepper, plan.control, plan.span, carry)


def _advance(field: MemberField, plan: LoopPlan, member: Member) -> tuple[Member, Any]:
    """One step, unless rows of the last one wait to be written; then up to a turn's worth of rows."""
    carry, step = _tried(field, plan, member.carry)
    free = (member.carry.code == RUNNING) & _clear(plan, member)
    kept = free & step.accepted
    following = where(free, carry, member.carry)
    if member.step is None:
        return Member(following, None, member.reached, member.cursor), ()
    reached = jnp.where(kept, carry.t, member.reached)
    last = where(kept, step, member.step)
    cursor, written = _due(plan, last, reached, member.cursor)
    return Member(following, last, reached, cursor), written


def _retire(member: Member) -> Member:
    """Done, with nothing reached and so nothing to write."""
    ended = jnp.full_like(member.carry.code, int(OutcomeKind.COMPLETED))
    return member._replace(carry=member.carry._replace(code=ended), reached=jnp.full_like(member.reached, -jnp.inf))


def _clear(plan: LoopPlan, member: Member) -> Any:
    """Whether all rows inside the last accepted step are written."""
    count = plan.save_times.shape[0]
    if count == 0:
        return jnp.asarray(True)
    return (member.cursor >= count) | (plan.save_times[jnp.minimum(member.cursor, count - 1)] > member.reached)


def _due(plan: LoopPlan, step: Step, reached: Any, cursor: Any) -> tuple[Any, Any]:
    """The next row, and (numbers, values) of those to write now; a number past the last stands for none."""
    count = plan.save_times.shape[0]
    places = cursor + jnp.arange(-(-count // _TURNS), dtype=cursor.dtype)
    times = plan.save_times[jnp.minimum(places, count - 1)]
    due = (places < count) & (times <= reached)

    def value(time: Any) -> State:
        return where(time == reached, step.end, plan.stepper.interpolate(step, time))

    return cursor + due.sum(dtype=cursor.dtype), (jnp.where(due, places, count), jax.vmap(value)(times))


def _write(rows: State, members: Any, written: Any, count: int) -> State:
    if count == 0:
        return rows
    places, values = written
    who = jnp.broadcast_to(members[:, None], places.shape)
    return jax.tree.map(lambda row, value: row.at[who, places].set(value, mode="drop"), rows, values)
