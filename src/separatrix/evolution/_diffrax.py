"""Flows by any solver of diffrax, with its adjoints, told in our words."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import all_finite, where
from separatrix._types import Function, State
from separatrix.evolution._event import as_event
from separatrix.evolution._rows import rows_of
from separatrix.systems.flow import Flow
from separatrix.systems.trajectory import OutcomeKind, Trajectory, outcome


@eqx.filter_jit
def evolve_by_diffrax(
    flow: Flow,
    state: State,
    times: jax.Array,
    saved: jax.Array,
    fn: Function,
    *,
    method: Any,
    step_size: Any,
    rtol: Any,
    atol: Any,
    controller: Any,
    max_steps: int,
    dense: bool,
    event: Any,
    gradient: str,
) -> Trajectory:
    """`diffrax.diffeqsolve` that never raises; a fixed step where `step_size` is given and no controller."""
    fixed = step_size is not None and controller is None
    stepping = diffrax.ConstantStepSize() if fixed else controller or diffrax.PIDController(rtol=rtol, atol=atol)
    asked = saved if saved.shape[0] else times[-1:]
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(_velocity), method, times[0], times[-1],
        None if step_size is None else jnp.asarray(step_size, times.dtype), state, args=flow,
        saveat=diffrax.SaveAt(ts=asked, t1=True, dense=dense),
        stepsize_controller=stepping, max_steps=max_steps, throw=False, adjoint=_adjoint(gradient),
        event=None if event is None else _event(event),
    )  # fmt: skip
    return _trajectory(solution, state, asked, fn, dense)


def _velocity(t: Any, x: State, flow: Flow) -> State:
    return flow.velocity(t, x)


def _adjoint(gradient: str) -> Any:
    match gradient:
        case "continuous":
            return diffrax.BacksolveAdjoint()
        case "forward":
            return diffrax.ForwardMode()
    return diffrax.RecursiveCheckpointAdjoint()


def _event(event: Any) -> diffrax.Event:
    import optimistix as optx

    condition = as_event(event)
    return diffrax.Event(lambda t, y, args, **_: condition(t, y), optx.Newton(rtol=1e-10, atol=1e-12))


def _trajectory(solution: Any, state: State, asked: Any, fn: Function, dense: bool) -> Trajectory:
    end = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
    ran = solution.result == diffrax.RESULTS.successful
    finite = all_finite(end)
    stopped = solution.result == diffrax.RESULTS.event_occurred
    limit = solution.result == diffrax.RESULTS.max_steps_reached
    kind = jnp.where(limit, int(OutcomeKind.STEP_LIMIT), int(OutcomeKind.NON_FINITE))
    kind = jnp.where(stopped & finite, int(OutcomeKind.EVENT), kind)
    kind = jnp.where(ran & finite, int(OutcomeKind.COMPLETED), kind)
    final = where(finite, end, state)
    rows = rows_of(fn, jax.tree.map(lambda leaf: leaf[:-1], solution.ys), final)
    at = jnp.where(ran & finite, jnp.nan, solution.ts[-1])
    stats = {
        "steps": solution.stats["num_steps"],
        "accepted": solution.stats["num_accepted_steps"],
        "rejected": solution.stats["num_rejected_steps"],
    }
    path = solution.evaluate if dense else None
    return Trajectory(asked, rows, final, outcome(kind, at), stats, path)
