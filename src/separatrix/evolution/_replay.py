r"""The gradient of an adaptive solve, by replay of its accepted steps.

With x' = S(t, x, h; theta) one step, the costate goes back through the steps that were taken, their sizes held fixed:

    (lambda_n, g_n) = DS^T applied to (lambda_{n+1}, cotangents of the rows inside step n),    dL/dtheta = sum_n g_n.

That is the exact gradient of what was computed. Within a step X_i = x + h sum_j a_ij k_j and k_i = f(t_i, X_i; theta), so

    kbar_i = h sum_{j>i} a_ji Xbar_j + (rows' pull on k_i),    (gbar_i, Xbar_i) = (df/d(theta, x))^T kbar_i,

one evaluation and one transposed evaluation a stage. A row at theta inside a step pulls on x_n and, with h w_i(theta), on
each stage: all rows of a step are gathered first, so that they cost one pass.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import add, dot, float_dtype, scale
from separatrix._types import State
from separatrix.evolution._adaptive_loop import Plan, Recorder, Solved, integrate, interpolation_weights
from separatrix.evolution._adaptive_step import Control, Step, take_stages
from separatrix.evolution._tableau import Tableau

# How many steps a solve may take, and how many a solve that stores them.
Limits = tuple[int, int]


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
    plan = Plan(tableau, min(limits), control, t0, t1, save_times)
    solved = integrate(field, x, plan, states_recorder(limits[1]))
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
    # Without rows nothing depends on the last stage, which is taken at the end of the step.
    used = tableau.stages - (save_times.shape[0] == 0)

    way = _through_rolled_stages if tableau.rolled else _through_stages

    def back(loop: Any) -> Any:
        n, left, costate, gradient = loop
        x_n = jax.tree.map(lambda leaf: leaf[n], states)
        place = Place(times[0, n], x_n, times[1, n], used)
        direct, on_stages, left = _gather(plan, place, left, rows_bar)
        start, more = way(parameters, rest, tableau, place, costate, on_stages)
        return n - 1, left, add(start, direct), add(gradient, more)

    zero = jax.tree.map(jnp.zeros_like, parameters)
    begin = (carry.accepted - 1, jnp.asarray(save_times.shape[0] - 1, jnp.int32), final_bar, zero)
    _, _, costate, gradient = jax.lax.while_loop(lambda loop: loop[0] >= 0, back, begin)
    _, _, p0, p1, ps = perturbed
    t0_bar = -dot(costate, field(t0, x)) if p0 else None
    t1_bar = dot(final_bar, carry.f) if p1 else None
    times_bar = jax.vmap(lambda bar, t, row: dot(bar, field(t, row)))(rows_bar, save_times, rows) if ps else None
    return gradient, costate, t0_bar, t1_bar, times_bar


class Place(NamedTuple):
    """A step that was taken: where from, how far, and how many of its stages are in use."""

    t: Any
    x: State
    step_size: Any
    used: int


def _through_stages(
    parameters: Any, rest: Any, tableau: Tableau, place: Place, costate: State, on_stages: State
) -> tuple[State, Any]:
    """(costate at the start of a step, its part of the gradient), by the chain written out.

    The compiler sees that the evaluations that find the points are those that are transposed, and keeps one of each.
    """
    t, x, h, used = place
    field = eqx.combine(parameters, rest)
    points = take_stages(field, tableau, t, x, h, field(t, x))[1][:used]
    loop = _end_of_step(tableau, place, costate, on_stages)
    gradient = jax.tree.map(jnp.zeros_like, parameters)
    for i in reversed(range(used)):
        node = t + jnp.asarray(tableau.c[i], h.dtype) * h
        pull = jax.vjp(lambda p, y, t=node: eqx.combine(p, rest)(t, y), parameters, points[i])[1]
        more, on_point = pull(jax.tree.map(lambda leaf, i=i: leaf[i], loop[1]))
        loop, gradient = _spread(loop, _row(tableau.a[i], place), on_point, h), add(gradient, more)
    return loop[0], gradient


def _through_rolled_stages(
    parameters: Any, rest: Any, tableau: Tableau, place: Place, costate: State, on_stages: State
) -> tuple[State, Any]:
    """The same by the transpose of the loop over stages, which holds the velocity once."""
    t, x, h, used = place

    def step(parameters: Any, x: State) -> Any:
        field = eqx.combine(parameters, rest)
        stages, points = take_stages(field, tableau, t, x, h, field(t, x))
        return points[-1], jax.tree.map(lambda *leaves: jnp.stack(leaves), *stages[:used])

    more, start = jax.vjp(step, parameters, x)[1]((costate, on_stages))
    return start, more


def _end_of_step(tableau: Tableau, place: Place, costate: State, on_stages: State) -> tuple[State, State]:
    """x' = x + h sum_i b_i k_i, transposed."""
    return _spread((scale(0, costate), on_stages), _row(tableau.b, place), costate, place.step_size)


def _row(weights: Any, place: Place) -> Any:
    """Weights of the stages in use, those left out being zero."""
    return jnp.asarray([*weights, *[0.0] * place.used][: place.used], place.step_size.dtype)


def _spread(loop: tuple[State, State], weights: Any, on_point: State, h: Any) -> tuple[State, State]:
    """Add what a point x + h sum_j w_j k_j pulls on x and on each stage."""
    start, on_stages = loop

    def pull(stage: Any, bar: Any) -> Any:
        return stage + (h * weights).astype(stage.dtype).reshape(-1, *[1] * bar.ndim) * bar[None]

    return add(start, on_point), jax.tree.map(pull, on_stages, on_point)


def _filled(cotangents: Any, like: Any) -> Any:
    """Cotangents with zeros where there is none."""

    def fill(bar: Any, leaf: Any) -> Any:
        return jnp.zeros_like(leaf) if bar is None else jnp.where(jnp.isfinite(leaf), bar, 0)

    return jax.tree.map(fill, cotangents, like, is_leaf=lambda leaf: leaf is None)


def _gather(plan: Plan, place: Place, left: Any, rows_bar: State) -> Any:
    """Sum the pulls of the rows inside one step: on its start, and on each stage; and how many rows are left."""
    t, x, h, used = place
    tableau, save_times = plan.tableau, plan.save_times
    nothing = jax.tree.map(lambda leaf: jnp.zeros((used, *leaf.shape), leaf.dtype), x)
    begin = (left, scale(0, x), nothing)
    if save_times.shape[0] == 0:
        return begin[1], begin[2], left
    # A row at the end of a step belongs to it, as it did on the way forward; the start of the first step to the first.
    first = t == plan.t0

    def inside(loop: Any) -> Any:
        time = save_times[jnp.maximum(loop[0], 0)]
        return (loop[0] >= 0) & ((time > t) | first)

    def pull(loop: Any) -> Any:
        index, *begun = loop
        bar = jax.tree.map(lambda leaf: leaf[index], rows_bar)
        weights = jnp.stack(interpolation_weights(tableau, Step(t, x, h, (), (x,), True), save_times[index]))
        return index - 1, *_spread(tuple(begun), weights, bar, h)

    left, direct, on_stages = jax.lax.while_loop(inside, pull, begin)
    return direct, on_stages, left
