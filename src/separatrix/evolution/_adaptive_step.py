r"""One step of an adaptive solve, apart from any loop.

A step of size h is tried; its error, scaled by atol + rtol max(|x|, |x'|) and averaged over components (root mean
square), gives r. It is accepted where r <= 1. The next step is h times

    clip(safety r^{-b1} r_1^{-b2} r_2^{-b3}, factormin, factormax),

r_1, r_2 the errors of the two accepted steps before: a PID controller, by default its integral part alone. A step that
shrinks below rounding has met a singularity: where 1/|x| runs to zero linearly, that zero is the time of escape.
A fixed step is accepted wherever it is finite.
"""

from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp

from separatrix._tree import all_finite, float_dtype, where
from separatrix._types import State
from separatrix.evolution._stepper import Step, Stepper, first_step, rms
from separatrix.systems.trajectory import OutcomeKind

RUNNING = -1
# Hairer & Wanner (1996), section IV.2: near |h lambda| = 3.3 an explicit pair of order five works at its stability edge;
# the average over the steps of a controller that bounces off that edge stays above two thirds of it.
_STIFF = 2.2
_MEMORY = 0.9
# What is left of an interval is taken in one step if the proposed one falls short of it by less than this.
_SLIVER = 1e-6


class Control(NamedTuple):
    """Tolerances, and the numbers of the controller. `fixed`: every step has the first one's size.

    `forced`: a step of size `dtmin` is accepted whatever its error.
    """

    rtol: Any
    atol: Any
    safety: Any = 0.9
    factormin: Any = 0.2
    factormax: Any = 10.0
    pcoeff: Any = 0.0
    icoeff: Any = 1.0
    dcoeff: Any = 0.0
    dtmin: Any = 0.0
    dtmax: Any = jnp.inf
    first: Any = None
    error_order: Any = None
    fixed: bool = False
    forced: bool = False


class Span(NamedTuple):
    """From when to when, and how many steps may be tried on the way."""

    t0: Any
    t1: Any
    max_steps: Any


class Carry(NamedTuple):
    """What the next step needs, and what the outcome is read off."""

    t: Any
    x: State
    memory: Any
    step_size: Any
    before: tuple[Any, Any]
    accepted: Any
    rejected: Any
    stiffness: Any
    trend: tuple[Any, Any]
    code: Any


def control_of(controller: diffrax.PIDController | None, rtol: Any, atol: Any) -> Control:
    """Read the numbers of a diffrax controller, which brings its own tolerances."""
    if controller is None:
        return Control(rtol, atol)
    dtmin = 0.0 if controller.dtmin is None else controller.dtmin
    dtmax = jnp.inf if controller.dtmax is None else controller.dtmax
    return Control(
        controller.rtol, controller.atol, controller.safety, controller.factormin, controller.factormax,
        controller.pcoeff, controller.icoeff, controller.dcoeff, dtmin, dtmax, error_order=controller.error_order,
        forced=controller.dtmin is not None and controller.force_dtmin,
    )  # fmt: skip


def init_carry(field: Any, stepper: Stepper, control: Control, x: State, span: Span) -> Carry:
    """The start of a solve."""
    dtype = float_dtype(x)
    one, zero, none = jnp.ones((), dtype), jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    if control.first is None:
        slope, first = first_step(stepper, field, control, x, span.t0, span.t1)
    else:
        slope, first = stepper.slope(field, span.t0, x), jnp.asarray(control.first, dtype)
    step_size = jnp.minimum(first, span.t1 - span.t0)
    memory = stepper.start(field, span.t0, step_size, x, slope)
    bad = ~all_finite(x) | (jnp.asarray(False) if slope is None else ~jnp.isfinite(rms(slope, lambda leaf: leaf)))
    code = jnp.where(bad, int(OutcomeKind.NON_FINITE), RUNNING).astype(jnp.int32)
    return Carry(span.t0, x, memory, step_size, (one, one), none, none, zero, (zero, zero), code)


def advance(field: Any, stepper: Stepper, control: Control, span: Span, carry: Carry) -> tuple[Carry, Step]:
    """Try one step; keep it or not; choose the next step size; see whether the solve has ended."""
    left = span.t1 - carry.t
    last = carry.step_size >= left * (1 - _SLIVER)
    h = jnp.where(last, left, carry.step_size)
    made = stepper.attempt(field, carry.t, carry.x, h, carry.memory)
    ratio = _error_ratio(control, carry.x, made.end, made.error)
    ratio = jnp.where(made.failed, jnp.inf, ratio)
    accepted = (ratio <= 1) | _is_forced(control, ratio, h)
    step = Step(carry.t, carry.x, h, made.end, made.inside, accepted)
    t = jnp.where(accepted, jnp.where(last, span.t1, carry.t + h), carry.t)
    order = stepper.error_order(field) if control.error_order is None else control.error_order
    proposed = h * _factor(order, control, ratio, carry.before, accepted)
    proposed = carry.step_size if control.fixed else jnp.clip(proposed, control.dtmin, control.dtmax).astype(h.dtype)
    stiffness = _MEMORY * carry.stiffness + (1 - _MEMORY) * jax.lax.stop_gradient(made.stiffness)
    following = Carry(
        t,
        where(accepted, made.end, carry.x),
        where(accepted, made.memory, carry.memory),
        proposed,
        _shift(ratio, carry.before, accepted),
        carry.accepted + accepted.astype(jnp.int32),
        carry.rejected + (~accepted).astype(jnp.int32),
        jnp.where(accepted, stiffness, carry.stiffness),
        _trend(carry, made.end, t, accepted),
        carry.code,
    )
    return following._replace(code=_code(following, control, span, accepted, accepted & last)), step


def _error_ratio(control: Control, x: State, end: State, error: State | None) -> Any:
    """Error over tolerance; infinite for a step that is not finite; zero for a fixed one that is."""
    if control.fixed or error is None:
        return jnp.where(all_finite(end), 0.0, jnp.inf).astype(float_dtype(x))

    def scaled(e: Any, before: Any, after: Any) -> Any:
        real = jnp.finfo(e.dtype).dtype
        size = jnp.maximum(jnp.abs(before), jnp.abs(after))
        # The term 0 * after is NaN where the end of the step is not finite, whatever its error estimate says.
        return e / (jnp.asarray(control.atol, real) + jnp.asarray(control.rtol, real) * size) + 0 * after

    ratio = jax.lax.stop_gradient(rms(error, scaled, x, end))
    return jnp.where(jnp.isfinite(ratio), ratio, jnp.inf)


def _is_forced(control: Control, ratio: Any, h: Any) -> Any:
    if not control.forced:
        return jnp.asarray(False)
    least = jnp.asarray(control.dtmin, h.dtype)
    return jnp.isfinite(ratio) & (h <= least * (1 + 8 * jnp.finfo(h.dtype).eps))


def _factor(order: Any, control: Control, ratio: Any, before: tuple[Any, Any], accepted: Any) -> Any:
    p, i, d = (jnp.asarray(c, ratio.dtype) / order for c in (control.pcoeff, control.icoeff, control.dcoeff))
    inverse = 1 / jnp.maximum(ratio, jnp.finfo(ratio.dtype).tiny ** 0.5)
    factor = control.safety * inverse ** (p + i + d) * before[0] ** (-p - 2 * d) * before[1] ** d
    most = jnp.where(accepted, control.factormax, 1.0).astype(ratio.dtype)
    return jnp.clip(factor, jnp.asarray(control.factormin, ratio.dtype), most)


def _shift(ratio: Any, before: tuple[Any, Any], accepted: Any) -> tuple[Any, Any]:
    """Inverse errors of the last two accepted steps."""
    inverse = 1 / jnp.maximum(ratio, jnp.finfo(ratio.dtype).tiny ** 0.5)
    return jnp.where(accepted, inverse, before[0]), jnp.where(accepted, before[0], before[1])


def _trend(carry: Carry, end: State, t: Any, accepted: Any) -> tuple[Any, Any]:
    """(1/|x|, its rate of fall over the last accepted step)."""
    size = jax.lax.stop_gradient(rms(end, lambda leaf: leaf))
    inverse = 1 / jnp.maximum(size, jnp.finfo(size.dtype).tiny)
    spent = t - carry.t
    rate = (carry.trend[0] - inverse) / jnp.where(spent > 0, spent, 1)
    return jnp.where(accepted, inverse, carry.trend[0]), jnp.where(accepted, rate, carry.trend[1])


def escape_time(carry: Carry) -> Any:
    """Where 1/|x| is zero, extrapolated along its last slope."""
    inverse, rate = carry.trend
    return jnp.where(rate > 0, carry.t + inverse / jnp.where(rate > 0, rate, 1), jnp.inf)


def _code(carry: Carry, control: Control, span: Span, accepted: Any, arrived: Any) -> Any:
    """Whether, and how, the solve has ended."""
    spent = carry.accepted + carry.rejected >= span.max_steps
    stuck = jnp.where(carry.stiffness > _STIFF, int(OutcomeKind.STIFF), int(OutcomeKind.STEP_LIMIT))
    code = jnp.where(spent, stuck, RUNNING)
    if control.fixed:
        code = jnp.where(accepted, code, int(OutcomeKind.NON_FINITE))
    else:
        near = escape_time(carry) - carry.t <= 1e-6 * jnp.maximum(jnp.abs(carry.t), span.t1 - span.t0)
        ended = jnp.where(near, int(OutcomeKind.ESCAPED), int(OutcomeKind.NON_FINITE))
        code = jnp.where(_has_collapsed(carry, control, span, arrived), ended, code)
    return jnp.where(arrived, int(OutcomeKind.COMPLETED), code).astype(jnp.int32)


def _has_collapsed(carry: Carry, control: Control, span: Span, arrived: Any) -> Any:
    """Whether the step has shrunk below what the time can resolve, or below the least that the controller allows."""
    eps = jnp.finfo(carry.t.dtype).eps
    least = eps * jnp.maximum(16 * jnp.abs(carry.t), 1e-3 * (span.t1 - span.t0))
    if not control.forced:
        least = jnp.maximum(least, jnp.asarray(control.dtmin, least.dtype))
    return ~arrived & (carry.step_size <= least)
