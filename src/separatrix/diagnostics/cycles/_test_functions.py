r"""What is met between two neighbouring points of a branch, and where exactly.

Let g_1 >= g_2 >= ... be the growth of the eigenvalues in order: Re mu for a flow, |mu| - 1 for a map or a cycle. Each g_k
is continuous along the branch, so wherever the number of growing directions changes, some g_k vanishes. With tau_p, the
parameter's part of the tangent, and det [DG; tau]:

    fold                tau_p = 0, DG of full rank
    branch point        det [DG; tau] = 0: DG of lower rank
    Hopf                g_k = 0 at a pair +-i omega of a flow
    period doubling     g_k = 0 at mu = -1
    Neimark-Sacker      g_k = 0 at a pair exp(+-i theta)

Each is located by Brent's method on its function, every value of which is a corrected point of the branch; a branch point
then by Newton's method on equations that are regular there.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.optimize

from separatrix.diagnostics.cycles._arclength import Curve, Point, between
from separatrix.diagnostics.cycles._branch_problem import Rest, at_branch_point

# DG counts as of lower rank where its smallest singular value is this small beside the largest at the ends of the step.
# At a located branch point it is about the error of the location.
_DEFICIENT = 1e-5
_SAME = 1e-3


class Special(NamedTuple):
    """A kind and where; `part` of the way along its step."""

    kind: str
    point: Point
    part: float


class WithinStep(NamedTuple):
    """What lies within a step, and whether it may hold more than that."""

    specials: list[Special]
    unresolved: int


def examine(curve: Curve, here: Point, there: Point, phase: Any, final: bool) -> WithinStep | None:
    """Return what lies between two points; None where a shorter step should tell more, unless it is `final`."""
    crossing = _crossings(here, there)
    turned = bool(here.tangent[-1] * there.tangent[-1] < 0)
    flipped = bool(here.sign != there.sign)
    simple = _simple(here, there, crossing, turned, flipped)
    if not simple and not final:
        return None
    # At a fold both vanish. On a branch that rises all but straight up tau_p is rounding, and its eigenvalue is not.
    tests: list[Any] = [lambda p: p.tangent[-1]] if turned and len(crossing) != 1 else []
    tests += [lambda p, k=k: p.growth[k] for k in crossing]
    located = [_branch_point(curve, here, there, phase)] if flipped else []
    if simple and flipped and located[0] is not None:
        return WithinStep([located[0]], 0)
    located += [_locate(curve, here, there, phase, test) for test in tests]
    found: list[Special] = []
    for special in located:
        if special is not None and not any(_same(special, other) for other in found):
            found.append(special)
    # Near a branch point the other functions take values of either branch, and need not be continuous.
    lost = None in located and not any(special.kind == "branch point" for special in found)
    return WithinStep(sorted(found, key=lambda special: special.part), int(lost or not simple))


def _crossings(here: Point, there: Point) -> list[int]:
    """The k for which g_k changes sign, by more than an eigenvalue's rounding."""
    a, b = here.growth, there.growth
    changed = ((a >= 0) != (b >= 0)) & (np.maximum(np.abs(a), np.abs(b)) > here.noise)
    return [int(k) for k in np.flatnonzero(changed)]


def _simple(here: Point, there: Point, crossing: list[int], turned: bool, flipped: bool) -> bool:
    """Whether one special point explains all that changed."""
    match len(crossing):
        case 0:
            return turned == flipped
        case 1:
            return not (turned and flipped)
        case 2:
            pair = all(np.imag(end.spectrum[crossing[0]]) != 0 for end in (here, there))
            return bool(pair and not turned and not flipped)
    return False


def _locate(curve: Curve, here: Point, there: Point, phase: Any, test: Any) -> Special | None:
    """The zero of a test function on the branch between two points, and what is there."""
    part, point = _zero(curve, here, there, phase, test, 1e-13)
    if point is None:
        return None
    if point.smallest < _DEFICIENT * max(here.largest, there.largest):
        return Special("branch point", point, part)
    if abs(point.tangent[-1]) < _SAME * max(abs(here.tangent[-1]), abs(there.tangent[-1])):
        return Special("fold", point, part)
    if here.tangent[-1] * there.tangent[-1] < 0 and _is_one(curve, point):
        return Special("fold", point, part)
    kind = _kind(curve, point)
    return None if kind is None else Special(kind, point, part)


def _branch_point(curve: Curve, here: Point, there: Point, phase: Any) -> Special | None:
    """The zero of det [DG; tau], nearly, then Moore's equations: on the branch Newton's method is singular there."""
    problem, rest = curve.problem, isinstance(curve.problem, Rest)
    part, near = _zero(curve, here, there, phase, lambda p: p.sign * p.smallest, 1e-3 if rest else 1e-9)
    if near is None:
        return None
    if not rest:
        return Special("branch point", near, part)
    left = np.linalg.svd(problem.linearized(near.z * curve.scales).jacobian)[0][:, -1]
    as_array = lambda a: jnp.asarray(a, curve.dtype)  # noqa: E731
    z = np.asarray(at_branch_point(problem, as_array(near.z * curve.scales), as_array(left)), float) / curve.scales
    if not np.linalg.norm(z - near.z) < 0.5 * np.linalg.norm(there.z - here.z):
        return None
    point = curve.correct(z, here.tangent, phase)
    exact = near if point is None else point
    way = here.tangent @ (z - here.z) / (here.tangent @ (there.z - here.z))
    return Special("branch point", exact._replace(z=z), float(way))


def _zero(
    curve: Curve, here: Point, there: Point, phase: Any, test: Any, tolerance: float
) -> tuple[float, Point | None]:
    """Where on the way from one point to the next a function vanishes, and the point there; None where Newton fails."""
    seen = {0.0: here, 1.0: there}

    def value(part: float) -> float:
        point = seen.get(part) or between(curve, here, there, part, phase)
        if point is None:
            raise ArithmeticError
        seen[part] = point
        return float(test(point))

    try:
        part: Any = scipy.optimize.brentq(value, 0.0, 1.0, xtol=tolerance, maxiter=60)
        value(part)
    except (ArithmeticError, ValueError, RuntimeError):
        return np.nan, None
    return float(part), seen[part]


def _is_one(curve: Curve, point: Point) -> bool:
    """Whether a cycle's eigenvalue at the border is the multiplier 1: where DG has full rank, tau_p vanishes there."""
    value = point.spectrum[int(np.argmin(np.abs(point.growth)))]
    return not isinstance(curve.problem, Rest) and bool(abs(value - 1) < _SAME)


def _kind(curve: Curve, point: Point) -> str | None:
    """The name by the eigenvalue nearest to the border."""
    value = point.spectrum[int(np.argmin(np.abs(point.growth)))]
    discrete = not isinstance(curve.problem, Rest) or curve.problem.discrete
    # On the unit circle or the imaginary axis: of a cycle each multiplier has digits of its own.
    size = max(1.0, float(np.max(np.abs(point.spectrum)))) if isinstance(curve.problem, Rest) else 1.0
    turning = abs(np.imag(value)) > 1e-7 * size
    if turning:
        return "neimark-sacker" if discrete else "hopf"
    return "period doubling" if discrete and np.real(value) < 0 else None


def _same(one: Special, other: Special) -> bool:
    return bool(one.kind == other.kind and abs(one.part - other.part) < _SAME)
