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

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from separatrix._errors import explain
from separatrix._tree import asarrays, float_dtype, is_traced
from separatrix._types import Key, State
from separatrix.calculus._undefined import undefined
from separatrix.diagnostics import _lyapunov_plan as plans
from separatrix.diagnostics._batch_means import error_of, standard_error
from separatrix.diagnostics._coordinates import as_vector
from separatrix.diagnostics._exponent_sums import dimension, entropy, settled, sound
from separatrix.diagnostics._lyapunov_cautions import cautions_of
from separatrix.diagnostics._tangent_block import (
    NoVolume,
    Record,
    Recurrence,
    Stretching,
    TangentBlock,
    first_block,
)
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import Save, evolve
from separatrix.systems.flow import Flow
from separatrix.systems.iterate import iterate
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.sde import SDE
from separatrix.systems.trajectory import Outcome

# All exponents by default up to here, the leading ones beyond.
_ALL, _LEADING = 128, 20
# Orthonormalisation is next to free for so few rows; a step of a flow turns and stretches little.
_FEW, _FLOW_INTERVAL, _LONGEST = 4, 4, 32
_PROBE, _SETTLING = 48, 16
# Periods at which an orbit that has collapsed is looked for.
_PERIODS = 64


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
        return jnp.cumsum(self.batches, axis=-1) / jnp.arange(1.0, self.batches.shape[-1] + 1).astype(
            self.batches.dtype
        )

    def rows(self) -> list[Row]:
        rows = [
            Row("exponents", self.exponents, self.standard_errors),
            Row("unit", f"nats per {self.unit}"),
            Row("Kaplan-Yorke dimension", self.kaplan_yorke, self.kaplan_yorke_error),
            Row("entropy, at most", self.entropy_bound, self.entropy_error),
            Row("sum less mean divergence", self.sum_residual),
            Row("outcome", str(self.outcome)),
            Row("length", f"{float(np.max(self.duration)):g} {self.unit}s in {self.batches.shape[-1]} batches"),
        ]
        return [row for row in rows if isinstance(row.value, str) or np.isfinite(row.value).any()]

    @property
    def cautions(self) -> tuple[str, ...]:
        return cautions_of(self)


def lyapunov_spectrum(
    system: Any,
    state: Any,
    *,
    count: int | None = None,
    steps: int | None = None,
    times: Any = None,
    step_size: Any = None,
    transient: Any = None,
    key: Key | None = None,
    start: int = 0,
    method: Any = None,
    batches: int = 64,
    interval: int | None = None,
) -> LyapunovSpectrum:
    r"""Return the Lyapunov exponents of an orbit, all or the leading ones, with standard errors.

        lambda_i = lim (1/T) ln of the growth of the i-th orthogonal direction of a perturbation

    **Arguments:**

    - `system`: a `Map` (driven: exponents conditional on its inputs; random: with its `key`), `Flow` or `SDE`.
    - `state`: where the orbit starts, any pytree, in float64.
    - `count`: how many, the largest; all by default, 20 where there are more than 128. The Jacobian is never formed.
    - `steps`, `times`: how long, as for `evolve`: numbers of steps, or `(t0, t1)` of a flow or SDE. By default all steps of
      a `FiniteMap`, else some seconds' worth: at most 500,000 steps.
    - `step_size`, `method`: of a flow or SDE. By default the Dormand-Prince method of order 8, for an SDE `SRA1` or
      `EulerMaruyama`, with a step from the fastest rate seen along a short orbit. The error of an SDE's method in h is
      not in the standard errors: halve `step_size` to see it.
    - `transient`: steps or time at first that do not count; a ninth of the run by default. It is lengthened by what
      does not fill whole batches.
    - `key`: randomness; the orbit is the one that `evolve` gives with it. `start`: number of a map's first step.
    - `batches`: parts that count, at least 2. Errors hold where one is longer than the memory of the orbit.
    - `interval`: steps between orthonormalisations; by default as many as keep half of the digits, 1 under `jit`.

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
    state, plan, count = plan_of(system, state, count, key=key, method=method, **given)
    interval = _interval(plan, state, count, key) if interval is None else plans.check_steps(interval, "interval", 1)
    return _measure(plan, plans.lay_out(plan, interval, batches), state, count, key)


def plan_of(
    system: Any,
    state: Any,
    count: Any,
    *,
    steps: Any,
    times: Any,
    step_size: Any,
    transient: Any,
    start: Any,
    method: Any,
    key: Any,
) -> tuple[State, plans.Plan, int]:
    """Return the state as arrays, how the run goes, and how many exponents; refuse what cannot be run."""
    if not isinstance(system, Map | Flow | SDE):
        raise undefined("lyapunov_spectrum", system, "Map, Flow or SDE", "Make it one with as_map, as_flow or as_sde.")
    state = asarrays(state)
    size = jax.eval_shape(lambda: as_vector(state)).shape[0]
    count = _count(count, size)
    _warn_of_float32(state)
    if isinstance(system, Map):
        _refuse("a map", times=times, step_size=step_size, method=method)
        return state, plans.plan_map(system, size, count, steps, transient, start), count
    _refuse("a flow or SDE", start=start or None)
    if isinstance(system, SDE) and key is None:
        raise ValueError(
            explain("lyapunov_spectrum of an SDE", "key=None", "a PRNG key", "Pass key=jax.random.key(0).")
        )
    given = {"steps": steps, "times": times, "step_size": step_size, "transient": transient, "method": method}
    return state, plans.plan_continuous(system, state, size, count, **given, key=key), count


def _measure(plan: plans.Plan, layout: plans.Layout, state: State, count: int, key: Any) -> LyapunovSpectrum:
    dtype, size = float_dtype(state), as_vector(state).shape[0]
    record = _run(
        plan, layout.interval, int(layout.borders[-1]), state, count, key, Save(layout.borders, Record(plan.volume))
    )
    logs, volume = record.states[:, :-1], record.states[:, -1]
    step = jnp.asarray(plan.step, dtype)
    duration = layout.counted * step
    batches = jnp.diff(logs, axis=0).T / (layout.interval * layout.length * step)
    exponents = (logs[-1] - logs[0]) / duration
    order = jnp.argsort(-exponents)
    batches, exponents = jax.lax.stop_gradient(batches[order]), exponents[order]
    unknown = jnp.asarray(jnp.nan, dtype)
    measured = unknown if isinstance(plan.volume, NoVolume) else (volume[-1] - volume[0]) / duration
    residual = jax.lax.stop_gradient(jnp.sum(exponents) - measured)
    errors = _errors(
        batches, jax.lax.stop_gradient(exponents), residual, jax.lax.stop_gradient(duration), layout.counted
    )
    exponents = sound(exponents, jax.lax.stop_gradient(exponents[0] - 2 * errors[0]))
    fixed = jax.lax.stop_gradient(exponents)
    values = settled(fixed, errors)
    return LyapunovSpectrum(
        exponents=exponents,
        standard_errors=errors,
        batches=batches,
        sum_residual=residual,
        kaplan_yorke=dimension(values, size),
        kaplan_yorke_error=error_of(lambda v: dimension(v, size), values, batches),
        entropy_bound=entropy(values, size),
        entropy_error=error_of(lambda v: entropy(v, size), values, batches),
        duration=jnp.asarray(duration, dtype),
        step_size=step,
        period=_period(plan, layout, record.final[0].state, key),
        outcome=_dated(record.outcome, plan, layout.interval),
        size=size,
        interval=layout.interval,
        unit="unit of time" if plan.continuous else "step",
        single_precision=jnp.finfo(dtype).bits < 64,
    )


def _errors(batches: Array, exponents: Array, residual: Array, duration: Any, steps: int) -> Array:
    """Batch means, and two errors that batches do not tell: of the method in its step, and of growth as a power of time.

    Over N steps t^2 grows by 2 ln N nats: an exponent that makes no more of a run is not told from zero.
    """
    errors = jnp.hypot(standard_error(batches), jnp.where(jnp.isnan(residual), 0, residual))
    algebraic = jnp.abs(exponents) * duration < 2 * float(np.log(steps))
    return jnp.where(algebraic, jnp.maximum(errors, jnp.abs(exponents)), errors)


def _run(plan: plans.Plan, interval: int, intervals: int, state: State, count: int, key: Any, save: Save) -> Any:
    block = TangentBlock(plan.map, plan.volume, key)
    stretching = Stretching(iterate(block, interval) if interval > 1 else block)
    return evolve(stretching, first_block(state, count, plan.start), steps=intervals, save=save)


def _interval(plan: plans.Plan, state: State, count: int, key: Any) -> int:
    """As many steps as part the fastest from the slowest row by a quarter of the digits, in the steps of a short orbit."""
    if plan.continuous:
        return _FLOW_INTERVAL
    if count <= _FEW or is_traced(plan.map, state, key):
        return 1
    steps = min(_PROBE, plan.steps)
    bare = plan._replace(volume=NoVolume())
    logs = np.asarray(_run(bare, 1, steps, state, count, key, Save("all", Record(NoVolume()))).states)[:, :-1]
    logs = logs[min(_SETTLING, steps // 2) :]
    allowed = -np.log(float(jnp.finfo(float_dtype(state)).eps)) / 4
    for m in (32, 16, 8, 4, 2):
        grown = logs[m:] - logs[:-m]
        if len(grown) and np.max(np.ptp(grown, axis=1)) <= allowed and np.max(np.abs(grown)) <= 8 * allowed:
            return min(m, _LONGEST)
    return 1


def _period(plan: plans.Plan, layout: plans.Layout, state: State, key: Any) -> Array:
    """The least period at which the orbit comes back to its last state exactly; 0 for none, or where it is not asked."""
    if key is not None or isinstance(plan.map, FiniteMap):
        return jnp.asarray(0)
    ahead = plan.start + layout.interval * int(layout.borders[-1])
    state = jax.lax.stop_gradient(state)
    back = evolve(plan.map, state, steps=_PERIODS, start=ahead, save=Save("all", Recurrence(state)))
    same = back.states[1:] == 1
    return jnp.where(jnp.any(same), jnp.argmax(same) + 1, 0)


def _dated(outcome: Outcome, plan: plans.Plan, interval: int) -> Outcome:
    at = (outcome.at * interval + plan.start) * jnp.asarray(plan.step, outcome.at.dtype)
    return eqx.tree_at(lambda o: o.at, outcome, at + jnp.asarray(plan.origin, at.dtype))


def _count(count: Any, size: int) -> int:
    if count is None:
        return size if size <= _ALL else _LEADING
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= size:
        do = "Ask for as many exponents as the state has coordinates, or fewer."
        raise ValueError(explain("lyapunov_spectrum: count", repr(count), f"a whole number from 1 to {size}", do))
    return int(count)


def _refuse(what: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            do = "Say steps= for a map, times= and step_size= for a flow."
            raise ValueError(explain(f"lyapunov_spectrum: {name}", value, f"none, for {what}", do))


def _warn_of_float32(state: State) -> None:
    if jnp.finfo(float_dtype(state)).bits < 64:
        do = "Enable x64 and give a float64 state; single precision shadows a chaotic orbit for about 20 steps only."
        got = str(float_dtype(state))
        warnings.warn(explain("lyapunov_spectrum: state", got, "float64", do), RuntimeWarning, stacklevel=4)
