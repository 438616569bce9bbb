r"""The U-statistic of a kernel, for the labels as given and for permuted ones, in one pass over the pairs.

With z in {0, 1}^N saying who is in the first sample and K_ii set to 0, all three sums over pairs are quadratic forms,

    S_xx = z^T K z,    S_yy = (1-z)^T K (1-z),    S_xy = z^T K (1-z),
    D = S_xx/(n(n-1)) + S_yy/(m(m-1)) - 2 S_xy/(nm),

so one product of each block of K with the matrix of all labels serves every permutation.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp

from separatrix.diagnostics.samples._samples import Samples, in_blocks, squared_distances


class Kernel(eqx.Module):
    """k as a function of r^2: -r, or the mean of exp(-r^2/(2 (c s)^2)) over the scales c."""

    scales: tuple[float, ...] = eqx.field(static=True)
    bandwidth: Any = None

    def __call__(self, squares: Any) -> Any:
        if self.bandwidth is None:
            return -jnp.sqrt(squares)
        values = [jnp.exp(-squares / (2 * (scale * self.bandwidth) ** 2)) for scale in self.scales]
        return sum(values[1:], start=values[0]) / len(values)


class Discrepancy(NamedTuple):
    """D with its standard error, D under permutations, and D with the pairs (i, i) counted (a V-statistic).

    `size` is that of the three terms whose difference D is: it is rounded by so much times the dtype's epsilon.
    """

    value: Any
    error: Any
    null: Any
    biased: Any
    size: Any


@eqx.filter_jit
def discrepancy(kernel: Kernel, pair: Samples, labels: Any) -> Discrepancy:
    """D of a kernel k(|x - y|^2), for labels (1 + P, N)."""
    z = labels.T.astype(pair.pooled.dtype)  # (N, 1 + P)
    both = jnp.concatenate([z, jnp.ones_like(z[:, :1])], axis=1)

    def block(i: Any, rows: Any) -> Any:
        values = kernel(squared_distances(rows, pair.pooled))
        off = jnp.where(i[:, None] == jnp.arange(z.shape[0])[None, :], 0, values)
        return off @ both

    sums = in_blocks(block, pair.pooled, z.shape[0] + z.shape[1])  # rows of K z and of K 1
    to_first, to_all = sums[:, :-1], sums[:, -1:]
    xx, xy = jnp.sum(z * to_first, axis=0), jnp.sum((1 - z) * to_first, axis=0)
    yy = jnp.sum((1 - z) * (to_all - to_first), axis=0)
    values = _statistic(xx, yy, xy, pair.n, pair.m)
    size = _statistic(jnp.abs(xx[0]), jnp.abs(yy[0]), -jnp.abs(xy[0]), pair.n, pair.m)
    diagonal = kernel(jnp.zeros((), z.dtype))
    biased = (xx[0] + pair.n * diagonal) / pair.n**2 + (yy[0] + pair.m * diagonal) / pair.m**2
    error = _jackknife(pair, to_first[:, 0], to_all[:, 0] - to_first[:, 0], xx[0], yy[0], xy[0])
    return Discrepancy(values[0], error, values[1:], biased - 2 * xy[0] / (pair.n * pair.m), size)


def _statistic(xx: Any, yy: Any, xy: Any, n: int, m: int) -> Any:
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def _jackknife(pair: Samples, to_first: Any, to_second: Any, xx: Any, yy: Any, xy: Any) -> Any:
    """Leave out one point of either sample at a time; under one law up to sqrt 2 too large, as D is degenerate there."""
    n, m = pair.n, pair.m
    if n < 3 or m < 3:
        return jnp.full_like(xx, jnp.nan)
    x, y = slice(None, n), slice(n, None)
    without_x = _statistic(xx - 2 * to_first[x], yy, xy - to_second[x], n - 1, m)
    without_y = _statistic(xx, yy - 2 * to_second[y], xy - to_first[y], n, m - 1)
    return jnp.sqrt((n - 1) * jnp.var(without_x) + (m - 1) * jnp.var(without_y))
