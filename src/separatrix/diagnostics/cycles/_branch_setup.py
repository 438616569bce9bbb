"""From what a user says to the first point of a branch."""

import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import asarrays
from separatrix._types import State
from separatrix.calculus.dependence import depends_on
from separatrix.diagnostics.cycles._arclength import Curve, CurveLimits, Point
from separatrix.diagnostics.cycles._branch_problem import Rest
from separatrix.diagnostics.cycles._collocation import DEGREE, base_times, equidistributed, evaluated, functional
from separatrix.diagnostics.cycles._cycle import Cycle, Phase
from separatrix.diagnostics.parameter import Family, scalar_family
from separatrix.evolution.any_system import evolve
from separatrix.linear.coordinates import as_vector, kind_of, rate

# Up to here DG is formed: coordinates of a state; those of a cycle at the ends of all its intervals.
_DENSE, _DENSE_CYCLE = 512, 2048
# A guessed orbit is followed so many times as finely as its cycle will be held.
_FINER = 4


class BranchStart(eqx.Module):
    """Where another branch begins: a point, the direction in which to leave it, and how far at first.

    Pass it to `continuation` in place of a state, with the same system and parameter.
    """

    like: State
    z: Float[Array, " m"]
    direction: Float[Array, " m"]
    phase: Phase | None
    amplitude: float = eqx.field(static=True)
    cycle: bool = eqx.field(static=True)
    iterations: int = eqx.field(static=True)
    both: bool = eqx.field(static=True)


class PreparedBranch(NamedTuple):
    """A curve, the points from which to walk along it, and how."""

    curve: Curve
    starts: list[Point]
    limits: CurveLimits
    kind: str
    name: str


class ContinuationOptions(NamedTuple):
    """The options of `continuation`."""

    bounds: Any
    value: Any
    period: Any
    at: Any
    step: float
    max_step: float
    min_step: float
    steps: int
    direction: str
    scale: Any
    steps_per_period: int


def prepare(system: Any, parameter: Any, state: Any, options: ContinuationOptions) -> PreparedBranch:
    """Check what `continuation` was given, and correct the first point."""
    _check_numbers(options)
    made, (low, high) = scalar_family(system, parameter), _checked_bounds(options.bounds)
    intervals = -(-options.steps_per_period // DEGREE)
    start = state if isinstance(state, BranchStart) else _guess(made, state, options, intervals)
    present = float(start.z[-1])
    if not low <= present <= high:
        do = "Widen the bounds, or set the parameter inside of them."
        raise ValueError(explain("continuation: bounds", f"({low}, {high})", f"bounds that hold {present}", do))
    if jnp.finfo(start.z.dtype).eps > 1e-10:
        words = "continuation in float32 locates special points to three or four digits; pass a float64 state"
        warnings.warn(words, RuntimeWarning, stacklevel=3)
    kind, width = kind_of(made(start.z[-1])), high - low
    problem = _problem(made, start, kind, options, intervals)
    start = _on_mesh(problem, start) if start.cycle else start
    curve = Curve(problem, _scales(start, options.scale, width), start.z.dtype)
    limits = CurveLimits(low / width, high / width, options.step, options.min_step, options.max_step, options.steps)
    starts = _ways(_first(curve, start), start, options.direction)
    return PreparedBranch(curve, starts, limits, _name(start, kind), made.name)


def _name(start: BranchStart, kind: str) -> str:
    if start.cycle or kind != "map":
        return "cycle" if start.cycle else "equilibrium"
    return f"{start.iterations}-cycle" if start.iterations > 1 else "fixed point"


def _guess(made: Family, state: Any, options: ContinuationOptions, intervals: int) -> BranchStart:
    """A start at fixed parameter, from a state that the user gave."""
    like = asarrays(state)
    x = as_vector(like)
    value = made.value() if options.value is None else options.value
    if value is None or np.ndim(value) != 0:
        do = "Say value=..., the parameter at which the state is a guess."
        raise ValueError(explain("continuation: value", value, "a number, for a function value -> system", do))
    present = float(value)
    system = made(jnp.asarray(present, x.dtype))
    cycle = options.period is not None and kind_of(system) != "map"
    period = _checked_period(options.period, cycle)
    phase: Phase | None = None
    if cycle:
        values, phase = _followed(_autonomous(system, like), like, period, intervals)
        x = jnp.append(jnp.asarray(values.ravel(), x.dtype), period)
    z = jnp.append(x, present)
    axis = jnp.zeros_like(z).at[-1].set(1)
    return BranchStart(like, z, axis, phase, 0.0, cycle, 1 if cycle else int(period), True)


def _autonomous(system: Any, like: State) -> Any:
    """A flow that does not depend on time."""
    kind = kind_of(system)
    if kind == "sde" or depends_on(lambda t: rate(system, like, at=t), jnp.zeros((), as_vector(like).dtype)):
        got = "an SDE" if kind == "sde" else "a flow that depends on time"
        do = "Add the phase of what drives it to the state."
        raise ValueError(explain("continuation: period", got, "an autonomous flow", do))
    return system


def _followed(flow: Any, like: State, period: float, intervals: int) -> tuple[np.ndarray, Phase]:
    """The orbit over a guessed period, closed by a straight line, on a mesh that fits it, in the plane across it."""
    count = _FINER * intervals * DEGREE
    dtype = as_vector(like).dtype
    fine = float(jnp.finfo(dtype).eps) < 1e-10
    tolerances: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-10} if fine else {"rtol": 1e-4, "atol": 1e-6}
    path = evolve(flow, like, times=period * np.linspace(0.0, 1.0, count + 1), save=as_vector, **tolerances)
    rows = np.asarray(path.states, float)
    if not np.isfinite(rows).all():
        do = "Start nearer to the cycle, or give a shorter period."
        raise ValueError(explain("continuation: state", f"an orbit that ended: {path.outcome}", "one period of it", do))
    rows = rows[:-1] - np.linspace(0.0, 1.0, count, endpoint=False)[:, None] * (rows[-1] - rows[0])
    even = np.full(_FINER * intervals, 1 / (_FINER * intervals))
    mesh = equidistributed(rows, even, intervals)
    values = evaluated(rows, even, base_times(mesh))
    normal = np.zeros_like(values)
    normal[0] = np.asarray(as_vector(rate(flow, like)), float)
    return values, Phase(values, normal / max(float(np.linalg.norm(normal)), 1e-300), mesh)


def _checked_period(period: Any, cycle: bool) -> float:
    """A time T > 0 for a cycle of a flow; for a map a whole number, 1 by default."""
    if period is None:
        return 1.0
    number = not isinstance(period, bool) and np.ndim(period) == 0 and np.isreal(period) and float(period) > 0
    if number and (cycle or float(period).is_integer()):
        return float(period)
    expected = "a time > 0, for a cycle of a flow" if cycle else "a whole number >= 1, for a cycle of a map"
    raise ValueError(explain("continuation: period", period, expected, "Leave it out for what rests."))


def _problem(made: Family, start: BranchStart, kind: str, options: ContinuationOptions, intervals: int) -> Any:
    size = len(as_vector(start.like))
    if size > _DENSE:
        do = "Continue a smaller system: this method forms the Jacobian."
        raise ValueError(explain("continuation: state", f"{size} numbers", f"at most {_DENSE}", do))
    if not start.cycle:
        return Rest(made, start.like, jnp.asarray(options.at), start.iterations, kind == "map")
    _autonomous(made(start.z[-1]), start.like)
    intervals = intervals * start.iterations
    if size * intervals > _DENSE_CYCLE:
        got = f"{size} numbers on {intervals} intervals"
        do = f"Take steps_per_period={DEGREE * max(1, _DENSE_CYCLE // (size * start.iterations))}, or a smaller system."
        raise ValueError(explain("continuation: a cycle", got, f"a product of at most {_DENSE_CYCLE}", do))
    return Cycle(made, start.like, size, intervals, start.iterations)


def _on_mesh(problem: Cycle, start: BranchStart) -> BranchStart:
    """The start on as many intervals as the branch will have."""
    phase: Any = start.phase
    if len(phase.mesh) == problem.intervals:
        return start
    z, direction = np.asarray(start.z, float), np.asarray(start.direction, float)
    mesh = equidistributed(problem.parts(z + start.amplitude * direction)[0], phase.mesh, problem.intervals)
    z, direction = (problem.moved(part, phase.mesh, mesh) for part in (z, direction))
    reference = problem.parts(z + start.amplitude * direction)[0]
    first, second = (jnp.asarray(part, start.z.dtype) for part in (z, direction))
    return BranchStart(
        start.like,
        first,
        second,
        Phase(reference, functional(reference), mesh),
        start.amplitude,
        True,
        start.iterations,
        start.both,
    )


def _first(curve: Curve, start: BranchStart) -> Point:
    """The first point: at fixed parameter, or off a special point by the amplitude."""
    z, direction = (np.asarray(part, float) / curve.scales for part in (start.z, start.direction))
    direction = direction / np.linalg.norm(direction)
    size = start.amplitude
    for _ in range(4):
        point = curve.correct(z + size * direction, direction, start.phase, far=not start.amplitude)
        if point is not None and not (start.cycle and curve.problem.rests(point.z * curve.scales)):
            return curve.settled(point)
        size /= 4
        if not start.amplitude:
            break
    do = "Start nearer to a solution; run the system first, or give a period that is nearer."
    raise ValueError(explain("continuation: state", "a guess that Newton's method cannot correct", "a solution", do))


def _ways(first: Point, start: BranchStart, direction: str) -> list[Point]:
    """The first point with its tangent one way, and the other."""
    if start.amplitude:
        ahead = np.asarray(start.direction, float) @ first.tangent >= 0
        forward = first if ahead else _turned(first)
        return [forward, _turned(forward)] if start.both and direction == "both" else [forward]
    up = first if first.tangent[-1] >= 0 else _turned(first)
    return {"both": [up, _turned(up)], "up": [up], "down": [_turned(up)]}[direction]


def _turned(point: Point) -> Point:
    return point._replace(tangent=-point.tangent, sign=-point.sign)


def _scales(start: BranchStart, scale: Any, width: float) -> np.ndarray:
    size = max(1.0, float(jnp.max(jnp.abs(as_vector(start.like))))) if scale is None else float(scale)
    scales = np.full(len(start.z), size)
    scales[-1] = width
    if start.cycle:
        # The norm of a cycle is its root mean square over the base points.
        scales[:-2] *= np.sqrt(len(start.z) - 2) / np.sqrt(len(as_vector(start.like)))
        scales[-2] = float(start.z[-2])
    return scales


def _checked_bounds(bounds: Any) -> tuple[float, float]:
    if np.shape(bounds) != (2,) or not np.isfinite(np.asarray(bounds, float)).all() or not bounds[0] < bounds[1]:
        do = "Give the range of the parameter: bounds=(0.0, 1.0)."
        raise ValueError(explain("continuation: bounds", bounds, "two numbers, low < high", do))
    return float(bounds[0]), float(bounds[1])


def _check_numbers(options: ContinuationOptions) -> None:
    lengths = (options.step, options.max_step, options.min_step)
    if not 0 < options.min_step <= options.step <= options.max_step:
        do = "Let min_step <= step <= max_step."
        raise ValueError(
            explain("continuation: step, max_step, min_step", lengths, "0 < shortest <= first <= longest", do)
        )
    if options.steps < 1 or options.steps_per_period < 4:
        got, do = (
            f"steps={options.steps}, steps_per_period={options.steps_per_period}",
            "Leave them out for their defaults.",
        )
        raise ValueError(explain("continuation: steps", got, "steps >= 1 and steps_per_period >= 4", do))
    if options.direction not in ("both", "up", "down"):
        do = "Choose one."
        raise ValueError(explain("continuation: direction", repr(options.direction), '"both", "up" or "down"', do))
