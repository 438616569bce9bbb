r"""Pseudo-arclength steps along G(z) = 0.

    predict    z* = z + s tau,                  DG tau = 0, |tau| = 1
    correct    G(z') = 0,  <tau, z' - z*> = 0   by Newton's method
    adapt      s halves where Newton fails or the branch bends by more than 18 degrees, grows where it does neither

Lengths are taken in coordinates of order one: x in units of `scale` (of its own size where it has outgrown that), T of
its first value, p of the width of the bounds.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from separatrix.diagnostics.branches._branch_problem import Phase, correct, phase_at

# A step may turn by so much; half of its square is the relative error of the chord.
_BEND = np.cos(np.pi / 10)
_STRAIGHT = np.cos(np.pi / 40)


class Point(NamedTuple):
    """A point of the branch, in units of `scales`; eigenvalues sorted by growth, the fastest first."""

    z: Any
    tangent: Any
    spectrum: Any
    growth: Any
    jacobian: Any
    sign: Any
    residual: Any
    newton_steps: int

    @property
    def unstable(self) -> int:
        """Number of growing directions."""
        return int(np.sum(self.growth > 0))


@dataclasses.dataclass(frozen=True)
class Curve:
    """G(z) = 0 with its units; `discrete` where multipliers are compared with 1."""

    problem: Any
    scales: np.ndarray
    discrete: bool
    dtype: Any

    def correct(self, guess: np.ndarray, normal: np.ndarray, phase: Phase | None) -> Point | None:
        """The point of the branch in the plane through a guess; None where Newton does not find one."""
        as_array = lambda a: jnp.asarray(a, self.dtype)  # noqa: E731
        found = correct(self.problem, as_array(guess * self.scales), as_array(normal / self.scales), phase)
        z, jacobian, matrix = (np.asarray(part, float) for part in (found.z, found.jacobian, found.matrix))
        good = all(np.isfinite(part).all() for part in (z, jacobian, matrix))
        tolerance = float(np.finfo(self.dtype).eps) ** 0.6 * (1 + float(np.max(np.abs(z), initial=0)))
        if not good or not float(found.residual) <= tolerance:
            return None
        spectrum, growth = self._growth(matrix)
        jacobian = jacobian * self.scales
        tangent = _tangent(jacobian, normal)
        sign = np.sign(np.linalg.slogdet(np.vstack([jacobian, tangent]))[0])
        steps = int(found.newton_steps)
        return Point(z / self.scales, tangent, spectrum, growth, jacobian, sign, float(found.residual), steps)

    def phase(self, point: Point) -> Phase | None:
        """The plane in which the next cycle's point is looked for."""
        return phase_at(self.problem, jnp.asarray(point.z * self.scales, self.dtype))

    def _growth(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.linalg.eigvals(matrix).astype(complex)
        growth = np.abs(values) - 1 if self.discrete else np.real(values)
        order = np.lexsort((-np.imag(values), -growth))
        return values[order], growth[order]


class Settings(NamedTuple):
    """Where a branch ends and how long its steps are, in units of the curve."""

    low: float
    high: float
    step: float
    smallest: float
    largest: float
    steps: int


class Walk(NamedTuple):
    """Points in order, what was met between them, why it ended, and how many steps hold more than was resolved."""

    points: list[Point]
    specials: list[Any]
    ended: str
    unresolved: int


def walk(curve: Curve, start: Point, settings: Settings, examine: Any) -> Walk:
    """Go along the tangent of `start` until the bounds, a closed curve, or as many steps as asked.

    `examine(curve, p, q, phase, final)` returns what lies between two points, or None to have the step halved first.
    """
    points, specials, unresolved, length, ended = [start], [], 0, settings.step, "steps"
    while len(points) <= settings.steps:
        here = points[-1]
        phase = curve.phase(here)
        there = _step(curve, here, length / _speed(here), phase)
        found = None
        if there is not None:
            outside = not settings.low <= there.z[-1] <= settings.high
            there = _at_bound(curve, here, there, settings, phase) if outside else there
        if there is not None:
            found = examine(curve, here, there, phase, length <= max(4 * settings.smallest, 1e-3 * settings.largest))
        if there is None or found is None:
            length /= 2
            if length < settings.smallest:
                ended = "step collapsed"
                break
            continue
        specials += found.specials
        unresolved += found.unresolved
        points.append(there)
        if there.z[-1] in (settings.low, settings.high):
            ended = "bounds"
            break
        if _closed(points):
            ended = "closed"
            break
        if there.newton_steps <= 4 and here.tangent @ there.tangent > _STRAIGHT:
            length = min(1.5 * length, settings.largest)
    return Walk(points, specials, ended, unresolved)


def between(curve: Curve, here: Point, there: Point, part: float, phase: Phase | None) -> Point | None:
    """The point of the branch in the plane across `here.tangent`, a part of the way to the next."""
    if part in (0.0, 1.0):
        return (here, there)[int(part)]
    return curve.correct(here.z + part * (there.z - here.z), here.tangent, phase)


def _speed(here: Point) -> float:
    """|tau| where x counts by its own size once that is more than one unit."""
    size = max(1.0, float(np.max(np.abs(here.z[:-1]))))
    return float(np.hypot(np.linalg.norm(here.tangent[:-1]) / size, here.tangent[-1]))


def _step(curve: Curve, here: Point, length: float, phase: Phase | None) -> Point | None:
    there = curve.correct(here.z + length * here.tangent, here.tangent, phase)
    return None if there is None or here.tangent @ there.tangent < _BEND else there


def _at_bound(curve: Curve, here: Point, there: Point, settings: Settings, phase: Phase | None) -> Point | None:
    """The point at the bound that a step has passed."""
    bound = settings.high if there.z[-1] > settings.high else settings.low
    part = (bound - here.z[-1]) / (there.z[-1] - here.z[-1])
    axis = np.zeros_like(here.z)
    axis[-1] = 1.0
    guess = here.z + part * (there.z - here.z)
    guess[-1] = bound
    end = curve.correct(guess, axis, phase)
    if end is None or np.linalg.norm(end.z - here.z) > 2 * np.linalg.norm(there.z - here.z):
        return None
    end.z[-1] = bound
    tangent = end.tangent * np.sign(end.tangent @ here.tangent)
    sign = np.sign(np.linalg.slogdet(np.vstack([end.jacobian, tangent]))[0])
    return end._replace(tangent=tangent, sign=sign)


def _closed(points: list[Point]) -> bool:
    """Whether the first point lies on the last chord, passed in the same direction."""
    if len(points) < 6:
        return False
    first, a, b = points[0], points[-2].z, points[-1].z
    part = (first.z - a) @ (b - a) / ((b - a) @ (b - a))
    near = np.linalg.norm(a + part * (b - a) - first.z) < 0.1 * np.linalg.norm(b - a)
    return bool(0 < part <= 1 and near and first.tangent @ points[-1].tangent > _BEND)


def _tangent(jacobian: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The unit null vector of DG on the side of `along`: [DG; along] tau = (0, 1)."""
    system = np.vstack([jacobian, along])
    right = np.zeros(len(system))
    right[-1] = 1.0
    tangent = np.linalg.lstsq(system, right, rcond=None)[0]
    return tangent / np.linalg.norm(tangent)
