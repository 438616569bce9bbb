r"""The adaptive loop, and its gradient by replay.

Forward, one `while_loop` runs until t1; after each accepted step the rows whose times it covers are read off its
interpolant. For a gradient the start (t_n, x_n) and size h_n of each accepted step are stored, and a second loop goes
through them backwards: with x' = S(t, x, h; theta) one step and w_i the interpolant's weights,

    (lambda_n, g) = DS^T applied to (lambda_{n+1}, cotangents of the rows inside step n),

step sizes held fixed. That is the exact gradient of what was computed, at one evaluation and one transposed evaluation
a stage. A row at theta inside a step pulls on x_n and, with h w_i(theta), on each stage: all rows of a step
are gathered first, so that they cost one pass.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import add, dot, float_dtype, scale, where
from separatrix._types import State
from separatrix.evolution._adaptive_step import RUNNING, Carry, Control, Step, advance, init_carry, take_stages, weigh
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
    return weigh(_weights(tableau, step, t), step.stages, step.step_size, step.x)


def _weights(tableau: Tableau, step: Step, t: Any) -> list[Any]:
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


def states_recorder(capacity: int) -> Recorder:
    """Keep (t_n, h_n, x_n) of the first `capacity` accepted steps."""

    def empty(x: State) -> Any:
        times = jnp.zeros((2, capacity), float_dtype(x))
        return times, jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), x)

    def write(record: Any, n: Any, step: Step) -> Any:
        times, states = record
        times = times.at[:, n].set(jnp.stack([step.t, step.step_size]))
        return times, jax.tree.map(lambda buffer, leaf: buffer.at[n].set(leaf), states, step.x)

    return Recorder(empty, write)


@eqx.filter_custom_vjp
def solve(traced: tuple[Any, State, Any, Any, Any], tableau: Tableau, limits: Limits, control: Control) -> Solved:
    """`integrate`, with its gradient by replay. `traced` is (field, x, t0, t1, save_times)."""
    field, x, t0, t1, save_times = traced
    return integrate(field, x, Plan(tableau, limits[0], control, t0, t1, save_times))


@solve.def_fwd
def _solve_forward(perturbed: Any, traced: Any, tableau: Tableau, limits: Limits, control: Control) -> Any:
    field, x, t0, t1, save_times = traced
    stored = limits[1]
    plan = Plan(tableau, min(limits), control, t0, t1, save_times)
    solved = integrate(field, x, plan, states_recorder(stored))
    return solved._replace(record=()), (solved.record, solved.carry, solved.rows)


@solve.def_bwd
def _solve_backward(
    residuals: Any, cotangent: Any, perturbed: Any, traced: Any, tableau: Any, limits: Any, control: Any
) -> Any:
    (times, states), carry, rows = residuals
    field, x, t0, t1, save_times = traced
    parameters, rest = eqx.partition(field, eqx.is_inexact_array)
    final_bar = _filled(cotangent.carry.x, carry.x)
    rows_bar = _filled(cotangent.rows, rows)
    plan = Plan(tableau, limits[1], control, t0, t1, save_times)

    def back(loop: Any) -> Any:
        n, left, costate, gradient = loop
        x_n = jax.tree.map(lambda leaf: leaf[n], states)
        pulls, left = _gather(plan, times[0, n], times[1, n], left, rows_bar, x_n)

        def step(parameters: Any, x: State) -> Any:
            f = eqx.combine(parameters, rest)
            t, h = times[0, n], times[1, n]
            if save_times.shape[0] == 0:
                short = _without_last(tableau)
                stages = take_stages(f, short, t, x, h, f(t, x))[0]
                return weigh(tableau.b[:-1], stages, h, x)
            stages, end, _ = take_stages(f, tableau, t, x, h, f(t, x))
            return end, stages

        _, pull = jax.vjp(step, parameters, x_n)
        if save_times.shape[0] == 0:
            more, costate = pull(costate)
        else:
            direct, on_stages = pulls
            more, costate = pull((costate, on_stages))
            costate = add(costate, direct)
        return n - 1, left, costate, add(gradient, more)

    zero = jax.tree.map(jnp.zeros_like, parameters)
    begin = (carry.accepted - 1, jnp.asarray(save_times.shape[0] - 1, jnp.int32), final_bar, zero)
    _, _, costate, gradient = jax.lax.while_loop(lambda loop: loop[0] >= 0, back, begin)
    _, _, p0, p1, ps = perturbed
    t0_bar = -dot(costate, field(t0, x)) if p0 else None
    t1_bar = dot(final_bar, carry.f) if p1 else None
    times_bar = jax.vmap(lambda bar, t, row: dot(bar, field(t, row)))(rows_bar, save_times, rows) if ps else None
    return gradient, costate, t0_bar, t1_bar, times_bar


def _filled(cotangents: Any, like: Any) -> Any:
    """Cotangents with zeros where there is none."""

    def fill(bar: Any, leaf: Any) -> Any:
        return jnp.zeros_like(leaf) if bar is None else jnp.where(jnp.isfinite(leaf), bar, 0)

    return jax.tree.map(fill, cotangents, like, is_leaf=lambda leaf: leaf is None)


def _gather(plan: Plan, t: Any, h: Any, left: Any, rows_bar: State, x: State) -> Any:
    """Sum the pulls of the rows inside one step: on its start, and on each stage."""
    tableau, save_times = plan.tableau, plan.save_times
    if save_times.shape[0] == 0:
        return None, left
    nothing = scale(0, x)
    # A row at the end of a step belongs to it, as it did on the way forward; the start of the first step to the first.
    first = t == plan.t0

    def inside(loop: Any) -> Any:
        time = save_times[jnp.maximum(loop[0], 0)]
        return (loop[0] >= 0) & ((time > t) | first)

    def pull(loop: Any) -> Any:
        index, direct, on_stages = loop
        bar = jax.tree.map(lambda leaf: leaf[index], rows_bar)
        step = Step(t, x, h, (), x, True)
        weights = _weights(tableau, step, save_times[index])
        on_stages = tuple(add(k, scale(h * w, bar)) for k, w in zip(on_stages, weights, strict=True))
        return index - 1, add(direct, bar), on_stages

    begin = (left, nothing, tuple(nothing for _ in range(tableau.stages)))
    left, direct, on_stages = jax.lax.while_loop(inside, pull, begin)
    return (direct, on_stages), left


def _without_last(tableau: Tableau) -> Tableau:
    """The stages that the end of a step is made of."""
    return tableau.__class__(
        tableau.a[:-1],
        tableau.b[:-1],
        tableau.error[:-1],
        tableau.c[:-1],
        tableau.weights[:-1],
        tableau.order,
        tableau.rolled,
    )
