"""Finding attractors while starts run, and telling fates by them."""

from typing import Any

import equinox as eqx
import numpy as np

from separatrix.diagnostics.basins._attractors import TAIL, Attractor, Runner, attractor_of, nearest

ESCAPED, UNSETTLED = -1, -2
# Spans that a start is given to settle, attractors looked for in each, and in all.
_TURNS = 4
_EACH_TURN = 8
_MOST = 32


class Finder(eqx.Module):
    """What tells the fate of a start: the system, the attractors known, and the tolerances."""

    run: Runner
    clouds: tuple[Any, ...]
    length: float = eqx.field(static=True)
    escape: float = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)

    def attractors(self) -> list[Attractor]:
        """The attractors known, ready to be compared with."""
        known = [np.asarray(cloud) for cloud in self.clouds]
        return [attractor_of(cloud, self.length, self.run.is_map, self.tolerance) for cloud in known]

    def gone(self, tails: np.ndarray) -> np.ndarray:
        """Whether a tail ends beyond the escape radius, or broke on its way."""
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.linalg.norm(tails[:, -1], axis=1)
        return ~(size <= self.escape)

    def fates(self, points: np.ndarray, turns: int = _TURNS) -> np.ndarray:
        """The fate of each start among the attractors known, -2 where it is none after all turns."""
        fates, here, attractors = np.full(len(points), UNSETTLED), points.copy(), self.attractors()
        for turn in range(turns):
            left = np.flatnonzero(fates == UNSETTLED)
            if not len(left):
                break
            tails = self.run.tails(here[left], turn, left)
            here[left] = tails[:, -1]
            fates[left] = np.where(self.gone(tails), ESCAPED, _among(tails, attractors, self))
        return fates


def search(finder: Finder, points: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Fates, clouds of the attractors, and how many spans each start took."""
    fates, turns, here = np.full(len(points), UNSETTLED), np.zeros(len(points), int), points.copy()
    known: list[Attractor] = []
    for turn in range(_TURNS):
        left = np.flatnonzero(fates == UNSETTLED)
        if not len(left):
            break
        tails = finder.run.tails(here[left], turn, left)
        here[left], turns[left] = tails[:, -1], turn + 1
        gone = finder.gone(tails)
        fates[left[gone]] = ESCAPED
        left, tails = left[~gone], tails[~gone]
        for _ in range(_EACH_TURN):
            fates[left] = _among(tails, known, finder)
            open_ = fates[left] == UNSETTLED
            left, tails = left[open_], tails[open_]
            if not len(left) or len(known) >= _MOST:
                break
            _add(finder, known, tails[0, -1], turn + 1)
        fates[left] = _among(tails, known, finder)
    return fates, [one.cloud for one in known], turns


def _add(finder: Finder, known: list[Attractor], point: np.ndarray, turn: int) -> None:
    """Run a tail on, and keep it as an attractor if it is none of those known."""
    cloud = finder.run.cloud(point, turn)
    if not finder.gone(cloud[None])[0]:
        new = attractor_of(cloud, finder.length, finder.run.is_map, finder.tolerance)
        if _among(cloud[None, -TAIL:], known, finder)[0] == UNSETTLED:
            known.append(new)


def _among(tails: np.ndarray, known: list[Attractor], finder: Finder) -> np.ndarray:
    return nearest(tails, known, finder.tolerance)


def attracting(finder: Finder, clouds: list[np.ndarray]) -> np.ndarray:
    """Whether starts beside each attractor, twice the tolerance off in 8 random directions, return to it."""
    if not clouds:
        return np.zeros(0, bool)
    d = clouds[0].shape[1]
    units = np.random.default_rng(0).standard_normal((8, d))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    beside = np.concatenate([cloud[-1] + 2 * finder.tolerance * units for cloud in clouds]).astype(clouds[0].dtype)
    back = finder.fates(beside).reshape(len(clouds), -1)
    return np.all(back == np.arange(len(clouds))[:, None], axis=1)
