r"""Flows by adaptive steps: dx/dt = f(t, x) from t0 to t1.

Explicit pairs (Tsit5 by default) run in our own loop, whose gradient is a replay of the accepted steps. Every other
solver of diffrax, and its checkpointed and continuous adjoints, run in diffrax; how they end is told in the same words.
"""

import dataclasses
import warnings
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_traced
from separatrix._types import Function, State
from separatrix.evolution._adaptive_loop import Plan, Solved, integrate
from separatrix.evolution._adaptive_step import Control, control_of, escape_time
from separatrix.evolution._dense import dense_recorder, interpolation
from separatrix.evolution._diffrax import evolve_by_diffrax
from separatrix.evolution._event import Event, as_event, event_recorder, finish_at_event
from separatrix.evolution._form import Form, form_of
from separatrix.evolution._replay import Limits, solve
from separatrix.evolution._rows import blank_unless, rows_of
from separatrix.evolution._tableau import Tableau, can_run, tableau_of
from separatrix.systems.flow import Flow
from separatrix.systems.trajectory import OutcomeKind, Trajectory, outcome

# Error per step: near the square root of what a dtype resolves, where a pair of order five is still efficient.
_DEFAULTS = {"float64": (1e-6, 1e-8), "float32": (1e-4, 1e-6)}
# A replay that would store more than this goes by recursive checkpoints, which hold logarithmically many states.
_REPLAY_BYTES = 1 << 30
# A solve that keeps its steps (for a gradient, or dense output) has room for so many; one that does not may go on.
_STORED_STEPS = 4096
_MAX_STEPS = 100_000
# A velocity of more operations than this is held once in the program, in a loop over stages, and not nine times: measured
# on gradient flows of networks, this compiles several times faster and runs within a few per cent.
_LONG = 60
GRADIENTS = ("replay", "checkpoint", "continuous", "forward")


def evolve_flow(
    flow: Flow,
    state: State,
    times: Any,
    *,
    save_times: Any,
    fn: Function,
    method: Any = None,
    step_size: Any = None,
    rtol: Any = None,
    atol: Any = None,
    controller: Any = None,
    max_steps: int | None = None,
    dense: bool = False,
    event: Function | None = None,
    gradient: str = "replay",
) -> Trajectory:
    """Run a flow with adaptive steps; `evolve` says what the arguments mean."""
    if gradient not in GRADIENTS:
        raise ValueError(
            explain("evolve: gradient", repr(gradient), f"one of {', '.join(GRADIENTS)}", 'Leave it out for "replay".')
        )
    method = diffrax.Tsit5() if method is None else method
    rtol, atol = _tolerances(float_dtype(state), rtol, atol)
    _check_inside(times, save_times)
    stored = _STORED_STEPS if max_steps is None else max_steps
    times = jnp.asarray(times)
    saved = times[:0] if save_times is None else jnp.asarray(save_times)
    lean = can_run(method) and step_size is None and isinstance(controller, diffrax.PIDController | None)
    if not lean or gradient in ("checkpoint", "continuous") or _too_large(state, stored, gradient, dense, event):
        return evolve_by_diffrax(
            flow, state, times, saved, fn, method=method, step_size=step_size, rtol=rtol, atol=atol,
            controller=controller, max_steps=stored, dense=dense, event=event, gradient=gradient,
        )  # fmt: skip
    limit = stored if dense else max_steps or _MAX_STEPS
    event = None if event is None else as_event(event)
    tableau, control = tableau_of(method), control_of(controller, rtol, atol)
    return _run(flow, state, times, saved, fn, Task(tableau, control, (limit, stored), dense, event, gradient))


class Task(NamedTuple):
    """How a flow is to be run; of this only the controller's numbers and an event's parameters are traced."""

    tableau: Tableau
    control: Control
    limits: Limits
    dense: bool
    event: Event | None
    gradient: str


@eqx.filter_jit
def _run(flow: Flow, state: State, times: Any, saved: Any, fn: Function, task: Task) -> Trajectory:
    form = form_of(state)

    # All that the velocity depends on comes out into leaves, so that the replay's gradient misses nothing.
    def velocity(t: Any, x: Any) -> Any:
        return form.flatten(flow.velocity(t, form.restore(x)))

    field = eqx.filter_closure_convert(velocity, times[0], form.flatten(state))
    x, t0, t1 = form.flatten(state), times[0], times[-1]
    task = task._replace(tableau=dataclasses.replace(task.tableau, rolled=_length(field, t0, x) > _LONG))
    plan, path = Plan(task.tableau, task.limits[0], task.control, t0, t1, saved), None
    if task.dense or task.event is not None:
        solved, path = _run_with_records(field, x, plan, form, task)
    elif task.gradient == "forward":
        solved = integrate(field, x, plan)
    else:
        solved = solve((field, x, t0, t1, saved), task.tableau, task.limits, task.control)
    return _trajectory(solved, saved, t1, fn, form, task.tableau, path)


def _length(field: Any, t: Any, x: Any) -> int:
    """How many operations a velocity is made of, those inside calls included."""

    def count(program: Any) -> int:
        inner = [value for equation in program.eqns for value in jax.tree.leaves(list(equation.params.values()))]
        parts = [getattr(value, "jaxpr", value) for value in inner]
        return len(program.eqns) + sum(count(part) for part in parts if hasattr(part, "eqns"))

    return count(jax.make_jaxpr(field)(t, x).jaxpr)


def _run_with_records(field: Any, x: Any, plan: Plan, form: Form, task: Task) -> tuple[Solved, Any]:
    """Runs that keep their steps: dense output, and events (which need the last one)."""
    recorder = dense_recorder(task.tableau, task.limits[1] if task.dense else 1)
    happens = task.event
    if happens is None:
        solved = integrate(field, x, plan, recorder)
    else:

        def event(t: Any, x: Any) -> Any:
            return happens(t, form.restore(x))

        solved = integrate(field, x, plan, event_recorder(recorder, event))
        solved = finish_at_event(solved, plan, event, task.dense)
    return solved, interpolation(solved, task.tableau, form) if task.dense else None


def _trajectory(solved: Solved, saved: Any, t1: Any, fn: Function, form: Form, tableau: Any, path: Any) -> Trajectory:
    carry = solved.carry
    final = form.restore(carry.x)
    completed = carry.code == int(OutcomeKind.COMPLETED)
    at = jnp.where(completed, jnp.nan, carry.t)
    estimate = jnp.where(carry.code == int(OutcomeKind.ESCAPED), escape_time(carry), jnp.nan)
    if saved.shape[0]:
        times, rows = saved, rows_of(lambda x: fn(form.restore(x)), solved.rows, carry.x)
    else:
        times = t1[None]
        rows = jax.tree.map(lambda leaf: leaf[None], blank_unless(completed, fn(final)))
    stats = {
        "steps": carry.accepted + carry.rejected,
        "accepted": carry.accepted,
        "rejected": carry.rejected,
        "evaluations": 2 + (tableau.stages - 1) * (carry.accepted + carry.rejected),
    }
    return Trajectory(times, rows, final, outcome(carry.code, at, estimate), stats, path)


def _tolerances(dtype: Any, rtol: Any, atol: Any) -> tuple[Any, Any]:
    """The tolerances in the state's dtype; what it cannot resolve is raised to what it can, and told."""
    default = _DEFAULTS[jnp.dtype(dtype).name]
    rtol, atol = default[0] if rtol is None else rtol, default[1] if atol is None else atol
    least = 10 * float(jnp.finfo(dtype).eps)
    if not is_traced(rtol) and not float(rtol) >= 0:
        raise ValueError(explain("evolve: rtol", rtol, "a number >= 0", "Pass for example rtol=1e-6."))
    if not is_traced(rtol) and float(rtol) < least:
        warnings.warn(
            explain(
                "evolve: rtol",
                f"{float(rtol):g}",
                f"at least {least:.1e} in {jnp.dtype(dtype).name}",
                "It is raised to that; use float64 for more.",
            ),
            stacklevel=2,
        )
        rtol = least
    return jnp.asarray(rtol, dtype), jnp.asarray(atol, dtype)


def _too_large(state: State, max_steps: int, gradient: str, dense: bool, event: Any) -> bool:
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    differentiated = is_traced(state) or gradient == "replay"
    return differentiated and not dense and event is None and size * max_steps > _REPLAY_BYTES


def _check_inside(times: Any, save_times: Any) -> None:
    if save_times is None or save_times is times or is_traced(times, save_times):
        return
    first, last, kept = float(times[0]), float(times[-1]), np.asarray(save_times)
    if not ((np.diff(kept) > 0).all() and kept[0] >= first and kept[-1] <= last):
        do = "Save at times inside the interval."
        raise ValueError(explain("evolve: save", kept, f"increasing times within {first:g} to {last:g}", do))
