"""Two samples as matrices, their labels, and the permutations of those."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import is_inexact
from separatrix._types import Key
from separatrix.diagnostics.checks import check_finite

# A block of pairwise distances holds at most so many entries: 32 MB in float64, whatever the sizes of the samples.
BLOCK = 1 << 22


class Samples(NamedTuple):
    """Both samples in one array (N, d), the first n rows those of the first; centred, for distances cancel less so."""

    pooled: Any
    n: int
    m: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        """n, m and d."""
        return self.n, self.m, self.pooled.shape[1]


def samples(first: Any, second: Any, what: str) -> Samples:
    """Flatten and check two samples (n, ...) and (m, ...)."""
    arrays = [sample_of(sample, f"{what}: {name} sample") for sample, name in ((first, "first"), (second, "second"))]
    if arrays[0].shape[1:] != arrays[1].shape[1:]:
        got = f"points of shape {arrays[0].shape[1:]} and {arrays[1].shape[1:]}"
        raise ValueError(explain(f"{what}: samples", got, "points of one shape", "Compare like with like."))
    n, m = (array.shape[0] for array in arrays)
    dtype = max((array.dtype for array in arrays), key=lambda dtype: dtype.itemsize)
    pooled = jnp.concatenate([array.reshape(array.shape[0], -1).astype(dtype) for array in arrays])
    return Samples(pooled - jnp.mean(pooled, axis=0, keepdims=True), n, m)


def sample_of(sample: Any, what: str, least: int = 2) -> Any:
    """A sample (n, ...) of real numbers in floating point; too few points, points of nothing and no numbers are refused."""
    try:
        array = jnp.asarray(sample)
    except (TypeError, ValueError):
        do = "Stack the points, all of one shape, along the first axis."
        raise TypeError(explain(what, type(sample).__name__, "an array of numbers (n, ...)", do)) from None
    if array.ndim == 0 or array.shape[0] < least or array.size == 0:
        do = "Stack the points along the first axis."
        raise ValueError(explain(what, f"shape {array.shape}", f"(n, ...) with n >= {least}", do))
    if jnp.iscomplexobj(array):
        do = "Give real and imaginary parts as two coordinates."
        raise TypeError(explain(what, f"dtype {array.dtype}", "real numbers", do))
    check_finite(what, array)
    return array if is_inexact(array) else array.astype(jnp.zeros(()).dtype)


def memberships(key: Key, pair: Samples, permutations: int) -> Any:
    """Who is in the first sample, (1 + P, N) of booleans: as given, then under P permutations."""
    given = jnp.arange(pair.n + pair.m) < pair.n
    drawn = jax.vmap(lambda k: jax.random.permutation(k, given))(jax.random.split(key, permutations))
    return jnp.concatenate([given[None], drawn])


def in_blocks(function: Any, rows: Any, width: int) -> Any:
    """Apply a function of (row numbers (b,), rows (b, d)) to blocks of rows, b * width entries at most; stack the results.

    The last block is filled up with repeated rows, whose results are dropped.
    """
    total = jax.tree.leaves(rows)[0].shape[0]
    size = max(1, min(total, BLOCK // max(width, 1)))
    count = -(-total // size)
    numbers = jnp.minimum(jnp.arange(count * size), total - 1).reshape(count, size)
    results = jax.lax.map(lambda i: function(i, jax.tree.map(lambda leaf: leaf[i], rows)), numbers)
    return jax.tree.map(lambda leaf: leaf.reshape(count * size, *leaf.shape[2:])[:total], results)


def squared_distances(first: Any, second: Any) -> Any:
    """|x_i - y_j|^2, shape (b, N), never negative."""
    squares = jnp.sum(first**2, axis=1)[:, None] + jnp.sum(second**2, axis=1)[None, :]
    return jnp.maximum(squares - 2 * first @ second.T, 0)
