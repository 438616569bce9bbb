r"""Pseudo-arclength steps along G(z) = 0.

    predict    z* = z + s tau,                  DG tau = 0, |tau| = 1
    correct    G(z') = 0,  <tau, z' - z*> = 0   by Newton's method
    adapt      s halves where Newton fails or the branch bends by more than 18 degrees, grows where it does neither

Lengths are taken in coordinates of order one: x in units of `scale` (of its own size where it has outgrown that), T of
its first value, p of the width of the bounds.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from separatrix.diagnostics.cycles._branch_problem import FAR, NEAR, newton
from separatrix.diagnostics.cycles._cycle import Cycle

# A step may turn by so much; half of its square is the relative error of the chord.
_BEND = np.cos(np.pi / 10)
_STRAIGHT = np.cos(np.pi / 40)
# A parameter that has moved less than this, with the width of the bounds as unit, stands still.
_STILL = 1e-6
# A first mesh comes from a guess, the next from a solution on it.
_MESHES = 3


class Point(NamedTuple):
    """A point of the branch, in units of `scales`; eigenvalues sorted by growth, the fastest first.

    `sign` of det [DG; tangent], `smallest` singular value of DG beside its norm `largest`; of a cycle, its `mesh`.
    """

    z: Any
    tangent: Any
    spectrum: Any
    growth: Any
    noise: float
    sign: float
    smallest: float
    largest: float
    residual: float
    newton_steps: int
    mesh: Any

    @property
    def unstable(self) -> int:
        """Number of growing directions."""
        return int(np.sum(self.growth > 0))


@dataclasses.dataclass(frozen=True)
class Curve:
    """G(z) = 0 with its units."""

    problem: Any
    scales: np.ndarray
    dtype: Any

    @functools.cached_property
    def linearized(self) -> Any:
        """G and DG of the problem, made ready for many calls."""
        return self.problem.prepared()

    def correct(self, guess: np.ndarray, normal: np.ndarray, phase: Any, *, far: bool = False) -> Point | None:
        """The point of the branch in the plane through a guess; None where Newton does not find one."""
        eps = float(np.finfo(self.dtype).eps)
        guess, normal = guess * self.scales, normal / self.scales
        found = None
        for damped in (True, False) if far else (False,):
            found = found or newton(
                self.linearized, guess, normal, phase, self.scales, eps, FAR if far else NEAR, damped
            )
        tolerance = eps**0.6 * (1 + float(np.max(np.abs(guess if found is None else found.z), initial=0)))
        if found is None or not float(np.max(np.abs(found.linear.residual))) <= tolerance:
            return None
        try:
            matrix = found.linear.bordered(normal)
            # The null vector of DG on the side of the normal: [DG; normal] tau = (0, 1). On that side the determinant has
            # the sign of det [DG; tau], for their ratio is <tau, tau>/<normal, tau>.
            along = matrix.solve(np.append(np.zeros(len(guess) - 1), 1.0)) / self.scales
            tangent = along / np.linalg.norm(along)
            spectrum, growth, noise = found.linear.spectrum()
            smallest, largest = matrix.smallest(self.scales)
        except np.linalg.LinAlgError:
            return None
        if not (np.isfinite(tangent).all() and np.isfinite(growth).all()):
            return None
        residual, mesh = float(np.max(np.abs(found.linear.residual))), None if phase is None else phase.mesh
        return Point(
            found.z / self.scales, tangent, spectrum, growth, noise, matrix.sign, smallest, largest, residual, found.steps,
            mesh,
        )  # fmt: skip

    def phase(self, point: Point) -> Any:
        """What keeps the next cycle in phase with this one; None at rest."""
        return self.problem.phase(point.z * self.scales, point.mesh) if isinstance(self.problem, Cycle) else None

    def size(self, point: Point) -> float:
        """How large the unknowns are, in their units, at least one."""
        if isinstance(self.problem, Cycle):
            return max(1.0, float(np.linalg.norm(point.z[:-2])), abs(float(point.z[-2])))
        return max(1.0, float(np.max(np.abs(point.z[:-1]))))

    def place(self, point: Point) -> np.ndarray:
        """Coordinates that do not depend on where a cycle begins or on its mesh."""
        return self._placed(point.z * self.scales, point.mesh)

    @functools.cached_property
    def _placed(self) -> Any:
        return self.problem.place

    def settled(self, point: Point) -> Point:
        """A first point on a mesh of its own, its tangent in phase with itself."""
        for _ in range(_MESHES):
            before, point = point, self.renewed(point)
            if point is before:
                break
        if not isinstance(self.problem, Cycle):
            return point
        return self.correct(point.z, point.tangent, self.phase(point)) or point

    def renewed(self, point: Point) -> Point:
        """A cycle on a mesh of its own, where its old one has become uneven and no stability hangs on it."""
        if not isinstance(self.problem, Cycle):
            return point
        mesh = self.problem.renewed(point.z * self.scales, point.mesh)
        if mesh is None:
            return point
        z, tangent = (self.problem.moved(part, point.mesh, mesh) for part in (point.z, point.tangent))
        there = self.correct(z, tangent / np.linalg.norm(tangent), self.problem.phase(z * self.scales, mesh))
        return point if there is None or there.unstable != point.unstable else there


class CurveLimits(NamedTuple):
    """Where a branch ends and how long its steps are, in units of the curve."""

    low: float
    high: float
    step: float
    smallest: float
    largest: float
    steps: int


class FollowedCurve(NamedTuple):
    """Points in order, what was met between them, why it ended, and how many steps hold more than was resolved."""

    points: list[Point]
    specials: list[Any]
    ended: str
    unresolved: int


def follow_curve(curve: Curve, start: Point, limits: CurveLimits, examine: Any) -> FollowedCurve:
    """Go along the tangent of `start` until the bounds, a closed curve, or as many steps as asked.

    `examine(curve, p, q, phase, final)` returns what lies between two points, or None to have the step halved first.
    """
    points, specials, unresolved, length, ended, here = [start], [], 0, limits.step, "steps", start
    while len(points) <= limits.steps:
        phase = curve.phase(here)
        there = _step(curve, here, length / _speed(curve, here), phase)
        found = None
        if there is not None and _vanished(curve, here, there):
            ended = "equilibrium"
            break
        if there is not None:
            outside = not limits.low <= there.z[-1] <= limits.high
            there = _at_bound(curve, here, there, limits, phase) if outside else there
        if there is not None:
            found = examine(curve, here, there, phase, length <= max(4 * limits.smallest, 1e-3 * limits.largest))
        if there is None or found is None:
            length /= 2
            if length < limits.smallest:
                ended = "step collapsed"
                break
            continue
        specials += found.specials
        unresolved += found.unresolved
        points.append(there)
        if there.z[-1] in (limits.low, limits.high):
            ended = "bounds"
            break
        if _closed(curve, points):
            ended = "closed"
            break
        if _unbounded(curve, points):
            ended = "infinite period"
            break
        if there.newton_steps <= 4 and here.tangent @ there.tangent > _STRAIGHT:
            length = min(1.5 * length, limits.largest)
        here = curve.renewed(there)
    return FollowedCurve(points, specials, ended, unresolved)


def between(curve: Curve, here: Point, there: Point, part: float, phase: Any) -> Point | None:
    """The point of the branch in the plane across `here.tangent`, a part of the way to the next."""
    if part in (0.0, 1.0):
        return (here, there)[int(part)]
    return curve.correct(here.z + part * (there.z - here.z), here.tangent, phase)


def _speed(curve: Curve, here: Point) -> float:
    """|tau| where x counts by its own size once that is more than one unit."""
    return float(np.hypot(np.linalg.norm(here.tangent[:-1]) / curve.size(here), here.tangent[-1]))


def _step(curve: Curve, here: Point, length: float, phase: Any) -> Point | None:
    there = curve.correct(here.z + length * here.tangent, here.tangent, phase)
    return None if there is None or here.tangent @ there.tangent < _BEND else there


def _at_bound(curve: Curve, here: Point, there: Point, limits: CurveLimits, phase: Any) -> Point | None:
    """The point at the bound that a step has passed."""
    bound = limits.high if there.z[-1] > limits.high else limits.low
    part = (bound - here.z[-1]) / (there.z[-1] - here.z[-1])
    axis = np.zeros_like(here.z)
    axis[-1] = 1.0
    guess = here.z + part * (there.z - here.z)
    guess[-1] = bound
    end = curve.correct(guess, axis, phase)
    if end is None or np.linalg.norm(end.z - here.z) > 2 * np.linalg.norm(there.z - here.z):
        return None
    end.z[-1] = bound
    # Turning the last row turns the sign of the determinant.
    side = float(np.sign(end.tangent @ here.tangent))
    return end._replace(tangent=side * end.tangent, sign=side * end.sign)


def _closed(curve: Curve, points: list[Point]) -> bool:
    """Whether the first point lies on the last chord, passed in the same direction."""
    if len(points) < 6:
        return False
    first, second, a, b = (curve.place(points[k]) for k in (0, 1, -2, -1))
    part = (first - a) @ (b - a) / ((b - a) @ (b - a))
    near = np.linalg.norm(a + part * (b - a) - first) < 0.1 * np.linalg.norm(b - a)
    return bool(0 < part <= 1 and near and (second - first) @ (b - a) > 0)


def _unbounded(curve: Curve, points: list[Point]) -> bool:
    """Whether the period has grown fourfold while the parameter stood still: towards an orbit that takes for ever."""
    if not isinstance(curve.problem, Cycle):
        return False
    periods, last = np.array([point.z[-2] for point in points]), points[-1].z
    short = np.flatnonzero(periods <= last[-2] / 4)
    return bool(len(short) and abs(points[short[-1]].z[-1] - last[-1]) <= _STILL)


def _vanished(curve: Curve, here: Point, there: Point) -> bool:
    """Whether a cycle has shrunk to a point and opened again, turned half around: the same cycles once more."""
    if not isinstance(curve.problem, Cycle):
        return False
    before, after = (curve.problem.parts(point.z)[0] for point in (here, there))
    return float(np.sum((before - before.mean(axis=0)) * (after - after.mean(axis=0)))) < 0
