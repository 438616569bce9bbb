r"""How each question is asked by name: of a system and a state alone, over a run short enough to wait for.

    exponents        10,000 steps (3,000 of more than 8 coordinates): of a map; of length 1/L of a flow, 1/(100 L) of an SDE
    gradients        200 steps of a map, all of a finite one
    points, cycles   from starts in the box |x - state| <= max(1, |state|), coordinate by coordinate

with L the fastest rate along the orbit. For other lengths and regions call the question itself.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_inexact
from separatrix._types import Key, State
from separatrix.calculus import limit
from separatrix.calculus._dependence import depends_on
from separatrix.diagnostics._coordinates import as_vector, from_vector, rate
from separatrix.diagnostics.fields.field_split import FieldSplit, field_split
from separatrix.diagnostics.gradients.gradient_profile import GradientProfile, gradient_profile
from separatrix.diagnostics.lyapunov._fastest_rate import fastest_rate
from separatrix.diagnostics.lyapunov.lyapunov_spectrum import LyapunovSpectrum, lyapunov_spectrum
from separatrix.diagnostics.orbits.fixed_points import FixedPoints, fixed_points
from separatrix.diagnostics.orbits.periodic_orbits import PeriodicOrbits, periodic_orbits
from separatrix.evolution import evolve
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map, NearIdentityMap
from separatrix.systems.sde import SDE

# Unasked up to this many coordinates: what compiles and runs in a few seconds.
SMALL, FORMED = 64, 512
# All exponents up to here, the leading ones beyond.
_ALL, _LEADING = 8, 3
_STEPS, _FEWER, _MOST_GRADIENTS = 10_000, 3_000, 10_000
# Batches of an error want some steps each.
_LEAST = 256
_STARTS, _HORIZON, _GRADIENT_STEPS = 64, 20.0, 200


def size_of(state: Any) -> int:
    """Number of real coordinates of a state: 0 of one that holds whole numbers alone, which has no tangent."""
    if not any(is_inexact(leaf) for leaf in jax.tree.leaves(state)):
        return 0
    return jax.eval_shape(lambda: as_vector(state)).shape[0]


def has_tangent(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether there is anything to linearise."""
    return size_of(state) > 0


def is_autonomous(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether the rate of a flow or SDE, or the step of a near-identity map, is the same at all times."""
    if isinstance(system, NearIdentityMap):
        h = jnp.asarray(system.step_size, float_dtype(state))
        return not depends_on(lambda t: system.advance(t, state, h, key=key), jnp.zeros_like(h))
    time = jnp.zeros((), float_dtype(state))
    noisy = isinstance(system, SDE) and depends_on(lambda t: _noise(system, t, state), time)
    return not (noisy or depends_on(lambda t: rate(system, state, at=t, key=key), time))


def is_simultaneous(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether a near-identity map is Euler's step on its own limit: all coordinates move at once by h f(x).

    Compared beside the state, for at rest all steps are one.
    """
    h, point = jnp.asarray(system.step_size, float_dtype(state)), as_vector(state)
    point = point + 0.1 * jnp.cos(jnp.arange(point.size).astype(point.dtype)) * jnp.maximum(jnp.max(jnp.abs(point)), 1)
    beside = from_vector(point, state)
    moved, along = _step_and_limit(system, beside, h, key)
    moved = moved - point
    rounding = 100 * float(jnp.finfo(point.dtype).eps) * float(jnp.max(jnp.abs(point)) + jnp.max(jnp.abs(along)))
    return bool(jnp.max(jnp.abs(moved - along)) <= rounding)


@eqx.filter_jit
def _step_and_limit(system: NearIdentityMap, state: State, h: Any, key: Key | None) -> tuple[Any, Any]:
    moved, along = system.step(0, state, key=key), rate(limit(system), state, key=key)
    return as_vector(moved), h * as_vector(along)


def has_exponents(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether exponents are asked for: float64, an orbit without end or a long one, the same law at all times."""
    small = 0 < size_of(state) <= (FORMED if isinstance(system, Map) else SMALL)
    if not small or jnp.finfo(float_dtype(state)).bits < 64:
        return False
    if isinstance(system, FiniteMap):
        return system.length >= _LEAST
    return (isinstance(system, Map) and not isinstance(system, NearIdentityMap)) or is_autonomous(system, state, key)


def has_rotation(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether a field is split: flows and SDEs, and maps that step simultaneously along one, in two dimensions or more."""
    if not 2 <= size_of(state) <= FORMED or (isinstance(system, Map) and not isinstance(system, NearIdentityMap)):
        return False
    return not isinstance(system, Map) or is_simultaneous(system, state, key)


def has_gradients(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether gradients are followed back: through maps, larger ones where they end (layers, recorded inputs)."""
    return isinstance(system, Map) and 0 < size_of(state) <= (FORMED if isinstance(system, FiniteMap) else SMALL)


def exponents(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> LyapunovSpectrum:
    """Exponents over a short run: all of up to eight coordinates, else the three leading ones."""
    size = size_of(state)
    count = size if size <= _ALL else _LEADING
    if isinstance(system, Map):
        return _exponents_of_map(system, state, count, int(at), key)
    if not isinstance(system, Flow):
        key = jax.random.key(0) if key is None else key
    step_size = (1.0 if isinstance(system, Flow) else 0.01) / fastest_rate(system, state, float(at), key)
    steps = _steps_for(state)
    times = (float(at), float(at) + steps * step_size)
    return lyapunov_spectrum(system, state, count=count, times=times, steps=steps, key=key)


def _steps_for(state: State) -> int:
    return _STEPS if size_of(state) <= _ALL else _FEWER


def _exponents_of_map(system: Map, state: State, count: int, start: int, key: Key | None) -> LyapunovSpectrum:
    """Over as many steps as there are; of an orbit that grew past all numbers, over half of those before."""
    steps = min(system.length - start, _STEPS) if isinstance(system, FiniteMap) else _steps_for(state)
    found = lyapunov_spectrum(system, state, count=count, steps=steps, start=start, key=key)
    before = steps if bool(found.outcome.completed) else int(found.outcome.at) - start
    if before == steps or before < 2 * _LEAST:
        return found
    return lyapunov_spectrum(system, state, count=count, steps=before // 2, start=start, key=key)


def rotation(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> FieldSplit:
    """The share of a field that turns; more than 512 coordinates are probed, with a key of its own if none is given."""
    probed = size_of(state) > FORMED and key is None
    return field_split(system, state, at=at, key=jax.random.key(0) if probed else key)


def gradients(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> GradientProfile:
    """Gradients back through a short run of a map."""
    if not isinstance(system, Map):
        got, do = type(system).__name__, "Discretise it, or call gradient_profile with a dense trajectory."
        raise TypeError(explain("gradient_profile by name", got, "a Map", do))
    start = int(at)
    steps = system.length - start if isinstance(system, FiniteMap) else _GRADIENT_STEPS
    path = evolve(system, state, steps=min(steps, _MOST_GRADIENTS), start=start, key=key)
    return gradient_profile(system, path, key=key)


def points(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> FixedPoints:
    """Points of rest around a state."""
    return fixed_points(system, region=_box(state), starts=_STARTS, at=at, key=key)


def cycles(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> PeriodicOrbits:
    """Cycles of period up to two of a map, around a state; the cycle of a flow that the state's orbit comes back to."""
    if isinstance(system, Flow):
        return periodic_orbits(system, jax.tree.map(lambda leaf: leaf[None], state), horizon=_HORIZON)
    return periodic_orbits(system, region=_box(state), starts=_STARTS, period=2)


def _noise(sde: SDE, time: Any, state: State) -> State:
    operator = sde.diffusion(time, state)
    return operator.mv(jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), operator.in_structure()))


def _box(state: State) -> tuple[State, State]:
    def shifted(sign: float) -> State:
        return jax.tree.map(
            lambda x: x + sign * jnp.maximum(jnp.abs(x), 1.0).astype(x.dtype) if is_inexact(x) else x, state
        )

    return shifted(-1.0), shifted(1.0)
