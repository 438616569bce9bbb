r"""When an orbit comes back: the recurrence matrix, how much of it lies on diagonals, and return times.

    R_ij = 1  if |x_i - x_j| <= radius,        rate = mean of R_ij over |i - j| >= w

A diagonal line of length l (R_{i+m, j+m} = 1 for m = 0, ..., l - 1, and not beyond) is a stretch that runs along an
earlier one. With P(l) the number of lines of length l,

    determinism = sum_{l >= l0} l P(l) / sum_l l P(l),       mean_length = sum_{l >= l0} l P(l) / sum_{l >= l0} P(l).

A periodic orbit has determinism 1. For independent draws that are near with probability p, lines end at random:
determinism p^(l0 - 1) (l0 - (l0 - 1) p) and mean length l0 + p/(1 - p). A return is an arrival within the radius of x_i
after having left it.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import as_vector
from separatrix.systems.trajectory import Trajectory

# The matrix has n^2 entries, looked at a diagonal at a time; this many points take some seconds.
_LARGEST = 20_000


class Recurrence(Result):
    """How an orbit comes back to where it was.

    - `rate`: part of all pairs of points that are near. `radius`: what near means.
    - `determinism`: part of the near pairs on diagonals of at least `least_length`; `mean_length` of those.
    - `lengths`, shape (n,): number of diagonal lines of each length 1, ..., n, those cut off by the end included.
    - `return_times`, shape (m,): every first return, in the unit of the trajectory's times. `mean_return`: their mean;
      `mean_return_error`: its standard error, from batches of starting points.
    """

    rate: Float[Array, ""]
    determinism: Float[Array, ""]
    mean_length: Float[Array, ""]
    lengths: Int[Array, " n"]
    return_times: Shaped[Array, " m"]
    mean_return: Float[Array, ""]
    mean_return_error: Float[Array, ""]
    radius: Float[Array, ""]
    least_length: int = eqx.field(static=True)
    points: int = eqx.field(static=True)

    def rows(self) -> list[Row]:
        return [
            Row("recurrence rate", self.rate),
            Row("determinism", self.determinism),
            Row("mean diagonal", self.mean_length),
            Row("mean return time", self.mean_return, self.mean_return_error),
            Row("returns", str(len(self.return_times))),
            Row("radius", self.radius),
            Row("points", str(self.points)),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if self.rate == 0:
            found.append("no two points are near: a longer orbit or a larger radius is needed")
        elif len(self.return_times) < self.points / 2:
            found.append("most points were not returned to: return times are those of the short returns")
        if self.rate > 0.3:
            found.append("a third of all pairs are near: the radius is a large part of the orbit's extent")
        return tuple(found)


def recurrence(
    trajectory: Any, *, radius: Any = None, least_length: int = 2, exclude: int = 1, times: Any = None
) -> Recurrence:
    r"""Return the recurrence rate, the determinism and the return times of an orbit.

        R_ij = 1  if |x_i - x_j| <= radius

    **Arguments:**

    - `trajectory`: what `evolve` returned, at equally spaced times; or its states, a tree with one leading axis.
    - `radius`: Euclidean; by default a tenth of the root mean square distance from the mean.
    - `least_length`: l0, of lines that count as deterministic, at least 2.
    - `exclude`: pairs closer in time than so many samples do not count (w, Theiler's window); for a finely sampled flow
      take it as long as the state stays near by itself, or all of it is recurrent.
    - `times`: of bare states; 0, 1, 2, ... by default.

    **Returns:** a `Recurrence`.

    **Raises:** `TypeError` for a system (evolve it first) or under `jit`; `ValueError` for fewer than 8 points, more than
    20,000, states that are not finite, or a radius that is not positive.

    **Example:** every third point of a cycle is the same.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> cycle = jnp.tile(jnp.array([0.0, 1.0, 5.0]), 20)
    >>> found = sx.recurrence(cycle, radius=0.5)
    >>> float(found.determinism), float(found.mean_return)
    (1.0, 3.0)

    **Reference:** Marwan, Romano, Thiel & Kurths, *Recurrence plots for the analysis of complex systems* (2007), sections
    3.4 and 3.5; Gao, *Recurrence time statistics for chaotic systems and their applications* (1999), for return times.
    """
    vectors, times = _points(trajectory, times)
    if radius is None:
        radius = 0.1 * np.sqrt(np.mean(np.sum((vectors - vectors.mean(axis=0)) ** 2, axis=1)))
    if not (np.isfinite(radius) and radius > 0):
        do = "Pass a distance, or leave it out for a tenth of the orbit's size."
        raise ValueError(explain("recurrence: radius", radius, "a positive number", do))
    if least_length < 2 or not 1 <= exclude < len(vectors):
        do = "Take least_length=2 and exclude=1."
        got = (least_length, exclude)
        raise ValueError(explain("recurrence: least_length, exclude", got, "at least 2; 1 to the number of points", do))
    lengths, returns = _scan(vectors, float(radius), exclude)
    size = np.arange(1, len(lengths) + 1)
    near, long = int(size @ lengths), slice(least_length - 1, None)
    pairs = (len(vectors) - exclude) * (len(vectors) - exclude + 1) // 2
    step = (times[-1] - times[0]) / (len(times) - 1)
    mean, error = _mean_return(returns)
    found = returns[returns > 0]
    return Recurrence(
        rate=jnp.asarray(near / pairs),
        determinism=jnp.asarray(float(size[long] @ lengths[long]) / near if near else np.nan),
        mean_length=jnp.asarray(_ratio(size[long] @ lengths[long], lengths[long].sum())),
        lengths=jnp.asarray(np.trim_zeros(lengths, "b")),
        return_times=jnp.asarray(found * step),
        mean_return=jnp.asarray(mean * step),
        mean_return_error=jnp.asarray(error * step),
        radius=jnp.asarray(float(radius)),
        least_length=least_length,
        points=len(vectors),
    )


def _points(trajectory: Any, times: Any) -> tuple[np.ndarray, np.ndarray]:
    """States as rows, and their times."""
    if is_traced(trajectory):
        do = "Call it outside jit."
        raise TypeError(explain("recurrence", "a traced trajectory", "values", do))
    if isinstance(trajectory, Trajectory):
        times, states = trajectory.times, trajectory.states
    else:
        states = trajectory
    if not all(eqx.is_array_like(leaf) for leaf in jax.tree.leaves(states)) or not jax.tree.leaves(states):
        do = "Evolve the system first: recurrence(sx.evolve(system, state, steps=2000))."
        raise TypeError(explain("recurrence: trajectory", type(states).__name__, "a trajectory, or states", do))
    vectors = np.asarray(jax.vmap(as_vector)(jax.tree.map(jnp.asarray, states)))
    if not 8 <= len(vectors) <= _LARGEST:
        do = "Evolve for longer, or keep every k-th state with save=k."
        raise ValueError(explain("recurrence: points", len(vectors), f"8 to {_LARGEST}", do))
    if not np.isfinite(vectors).all():
        do = "Look at the trajectory's outcome; cut it where it breaks off."
        raise ValueError(explain("recurrence: states", "values that are not finite", "finite numbers", do))
    return vectors, np.arange(len(vectors)) if times is None else np.asarray(times)


def _scan(vectors: np.ndarray, radius: float, exclude: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of diagonal lines (upper triangle), and for each point its first return in steps, 0 for none."""
    count = len(vectors)
    lengths, returns, left = np.zeros(count, int), np.zeros(count, int), np.zeros(count, bool)
    for lag in range(1, count):
        near = np.sum((vectors[lag:] - vectors[:-lag]) ** 2, axis=1) <= radius**2
        rows = np.arange(count - lag)
        first = near & left[rows] & (returns[rows] == 0)
        returns[rows[first]] = lag
        left[rows] |= ~near
        if lag >= exclude:
            edges = np.diff(np.concatenate([[0], near.view(np.int8), [0]]))
            runs = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
            lengths += np.bincount(runs, minlength=count + 1)[1:]
    return lengths, returns


def _mean_return(returns: np.ndarray) -> tuple[float, float]:
    """Mean first return and its standard error by means of up to 20 batches: neighbours return together."""
    found = returns[returns > 0]
    if not len(found):
        return np.nan, np.nan
    batches = [batch.mean() for batch in np.array_split(found, min(20, len(found)))]
    error = np.std(batches, ddof=1) / np.sqrt(len(batches)) if len(batches) > 1 else np.nan
    return float(found.mean()), float(error)


def _ratio(above: Any, below: Any) -> float:
    return float(above) / float(below) if below else np.nan
