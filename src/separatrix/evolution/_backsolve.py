r"""The continuous adjoint of a flow: the costate solved backwards beside the state, at constant memory.

    x' = f(t, x; theta),    lambda' = -(Df)^T lambda,    g' = -(df/dtheta)^T lambda,    from t1 back to t0,

lambda(t1) = dL/dx(t1), with the cotangent of a row added to lambda at its time. Exact for the equation, not for its
discretisation: the state is found again by solving backwards, from row to row.

Reference: Chen, Rubanova, Bettencourt & Duvenaud, *Neural ordinary differential equations* (2018), algorithm 1.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import add, dot, scale
from separatrix._types import State
from separatrix.evolution._adaptive_loop import LoopPlan, Solved, integrate
from separatrix.evolution._adaptive_step import Span
from separatrix.evolution._replay import bars_of, blank_if
from separatrix.evolution._stepper import parameters_and_rest


@eqx.filter_custom_vjp
def solve_continuous(traced: tuple[Any, State, Any, Any, Any], plan: LoopPlan) -> Solved:
    """`integrate`, with its gradient by the continuous adjoint. `traced` is (field, x, t0, t1, save_times)."""
    field, x, t0, t1, save_times = traced
    return integrate(field, x, plan._replace(span=Span(t0, t1, plan.span.max_steps), save_times=save_times))


@solve_continuous.def_fwd
def _forward(perturbed: Any, traced: Any, plan: LoopPlan) -> Any:
    solved = solve_continuous(traced, plan)
    return solved, solved


@solve_continuous.def_bwd
def _backward(solved: Solved, cotangent: Any, perturbed: Any, traced: Any, plan: LoopPlan) -> Any:
    field, x, t0, t1, save_times = traced
    parameters, rest = parameters_and_rest(field)
    (bars, broken), slope = bars_of(cotangent, solved, plan), plan.stepper.slope

    def velocity(t: Any, x: State, parameters: Any) -> State:
        return slope(eqx.combine(parameters, rest), t, x)

    def backwards(s: Any, y: Any) -> Any:
        x, costate, _ = y
        f, pull = jax.vjp(lambda x, p: velocity(-s, x, p), x, parameters)
        on_x, on_parameters = pull(costate)
        return scale(-1, f), on_x, on_parameters

    def between(y: Any, row: Any) -> tuple[Any, None]:
        """Back to the time of a row, where its cotangent joins and the state is what it was."""
        later, time, x, bar = row
        span = Span(-later, -time, plan.span.max_steps)
        leg = plan._replace(span=span, save_times=save_times[:0], event=None)
        started = jax.lax.cond(
            later > time, lambda y: _finished(integrate(plan.stepper.along(backwards), y, leg)), lambda y: y, y
        )
        _, costate, gradient = started
        return (x, add(costate, bar), gradient), None

    end = solved.carry.t
    good = save_times <= end
    times = jnp.where(good, save_times, end)
    y, first = (solved.carry.x, bars.final, jax.tree.map(jnp.zeros_like, parameters)), end
    if save_times.shape[0]:
        later, first = jnp.concatenate([times[1:], end[None]]), times[0]
        states = jax.tree.map(lambda row, last: _where_rows(good, row, last), solved.rows, solved.carry.x)
        y, _ = jax.lax.scan(between, y, (later, times, states, bars.rows), reverse=True)
    nothing = jax.tree.map(jnp.zeros_like, x)
    (_, costate, gradient), _ = between(y, (first, t0, x, nothing))
    gradient, costate = blank_if(broken, (gradient, costate))
    _, _, p0, p1, ps = perturbed
    t0_bar = -dot(costate, slope(field, t0, x)) if p0 else None
    t1_bar = dot(bars.final, slope(field, t1, solved.carry.x)) if p1 else None
    rows = (bars.rows, save_times, solved.rows)
    times_bar = jax.vmap(lambda bar, t, row: dot(bar, slope(field, t, row)))(*rows) if ps else None
    return gradient, costate, t0_bar, t1_bar, times_bar


def _finished(solved: Solved) -> Any:
    """The end of a leg; NaN if the way back broke."""
    good = solved.carry.code == 0
    return jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.nan), solved.carry.x)


def _where_rows(good: Any, rows: Any, last: Any) -> Any:
    return jnp.where(good.reshape(good.shape + (1,) * (rows.ndim - 1)), rows, last[None])
