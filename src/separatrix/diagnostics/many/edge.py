r"""Edge tracking: the state that the boundary between two fates leads to.

Two starts a and b with different fates have the boundary between them. Bisection brings them together; run on, both stay
by the boundary until what is unstable parts them, and then they are brought together again:

    bisect (a, b)  ->  run until |a - b| grows to a separation  ->  bisect  ->  ...

What they shadow is an orbit within the boundary, which goes to what attracts there: the edge state, most often a saddle
with one unstable direction.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix.diagnostics.many._finder import Finder
from separatrix.diagnostics.many.basins import Basins
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import Jacobian, as_vector, from_vector
from separatrix.linear.derivatives import require_derivatives

# Starts that are tried at once between a pair, and rows in which they are watched as they part.
_INSIDE = 15
_WATCHED = 257


class EdgeState(Result):
    r"""What the boundary between two fates leads to.

    - `state`, shape (d,): where the tracked orbit was slowest in the last round; `speed`: |f| or |F(x) - x| there, 0 at a
      saddle.
    - `unstable`: the number of unstable eigenvalues there: 1 where the boundary attracts to a saddle.
    - `path`, shape (R, d): the slowest state of each round. `moved`: distance between the last two.
    - `fates`, shape (2,): on its two sides. `width`: how near the two sides were brought.
    """

    state: Float[Array, " d"]
    speed: Float[Array, ""]
    unstable: Array
    path: Float[Array, "R d"]
    moved: Float[Array, ""]
    fates: Array
    width: Float[Array, ""]
    extent: Float[Array, ""]

    def rows(self) -> list[Row]:
        return [
            Row("edge state", self.state),
            Row("between fates", f"{int(self.fates[0])} and {int(self.fates[1])}"),
            Row("speed there", self.speed),
            Row("unstable directions", str(int(self.unstable))),
            Row("moved in the last round", self.moved),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not self.speed <= 1e-4 * self.extent:
            found.append("the edge state is not at rest: a cycle or a chaotic set in the boundary, or take more rounds")
        elif self.unstable != 1:
            found.append(f"{int(self.unstable)} directions are unstable there: the pair has not come to a saddle yet")
        if not self.moved <= 1e-3 * self.extent:
            found.append(f"the last round still moved it by {float(self.moved):.2g}: take more rounds")
        return tuple(found)


def edge_state(found: Any, first: Any, second: Any, *, rounds: int = 4, width: float = 1e-9) -> EdgeState:
    r"""Return what the boundary between two fates leads to, by edge tracking.

        bisect (a, b)  ->  run until they part  ->  bisect  ->  ...

    **Arguments:**

    - `found`: a `Basins` of the system, which tells fates.
    - `first`, `second`: two states with different fates.
    - `rounds`: how often the pair is brought together.
    - `width`: how near, in units of the extent of the starts of `found`.

    **Returns:** an `EdgeState`; `separatrix(system, found.state)` sharpens a saddle.

    **Raises:** `ValueError` where both have one fate, or one has none.

    **Example:** the saddle between two wells.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.GradientDescent(lambda x: jnp.sum((x**2 - 1) ** 2) / 4 + 0.1 * x[0], 0.1)
    >>> found = sx.basins(descent, region=([-2.0], [2.0]), resolution=10)
    >>> edge = sx.edge_state(found, jnp.array([-1.0]), jnp.array([1.5]))
    >>> x = float(edge.state[0])
    >>> abs(x**3 - x + 0.1) < 1e-7, int(edge.unstable)
    (True, 1)

    **Reference:** Skufca, Yorke & Eckhardt, *Edge of chaos in a parallel shear flow* (2006); Battelino et al., *Multiple
    coexisting attractors, basin boundaries and basic sets* (1988), for straddle orbits.
    """
    if not isinstance(found, Basins):
        do = "Pass what basins returned."
        raise TypeError(explain("edge_state: found", type(found).__name__, "a Basins", do))
    if rounds < 1 or not 0 < width < 1e-2:
        do = "Take rounds=4, width=1e-9."
        raise ValueError(explain("edge_state", f"rounds={rounds}, width={width}", "rounds >= 1, width below 1e-2", do))
    finder = _tight(found._finder)
    extent = float(np.max(np.ptp(np.asarray(found.states), axis=0))) or 1.0
    pair = np.stack([np.asarray(as_vector(state)) for state in (first, second)])
    fates, begin = _fates_of_pair(finder, pair), 0
    path, speeds, when = [], np.zeros(0), 0
    for turn in range(rounds):
        pair = _bisected(finder, pair, fates, width * extent, begin)
        sides, apart = finder.run.watched(pair, begin, _WATCHED)
        middle = _within(sides, 1e-3 * extent)
        speeds = _speeds(finder, middle, begin, apart)
        slowest = int(np.argmin(speeds))
        path.append(middle[slowest])
        when = begin + slowest * apart
        if turn < rounds - 1:
            # The pair goes on from where and when it came apart, on the noise that it would have met.
            begin = begin + (len(middle) - 1) * apart
            pair, fates = _straddling(finder, sides[:, len(middle) - 1], begin)
    state = jnp.asarray(path[-1])
    jacobian = _jacobian(finder, path[-1], when)
    values = np.linalg.eigvals(require_derivatives("edge_state", jacobian, jacobian.matrix()))
    unstable = np.sum(np.abs(values) > 1) if finder.run.is_map else np.sum(values.real > 0)
    moved = np.linalg.norm(path[-1] - path[-2]) if rounds > 1 else np.nan
    numbers = (np.min(speeds), unstable, np.array(path), moved, fates, np.linalg.norm(pair[1] - pair[0]), extent)
    return EdgeState(state, *[jnp.asarray(part) for part in numbers])


def _tight(finder: Finder) -> Finder:
    """The same with tolerances below the width of a pair: what tells fates and what runs must agree on the boundary."""
    run = finder.run
    if run.is_map or run.span[0].dtype == jnp.float32:
        return finder
    return dataclasses.replace(finder, run=dataclasses.replace(run, tolerances=(1e-11, 1e-13)))


def _fates(finder: Finder, points: np.ndarray, begin: Any) -> np.ndarray:
    """Fates on the same noise for all: what tells two sides apart must be where they are, and nothing else."""
    return finder.fates(points, np.zeros(len(points), int), begin)


def _fates_of_pair(finder: Finder, pair: np.ndarray) -> np.ndarray:
    fates = _fates(finder, pair, 0)
    if fates[0] == fates[1] or np.any(fates < -1):
        got, do = f"fates {fates.tolist()}", "Choose one start on either side; see Basins.fates."
        raise ValueError(explain("edge_state: first and second", got, "two different fates", do))
    return fates


def _straddling(finder: Finder, pair: np.ndarray, begin: Any) -> tuple[np.ndarray, np.ndarray]:
    """The pair, drawn apart as far as it takes for its fates to differ: errors of the run may have put both on one side."""
    middle, half = pair.mean(axis=0), (pair[1] - pair[0]) / 2
    wider = np.concatenate([np.stack([middle - f * half, middle + f * half]) for f in 2.0 ** np.arange(8)])
    fates = _fates(finder, wider.astype(pair.dtype), begin).reshape(-1, 2)
    first = int(np.argmax((fates[:, 0] != fates[:, 1]) & (fates >= -1).all(axis=1)))
    return wider[2 * first : 2 * first + 2].astype(pair.dtype), fates[first]


def _bisected(finder: Finder, pair: np.ndarray, fates: np.ndarray, width: float, begin: Any) -> np.ndarray:
    """A pair with the fate of the first on one side and another on the other, no farther apart than the width."""
    parts = np.linspace(0.0, 1.0, _INSIDE + 2, dtype=pair.dtype)[:, None]
    while np.linalg.norm(pair[1] - pair[0]) > width:
        line = pair[0] + parts * (pair[1] - pair[0])
        inside = _fates(finder, line[1:-1], begin)
        # The first change of fate along the line.
        change = int(np.argmax(np.concatenate([inside != fates[0], [True]])))
        pair = line[change : change + 2]
    return pair


def _within(sides: np.ndarray, separation: float) -> np.ndarray:
    """Midpoints while the pair stays together."""
    gap = np.linalg.norm(sides[1] - sides[0], axis=1)
    parted = np.flatnonzero(~(gap <= separation))
    last = max(int(parted[0]) - 1, 0) if len(parted) else len(gap) - 1
    return sides[:, : last + 1].mean(axis=0)


def _jacobian(finder: Finder, point: np.ndarray, begin: Any) -> Jacobian:
    """The linearisation at a point, so long after the first span began."""
    run = finder.run
    at = begin if run.is_map else run.span[0] + begin
    key = None if run.key is None else jax.random.fold_in(jax.random.fold_in(run.key, 0), begin)
    return Jacobian(run.system, from_vector(jnp.asarray(point), run.form), at=at, key=key)


def _speeds(finder: Finder, points: np.ndarray, begin: Any, apart: Any) -> np.ndarray:
    """|f| or |F(x) - x|, each at its own time."""
    # Numbers of steps of a map stay whole; times of a flow take the dtype of its own.
    moments = np.asarray(begin) + np.arange(len(points)) * np.asarray(apart)
    when = jnp.asarray(moments) if finder.run.is_map else jnp.asarray(moments, finder.run.span[0].dtype)
    image = lambda point, moment: _jacobian(finder, points[0], moment).image(point)  # noqa: E731
    images = np.asarray(jax.vmap(image)(jnp.asarray(points), when))
    return np.linalg.norm(images - points if finder.run.is_map else images, axis=1)
