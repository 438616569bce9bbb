r"""Solves in continuous time by steps with an error estimate, or by the fixed steps of a solver of diffrax.

    dx/dt = f(t, x)              a velocity, or for a solver of diffrax its `ODETerm`
    dx = f dt + g dW             diffrax's `MultiTerm` over its virtual Brownian tree

One loop runs them all (`_adaptive_loop`), so that every method ends in the same outcomes and has the same gradients.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import poison
from separatrix._types import Function, Key, State
from separatrix.evolution._adaptive_loop import NOTHING, LoopPlan, Solved, integrate
from separatrix.evolution._adaptive_step import Control, Span, escape_time
from separatrix.evolution._backsolve import solve_continuous
from separatrix.evolution._dense import dense_recorder, interpolation
from separatrix.evolution._event import EventRule, follow_root
from separatrix.evolution._form import StateForm, form_of
from separatrix.evolution._replay import solve
from separatrix.evolution._rows import rows_of
from separatrix.evolution._stepper import BySolver, ExplicitPair, Stepper, StepperVelocity, with_tolerances
from separatrix.evolution._stratonovich import stratonovich_drift
from separatrix.evolution._tableau import can_run, tableau_of
from separatrix.evolution.checks import check_field
from separatrix.systems.flow import Flow
from separatrix.systems.sde import SDE
from separatrix.systems.trajectory import OutcomeKind, Trajectory, outcome

# How many steps a replay keeps before it keeps every second only.
_REPLAYED = 1024
# A velocity of more operations than this is held once in the program, in a loop over stages, and not nine times: measured
# on gradient flows of networks, this compiles several times faster and runs within a few per cent.
_LONG = 60


class Solve(NamedTuple):
    """How a flow or an SDE is to be run."""

    method: Any
    max_steps: int
    dense: bool
    gradient: str


@eqx.filter_jit
def evolve_continuous(
    system: Flow | SDE, state: State, times: Any, saved: Any, fn: Function, control: Control, event: EventRule | None,
    key: Key | None, how: Solve,
) -> Trajectory:  # fmt: skip
    """Run a flow or an SDE; `evolve` says what the arguments mean. Without times to save, the end alone is kept."""
    # The operator of a diffusion speaks of the state as it is; a velocity may see it as one array.
    form = form_of(state) if isinstance(system, Flow) else StateForm(None, ())
    x, span = form.flatten(state), Span(times[0], times[-1], how.max_steps)
    t0 = span.t0
    check_field(system, t0, state)
    # All that the velocity depends on comes out into leaves, so that no gradient misses anything.
    velocity = eqx.filter_closure_convert(lambda t, x: form.flatten(_drift(system, how)(t, form.restore(x))), t0, x)
    field = velocity if isinstance(system, Flow) else _terms(system, velocity, x, key, span, control)
    stepper = stepper_of(how, field, control, t0, x)
    field = stepper.along(field) if isinstance(system, Flow) else field
    _require_error(stepper, field, control, x, span)
    watched = None if event is None else _watched(event, form, t0, x)
    kept = room_for(how)
    plan = LoopPlan(stepper, control, span, saved, watched, kept, how.dense)
    solved = _solved(field, x, plan, how)
    path = interpolation(solved, stepper, t0, form) if how.dense else None
    end = _end(solved, watched, velocity if isinstance(system, Flow) else None, form)
    return read_trajectory(solved, end, saved, fn, form, stepper, path)


def _require_error(stepper: Stepper, field: Any, control: Control, x: Any, span: Span) -> None:
    """Refuse to choose steps by an error that the solver does not estimate."""
    if control.fixed or isinstance(stepper, ExplicitPair):
        return

    def error(x: Any) -> Any:
        h = 0.01 * (span.t1 - span.t0)
        memory = stepper.start(field, span.t0, h, x, stepper.slope(field, span.t0, x))
        return stepper.attempt(field, span.t0, x, h, memory).error

    if eqx.filter_eval_shape(error, x) is None:
        got = "a solver without an error estimate, and no fixed step"
        do = "Give step_size=, or wrap it: method=diffrax.HalfSolver(...)."
        raise ValueError(explain("evolve: method", got, "one of the two", do))


class Watched(eqx.Module):
    """An event on states as the loop holds them."""

    condition: Any
    boolean: bool = eqx.field(static=True)

    def __call__(self, t: Any, x: Any) -> Any:
        return self.condition(t, x)


def _watched(event: EventRule, form: StateForm, t: Any, x: Any) -> Watched:
    """The event, with all that it depends on in its leaves."""
    condition = eqx.filter_closure_convert(lambda t, x: event(t, form.restore(x)), t, x)
    return Watched(condition, event.boolean)


def _solved(field: Any, x: Any, plan: LoopPlan, how: Solve) -> Solved:
    if how.gradient == "forward":
        return integrate(field, x, plan, dense_recorder(plan.kept) if how.dense else NOTHING)
    traced = (field, x, plan.span.t0, plan.span.t1, plan.save_times)
    still = without_gradient(plan)
    return solve_continuous(traced, still) if how.gradient == "continuous" else solve(traced, still)


def room_for(how: Solve) -> int:
    """How many steps are kept, a power of two: K + N/K states are least for K = sqrt N."""
    if how.dense:
        return how.max_steps
    return _REPLAYED if how.gradient == "replay" else 1 << math.ceil(math.log2(how.max_steps) / 2)


@contextlib.contextmanager
def names_forward_mode(what: str) -> Iterator[None]:
    """Say which option forward mode needs, in place of JAX's words on custom rules."""
    try:
        yield
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        got, expected = "forward-mode differentiation (jvp, jacfwd)", 'gradient="forward"'
        do = 'Pass gradient="forward", or differentiate in reverse mode (grad, vjp, jacrev).'
        raise TypeError(explain(f"{what}: gradient", got, expected, do)) from error


def without_gradient(plan: LoopPlan) -> LoopPlan:
    """A plan as a rule for gradients may be handed it: what is differentiated goes another way."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, plan)


def stepper_of(how: Solve, field: Any, control: Control, t: Any, x: Any) -> Stepper:
    """A solver of diffrax as the loop sees it."""
    method = how.method
    if can_run(method) and not isinstance(field, diffrax.MultiTerm):
        tableau = tableau_of(method)
        return ExplicitPair(dataclasses.replace(tableau, rolled=count_operations(field, t, x) > _LONG))
    if how.gradient == "forward" and hasattr(method, "scan_kind"):
        # By default the loops inside a step are made for reverse mode, and have no forward one.
        method = eqx.tree_at(lambda m: m.scan_kind, method, "lax", is_leaf=lambda leaf: leaf is None)
    return BySolver(with_tolerances(method, control.rtol, control.atol))


def count_operations(field: Any, t: Any, x: Any) -> int:
    """How many operations a velocity is made of, those inside calls included."""

    def count(program: Any) -> int:
        inner = [value for equation in program.eqns for value in jax.tree.leaves(list(equation.params.values()))]
        parts = [getattr(value, "jaxpr", value) for value in inner]
        return len(program.eqns) + sum(count(part) for part in parts if hasattr(part, "eqns"))

    return count(jax.make_jaxpr(field)(t, x).jaxpr)


def _drift(system: Flow | SDE, how: Solve) -> Any:
    if isinstance(system, Flow):
        return system.velocity
    if isinstance(how.method, diffrax.AbstractStratonovichSolver):
        return lambda t, x: stratonovich_drift(system, t, x)
    return system.drift


def _terms(sde: SDE, drift: Any, x: State, key: Any, span: Span, control: Control) -> Any:
    """Diffrax's form of an SDE: a Brownian path that a key fixes, whatever the steps."""
    t0, t1 = jax.lax.stop_gradient((span.t0, span.t1))
    noise = eqx.filter_eval_shape(sde.diffusion, t0, x).in_structure()
    spacing = (t1 - t0) * 2.0**-20 if control.first is None else 0.5 * jnp.asarray(control.first, t1.dtype)
    path = diffrax.VirtualBrownianTree(t0, t1, spacing, noise, key, levy_area=diffrax.SpaceTimeLevyArea)
    diffusion = eqx.filter_closure_convert(sde.diffusion, t0, x)
    return diffrax.MultiTerm(
        diffrax.ODETerm(StepperVelocity(drift)), diffrax.ControlTerm(StepperVelocity(diffusion), path)
    )


def _end(solved: Solved, event: Watched | None, velocity: Any, form: StateForm) -> tuple[Any, State]:
    """(the time reached, the state there), those of an event with the derivatives of its root."""
    t, x = solved.carry.t, solved.carry.x
    if event is None:
        return t, form.restore(x)
    happened = solved.carry.code == int(OutcomeKind.EVENT)
    at, there = follow_root(event, velocity, t, x)
    x = jax.tree.map(lambda moved, still: jnp.where(happened, moved, still), there, x)
    return jnp.where(happened, at, t), form.restore(x)


def read_trajectory(
    solved: Solved, end: tuple[Any, State], saved: Any, fn: Function, form: StateForm, stepper: Stepper, path: Any
) -> Trajectory:
    """Say what a solve gave."""
    carry, (t, last) = solved.carry, end
    completed = carry.code == int(OutcomeKind.COMPLETED)
    at = jnp.where(completed, jnp.nan, t)
    estimate = jnp.where(carry.code == int(OutcomeKind.ESCAPED), escape_time(carry), jnp.nan)
    ended = outcome(carry.code, at, estimate)
    if saved.shape[0]:
        times, rows = saved, rows_of(lambda x: fn(form.restore(x)), solved.rows, carry.x)
    else:
        times = t[None]
        rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], poison(ended.reached, fn(last)))
    tried = carry.accepted + carry.rejected
    stats = {"steps": tried, "accepted": carry.accepted, "rejected": carry.rejected}
    if isinstance(stepper, ExplicitPair):
        stats["evaluations"] = 2 + (stepper.tableau.stages - 1) * tried
    return Trajectory(times, rows, last, t, ended, stats, path)
