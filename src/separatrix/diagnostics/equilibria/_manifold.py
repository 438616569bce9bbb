"""Growing a one-dimensional stable manifold from its second-order expansion at a saddle."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.calculus import reverse
from separatrix.evolution import evolve
from separatrix.linear.coordinates import Jacobian, as_vector, from_vector
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map

_MOST_STARTS = 1 << 14
_MOST_LEVELS = 200


class ManifoldExpansion(NamedTuple):
    """A saddle and one stable direction: W(s) = x + s v + s^2 c for |s| up to `reach`."""

    jacobian: Jacobian
    value: float
    direction: np.ndarray
    bend: np.ndarray
    reach: float

    def start(self, s: Any) -> Any:
        """W(s)."""
        s = np.asarray(s)[..., None]
        return np.asarray(self.jacobian.point) + s * self.direction + s**2 * self.bend


def expansion(jacobian: Jacobian, kind: str, values: np.ndarray, direction: np.ndarray) -> ManifoldExpansion:
    """The second-order expansion, and how far its cubic error is a few roundings."""
    size = np.abs(values) if kind == "map" else np.real(values)
    value = float(np.real(values[np.argmin(size)]))
    vector = jnp.asarray(direction, jacobian.point.dtype)
    along = lambda x: jax.jvp(jacobian.image, (x,), (vector,))[1]  # noqa: E731
    second = np.asarray(jax.jvp(along, (jacobian.point,), (vector,))[1], float)
    shift = value**2 if kind == "map" else 2 * value
    matrix = np.asarray(jacobian.matrix(), float)
    bend = np.linalg.solve(matrix - shift * np.eye(len(direction)), -second / 2)
    eps = float(jnp.finfo(jacobian.point.dtype).eps)
    reach = eps**0.25 / (1 + float(np.linalg.norm(bend)))
    return ManifoldExpansion(jacobian, value, direction, bend, reach)


class BackwardArc(Flow):
    """dx/ds = -f/sqrt(|f|^2 + e^2): backwards, about a unit of length a unit of time; it slows where |f| is below e."""

    jacobian: Jacobian
    floor: Any

    def velocity(self, t: Scalar, state: State) -> State:
        field = self.jacobian.image(state)
        return -field / jnp.sqrt(jnp.sum(field**2) + self.floor**2)


def along_flow(
    local: ManifoldExpansion, length: float, rows: int, tolerances: tuple[float, float]
) -> tuple[np.ndarray, float, np.ndarray]:
    """(points, error, whether each branch meets a fixed point)."""
    dtype = local.jacobian.point.dtype
    starts = jnp.asarray(local.start(np.array([local.reach, -local.reach])), dtype)
    # Below this speed the arc slows: it rests at a fixed point for some rows, where it would else run through.
    floor = abs(local.value) * max(local.reach, length / rows / 4)
    loose = tuple(100 * tolerance for tolerance in tolerances)
    coarse, fine = (np.array(_arcs(local.jacobian, starts, floor, length, rows, t)) for t in (loose, tolerances))
    speed = np.linalg.norm(np.asarray(jax.vmap(jax.vmap(local.jacobian.image))(jnp.asarray(fine))), axis=2)
    started = np.cumsum(speed > 2 * floor, axis=1) > 0
    ended = np.cumsum(started & (speed < 2 * floor), axis=1) > 0
    off = np.linalg.norm(fine - coarse, axis=2)
    s = local.reach
    expected = local.value * (s * local.direction + 2 * s**2 * local.bend)
    missed = np.linalg.norm(np.asarray(local.jacobian.image(starts[0])) - expected) / abs(local.value)
    fine[ended] = np.nan
    saddle = np.broadcast_to(np.asarray(local.jacobian.point), (2, 1, fine.shape[2]))
    return np.concatenate([saddle, fine], axis=1), float(np.max(off[~ended]) + missed), np.asarray(ended[:, -1])


@eqx.filter_jit
def _arcs(jacobian: Jacobian, starts: Any, floor: Any, length: Any, rows: int, tolerances: Any) -> Any:
    rtol, atol = tolerances
    flow = BackwardArc(jacobian, jnp.asarray(floor, starts.dtype))
    times = jnp.asarray(length, starts.dtype) * jnp.linspace(0, 1, rows, dtype=starts.dtype)
    return jax.vmap(lambda x: evolve(flow, x, times=times, rtol=rtol, atol=atol).states)(starts)


class InVector(Map):
    """A map on the coordinates of its state."""

    map: Map
    form: State

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return as_vector(self.map.step(n, from_vector(state, self.form)))


def _in_vector(system: Any, form: State) -> InVector:
    return InVector(system, form)


def along_map(
    local: ManifoldExpansion, length: float, rows: int, tolerances: tuple[float, float]
) -> tuple[np.ndarray, float, np.ndarray]:
    """(points, error, False twice): the two branches, by inverse images of one stretch of each."""
    jacobian = local.jacobian
    backward = _in_vector(reverse(jacobian.system), jacobian.state)
    # With mu < 0 the branches change places at each step: two steps make one image.
    period = 1 if local.value > 0 else 2
    factor = abs(local.value) ** period
    levels = min(_MOST_LEVELS, int(np.ceil(np.log(length / (local.reach * factor)) / -np.log(factor))) + 2)
    branches = [_grown(local, backward, sign, (factor, levels, period), length, rows) for sign in (1, -1)]
    count = max(len(branch) for branch in branches)
    points = np.full((2, count, len(local.direction)), np.nan)
    for i, branch in enumerate(branches):
        points[i, : len(branch)] = branch
    outer = jnp.asarray(local.start(local.reach), jacobian.point.dtype)
    missed = np.linalg.norm(np.asarray(jacobian.image(outer)) - local.start(local.value * local.reach))
    return points, float(missed), np.zeros(2, bool)


def _grown(
    local: ManifoldExpansion, backward: Map, sign: int, plan: tuple[float, int, int], length: float, rows: int
) -> np.ndarray:
    """One branch: starts on a stretch are added until neighbouring images are within length/rows."""
    factor, levels, period = plan
    places = np.geomspace(local.reach * factor, local.reach, 17)
    images = _images(local, backward, sign * places, levels, period)
    while True:
        gaps = np.linalg.norm(np.diff(images, axis=0), axis=2)
        lengths = np.cumsum(gaps.sum(axis=0))
        reached = lengths < length
        # Levels up to the first that is long enough; those that are not finite never are.
        used = np.concatenate([[True], reached[:-1]])
        wide = np.flatnonzero((gaps[:, used] > length / rows).any(axis=1))
        if not len(wide) or len(places) > _MOST_STARTS:
            break
        middle = np.sqrt(places[wide] * places[wide + 1])
        images = np.insert(images, wide + 1, _images(local, backward, sign * middle, levels, period), axis=0)
        places = np.insert(places, wide + 1, middle)
    path = np.concatenate(
        [np.asarray(local.jacobian.point)[None], *(images[:-1, level] for level in np.flatnonzero(used))]
    )
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    # The stretches near the saddle hold many more than asked for: one in every half gap is kept.
    kept = np.concatenate([[True], np.diff(np.floor(2 * along * rows / length)) > 0])
    return path[kept & (along <= length)]


def _images(local: ManifoldExpansion, backward: Map, places: np.ndarray, levels: int, period: int) -> np.ndarray:
    """Inverse images (starts, levels, d) of W(s), in batches of 16 times a power of four."""
    size = 16
    while size < len(places):
        size *= 4
    padded = np.concatenate([places, np.full(size - len(places), places[-1])])
    starts = jnp.asarray(local.start(padded), local.jacobian.point.dtype)
    return np.asarray(_orbits(backward, starts, levels, period))[: len(places)]


@eqx.filter_jit
def _orbits(backward: Map, starts: Any, levels: int, period: int) -> Any:
    steps = (levels - 1) * period
    return jax.vmap(lambda x: evolve(backward, x, steps=steps, save=period).states)(starts)
