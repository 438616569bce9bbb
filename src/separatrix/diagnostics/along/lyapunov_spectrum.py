r"""Lyapunov exponents: the rates at which perturbations of an orbit grow or die, with their standard errors.

    map     lambda_i = lim (1/N) sum_n ln L_ii[n],      V[n+1] = DF(n, x[n]) V[n] = Q L
    flow    lambda_i = lim (1/T) sum_n ln L_ii[n],      of the maps that its steps make

The rows of V are made orthonormal again before they lose digits, and the logarithms of what each grew by are added up:
row 1 turns to what grows fastest, rows 1 to i span the volume that grows at lambda_1 + ... + lambda_i (Benettin). Sums are
read at the ends of B batches, from which the errors come. Along the same orbit the growth of volume is measured by itself:

    sum_i lambda_i = mean ln |det DF|  (map),      = mean div f  (flow).

From the exponents follow the Kaplan-Yorke dimension D = j + (lambda_1 + ... + lambda_j)/|lambda_{j+1}|, with the largest j
for which that sum is not negative, and the sum of the positive ones, which bounds the entropy (Ruelle) and equals it for a
smooth invariant density (Pesin).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from separatrix._tree import float_dtype, is_traced
from separatrix._types import Key, State
from separatrix.diagnostics.along._exponent_fields import fields_of
from separatrix.diagnostics.along._fastest_rate import fastest_rate
from separatrix.diagnostics.along._lyapunov_cautions import cautions_of
from separatrix.diagnostics.along._lyapunov_plan import (
    ExponentPlan,
    default_batches,
    fitting_step,
    interval_of_flow,
    lay_out,
    parting,
    plan_of,
    stepping,
    transient_of,
)
from separatrix.diagnostics.along._lyapunov_run import chosen_interval, dated, period_of, run
from separatrix.diagnostics.along._tangent_block import NoVolume, Sums, TangentBlock, first_block
from separatrix.diagnostics.applies import FORMED, SMALL, is_autonomous
from separatrix.diagnostics.checks import checked_state
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.questions import Question, register
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution.checks import check_steps
from separatrix.linear.coordinates import dimension_of
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map, NearIdentityMap
from separatrix.systems.trajectory import Outcome

# A transient of fewer steps measures nothing; one is divided into so many batches, and what counts into 64 by default.
_LEAST_TRANSIENT, _FEW_BATCHES, _BATCHES = 64, 16, 64
# How often a step that we chose may be halved, and the part of the fastest exponent below which nobody asks.
_HALVINGS = 2
_RESOLVED = 1e-4

# By name: all exponents of up to so many coordinates, the leading ones beyond; over so many steps.
_ALL, _LEADING = 8, 3
_STEPS, _FEWER = 10_000, 3_000
# Batches of an error want some steps each.
_LEAST = 256


class LyapunovSpectrum(Result):
    r"""Lyapunov exponents in nats per step of a `Map`, or per unit of time of a `Flow` or `SDE`.

    - `exponents`, shape (k,), largest first; `standard_errors`: by batch means. NaN where the orbit broke.
    - `batches`, shape (k, B): finite-time exponents, of each batch. `running`: means of the first 1, ..., B of them.
    - `sum_residual`: their sum less the mean divergence (or ln |det|) along the orbit: what the method of integration
      and rounding do. NaN where not all exponents were asked for, or there are more than 128.
    - `kaplan_yorke`, `kaplan_yorke_error`: dimension; NaN where more exponents are needed to tell.
    - `entropy_bound`, `entropy_error`: sum of the positive exponents. NaN where all that were asked for are positive,
      and there are more.
    - `duration`: steps or time that count. `interval`: steps between orthonormalisations. `step_size`: of a flow or SDE.
    - `outcome`: of the orbit, by which a break is dated to within an interval. `period`: of the cycle that the orbit has
      fallen on to the last bit, 0 for none.
    """

    exponents: Float[Array, "*more k"]
    standard_errors: Float[Array, "*more k"]
    batches: Float[Array, "*more k B"]
    sum_residual: Float[Array, "*more"]
    kaplan_yorke: Float[Array, "*more"]
    kaplan_yorke_error: Float[Array, "*more"]
    entropy_bound: Float[Array, "*more"]
    entropy_error: Float[Array, "*more"]
    duration: Float[Array, "*more"]
    step_size: Float[Array, "*more"]
    period: Int[Array, "*more"]
    outcome: Outcome
    size: int = eqx.field(static=True)
    interval: int = eqx.field(static=True)
    unit: str = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    @property
    def running(self) -> Float[Array, "*more k B"]:
        """Mean of the first 1, 2, ..., B batches."""
        sums = jnp.cumsum(self.batches, axis=-1)
        return sums / jnp.broadcast_to(jnp.arange(1, sums.shape[-1] + 1).astype(sums.dtype), sums.shape)

    @property
    def units(self) -> str:
        """Plural of the unit."""
        return "steps" if self.unit == "step" else "units of time"

    def rows(self) -> list[Row]:
        rows = [
            Row("exponents", self.exponents, self.standard_errors),
            Row("unit", f"nats per {self.unit}"),
            Row("Kaplan-Yorke dimension", self.kaplan_yorke, self.kaplan_yorke_error),
            Row("entropy, at most", self.entropy_bound, self.entropy_error),
            Row("sum less mean divergence", self.sum_residual),
            Row("outcome", str(self.outcome)),
            Row("length", f"{float(np.max(self.duration)):g} {self.units} in {self.batches.shape[-1]} batches"),
        ]
        return [row for row in rows if isinstance(row.value, str) or np.isfinite(row.value).any()]

    @property
    def cautions(self) -> tuple[str, ...]:
        return cautions_of(self)


def lyapunov_spectrum(
    system: Any,
    state: Any,
    *,
    count: Any = None,
    steps: Any = None,
    times: Any = None,
    step_size: Any = None,
    transient: Any = None,
    key: Any = None,
    start: Any = 0,
    method: Any = None,
    batches: Any = None,
    interval: Any = None,
) -> LyapunovSpectrum:
    r"""Return the Lyapunov exponents of an orbit, all or the leading ones, with standard errors.

        lambda_i = lim (1/T) ln of the growth of the i-th orthogonal direction of a perturbation

    **Arguments:**

    - `system`: a `Map` (driven: exponents conditional on its inputs; random: with its `key`), `Flow` or `SDE`.
    - `state`: where the orbit starts, any pytree, in float64.
    - `count`: how many, the largest; all by default, 20 where there are more than 128. The Jacobian is never formed.
    - `steps`, `times`: how long, as for `evolve`: numbers of steps, or `(t0, t1)` of a flow or SDE. By default all steps of
      a `FiniteMap`, else some seconds' worth: at most 500,000 steps.
    - `step_size`, `method`: of a flow or SDE. Without a step a flow goes by `RK4`, at a step for which the error of the
      method, measured along the transient, is a quarter of the standard error. With one it goes by the Dormand-Prince
      method of order 8. An SDE goes by `SRA1` or `EulerMaruyama` at a step from the fastest rate seen along a short orbit,
      whose error is not in the standard errors: halve `step_size` to see it.
    - `transient`: steps or time at first that do not count; a ninth of the run by default. It is lengthened by what
      does not fill whole batches.
    - `key`: randomness; the orbit is the one that `evolve` gives with it. `start`: number of a map's first step.
    - `batches`: parts that count, at least 2; 64 by default, or half of the steps of a short run.
      Errors hold where one is longer than the memory of the orbit.
    - `interval`: steps between orthonormalisations; by default as many as keep ten digits of what each direction grew by,
      1 of a map under `jit`.

    Under `jit` and `vmap` say `steps`, and for a flow `step_size` or `times`. Exponents can be differentiated where none
    is positive; the gradient through a chaotic orbit grows as its perturbations do, and is refused when it is run.

    **Returns:** a `LyapunovSpectrum`.

    **Raises:** `TypeError` for anything but a system; `ValueError` for a run that cannot be. float32 is warned of.

    **Example:** the logistic map at r = 4 doubles a perturbation on average: ln 2 = 0.693. Of the Lorenz system the sum
    is its divergence, -41/3.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> found = sx.lyapunov_spectrum(sx.as_map(lambda x: 4.0 * x * (1.0 - x)), 0.3, steps=100_000)
    >>> round(found.exponents[0].item(), 3), found.cautions
    (0.693, ())
    >>> lorenz = sx.catalogue.entry("lorenz").build()
    >>> found = sx.lyapunov_spectrum(lorenz, jnp.ones(3), times=(0.0, 200.0), step_size=0.02)
    >>> round(found.exponents.sum().item(), 6), round(found.kaplan_yorke.item(), 1)
    (-13.666667, 2.1)

    **Reference:** Benettin, Galgani, Giorgilli & Strelcyn, *Lyapunov characteristic exponents for smooth dynamical
    systems*, Meccanica 15 (1980), part 2; Pikovsky & Politi, *Lyapunov Exponents* (2016), chapter 3; Flegal & Jones
    (2010), for the errors; Frederickson, Kaplan, Yorke & Yorke (1983), for the dimension.
    """
    given = {"steps": steps, "times": times, "step_size": step_size, "transient": transient, "start": start}
    state = checked_state("lyapunov_spectrum: state", state)
    state, plan, count = plan_of(system, state, count, key=key, method=method, **given)
    if plan.rates is None:
        return _measured(plan, first_block(state, count, plan.start), batches, interval)
    return _at_a_fitting_step(plan, system, state, count, batches, interval, steps is not None)


def _at_a_fitting_step(
    plan: ExponentPlan, flow: Flow, state: State, count: int, batches: Any, interval: Any, said: bool
) -> LyapunovSpectrum:
    """The transient at the longest step, which tells the error of the method; what counts at the step that this allows.

    If faster parts of the orbit come later, the step is halved until the method errs less than the statistics. A number of
    steps that was said stays, and the time that they span is what follows from it.
    """
    transient = transient_of(plan)
    span = (plan.steps - transient) * float(plan.step)
    first, residual, error, largest = first_block(state, count, plan.start), np.nan, np.nan, 0.0
    if transient >= _LEAST_TRANSIENT:
        seen, first = _measure(plan._replace(steps=transient, transient=0), first, _FEW_BATCHES, interval)
        if not bool(seen.outcome.completed):
            return seen
        shorter = (transient * float(plan.step) / span) ** 0.5
        # The exponents share the residual of their sum, with signs of their own.
        residual, error = float(seen.sum_residual) / count**0.5, _spread(seen) * shorter
        largest = float(np.max(np.abs(seen.exponents)))
        plan = parting(plan, np.asarray(seen.exponents))
    origin = float(plan.origin) + transient * float(plan.step) if transient >= _LEAST_TRANSIENT else plan.origin
    step = fitting_step(plan, residual, error, largest)
    halvings = 0
    while True:
        size = step / 2**halvings
        if said:
            kept = plan._replace(step=size, steps=plan.steps - transient, transient=0)
            counted = stepping(kept, flow, state, count, plan.method, size, origin)
        else:
            counted = _counted(plan, flow, state, count, size, span, origin, batches, interval)
        found = _measured(counted, _restarted(first), batches, interval)
        least = max(_spread(found), _RESOLVED * float(np.max(np.abs(found.exponents))))
        if not abs(float(found.sum_residual)) > least or halvings == _HALVINGS:
            return found
        halvings += 1


def _spread(found: LyapunovSpectrum) -> float:
    """The standard error of the leading exponent by its batches alone, without that of the method."""
    both, method = float(found.standard_errors[0]), float(found.sum_residual)
    return both if np.isnan(method) else max(both**2 - method**2, 0.0) ** 0.5


def _counted(
    plan: ExponentPlan,
    flow: Flow,
    state: State,
    count: int,
    step: float,
    span: float,
    origin: Any,
    batches: Any,
    interval: Any,
) -> ExponentPlan:
    """The plan of a span without a transient, in whole batches of steps of this size or a little shorter."""
    shorter = plan._replace(step=step, transient=0)
    batches = _BATCHES if batches is None else batches
    most = interval_of_flow(shorter) if interval is None else interval
    each = max(1, int(np.ceil(span / step / batches - 1e-9)))
    intervals = int(np.ceil(each / most))
    steps = batches * intervals * int(np.ceil(each / intervals))
    return stepping(shorter._replace(steps=steps), flow, state, count, plan.method, span / steps, origin)


def _restarted(first: Any) -> Any:
    """A block at step 0 of another clock, with sums of zero."""
    block, sums = first
    zeros = jax.tree.map(lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype)), Sums(*sums))
    return TangentBlock(*block)._replace(number=jax.device_put(np.asarray(0))), zeros


def _measured(plan: ExponentPlan, first: Any, batches: Any, interval: Any) -> LyapunovSpectrum:
    return _measure(plan, first, batches, interval)[0]


def _measure(plan: ExponentPlan, first: Any, batches: Any, interval: Any) -> tuple[LyapunovSpectrum, Any]:
    """Run a plan and read the exponents; with the block at its end."""
    state = first[0].state
    count = first[0].directions.shape[0]
    batches = default_batches(plan) if batches is None else batches
    interval = chosen_interval(plan, state, count) if interval is None else check_steps(interval, "interval", 1)
    layout = lay_out(plan, interval, batches)
    record = run(plan, layout.interval, layout.borders, first)
    step = _number(plan.step, float_dtype(state))
    outcome = dated(record.outcome, plan, layout.interval)
    period = period_of(plan, layout, TangentBlock(*record.last[0]))
    lengths = (layout.interval * layout.length, layout.counted)
    traits = (dimension_of(state), layout.interval, not isinstance(plan.volume, NoVolume), plan.continuous)
    return _summary(record.states, step, outcome, period, *lengths, *traits), record.last


def _number(value: Any, dtype: Any) -> Any:
    return jnp.asarray(value, dtype) if is_traced(value) else np.asarray(value, dtype)


def _summary(sums: Any, step: Any, outcome: Outcome, period: Any, length: int, counted: int, size: int, interval: int,
             measured: bool, in_time: bool) -> LyapunovSpectrum:  # fmt: skip
    return LyapunovSpectrum(
        **fields_of(sums, step, length, counted, size, measured),
        period=period,
        outcome=outcome,
        size=size,
        interval=interval,
        unit="unit of time" if in_time else "step",
        single_precision=jnp.finfo(jnp.result_type(step)).bits < 64,
    )


def _applies(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether exponents are asked for: float64, an orbit without end or a long one, the same law at all times."""
    small = 0 < dimension_of(state) <= (FORMED if isinstance(system, Map) else SMALL)
    if not small or jnp.finfo(float_dtype(state)).bits < 64:
        return False
    if isinstance(system, FiniteMap):
        return system.length >= _LEAST
    return (isinstance(system, Map) and not isinstance(system, NearIdentityMap)) or is_autonomous(system, state, key)


def _ask(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> LyapunovSpectrum:
    """Exponents over a short run: all of up to eight coordinates, else the three leading ones."""
    size = dimension_of(state)
    count = size if size <= _ALL else _LEADING
    if isinstance(system, Map):
        return _ask_map(system, state, count, int(at), key)
    steps = _steps_for(state)
    if isinstance(system, Flow):
        times = (float(at), float(at) + steps / fastest_rate(system, state, float(at)))
        return lyapunov_spectrum(system, state, count=count, times=times)
    key = jax.random.key(0) if key is None else key
    span = steps * 0.01 / fastest_rate(system, state, float(at), key)
    return lyapunov_spectrum(system, state, count=count, times=(float(at), float(at) + span), steps=steps, key=key)


def _steps_for(state: State) -> int:
    return _STEPS if dimension_of(state) <= _ALL else _FEWER


def _ask_map(system: Map, state: State, count: int, start: int, key: Key | None) -> LyapunovSpectrum:
    """Over as many steps as there are; of an orbit that grew past all numbers, over half of those before."""
    steps = min(system.length - start, _STEPS) if isinstance(system, FiniteMap) else _steps_for(state)
    found = lyapunov_spectrum(system, state, count=count, steps=steps, start=start, key=key)
    before = steps if bool(found.outcome.completed) else int(found.outcome.at) - start
    if before == steps or before < 2 * _LEAST:
        return found
    return lyapunov_spectrum(system, state, count=count, steps=before // 2, start=start, key=key)


def _judge(answer: LyapunovSpectrum, system: Any) -> list[Finding]:
    """Nearby runs do not part: the leading exponent is not positive by more than two standard errors."""
    exponent, error = float(answer.exponents[0]), float(answer.standard_errors[0])
    name, cause, do = "leading Lyapunov exponent is not positive", "the run broke, or was too short for an error", ""
    if np.isneginf(exponent):
        # A step that forgets everything.
        error = 0.0
    if not np.isnan([exponent, error]).any():
        doubling = np.log(2) / exponent if exponent > 0 else np.inf
        cause = f"nearby runs part: their distance doubles every {doubling:.3g} {answer.units}"
        do = "Compare statistics of runs instead of runs; do not differentiate through more than a few doublings."
    return [Finding(name, exponent, "<=", 2 * error, cause, do)]


register(
    Question(
        "lyapunov_spectrum",
        "do nearby runs part? exponents over a short run, in float64",
        _ask,
        _applies,
        _judge,
        rank=2,
    )
)
