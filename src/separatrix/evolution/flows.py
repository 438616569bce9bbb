r"""Flows by adaptive steps: dx/dt = f(t, x) from t0 to t1.

Explicit pairs (Tsit5 by default) run in our own loop, whose gradient is a replay of the accepted steps. Every other
solver of diffrax, and its checkpointed and continuous adjoints, run in diffrax; how they end is told in the same words.
"""

import warnings
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_traced
from separatrix._types import Function, State
from separatrix.evolution._adaptive_loop import Limits, Plan, Solved, integrate, solve
from separatrix.evolution._adaptive_step import Control, control_of, escape_time
from separatrix.evolution._dense import dense_recorder, interpolation
from separatrix.evolution._diffrax import evolve_by_diffrax
from separatrix.evolution._event import as_event, event_recorder, finish_at_event
from separatrix.evolution._rows import blank_unless, rows_of
from separatrix.evolution._tableau import can_run, tableau_of
from separatrix.systems.flow import Flow
from separatrix.systems.trajectory import OutcomeKind, Trajectory, outcome

# Error per step: near the square root of what a dtype resolves, where a pair of order five is still efficient.
_DEFAULTS = {"float64": (1e-6, 1e-8), "float32": (1e-4, 1e-6)}
# A replay that would store more than this goes by recursive checkpoints, which hold logarithmically many states.
_REPLAY_BYTES = 1 << 30
# A solve that keeps its steps (for a gradient, or dense output) has room for so many; one that does not may go on.
_STORED_STEPS = 4096
_MAX_STEPS = 100_000
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
    tableau, control = tableau_of(method), control_of(controller, rtol, atol)
    field = closed_field(flow, state, times)
    run = _run_with_records if dense or event is not None else _run
    limit = stored if dense else max_steps or _MAX_STEPS
    event = None if event is None else as_event(event)
    return run(
        flow, field, state, times[0], times[-1], saved, fn, tableau, (limit, stored), control, dense, event, gradient
    )


def closed_field(flow: Flow, state: State, times: jax.Array) -> Any:
    """The velocity as a function (t, x) in whose leaves are all parameters it depends on."""
    return eqx.filter_closure_convert(flow.velocity, times[0], state)


@eqx.filter_jit
def _run(
    flow: Flow, field: Any, state: State, t0: Any, t1: Any, saved: Any, fn: Function, tableau: Any, limits: Limits,
    control: Control, dense: bool, event: None, gradient: str,
) -> Trajectory:  # fmt: skip
    if gradient == "forward":
        solved = integrate(field, state, Plan(tableau, limits[0], control, t0, t1, saved))
    else:
        solved = solve((field, state, t0, t1, saved), tableau, limits, control)
    return _trajectory(solved, saved, t1, fn, tableau, None)


@eqx.filter_jit
def _run_with_records(
    flow: Flow, field: Any, state: State, t0: Any, t1: Any, saved: Any, fn: Function, tableau: Any, limits: Limits,
    control: Control, dense: bool, event: Any, gradient: str,
) -> Trajectory:  # fmt: skip
    """Runs that keep their steps: dense output, and events (which need the last one)."""
    recorder = dense_recorder(tableau, limits[1] if dense else 1)
    if event is not None:
        recorder = event_recorder(recorder, event)
    plan = Plan(tableau, limits[0], control, t0, t1, saved)
    solved = integrate(field, state, plan, recorder)
    if event is not None:
        solved = finish_at_event(solved, plan, event, dense)
    path = interpolation(solved, tableau, t0) if dense else None
    return _trajectory(solved, saved, t1, fn, tableau, path)


def _trajectory(solved: Solved, saved: Any, t1: Any, fn: Function, tableau: Any, path: Any) -> Trajectory:
    carry = solved.carry
    completed = carry.code == int(OutcomeKind.COMPLETED)
    at = jnp.where(completed, jnp.nan, carry.t)
    estimate = jnp.where(carry.code == int(OutcomeKind.ESCAPED), escape_time(carry), jnp.nan)
    if saved.shape[0]:
        times, rows = saved, rows_of(fn, solved.rows, carry.x)
    else:
        times = t1[None]
        rows = jax.tree.map(lambda leaf: leaf[None], blank_unless(completed, fn(carry.x)))
    stats = {
        "steps": carry.accepted + carry.rejected,
        "accepted": carry.accepted,
        "rejected": carry.rejected,
        "evaluations": 2 + (tableau.stages - 1) * (carry.accepted + carry.rejected),
    }
    return Trajectory(times, rows, carry.x, outcome(carry.code, at, estimate), stats, path)


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
