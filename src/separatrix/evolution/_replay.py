r"""The gradient of an adaptive solve, by replay of its accepted steps.

With (x', m') = S(t, x, m, h; theta) one step, m what the method carries from step to step, the costate goes back through
the steps that were taken, their sizes held fixed:

    (lambda_n, mu_n, g_n) = DS^T applied to (lambda_{n+1}, mu_{n+1}, cotangents of the rows inside step n),

dL/dtheta = sum_n g_n. That is the exact gradient of what was computed (`_transpose`). Of a long solve not all steps are
kept (`_room`): those between two kept ones are taken again, from the one to the other, so that memory is K + N/K states
for N steps at one more evaluation. An event ends inside its last step: its state is a row there.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import add, all_finite, dot, scale
from separatrix._types import State
from separatrix.evolution._adaptive_loop import LoopPlan, Solved, integrate
from separatrix.evolution._adaptive_step import RUNNING, Carry, Span, advance
from separatrix.evolution._dense import dense_recorder
from separatrix.evolution._room import Kept, exponent, kept_of, load, make_room, place_of, thinning_recorder
from separatrix.evolution._stepper import ExplicitPair, parameters_and_rest
from separatrix.evolution._transpose import Pull, StagePlace, no_pull_inside, pull_at, transpose_step

# A stretch that is taken again may differ from the first time by rounding, and so by a step.
_SPARE = 8


@eqx.filter_custom_vjp
def solve(traced: tuple[Any, State, Any, Any, Any], plan: LoopPlan) -> Solved:
    """`integrate`, with its gradient by replay. `traced` is (field, x, t0, t1, save_times)."""
    return _run(traced, plan, keeps=False)[0]


@solve.def_fwd
def _solve_forward(perturbed: Any, traced: Any, plan: LoopPlan) -> Any:
    solved, kept = _run(traced, plan, keeps=True)
    return solved, (kept, solved)


@solve.def_bwd
def _solve_backward(residuals: Any, cotangent: Any, perturbed: Any, traced: Any, plan: LoopPlan) -> Any:
    kept, solved = residuals
    field, x, t0, t1, save_times = traced
    plan, slope = _with_span(plan, traced), plan.stepper.slope
    bars, broken = bars_of(cotangent, solved, plan)
    gradient, costate = blank_if(broken, _sweep(field, plan, kept, solved, bars))
    _, _, p0, p1, ps = perturbed
    t0_bar = -dot(costate, slope(field, t0, x)) if p0 else None
    t1_bar = dot(bars.final, slope(field, t1, solved.carry.x)) if p1 else None
    rows = (bars.rows, save_times, solved.rows)
    times_bar = jax.vmap(lambda bar, t, row: dot(bar, slope(field, t, row)))(*rows) if ps else None
    return gradient, costate, t0_bar, t1_bar, times_bar


def _with_span(plan: LoopPlan, traced: Any) -> LoopPlan:
    _, _, t0, t1, save_times = traced
    return plan._replace(span=Span(t0, t1, plan.span.max_steps), save_times=save_times)


def _run(traced: Any, plan: LoopPlan, *, keeps: bool) -> tuple[Solved, Any]:
    """Solve, keeping every step for dense output, some of them for a gradient, or none."""
    field, x, *_ = traced
    plan = _with_span(plan, traced)
    if plan.dense:
        solved = integrate(field, x, plan, dense_recorder(plan.kept))
        (starts, sizes), states, memory, _ = solved.record
        none = jnp.ones_like(starts)
        return solved, Kept(jnp.stack([starts, sizes, none, none], axis=1), states, memory)
    if not keeps:
        return integrate(field, x, plan), None
    solved = integrate(field, x, plan, thinning_recorder(plan.kept, keeps_memory=_has_memory(plan)))
    return solved._replace(record=()), solved.record


def _has_memory(plan: LoopPlan) -> bool:
    """What a pair carries is f(t, x), which is found again."""
    return not isinstance(plan.stepper, ExplicitPair)


class Bars(NamedTuple):
    """Cotangents: of the end, of the rows, and of dense output (the states and insides of the steps)."""

    final: State
    rows: State
    states: Any
    inside: Any


def bars_of(cotangent: Any, solved: Solved, plan: LoopPlan) -> tuple[Bars, Any]:
    """The cotangents of a solve, and whether any of them is not finite: then all are zero, and the gradient is to be NaN.

    The cotangents of a solve that broke are infinite, and the equations inside an implicit step would not take them.
    """
    states, inside = None, None
    if plan.dense:
        states, inside = (_filled(cotangent.record[i], solved.record[i]) for i in (1, 3))
    bars = Bars(_filled(cotangent.carry.x, solved.carry.x), _filled(cotangent.rows, solved.rows), states, inside)
    broken = ~all_finite(bars)
    return jax.tree.map(lambda bar: jnp.where(broken, 0, bar), bars), broken


def blank_if(broken: Any, tree: Any) -> Any:
    """NaN in place of a gradient through a broken solve."""
    return jax.tree.map(lambda leaf: jnp.where(broken, jnp.nan, leaf).astype(leaf.dtype), tree)


def _filled(cotangents: Any, like: Any) -> Any:
    """Cotangents with zeros where there is none. A row that was not reached has none, unless it is asked for."""

    def fill(leaf: Any, bar: Any) -> Any:
        if bar is None:
            return jnp.zeros_like(leaf)
        return jnp.where(jnp.isfinite(leaf) | (bar != 0), bar, 0)

    return jax.tree.map(fill, like, cotangents)


def _sweep(field: Any, plan: LoopPlan, kept: Kept, solved: Solved, bars: Bars) -> tuple[Any, State]:
    """(gradient of the parameters, costate at the start), stretch by stretch between kept steps."""
    room, steps = kept.times.shape[0], solved.carry.accepted
    p = exponent(jnp.maximum(steps - 1, 0), room)
    first = load(kept, 0)
    moving = eqx.filter(first.memory, eqx.is_inexact_array)
    inner = plan.event is not None and (solved.carry.t < solved.stepped_to)
    costate = jax.tree.map(lambda bar: jnp.where(inner, 0, bar), bars.final)
    gradient = jax.tree.map(jnp.zeros_like, parameters_and_rest(field)[0])
    left = jnp.asarray(plan.save_times.shape[0] - 1, jnp.int32)
    carried = Carried(left, costate, jax.tree.map(jnp.zeros_like, moving), gradient)

    def stretch(loop: Any) -> Any:
        k, end, carried = loop
        taken, count = _take_again(field, plan, load(kept, place_of(k << p, room)), end, p > 0)
        carried = _back_through(field, plan, solved, bars, (taken, count, k << p), carried)
        return k - 1, taken.times[0, 0], carried

    last = jnp.where(steps > 0, (steps - 1) >> p, -1)
    *_, carried = jax.lax.while_loop(lambda loop: loop[0] >= 0, stretch, (last, solved.stepped_to, carried))
    return _into_start(field, plan, first, carried)


class Carried(NamedTuple):
    """How many rows are left, the cotangents of the state and of what the method carries, and the gradient so far."""

    left: Any
    costate: State
    memory: Any
    gradient: Any


def _capacity(plan: LoopPlan) -> int:
    """The most steps between two kept ones."""
    if plan.dense or plan.span.max_steps <= plan.kept:
        return 1
    stride = 1
    while plan.kept * stride < plan.span.max_steps:
        stride *= 2
    return stride + _SPARE


def _take_again(field: Any, plan: LoopPlan, start: Kept, end: Any, needed: Any) -> tuple[Kept, Any]:
    """The steps from a kept one up to the next, and how many; the kept one alone if all steps were kept."""
    capacity = _capacity(plan)
    taken = jax.tree.map(lambda room, leaf: room.at[0].set(leaf), make_room(start, capacity), start)
    if capacity == 1:
        return taken, jnp.asarray(1, jnp.int32)
    stepper = plan.stepper.rolled() if isinstance(plan.stepper, ExplicitPair) else plan.stepper
    span = Span(plan.span.t0, end, 2**30)
    t, h, *before = start.times
    memory = start.memory if _has_memory(plan) else field(t, start.states)
    none, zero = jnp.zeros((), jnp.int32), jnp.zeros_like(t)
    code = jnp.where(needed, RUNNING, 0).astype(jnp.int32)
    carry = Carry(t, start.states, memory, h, tuple(before), none, none, zero, (zero, zero), code)

    def body(loop: Any) -> Any:
        carry, taken = loop
        after, step = advance(field, stepper, plan.control, span, carry)
        now, place = kept_of(carry, step, keeps_memory=_has_memory(plan)), carry.accepted
        return after, jax.tree.map(lambda room, leaf: room.at[place].set(leaf, mode="drop"), taken, now)

    carry, taken = jax.lax.while_loop(lambda loop: loop[0].code == RUNNING, body, (carry, taken))
    return taken, jnp.where(needed, carry.accepted, 1)


def _back_through(field: Any, plan: LoopPlan, solved: Solved, bars: Bars, stretch: Any, carried: Carried) -> Carried:
    """Back through the steps of one stretch."""
    taken, count, first = stretch

    def back(loop: Any) -> Any:
        i, carried = loop
        times, x, memory = load(taken, i)
        place = StagePlace(times[0], x, times[1], memory)
        pull, left = _pulls(field, plan, solved, bars, (place, first + i), carried)
        pull, more = transpose_step(plan.stepper, field, place, carried.costate, pull)
        return i - 1, Carried(left, pull.state, pull.memory, add(carried.gradient, more))

    return jax.lax.while_loop(lambda loop: loop[0] >= 0, back, (count - 1, carried))[1]


def _pulls(field: Any, plan: LoopPlan, solved: Solved, bars: Bars, at: Any, carried: Carried) -> tuple[Pull, Any]:
    """What dense output, an event and rows pull on the start of a step and on what is inside it; how many rows are left."""
    place, n = at
    # Without any of them nothing depends on the last stage of a pair, at the end of its step.
    bare = plan.save_times.shape[0] == 0 and plan.event is None and not plan.dense
    pull = Pull(scale(0, place.x), carried.memory, no_pull_inside(plan.stepper, field, place, bare=bare))
    if plan.dense:
        state, inside = jax.tree.map(lambda leaf: leaf[n], (bars.states, bars.inside))
        if isinstance(plan.stepper, ExplicitPair):
            inside = jax.tree.map(lambda *leaves: jnp.stack(leaves), *inside)
        pull = pull._replace(state=add(pull.state, state), inside=add(pull.inside, inside))
    if plan.event is not None:
        ended = solved.carry.t
        here = (ended < solved.stepped_to) & (place.t < ended) & (ended <= place.t + place.step_size)
        final = jax.tree.map(lambda bar: jnp.where(here, bar, 0), bars.final)
        pull = pull_at(plan.stepper, place, solved.carry.t, final, pull)
    if plan.save_times.shape[0] == 0:
        return pull, carried.left
    # A row at the end of a step belongs to it, as it did on the way forward; the start of the first step to the first.
    starts = place.t == plan.span.t0

    def belongs(loop: Any) -> Any:
        return (loop[0] >= 0) & ((plan.save_times[jnp.maximum(loop[0], 0)] > place.t) | starts)

    def gather(loop: Any) -> Any:
        index, pull = loop
        row = jax.tree.map(lambda leaf: leaf[index], bars.rows)
        return index - 1, pull_at(plan.stepper, place, plan.save_times[index], row, pull)

    left, pull = jax.lax.while_loop(belongs, gather, (carried.left, pull))
    return pull, left


def _into_start(field: Any, plan: LoopPlan, first: Kept, carried: Carried) -> tuple[Any, State]:
    """What a method carries into the first step depends on the state and the parameters too."""
    if not jax.tree.leaves(carried.memory):
        return carried.gradient, carried.costate
    t, h, *_ = first.times
    parameters, rest = parameters_and_rest(field)

    def started(parameters: Any, x: State) -> Any:
        field, stepper = eqx.combine(parameters, rest), plan.stepper
        return eqx.filter(stepper.start(field, t, h, x, stepper.slope(field, t, x)), eqx.is_inexact_array)

    more, state = jax.vjp(started, parameters, first.states)[1](carried.memory)
    return add(carried.gradient, more), add(carried.costate, state)
