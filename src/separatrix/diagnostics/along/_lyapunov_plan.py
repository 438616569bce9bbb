r"""How a run for Lyapunov exponents is laid out: which map takes the steps, how many, and where batches end.

    start .. [ transient ] [ batch 1 ] [ batch 2 ] ... [ batch B ]

each a whole number of intervals, an interval a few steps and one orthonormalisation. A flow steps by Dormand and Prince's
method of order 8 with h = 1/L, L its fastest rate along the orbit: at that step the sum of the exponents of the Lorenz
system is right to 3e-8, in half of the time that RK4 needs for 4e-7.
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
from separatrix.calculus.discretize import discretize
from separatrix.calculus.methods import SRA1, EulerMaruyama, Method, RungeKutta
from separatrix.calculus.methods.base import FlowMethod
from separatrix.calculus.undefined import undefined
from separatrix.diagnostics.along._fastest_rate import rates
from separatrix.diagnostics.along._tangent_block import Divergence, LogDeterminant, NoVolume
from separatrix.evolution.checks import check_steps, check_times
from separatrix.linear.coordinates import as_vector
from separatrix.systems.clock import from_time
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.sde import SDE

# Of a run that is not said to be longer: so many products of numbers, between these numbers of steps.
_PRODUCTS, _LEAST = 50_000_000, 2_000
_MOST_OF_MAP, _MOST = 2_000_000, 500_000
# A flow whose fastest rate is a spike takes short steps; its run is as long in units of the typical rate, up to this.
_MOST_FOR_SPIKES = 8
_BATCHES = 64
# A ninth of a run is left out at first: an eighth of what counts.
_TRANSIENT = 9
# Steps of an SDE as a part of 1/L: exponents are then right to 0.05^2/6 of L by SRA1, to half of 0.005 by others.
_PARTS = {SRA1: 0.05}
# All exponents by default up to here, the leading ones beyond.
_ALL, _LEADING = 128, 20
# Up to here the volume is measured too: a determinant or a trace of a matrix of this size, each step.
_VOLUME = 128


class Plan(NamedTuple):
    """A map, its first step and length of step in time; numbers of steps in a run and in its transient."""

    map: Map
    volume: Any
    start: int
    origin: Any
    step: Any
    steps: int
    transient: int | None
    continuous: bool


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
) -> tuple[State, Plan, int]:
    """Return the state as arrays, how the run goes, and how many exponents; refuse what cannot be run."""
    if not isinstance(system, Map | Flow | SDE):
        raise undefined("lyapunov_spectrum", system, "Map, Flow or SDE", "Make it one with as_map, as_flow or as_sde.")
    state = asarrays(state)
    size = jax.eval_shape(lambda: as_vector(state)).shape[0]
    count = _count(count, size)
    _warn_of_float32(state)
    if isinstance(system, Map):
        _refuse("a map", times=times, step_size=step_size, method=method)
        return state, plan_map(system, size, count, steps, transient, start), count
    _refuse("a flow or SDE", start=start or None)
    if isinstance(system, SDE) and key is None:
        raise ValueError(
            explain("lyapunov_spectrum of an SDE", "key=None", "a PRNG key", "Pass key=jax.random.key(0).")
        )
    given = {"steps": steps, "times": times, "step_size": step_size, "transient": transient, "method": method}
    return state, plan_continuous(system, state, size, count, **given, key=key), count


def plan_map(map: Map, size: int, count: int, steps: Any, transient: Any, start: Any) -> Plan:
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
    volume = LogDeterminant() if count == size <= _VOLUME else NoVolume()
    return Plan(map, volume, start, 0.0, 1.0, steps, transient, False)


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
) -> Plan:
    """Plan a run of a flow or an SDE with a fixed step; what is not said is chosen from its fastest rate."""
    times = None if times is None else check_times(times)
    origin, span = (0.0, None) if times is None else (times[0], times[-1] - times[0])
    steps = None if steps is None else check_steps(steps)
    method = _default_method(system, state) if method is None else method
    step_size, steps = _grid(system, state, size, count, origin, span, steps, step_size, method, key)
    map = from_time(discretize(system, method, step_size), origin)
    return Plan(
        map,
        _volume_rule(system, size, count, origin, step_size),
        0,
        origin,
        step_size,
        steps,
        _steps_of_transient(transient, step_size),
        True,
    )


def default_steps(size: int, count: int, most: int = _MOST) -> int:
    """Steps of a run whose length is not said: what a few seconds allow."""
    return int(np.clip(_PRODUCTS // (size * (count + 1)), _LEAST, most))


def default_batches(plan: Plan) -> int:
    """64 parts; of a short record as many as leave two steps to each."""
    counted = plan.steps - (plan.steps // _TRANSIENT if plan.transient is None else plan.transient)
    return max(2, min(_BATCHES, counted // 2))


def lay_out(plan: Plan, interval: int, batches: int) -> Layout:
    """Divide a run; what does not fill whole batches lengthens the transient."""
    transient = plan.steps // _TRANSIENT if plan.transient is None else plan.transient
    share = (plan.steps - transient) // max(batches, 1)
    if batches < 2 or share < 1:
        got = f"{plan.steps} steps, {transient} of them transient, in {batches} batches"
        do = "Take more steps, or fewer batches."
        raise ValueError(explain("lyapunov_spectrum", got, "at least 2 batches of one step or more", do))
    # The longest interval that wastes least of a batch.
    interval = max(range(1, min(interval, share) + 1), key=lambda m: (share // m * m, m))
    length = share // interval
    return Layout(interval, plan.steps // interval - length * batches, length, batches)


def _grid(
    system: Any, state: State, size: int, count: int, origin: Any, span: Any, steps: Any, h: Any, method: Any, key: Any
) -> tuple[Any, int]:
    """(step size, number of steps): two of span, step size and steps give the third, one or none the rest."""
    if span is not None and steps is not None:
        return span / steps, steps
    longer = 1.0
    if h is None:
        h, longer = _chosen_step(system, state, origin, method, key)
    if span is None:
        return h, int(longer * default_steps(size, count)) if steps is None else steps
    if is_traced(span, h):
        do = "Give steps= as a Python int, with times or with step_size."
        raise ValueError(explain("lyapunov_spectrum: step_size", "a traced value without steps", "a number", do))
    if not 0 < float(h) < float(span):
        do = "Take a shorter step, or a longer interval."
        raise ValueError(explain("lyapunov_spectrum: step_size", h, f"between 0 and {float(span):g}", do))
    # To 1e-9 of a step: the interval is taken in whole steps, a little shorter than asked for where it is not one.
    steps = int(np.ceil(float(span) / float(h) - 1e-9))
    return span / steps, steps


def _chosen_step(system: Any, state: State, origin: Any, method: Any, key: Any) -> tuple[float, float]:
    """A step from the fastest rate, and by how much a run is to be longer for it than one of the typical rate."""
    if is_traced(system, state, origin, key):
        do = "Say step_size= and steps=, or times= and steps=."
        raise ValueError(
            explain("lyapunov_spectrum: step_size", "None under jit or vmap", "a step known while tracing", do)
        )
    part = _PARTS.get(type(method), 0.005)
    if isinstance(method, FlowMethod):
        # The error of a step is about part^(p + 1)/(p + 1)!, here 1/9! for all.
        part = (math.factorial(method.order + 1) / math.factorial(9)) ** (1 / (method.order + 1))
    fastest, typical = rates(system, state, origin, key)
    return part / fastest, float(np.clip(fastest / typical, 1.0, _MOST_FOR_SPIKES))


def _default_method(system: Flow | SDE, state: State) -> Method:
    if isinstance(system, Flow):
        return accurate_method()
    time = np.zeros((), float_dtype(state))
    return EulerMaruyama() if depends_on(lambda x: _noise_at(system, time, x), state) else SRA1()


def _noise_at(sde: SDE, time: Any, state: State) -> Any:
    operator = sde.diffusion(jnp.asarray(time), state)
    return operator.mv(jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), operator.in_structure()))


def _volume_rule(system: Any, size: int, count: int, origin: Any, step_size: Any) -> Any:
    if count < size or size > _VOLUME:
        return NoVolume()
    return Divergence(system, origin, step_size) if isinstance(system, Flow) else LogDeterminant()


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
