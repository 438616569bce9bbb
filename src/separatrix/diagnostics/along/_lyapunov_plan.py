r"""How a run for Lyapunov exponents is laid out: which map takes the steps, how many, and where batches end.

    start .. [ transient ] [ batch 1 ] [ batch 2 ] ... [ batch B ]

each a whole number of intervals, an interval a few steps and one orthonormalisation.

Accuracy beyond the statistical error is wasted time. A flow whose step is not said goes by RK4, at first with h = 1.25/L,
L its fastest rate along the orbit. The transient goes at that step. It shows the error of the method r (by what exponents
miss the mean divergence) and the spread of the exponents. What counts goes at

    h (target/r)^(1/4),    target: a quarter of the standard error that is expected, or 1e-4 of the largest exponent

and never at more than h. A step that the user says is taken by Dormand and Prince's method of order 8, whose error at
h = 1/L is rounding: 3e-8 in the sum of the exponents of the Lorenz system.
"""

import functools
import math
import warnings
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import asarrays, float_dtype, is_traced
from separatrix._types import Key, State
from separatrix.calculus.dependence import depends_on
from separatrix.calculus.discretization import discretize
from separatrix.calculus.methods import RK4, SRA1, EulerMaruyama, Method, RungeKutta
from separatrix.calculus.methods.base import FlowMethod
from separatrix.calculus.undefined import undefined
from separatrix.diagnostics.along._fastest_rate import rates
from separatrix.diagnostics.along._tangent_block import (
    BlockOfFlow,
    BlockOfMap,
    Divergence,
    LogDeterminant,
    NoVolume,
    TangentRows,
)
from separatrix.evolution.checks import check_steps, check_times
from separatrix.linear.coordinates import dimension_of
from separatrix.systems.clock import NearIdentityFrom, from_time
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.sde import SDE

# Of a run that is not said to be longer: so many products of numbers, between these numbers of steps.
_PRODUCTS, _LEAST = 50_000_000, 2_000
_MOST_OF_MAP, _MOST = 2_000_000, 500_000
# A flow whose fastest rate is a spike takes short steps; its run is as long in units of the typical rate, up to this.
_MOST_FOR_SPIKES = 8
# What a step that we choose may make the exponents miss by: a part of their standard error, or of the largest of them.
_OF_ERROR, _OF_LARGEST = 0.25, 1e-4
# The first step of RK4 in units of 1/L, for which the transient tells the error: a quarter above what is safe by itself.
_BOLD = 1.25
# The least part of it that a step is shortened to at once; and the part without a transient that measures it, or
# without a sum that can be compared.
_SHORTEST, _UNMEASURED = 0.1, 0.4
# Between orthonormalisations neighbours may part by a factor of a million: that leaves ten digits of what each grew by.
_PARTED, _LONGEST = 13.8, 64
_BATCHES = 64
# Steps of a run that is shorter than one step of our choice.
_LEAST_OF_SPAN = 256
# A ninth of a run is left out at first: an eighth of what counts.
_TRANSIENT = 9
# Steps of an SDE as a part of 1/L: exponents are then right to 0.05^2/6 of L by SRA1, to half of 0.005 by others.
_PARTS = {SRA1: 0.05}
# Steps of a flow between orthonormalisations if its rates were not measured.
_FLOW_INTERVAL = 4
# All exponents by default up to here, the leading ones beyond.
_ALL, _LEADING = 128, 20
# Up to here the volume is measured too: a determinant or a trace of a matrix of this size, each step.
_VOLUME = 128


class ExponentPlan(NamedTuple):
    """How a block steps, its first step and length of step in time; numbers of steps in a run and in its transient.

    `map` is a step of the state alone. `rates` are the fastest and the typical rate of a flow whose step is ours to choose.
    """

    map: Map
    block: BlockOfMap | BlockOfFlow
    start: int
    origin: Any
    step: Any
    steps: int
    transient: int | None
    continuous: bool
    rates: tuple[float, float] | None = None
    method: Any = None

    @property
    def order(self) -> int:
        """Of the method, by which its error falls with the step."""
        return getattr(self.method, "order", 4)

    @property
    def volume(self) -> Any:
        """How the volume is measured."""
        return self.block.volume


class Layout(NamedTuple):
    """Steps in an interval; intervals before the first batch and in each; batches."""

    interval: int
    transient: int
    length: int
    batches: int

    @property
    def borders(self) -> np.ndarray:
        """Intervals before the first batch, and at the end of each."""
        return self.transient + self.length * np.arange(self.batches + 1)

    @property
    def counted(self) -> int:
        """Steps that count."""
        return self.interval * self.length * self.batches


@functools.cache
def accurate_method() -> RungeKutta:
    """Dormand and Prince's method of order 8, 13 stages (Hairer, Norsett & Wanner (1993), section II.5)."""
    pair: Any = diffrax.Dopri8().tableau
    a, b = [(), *[tuple(map(float, row)) for row in pair.a_lower]], tuple(map(float, pair.b_sol))
    # The last stage, of weight zero, is the first of the next step: only an adaptive one has a use for it.
    return RungeKutta(a[: len(b) - 1], b[:-1])


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
) -> tuple[State, ExponentPlan, int]:
    """Return the state as arrays, how the run goes, and how many exponents; refuse what cannot be run."""
    if not isinstance(system, Map | Flow | SDE):
        raise undefined("lyapunov_spectrum", system, "Map, Flow or SDE", "Make it one with as_map, as_flow or as_sde.")
    state = asarrays(state)
    size = dimension_of(state)
    count = _count(count, size)
    _warn_of_float32(state)
    if isinstance(system, Map):
        _refuse("a map", times=times, step_size=step_size, method=method)
        return state, plan_map(system, size, count, steps, transient, start, key), count
    _refuse("a flow or SDE", start=start or None)
    if isinstance(system, SDE) and key is None:
        raise ValueError(
            explain("lyapunov_spectrum of an SDE", "key=None", "a PRNG key", "Pass key=jax.random.key(0).")
        )
    given = {"steps": steps, "times": times, "step_size": step_size, "transient": transient, "method": method}
    return state, plan_continuous(system, state, size, count, **given, key=key), count


def plan_map(map: Map, size: int, count: int, steps: Any, transient: Any, start: Any, key: Key | None) -> ExponentPlan:
    """Plan a run of a map, from step `start`."""
    start = check_steps(start, "start")
    available = map.length - start if isinstance(map, FiniteMap) else None
    if steps is None:
        steps = default_steps(size, count, _MOST_OF_MAP) if available is None else available
    steps = check_steps(steps)
    if available is not None and steps > available:
        do = "Take fewer steps, or a longer record of inputs."
        raise ValueError(explain("lyapunov_spectrum: steps", steps, f"at most the {available} this map has", do))
    transient = None if transient is None else check_steps(transient, "transient")
    return ExponentPlan(map, _block_of_map(map, size, count, key), start, 0.0, 1.0, steps, transient, False)


def _block_of_map(map: Map, size: int, count: int, key: Key | None) -> BlockOfMap:
    return BlockOfMap(map, LogDeterminant() if count == size <= _VOLUME else NoVolume(), key)


def plan_continuous(
    system: Flow | SDE,
    state: State,
    size: int,
    count: int,
    *,
    steps: Any,
    times: Any,
    step_size: Any,
    transient: Any,
    method: Any,
    key: Key | None,
) -> ExponentPlan:
    """Plan a run of a flow or an SDE with a fixed step; what is not said is chosen from its fastest rate."""
    times = None if times is None else check_times(times)
    origin, span = (0.0, None) if times is None else (times[0], times[-1] - times[0])
    steps = None if steps is None else check_steps(steps)
    given = step_size is not None or (span is not None and steps is not None)
    method = _default_method(system, state, given) if method is None else method
    found = None if given else _rates(system, state, origin, key)
    step_size, steps = _grid(size, count, span, steps, step_size, method, found)
    chosen = found if isinstance(system, Flow) else None
    plan = ExponentPlan(
        discretize(system, method, step_size),
        BlockOfMap(discretize(system, method, step_size), NoVolume(), key),
        0,
        origin,
        step_size,
        steps,
        _steps_of_transient(transient, step_size),
        True,
        chosen,
        method,
    )
    if isinstance(system, Flow):
        return stepping(plan, system, state, count, method, step_size, origin)
    map = from_time(plan.map, origin)
    return plan._replace(map=map, block=_block_of_map(map, size, count, key))


def stepping(
    plan: ExponentPlan, flow: Flow, state: State, count: int, method: Any, step_size: Any, origin: Any
) -> ExponentPlan:
    """A plan for a flow with a step of this size from this time on."""
    size = dimension_of(state)
    whole = count == size <= _VOLUME
    # Always of one type and with a clock: then all runs of a flow share a program.
    origin, step_size = (_number(value, float_dtype(state)) for value in (origin, step_size))
    volume = Divergence(flow, origin, step_size) if whole else NoVolume()
    map = NearIdentityFrom(discretize(flow, method, step_size), origin)
    rows = NearIdentityFrom(discretize(TangentRows(flow, state), method, step_size), origin)
    return plan._replace(map=map, block=BlockOfFlow(rows, volume), step=step_size, origin=origin)


def _number(value: Any, dtype: Any) -> Any:
    return jnp.asarray(value, dtype) if is_traced(value) else np.asarray(value, dtype)


def fitting_step(plan: ExponentPlan, residual: float, error: float, largest: float) -> float:
    """The step at which the method misses by what the statistics leave unseen, from what was seen at the plan's step."""
    target = max(_OF_ERROR * error, _OF_LARGEST * largest)
    if not np.isfinite(residual) or not target > 0:
        return _UNMEASURED * float(plan.step)
    part = (target / max(abs(residual), 1e-300)) ** (1 / plan.order)
    return float(np.clip(part, _SHORTEST, 1.0)) * float(plan.step)


def interval_of_flow(plan: ExponentPlan) -> int:
    """As many steps as part no two directions by more than a factor of a million."""
    if plan.rates is None:
        return _FLOW_INTERVAL
    return int(np.clip(_PARTED / (2 * plan.rates[1] * float(plan.step)), 1, _LONGEST))


def parting(plan: ExponentPlan, exponents: Any) -> ExponentPlan:
    """The plan with the spread of exponents that were measured for the typical rate, which bounds it from above."""
    if plan.rates is None or not np.isfinite(exponents).all():
        return plan
    fastest, typical = plan.rates
    spread = float(np.ptp(exponents))
    return plan._replace(rates=(fastest, min(typical, max(spread, typical / _LONGEST))))


def default_steps(size: int, count: int, most: int = _MOST) -> int:
    """Steps of a run whose length is not said: what a few seconds allow."""
    return int(np.clip(_PRODUCTS // (size * (count + 1)), _LEAST, most))


def default_batches(plan: ExponentPlan) -> int:
    """64 parts; of a short record as many as leave two steps to each."""
    return max(2, min(_BATCHES, (plan.steps - transient_of(plan)) // 2))


def transient_of(plan: ExponentPlan) -> int:
    """Steps that do not count: as said, or a ninth."""
    return plan.steps // _TRANSIENT if plan.transient is None else plan.transient


def lay_out(plan: ExponentPlan, interval: int, batches: int) -> Layout:
    """Divide a run; what does not fill whole batches lengthens the transient."""
    transient = transient_of(plan)
    share = (plan.steps - transient) // max(batches, 1)
    if batches < 2 or share < 1:
        got = f"{plan.steps} steps, {transient} of them transient, in {batches} batches"
        do = "Take more steps, or fewer batches."
        raise ValueError(explain("lyapunov_spectrum", got, "at least 2 batches of one step or more", do))
    # The longest interval that wastes least of a batch, among those that are not much shorter.
    longest = min(interval, share)
    interval = max(range((longest + 1) // 2, longest + 1), key=lambda m: (share // m * m, m))
    length = share // interval
    return Layout(interval, plan.steps // interval - length * batches, length, batches)


def _grid(
    size: int, count: int, span: Any, steps: Any, h: Any, method: Any, found: tuple[float, float] | None
) -> tuple[Any, int]:
    """(step size, number of steps): two of span, step size and steps give the third, one or none the rest."""
    if span is not None and steps is not None:
        return span / steps, steps
    longer = 1.0
    if found is not None:
        h, longer = _part(method) / found[0], float(np.clip(found[0] / found[1], 1.0, _MOST_FOR_SPIKES))
    if span is None:
        return h, int(longer * default_steps(size, count)) if steps is None else steps
    if is_traced(span, h):
        do = "Give steps= as a Python int, with times or with step_size."
        raise ValueError(explain("lyapunov_spectrum: step_size", "a traced value without steps", "a number", do))
    if found is not None and float(h) >= float(span) > 0:
        h = float(span) / _LEAST_OF_SPAN
    if not 0 < float(h) < float(span):
        do = "Take a shorter step, or a longer interval."
        raise ValueError(explain("lyapunov_spectrum: step_size", h, f"between 0 and {float(span):g}", do))
    # To 1e-9 of a step: the interval is taken in whole steps, a little shorter than asked for where it is not one.
    steps = int(np.ceil(float(span) / float(h) - 1e-9))
    return span / steps, steps


def _rates(system: Any, state: State, origin: Any, key: Any) -> tuple[float, float]:
    if is_traced(system, state, origin, key):
        do = "Say step_size= and steps=, or times= and steps=."
        raise ValueError(
            explain("lyapunov_spectrum: step_size", "None under jit or vmap", "a step known while tracing", do)
        )
    return rates(system, state, origin, key)


def _part(method: Any) -> float:
    """The first step, as a part of 1/L: the error of one is about part^(p + 1)/(p + 1)!, 1/9! of methods we do not know."""
    if isinstance(method, RK4):
        return _BOLD
    if isinstance(method, FlowMethod):
        return (math.factorial(method.order + 1) / math.factorial(9)) ** (1 / (method.order + 1))
    return _PARTS.get(type(method), 0.005)


def _default_method(system: Flow | SDE, state: State, given: bool) -> Method:
    if isinstance(system, Flow):
        return accurate_method() if given else RK4()
    time = np.zeros((), float_dtype(state))
    return EulerMaruyama() if depends_on(lambda x: _noise_at(system, time, x), state) else SRA1()


def _noise_at(sde: SDE, time: Any, state: State) -> Any:
    operator = sde.diffusion(jnp.asarray(time), state)
    return operator.mv(jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), operator.in_structure()))


def _steps_of_transient(transient: Any, step_size: Any) -> int | None:
    if transient is None:
        return None
    if is_traced(transient, step_size):
        do = "Leave the transient out (a ninth of the run), or say step_size as a number."
        raise ValueError(explain("lyapunov_spectrum: transient", "a traced time or step", "numbers", do))
    return int(np.ceil(float(transient) / float(step_size) - 1e-9))


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
