r"""Attractors from orbits: long runs in batches, clouds of points, and which cloud an orbit ends in.

A start runs for a span; its last rows are its tail. An attractor is the cloud of a much longer tail: for a flow the
polygon through its points, for a map the points themselves. A tail belongs to the attractor that it comes within a
tolerance of: an orbit that has come so near to an attracting set is in its basin.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import KDTree

from separatrix._types import Key, State
from separatrix.evolution import Save, ensemble, evolve
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.systems.clock import FlowFrom, MapFrom
from separatrix.systems.map import Map

# Rows that a start is judged by, and that an attractor is drawn with.
TAIL = 16
CLOUD = 2048
# The rows of one batch take 64 MB at most.
_BYTES = 1 << 26
LONGEST_PERIOD, _SHORT_PERIOD = CLOUD // 2, 64
# A batch of this size runs faster than another is compiled.
_SMALL = 1024


class Runner(eqx.Module):
    """Runs starts for a span at a time, in batches of few sizes, so that little is compiled."""

    system: Any
    form: State
    span: tuple[Any, Any]
    key: Key | None
    tolerances: tuple[Any, Any]
    steps: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)

    @property
    def is_map(self) -> bool:
        """Whether time is counted in steps."""
        return isinstance(self.system, Map)

    @property
    def length(self) -> Any:
        """A span: so many steps of a map, so much time of a flow."""
        return self.steps if self.is_map else self.span[1] - self.span[0]

    def tails(self, points: np.ndarray, begin: Any, members: np.ndarray) -> np.ndarray:
        """The last rows (N, TAIL, d) of a span of each start, `begin` steps or time after the first one began.

        NaN or infinite where it broke. A random map draws by the starts' numbers `members`.
        """
        size = self._size(len(points))
        batches = []
        for first in range(0, len(points), size):
            places = np.minimum(np.arange(first, first + size), len(points) - 1)
            rows = _tails(self, jnp.asarray(points[places]), jnp.asarray(members[places]), self._elapsed(begin))
            batches.append(np.asarray(rows))
        return np.concatenate(batches)[: len(points)]

    def cloud(self, point: np.ndarray, begin: Any, member: int, part: float) -> np.ndarray:
        """CLOUD rows of another span: every step of a map past it, a flow over the last part of it."""
        dtype = self.span[0].dtype
        return np.asarray(
            _cloud(self, jnp.asarray(point), jnp.asarray(member), self._elapsed(begin), jnp.asarray(part, dtype))
        )

    def watched(self, points: np.ndarray, begin: Any, rows: int) -> tuple[np.ndarray, Any]:
        """All of a span of each start in at most so many rows, on the same noise, and how long from row to row."""
        states = np.asarray(_watched(self, jnp.asarray(points), self._elapsed(begin), rows))
        return states, 1 if self.is_map else self.length / (rows - 1)

    def _elapsed(self, begin: Any) -> Any:
        return jnp.asarray(begin) if self.is_map else jnp.asarray(begin, self.span[0].dtype)

    def _size(self, count: int) -> int:
        """The batch's own size where that is small; else as much less as suffices, by powers of four."""
        size = self.batch
        while size > _SMALL and size // 4 >= count:
            size //= 4
        return size


def batch_of(count: int, d: int) -> int:
    """16 times a power of four, enough for all starts or as many as memory allows."""
    size, most = 16, _BYTES // (8 * (TAIL + 16) * d)
    while size < count and 4 * size <= most:
        size *= 4
    return size


@eqx.filter_jit
def _tails(run: Runner, points: Any, members: Any, begin: Any) -> Any:
    states = jax.vmap(lambda point: from_vector(point, run.form))(points)
    if run.is_map:
        return eqx.filter_vmap(lambda x, i: _map_rows(run, x, i, begin, (run.steps - TAIL + 1, TAIL)))(states, members)
    back = jnp.linspace(0.25, 0.0, TAIL + 1, dtype=begin.dtype)[1:]
    start, end = run.span
    saved = end - back * run.length
    rtol, atol = run.tolerances
    flow = FlowFrom(run.system, begin)
    return ensemble(
        flow, states, times=jnp.stack([start, end]), save=Save(saved, as_vector), rtol=rtol, atol=atol
    ).states


@eqx.filter_jit
def _cloud(run: Runner, point: Any, member: Any, begin: Any, part: Any) -> Any:
    state = from_vector(point, run.form)
    if run.is_map:
        # Long enough for what is slow to settle in, too.
        return _map_rows(run, state, member, begin, (run.steps + CLOUD, CLOUD))
    rows = 1 - part + part * jnp.linspace(0, 1, CLOUD + 1, dtype=part.dtype)[1:]
    times = run.span[0] + run.length * jnp.concatenate([jnp.zeros_like(part)[None], rows])
    rtol, atol = run.tolerances
    return evolve(FlowFrom(run.system, begin), state, times=times, save=as_vector, rtol=rtol, atol=atol).states[1:]


@eqx.filter_jit
def _watched(run: Runner, points: Any, begin: Any, rows: int) -> Any:
    states = jax.vmap(lambda point: from_vector(point, run.form))(points)
    if run.is_map:
        map = MapFrom(run.system, begin, _key_of(run, 0))
        return jax.vmap(lambda x: evolve(map, x, steps=min(run.steps, rows), save=as_vector).states)(states)
    times = run.span[0] + run.length * jnp.linspace(0, 1, rows, dtype=begin.dtype)
    rtol, atol = run.tolerances
    flow = FlowFrom(run.system, begin)
    return jax.vmap(lambda x: evolve(flow, x, times=times, save=as_vector, rtol=rtol, atol=atol).states)(states)


def _map_rows(run: Runner, state: State, member: Any, begin: Any, plan: tuple[int, int]) -> Any:
    """A span but for its last rows without keeping any, then those."""
    before, rows = plan
    map = MapFrom(run.system, begin, _key_of(run, member))
    settled = evolve(map, state, steps=before, save="last")
    path = evolve(map, settled.final, steps=rows - 1, start=before, save=as_vector)
    return jnp.where(settled.outcome.completed, path.states, jnp.nan)


def _key_of(run: Runner, member: Any) -> Any:
    return None if run.key is None else jax.random.fold_in(run.key, member)


class Attractor(NamedTuple):
    """A cloud of points, how far apart they typically are, and the period: 0 at rest (a flow), NaN where there is none.

    `core`: one turn of a cycle of a map, one point of a flow at rest, else the cloud. The tree holds it.
    """

    cloud: np.ndarray
    spacing: float
    period: float
    closed: bool
    core: np.ndarray
    tree: Any

    def distances(self, points: np.ndarray) -> np.ndarray:
        """From each point (N, d) to the cloud, or to the polygon through it."""
        distance, nearest = self.tree.query(points)
        if not self.closed:
            return distance
        for step in (-1, 1):
            other = np.clip(nearest + step, 0, len(self.core) - 1)
            distance = np.minimum(distance, _to_segments(points, self.core[nearest], self.core[other]))
        return distance


def attractor_of(cloud: np.ndarray, span: float, is_map: bool, tolerance: float) -> Attractor:
    """An attractor from a long tail."""
    period = _map_period(cloud, tolerance) if is_map else _flow_period(cloud, span, tolerance)
    # A tree of a thousand copies of one point is no tree.
    core = cloud[-int(period) :] if is_map and period > 0 else cloud[-1:] if period == 0 else cloud
    tree, spacing = KDTree(core), 0.0
    if np.isnan(period):
        spacing = float(np.median(tree.query(cloud, k=2)[0][:, 1]))
    return Attractor(cloud, spacing, period, not is_map, core, tree)


def nearest(tails: np.ndarray, attractors: list[Attractor], tolerance: float) -> np.ndarray:
    """The number of the attractor that each tail (N, T, d) ends in, -2 where it is none of them."""
    found, best = np.full(len(tails), -2), np.full(len(tails), np.inf)
    for number, attractor in enumerate(attractors):
        # At rest or on a cycle the last row must be near; on a strange set any row, for the cloud has gaps.
        rows = tails if attractor.spacing else tails[:, -1:]
        flat = rows.reshape(-1, tails.shape[2])
        finite = np.isfinite(flat).all(axis=1)
        distances = np.full(len(flat), np.inf)
        distances[finite] = attractor.distances(flat[finite])
        distances = distances.reshape(rows.shape[:2]).min(axis=1)
        better = (distances <= max(tolerance, 2 * attractor.spacing)) & (distances < best)
        found[better], best[better] = number, distances[better]
    return found


def _to_segments(points: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    along, offset = second - first, points - first
    length = np.sum(along**2, axis=1)
    place = np.clip(np.sum(offset * along, axis=1) / np.where(length, length, 1.0), 0.0, 1.0)
    return np.linalg.norm(offset - place[:, None] * along, axis=1)


def _map_period(cloud: np.ndarray, tolerance: float) -> float:
    """The least k with |x[n+k] - x[n]| below a tenth of the tolerance for all n.

    And less for a long period: what turns for ever comes within 1/k of itself by chance.
    """
    last = np.linalg.norm(cloud[-1] - cloud[-1 - LONGEST_PERIOD : -1], axis=1)[::-1]
    near = tolerance / 10 * np.minimum(1.0, _SHORT_PERIOD / np.arange(1, LONGEST_PERIOD + 1))
    for k in np.flatnonzero(last <= near) + 1:
        if np.max(np.linalg.norm(cloud[k:] - cloud[:-k], axis=1)) <= near[k - 1]:
            return float(k)
    return np.nan


def _flow_period(cloud: np.ndarray, span: float, tolerance: float) -> float:
    """0 where it rests; else the first T with |x(t + T) - x(t)| small along the whole cloud."""
    if np.max(np.linalg.norm(cloud - cloud[-1], axis=1)) <= tolerance:
        return 0.0
    step = span / len(cloud)  # the span begins a row before the first that is kept
    distance = np.linalg.norm(cloud - cloud[0], axis=1)
    dips = 1 + np.flatnonzero((distance[1:-1] <= distance[:-2]) & (distance[1:-1] < distance[2:]))
    longest = np.max(np.linalg.norm(np.diff(cloud, axis=0), axis=1))
    for dip in dips[(distance[dips] <= longest + tolerance) & (dips < len(cloud) // 2)]:
        shift = _projected(cloud, dip)
        if _recurrence(cloud, shift) <= 10 * tolerance:
            return float(shift * step)
    return np.nan


def _projected(cloud: np.ndarray, dip: Any) -> float:
    """The fractional row at which the polygon about row `dip` is nearest to row 0."""
    along = (cloud[dip + 1] - cloud[dip - 1]) / 2
    return float(dip + np.sum((cloud[0] - cloud[dip]) * along) / max(np.sum(along**2), 1e-300))


def _recurrence(cloud: np.ndarray, shift: float) -> float:
    rows = np.arange(len(cloud) - int(np.ceil(shift)) - 1)
    whole = int(np.floor(shift))
    part = shift - whole
    later = (1 - part) * cloud[rows + whole] + part * cloud[rows + whole + 1]
    return float(np.max(np.linalg.norm(later - cloud[rows], axis=1)))
