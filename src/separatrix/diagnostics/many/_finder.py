"""Finding attractors while starts run, and telling fates by them.

A start runs for a few spans. After each, a tail that comes near a known attractor is at its end. Among the others the one
that moves least is run on; where its orbit comes back to itself a new attractor is known, and where it does not, the next
one is tried, never the same twice. What only runs away is not tried: its distance from the starts grows from span to span
by as much as before or more, and that, as a norm beyond the escape radius, is flight to infinity.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy.spatial import KDTree

from separatrix.diagnostics.many._attractors import TAIL, Attractor, Runner, attractor_of, nearest

ESCAPED, UNSETTLED = -1, -2
# Spans that a start is given to settle.
_TURNS = 4
# Orbits run on in a span of which none came back; and attractors in all of which none attracts, and in all.
_FAILED, _NEUTRAL, _MOST = 16, 32, 512
# Growth from span to span that does not slow down: sqrt(t) reaches 0.84 of the growth before, exp(-t) less.
_STEADY = 0.95
# A cloud comes back to itself within so many times the distance between its points.
_BACK = 4.0
# The part of a span that an attractor of a flow is drawn over: the last quarter, or all of it where that is too short.
_PARTS = (0.25, 1.0)


class Finder(eqx.Module):
    """What tells the fate of a start: the system, the attractors known, and the tolerances.

    `clouds` of the attractors cover `lengths` of steps or time, and end so long after the first span began (`ends`).
    """

    run: Runner
    clouds: tuple[Any, ...]
    lengths: tuple[float, ...]
    ends: tuple[float, ...]
    centre: Any
    extent: float = eqx.field(static=True)
    escape: float = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)

    def attractors(self) -> list[Attractor]:
        """The attractors known, ready to be compared with."""
        pairs = zip(self.clouds, self.lengths, strict=True)
        return [attractor_of(np.asarray(cloud), span, self.run.is_map, self.tolerance) for cloud, span in pairs]

    def gone(self, tails: np.ndarray) -> np.ndarray:
        """Whether a tail ends beyond the escape radius, or broke on its way."""
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.linalg.norm(tails[:, -1], axis=1)
        return ~(size <= self.escape)

    def fates(self, points: np.ndarray, members: np.ndarray | None = None, begin: Any = 0) -> np.ndarray:
        """The fate of each start among the attractors known, -2 where it is none after all spans.

        A random map draws by the starts' numbers, or by `members`; `begin`: how long after the first span it starts.
        """
        known = self.attractors()
        journey = Journey(self, points, np.arange(len(points)) if members is None else members, begin)
        for _, left, tails in journey.spans():
            journey.fates[left] = nearest(tails, known, self.tolerance)
        return journey.ended()


class Journey:
    """Starts on their way: their fates so far, the spans each has taken, and how far from the starts' centre it was."""

    def __init__(self, finder: Finder, points: np.ndarray, members: np.ndarray, begin: Any):
        count = len(points)
        self.finder, self.here, self.members, self.begin = finder, points.copy(), members, begin
        self.fates, self.turns = np.full(count, UNSETTLED), np.zeros(count, int)
        self.distances = [self._distance(points)]

    def spans(self) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """Run what is open for a span: when it ends, which starts did, and their tails; what has gone is told apart."""
        for turn in range(_TURNS):
            left = np.flatnonzero(self.fates == UNSETTLED)
            if not len(left):
                return
            begin = self.begin + turn * self.finder.run.length
            tails = self.finder.run.tails(self.here[left], begin, self.members[left])
            self.here[left], self.turns[left] = tails[:, -1], turn + 1
            gone = self.finder.gone(tails)
            self.fates[left[gone]] = ESCAPED
            self.distances.append(self._distance(self.here))
            yield begin + self.finder.run.length, left[~gone], tails[~gone]

    def ended(self) -> np.ndarray:
        """The fates, once starts that only ever moved away have been told apart."""
        open_ = self.fates == UNSETTLED
        if len(self.distances) == _TURNS + 1:
            growth = np.diff(self.distances, axis=0)
            with np.errstate(invalid="ignore"):
                steady = np.all(growth[2:] >= _STEADY * growth[1:-1], axis=0) & np.all(
                    growth[1:] > self.finder.tolerance, axis=0
                )
                self.fates[open_ & steady & (self.distances[-1] > self.finder.extent)] = ESCAPED
        return self.fates

    def _distance(self, points: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            return np.linalg.norm(points - np.asarray(self.finder.centre), axis=1)


class FoundAttractors(NamedTuple):
    """Fates, a finder that knows the attractors, how many spans each start took, and how the search ended.

    `unsearched`: why no more attractors were looked for, "" where nothing stopped it; `steady`: who escaped by growth.
    """

    fates: np.ndarray
    finder: Finder
    turns: np.ndarray
    unsearched: str
    steady: np.ndarray


def search(finder: Finder, points: np.ndarray) -> FoundAttractors:
    """Run all starts, and find what attracts them on the way."""
    journey, known, why = Journey(finder, points, np.arange(len(points)), 0), _Known(finder, [], [], []), ""
    for begin, left, tails in journey.spans():
        journey.fates[left] = nearest(tails, known.attractors, finder.tolerance)
        failed = 0
        for row in _slowest_first(tails, finder):
            if journey.fates[left[row]] != UNSETTLED:
                continue
            why = known.enough()
            if why or failed == _FAILED:
                break
            cloud = known.tried(tails[row, -1], begin, int(left[row]))
            failed = 0 if cloud else failed + 1
            if cloud:
                open_ = np.flatnonzero(journey.fates[left] == UNSETTLED)
                near = nearest(tails[open_], [cloud], finder.tolerance) == 0
                journey.fates[left[open_[near]]] = len(known.attractors) - 1
    open_ = journey.fates == UNSETTLED
    fates = journey.ended()
    return FoundAttractors(fates, known.knowing(), journey.turns, why, open_ & (fates == ESCAPED))


class _Known(NamedTuple):
    """The attractors so far."""

    finder: Finder
    attractors: list[Attractor]
    lengths: list[float]
    ends: list[float]

    def knowing(self) -> Finder:
        """The finder, with them."""
        clouds = tuple(jnp.asarray(one.cloud) for one in self.attractors)
        return dataclasses.replace(self.finder, clouds=clouds, lengths=tuple(self.lengths), ends=tuple(self.ends))

    def tried(self, point: np.ndarray, begin: Any, member: int) -> Attractor | None:
        """Run an orbit on; keep it as an attractor where it comes back to itself and is none of those known."""
        run = self.finder.run
        for part in (1.0,) if run.is_map else _PARTS:
            cloud = run.cloud(point, begin, member, part)
            if self.finder.gone(cloud[None])[0] or not np.isfinite(cloud).all():
                return None
            if nearest(cloud[None, -TAIL:], self.attractors, self.finder.tolerance)[0] != UNSETTLED:
                return None
            if _comes_back(cloud, self.finder.tolerance):
                length = float(part * run.length)
                new = attractor_of(cloud, length, run.is_map, self.finder.tolerance)
                self.attractors.append(new)
                self.lengths.append(length)
                self.ends.append(float(begin + (run.steps + len(cloud) if run.is_map else run.length)))
                return new
        return None

    def enough(self) -> str:
        """Why to look no further: many orbits that do not attract, as where volume is kept, or too many that do."""
        count = len(self.attractors)
        if count == _NEUTRAL and not np.any(attracting(self.knowing())):
            return f"{count} orbits were run on, and none of them attracts"
        return f"{count} attractors were found" if count >= _MOST else ""


def _slowest_first(tails: np.ndarray, finder: Finder) -> np.ndarray:
    """Rows of the tails that may be near an attractor, those that move least, or come back to where they were, first."""
    half = TAIL // 2
    moves = [np.max(_squares(tails[:, lag:] - tails[:, :-lag]), axis=1) for lag in range(1, half + 1)]
    distance = np.linalg.norm(tails - np.asarray(finder.centre), axis=2)
    early, late = distance[:, half] - distance[:, 0], distance[:, -1] - distance[:, half]
    # Farther out than all starts, and farther at each row by as much as before.
    away = np.all(np.diff(distance, axis=1) > 0, axis=1) & (late >= _STEADY * early * (TAIL - 1 - half) / half)
    away &= (distance[:, -1] > finder.extent) & (distance[:, -1] - distance[:, 0] > finder.tolerance)
    order = np.argsort(np.min(moves, axis=0), kind="stable")
    return order[~away[order]]


def _squares(vectors: np.ndarray) -> np.ndarray:
    """|v|^2 of each."""
    return np.einsum("nkd,nkd->nk", vectors, vectors)


def _comes_back(cloud: np.ndarray, tolerance: float) -> bool:
    """Whether the end of an orbit is near its first half, beside the distance between points there."""
    half = len(cloud) // 2
    if np.max(np.linalg.norm(cloud - cloud[-1], axis=1)) <= tolerance:
        return True
    tree = KDTree(cloud[:half])
    spacing = float(np.median(tree.query(cloud[:half], k=2)[0][:, 1]))
    return bool(np.median(tree.query(cloud[-TAIL:])[0]) <= max(tolerance, _BACK * spacing))


def attracting(finder: Finder) -> np.ndarray:
    """Whether starts beside each attractor, twice the tolerance off in 8 random directions, return to it."""
    count = len(finder.clouds)
    if not count:
        return np.zeros(0, bool)
    last = np.stack([np.asarray(cloud)[-1] for cloud in finder.clouds])
    units = np.random.default_rng(0).standard_normal((8, last.shape[1]))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    beside = (last[:, None] + 2 * finder.tolerance * units).astype(last.dtype)
    back = np.zeros((count, 8), int)
    # Each goes on from when its attractor was last seen there.
    for end in set(finder.ends):
        chosen = np.flatnonzero(np.asarray(finder.ends) == end)
        begin = int(end) if finder.run.is_map else end
        back[chosen] = finder.fates(beside[chosen].reshape(-1, last.shape[1]), begin=begin).reshape(-1, 8)
    return np.all(back == np.arange(count)[:, None], axis=1)
