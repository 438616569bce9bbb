r"""How rough a boundary between basins is.

A start is uncertain at the scale eps where starts at distance eps have another fate. Their share goes as

    f(eps) ~ eps^alpha,        dimension of the boundary = d - alpha,

with alpha = 1 for a smooth boundary, and less where it is fractal: then accuracy of the start buys little certainty about
the end. On a grid of fates the same dimension is found by counting: boxes of side s that see more than one fate number

    N(s) ~ s^(-dimension).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Key
from separatrix.diagnostics.many._finder import UNSETTLED
from separatrix.diagnostics.many.basins import Basins
from separatrix.diagnostics.region import embedded
from separatrix.diagnostics.result import Result, Row


class BoundaryDimension(Result):
    r"""A power law of a basin boundary, over K scales.

    - `dimension`, `error`: of the boundary, with the standard error of the fit.
    - `exponent`: alpha = d - dimension, with the same error.
    - `scales`, `values`, `value_errors`, shape (K,): eps and f(eps) with its binomial error; or s and the number N(s) of
      boxes, without.
    - `used`, shape (K,): whether a scale took part in the fit.
    - `slopes`, shape (K - 1,): local slopes, which agree where there is a power law.
    """

    dimension: Float[Array, ""]
    error: Float[Array, ""]
    exponent: Float[Array, ""]
    scales: Float[Array, " K"]
    values: Float[Array, " K"]
    value_errors: Float[Array, " K"]
    used: Array
    slopes: Float[Array, " J"]
    method: str = eqx.field(static=True)
    space: int = eqx.field(static=True)
    finest: float = eqx.field(static=True)

    def rows(self) -> list[Row]:
        scales = np.asarray(self.scales)[np.asarray(self.used)]
        span = f"{scales.min():.3g} to {scales.max():.3g}, {len(scales)} scales" if len(scales) else "no scale"
        return [
            Row("dimension of the boundary", self.dimension, self.error),
            Row("uncertainty exponent", self.exponent, self.error),
            Row("by", f"{self.method}, {span}"),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        scales = np.asarray(self.scales)[np.asarray(self.used)]
        if len(scales) < 3:
            return ("fewer than 3 scales saw the boundary: there is no power law to fit",)
        if scales.max() / scales.min() < 30:
            found.append(f"the scales span a factor of {scales.max() / scales.min():.2g} only: no power law is safe")
        if not self.error < 0.1:
            found.append(f"the fit leaves the dimension uncertain by {float(self.error):.1g}")
        if self.exponent > 1 + 3 * float(self.error) + 0.05 or self.exponent < -3 * float(self.error) - 0.05:
            found.append("the exponent lies outside 0 to 1: the scales are too coarse, or starts too few")
        if scales.min() < self.finest:
            found.append("the smallest scale is near rounding of the starts: fates there are noise")
        return tuple(found)


def uncertainty_exponent(
    found: Any, *, key: Key, scales: Any = None, count: int = 1000, axis: int | None = None
) -> BoundaryDimension:
    r"""Return how fast uncertainty about the fate falls with uncertainty about the start.

        f(eps) ~ eps^alpha,      dimension = d - alpha

    **Arguments:**

    - `found`: a `Basins`. New starts are drawn uniformly from the box that its starts span, `count` at each scale, and
      compared with two starts at distance eps on either side.
    - `key`: draws them. `scales`: K values of eps; by default nine from 1e-1 to 1e-5 of the box.
    - `axis`: the coordinate of the region to step along; a random direction for each start by default.

    **Returns:** a `BoundaryDimension`. Draws at different scales are independent; errors are binomial, widened by the
    scatter about the fit where that is larger.

    **Raises:** `TypeError` for anything but basins, `ValueError` for scales that are not positive.

    **Example:** a smooth boundary, the diagonal.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> step = sx.as_map(lambda x: jnp.where(x[0] > x[1], jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])))
    >>> found = sx.basins(step, region=((-1.0, -1.0), (1.0, 1.0)), resolution=10, steps=40)
    >>> rough = sx.uncertainty_exponent(found, key=jax.random.key(0), scales=[0.3, 0.1, 0.03, 0.01])
    >>> bool(abs(rough.exponent - 1.0) < 4 * rough.error)
    True

    **Reference:** McDonald, Grebogi, Ott & Yorke, *Fractal basin boundaries* (1985), for f(eps) and the dimension.
    """
    found = _checked(found, "uncertainty_exponent")
    points = np.asarray(found.points, float)
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    scales = float(np.max(size)) * np.geomspace(1e-1, 1e-5, 9) if scales is None else np.asarray(scales, float)
    if scales.ndim != 1 or not np.all(scales > 0) or count < 2:
        do = "Pass increasing or falling eps > 0, and count=1000."
        raise ValueError(explain("uncertainty_exponent: scales", scales, "positive numbers (K,)", do))
    d = points.shape[1]
    shares = [
        _uncertain(found, eps, jax.random.fold_in(key, i), (low, size), count, axis) for i, eps in enumerate(scales)
    ]
    counts = np.array(shares)
    values = counts / count
    errors = np.sqrt(values * (1 - values) / count)
    # Near all or near none certain, a power law is cut off.
    used = (counts >= 10) & (values <= 0.5)
    slope, error = _fitted(np.log(scales[used]), np.log(values[used]), errors[used] / values[used])
    return _dimension(d - slope, error, scales, values, errors, used, "uncertain starts", d, _finest(points))


def boundary_dimension(found: Any, *, scales: Any = None) -> BoundaryDimension:
    r"""Return the box-counting dimension of the boundary on the grid of fates.

        N(s) ~ s^(-dimension),   s in units of a cell of the grid

    **Arguments:**

    - `found`: a `Basins` on a grid, or a grid of fates itself: whole numbers or truth values, one a node.
    - `scales`: whole numbers of cells s along the side of a box; by default powers of two up to an eighth of the grid.
      With 1 + a multiple of each s nodes a side, no box is cut.

    **Returns:** a `BoundaryDimension`. The error is that of the fit alone: boxes of different sides see the same grid.

    **Raises:** `ValueError` where the starts are no grid, or no box fits in it.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> step = sx.as_map(lambda x: jnp.where(x[0] > 0.1, jnp.array([1.0, 0.0]), jnp.array([-1.0, 0.0])))
    >>> found = sx.basins(step, region=((-1.0, -1.0), (1.0, 1.0)), resolution=65, steps=40)
    >>> round(float(sx.boundary_dimension(found).dimension), 12)
    1.0

    **Reference:** Falconer, *Fractal Geometry* (2014), chapter 2, box-counting dimensions.
    """
    grid, space = _grid_of(found)
    sides = min(grid.shape) - 1
    if grid.ndim != space:
        do = "Ask basins with region= and resolution=, or ask uncertainty_exponent."
        raise ValueError(explain("boundary_dimension: starts", f"shape {grid.shape}", "a grid", do))
    scales = 2 ** np.arange(int(np.log2(max(sides // 8, 1))) + 1) if scales is None else np.asarray(scales)
    if np.any(scales != np.rint(scales)) or np.any(scales < 1) or np.any(scales > sides):
        raise ValueError(explain("boundary_dimension: scales", scales, f"whole numbers, 1 to {sides}", "Leave it out."))
    mixed = _mixed(grid)
    counts = np.array([_boxes(mixed, int(s)) for s in scales], float)
    used = counts >= 1
    d = grid.ndim
    slope, error = _fitted(np.log(scales[used].astype(float)), np.log(counts[used]), None)
    return _dimension(-slope, error, scales.astype(float), counts, np.full(len(scales), np.nan), used, "boxes", d, 0.0)


def _grid_of(found: Any) -> tuple[np.ndarray, int]:
    """Fates on a grid, and the dimension of the space it should span."""
    if eqx.is_array(found) or isinstance(found, np.ndarray):
        labels = np.asarray(found)
        if labels.dtype.kind in "biu" and labels.ndim > 0 and min(labels.shape) > 1:
            return labels.astype(int), labels.ndim
    found = _checked(found, "boundary_dimension")
    return np.asarray(found.grid), found.points.shape[1]


def _checked(found: Any, name: str) -> Basins:
    if not isinstance(found, Basins):
        raise TypeError(explain(f"{name}: found", type(found).__name__, "a Basins", "Pass what basins returned."))
    return found


def _dimension(
    dimension: float, error: float, scales: Any, values: Any, errors: Any, used: Any, method: str, d: int, finest: float
) -> BoundaryDimension:
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.diff(np.log(values)) / np.diff(np.log(scales))
    numbers = [dimension, error, d - dimension, scales, values, errors, used, slopes]
    return BoundaryDimension(*[jnp.asarray(part) for part in numbers], method=method, space=d, finest=finest)


def _uncertain(found: Basins, eps: float, key: Any, box: Any, count: int, axis: int | None) -> int:
    """How many of `count` random starts have a neighbour at distance eps of another fate."""
    low, size = box
    place, turn = jax.random.split(key)
    starts = low + size * np.asarray(jax.random.uniform(place, (count, len(low)), jnp.asarray(size).dtype))
    if axis is None:
        direction = np.array(jax.random.normal(turn, (count, len(low)), starts.dtype))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    else:
        direction = np.eye(len(low))[np.full(count, axis)]
    three = np.concatenate([starts, starts - eps * direction, starts + eps * direction])
    # A start and its neighbours meet the same noise: what differs is where they are.
    members = np.tile(np.arange(count), 3)
    points = embedded(three.astype(found.points.dtype), found._embed)
    here, left, right = found._finder.fates(points, members).reshape(3, count)
    settled = (here != UNSETTLED) & (left != UNSETTLED) & (right != UNSETTLED)
    return int(np.sum(settled & ((here != left) | (here != right))))


def _finest(points: np.ndarray) -> float:
    return 1e4 * float(np.finfo(points.dtype).eps) * float(np.max(np.abs(points)))


def _mixed(grid: np.ndarray) -> np.ndarray:
    """Cells whose corners do not all have one fate."""
    least, most = grid, grid
    for axis in range(grid.ndim):
        first, second = [slice(None)] * grid.ndim, [slice(None)] * grid.ndim
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        least = np.minimum(least[tuple(first)], least[tuple(second)])
        most = np.maximum(most[tuple(first)], most[tuple(second)])
    return least != most


def _boxes(mixed: np.ndarray, side: int) -> int:
    """How many boxes of so many cells hold a mixed one; those at the far edges may be cut."""
    padded = np.pad(mixed, [(0, -n % side) for n in mixed.shape])
    for axis in range(padded.ndim):
        shape = (*padded.shape[:axis], padded.shape[axis] // side, side, *padded.shape[axis + 1 :])
        padded = np.any(padded.reshape(shape), axis=axis + 1)
    return int(padded.sum())


def _fitted(x: np.ndarray, y: np.ndarray, errors: np.ndarray | None) -> tuple[float, float]:
    """Slope of a line and its standard error: from the errors of y, or from the scatter where that is larger."""
    if len(x) < 3:
        return np.nan, np.nan
    weights = np.ones_like(x) if errors is None else 1 / errors**2
    centred = x - np.sum(weights * x) / weights.sum()
    spread = np.sum(weights * centred**2)
    slope = float(np.sum(weights * centred * y) / spread)
    rest = y - np.sum(weights * y) / weights.sum() - slope * centred
    scatter = float(np.sum(weights * rest**2) / (len(x) - 2))
    return slope, float(np.sqrt((scatter if errors is None else max(scatter, 1.0)) / spread))
