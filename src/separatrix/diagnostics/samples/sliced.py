r"""Sliced Wasserstein distance: the mean over directions of the distance in one dimension, where it is a sort.

    SW_p^p = E_theta W_p^p(theta . x, theta . y),        W_p^p = int_0^1 |F^{-1}(q) - G^{-1}(q)|^p dq,

theta uniform on the sphere. For N(a, C) and N(b, C) its square at p = 2 is |a - b|^2/d. Of the empirical laws of n and m
points the integral is exact: both quantile functions are constant between the levels i/n and j/m.

Standard error. The value depends on the sample through the potentials phi' = p sign(x - T x)|x - T x|^(p-1), T the
monotone map from x to y in each direction: var SW_p^p = var(phi(x))/n + var(psi(y))/m to first order, with phi the mean
over directions. Under one law this part vanishes, and the spread under permutations stands for it.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._types import Key
from separatrix.diagnostics.checks import check_count, check_key
from separatrix.diagnostics.samples._samples import Samples, memberships, samples
from separatrix.diagnostics.samples.result import Distance, told


def sliced_wasserstein(
    first: Any, second: Any, *, key: Key, power: int = 2, projections: int = 128, permutations: int = 200
) -> Distance:
    r"""Return the sliced Wasserstein distance SW_p of two samples.

        SW_p = (E_theta W_p^p(theta . x, theta . y))^(1/p)

    **Arguments:**

    - `first`, `second`: shape (n, ...) and (m, ...), points flattened.
    - `key`: for directions and permutations. `projections`: how many directions; one is enough in one dimension.
    - `power`: p, 1 or 2.
    - `permutations`: P of the p-value; 0 for none.

    **Returns:** a `Distance`, in the unit of the points. `details["projection error"]` is the Monte-Carlo error of the
    directions, which is part of `error`. The estimate is biased up: `floor` is what one law shows.

    **Raises:** `ValueError` for another power, or samples of different shapes.

    **Example:** in one dimension it is the Wasserstein distance itself.

    >>> import jax.numpy as jnp, jax, separatrix as sx
    >>> x, y = jnp.array([0.0, 1.0]), jnp.array([2.0, 3.0])
    >>> round(float(sx.sliced_wasserstein(x, y, key=jax.random.key(0), permutations=0).value), 12)
    2.0

    **Reference:** Bonneel, Rabin, Peyre & Pfister, *Sliced and Radon Wasserstein barycenters of measures* (2015); del
    Barrio & Loubes, *Central limit theorems for empirical transportation cost in general dimension* (2019).
    """
    pair = samples(first, second, "sliced_wasserstein")
    if power not in (1, 2):
        raise ValueError(explain("sliced_wasserstein: power", repr(power), "1 or 2", "Pass power=2."))
    check_count("sliced_wasserstein: projections", projections, 1)
    check_count("sliced_wasserstein: permutations", permutations, 0)
    check_key("sliced_wasserstein", key, needed=True)
    projections = 1 if pair.pooled.shape[1] == 1 else projections
    toward, shuffled = jax.random.split(key)
    value, sampling, slicing, null = _all(pair, toward, shuffled, power, projections, permutations)
    sampling = jnp.maximum(sampling, jnp.std(null)) if permutations else sampling
    return told(
        value, jnp.hypot(sampling, slicing), null, name=f"sliced Wasserstein {power}", sizes=pair.sizes,
        statement=f"SW_{power} over {projections} directions", details={"projection error": slicing},
    )  # fmt: skip


class Matching(NamedTuple):
    """Which sorted x meets which sorted y, and with what weight: the merged levels of two quantile functions."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray


def matching(n: int, m: int) -> Matching:
    """Between the levels i/n and j/m, in whole numbers of 1/(nm)."""
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    left = levels[:-1]
    return Matching(left // m, left // n, np.diff(levels) / (n * m))


@eqx.filter_jit
def _all(pair: Samples, toward: Key, shuffled: Key, power: int, projections: int, permutations: int) -> Any:
    """Value, error of sampling, error of slicing, and values under permutations."""
    lines = _projected(pair, toward, projections)
    labels = memberships(shuffled, pair, permutations)
    costs, potential = jax.vmap(lambda line: _cost_and_potential(pair, line, labels[0], power))(lines)
    total, phi = jnp.mean(costs), jnp.mean(potential, axis=0)
    value = total ** (1 / power)
    # d SW = d(SW^p)/(p SW^(p-1)); at 0 there is nothing to divide.
    slope = 1 / (power * jnp.maximum(value, jnp.finfo(value.dtype).tiny ** 0.25) ** (power - 1))
    sampling = slope * jnp.sqrt(jnp.var(phi[: pair.n]) / pair.n + jnp.var(phi[pair.n :]) / pair.m)
    slicing = slope * jnp.std(costs) / max(projections - 1, 1) ** 0.5
    mean = lambda z: jnp.mean(jax.vmap(lambda line: _cost(pair, line, z, power))(lines)) ** (1 / power)  # noqa: E731
    null = jax.lax.map(mean, labels[1:]) if permutations else jnp.zeros(0, value.dtype)
    return value, sampling, slicing, null


class Projection(NamedTuple):
    """The pooled points along a direction, sorted, and where each came from."""

    values: Any
    origin: Any


def _projected(pair: Samples, key: Key, count: int) -> Projection:
    size, dtype = pair.pooled.shape[1], pair.pooled.dtype
    drawn = jax.random.normal(key, (count, size), dtype)
    along = (drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)) @ pair.pooled.T  # (L, N)
    origin = jnp.argsort(along, axis=1)
    return Projection(jnp.take_along_axis(along, origin, axis=1), origin)


def _parted(pair: Samples, line: Projection, first: Any) -> tuple[Any, Any]:
    """The sorted values of the first sample, then those of the second, and the place of each pooled one among them.

    Counting along the sorted pool parts it into two sorted halves without another sort.
    """
    mine = first[line.origin]
    place = jnp.where(mine, jnp.cumsum(mine) - 1, pair.n + jnp.cumsum(~mine) - 1)
    return jnp.zeros_like(line.values).at[place].set(line.values, unique_indices=True), place


def _pairs(pair: Samples, values: Any) -> tuple[Any, Any, Matching]:
    match = matching(pair.n, pair.m)
    return values[: pair.n][match.x], values[pair.n :][match.y], match


def _cost(pair: Samples, line: Projection, first: Any, power: int) -> Any:
    """W_p^p in one direction."""
    x, y, match = _pairs(pair, _parted(pair, line, first)[0])
    return jnp.asarray(match.weight, x.dtype) @ jnp.abs(x - y) ** power


def _cost_and_potential(pair: Samples, line: Projection, first: Any, power: int) -> tuple[Any, Any]:
    """W_p^p, and phi(x_i), psi(y_j) of all pooled points in their own order."""
    values, place = _parted(pair, line, first)
    x, y, match = _pairs(pair, values)
    weight = jnp.asarray(match.weight, x.dtype)
    force = weight * power * jnp.sign(x - y) * jnp.abs(x - y) ** (power - 1)
    phi = _integral(values[: pair.n], jax.ops.segment_sum(force, match.x, pair.n) * pair.n)
    psi = _integral(values[pair.n :], -jax.ops.segment_sum(force, match.y, pair.m) * pair.m)
    both = jnp.concatenate([phi, psi])[place]
    return weight @ jnp.abs(x - y) ** power, jnp.zeros_like(both).at[line.origin].set(both, unique_indices=True)


def _integral(points: Any, slopes: Any) -> Any:
    """int phi' dx from the first of the sorted points, by the trapezoidal rule."""
    parts = 0.5 * (slopes[1:] + slopes[:-1]) * jnp.diff(points)
    return jnp.concatenate([jnp.zeros_like(points[:1]), jnp.cumsum(parts)])
