r"""Singular values of a matrix whose rows may differ by any factor: A = diag(exp l) U.

One-sided Jacobi: pairs of rows are turned until all are orthogonal; their lengths are the singular values. With
s = exp(l_j - l_i) <= 1 and c = <u_i, u_j> of unit rows, the turn is

    u_i <- u_i + t s u_j,     u_j <- u_j - (t/s) u_i,     t/s = 2 c / (1 - s^2 + sqrt((1 - s^2)^2 + 4 s^2 c^2)),

which needs exp l nowhere: ratios of e^(+-1000) and more do no harm, and small singular values are as accurate, relatively,
as large ones. (Drmac & Veselic, *New fast and accurate Jacobi SVD algorithm* (2008), for the triangular factors that come
first.) With K the product of all turns, K A = diag(exp s) X: the rows of X are the right singular vectors, those of
K the left ones.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

# Stands for log 0: whatever is added to it, it stays.
NEVER = -1e30
_SWEEPS = 30
# So few rows are orthogonal after a sweep or two.
_FEW = 4


def log_singular_values(logs: Array, rows: Array) -> Array:
    """Logarithms of the singular values of diag(exp logs) rows, descending; shapes (b,), (b, m) -> (b,)."""
    if _FEW < rows.shape[0] <= rows.shape[1]:
        logs, rows = _nearly_diagonal(*_nearly_diagonal(logs, rows))
    return -jnp.sort(-_turned(logs, rows, None)[0])[: rows.shape[0]]


def _nearly_diagonal(logs: Array, rows: Array) -> tuple[Array, Array]:
    """A of the same singular values and nearly diagonal where lengths differ by much, so that few sweeps are left.

    U^T = Q R, and A^T = Q (R diag(exp l)) with the longest rows first: r_ij exp(l_j) = exp(l_i) r_ij exp(l_j - l_i), where
    the last factor is at most 1 wherever R is not 0.
    """
    order = jnp.argsort(-logs)
    logs = logs[order]
    triangle = jnp.linalg.qr(rows[order].T, mode="r")
    growth, rows = unit(triangle * jnp.exp(jnp.minimum(logs[None] - logs[:, None], 0)))
    return logs + growth, rows


def log_svd(logs: Array, rows: Array) -> tuple[Array, Array, Array]:
    """The same with the left vectors (b, b) and the right ones (b, m), one in each row."""
    count = rows.shape[0]
    values, right, left = _turned(logs, rows, jnp.eye(count + count % 2, dtype=rows.dtype))
    order = jnp.argsort(-values)[:count]
    return values[order], left[order][:, :count], right[order]


def _turned(logs: Array, rows: Array, left: Array | None) -> tuple[Array, Array, Any]:
    """Rows that are orthogonal, with the logarithms of their lengths, and what turned them; in no order.

    Rows stand in two lines, and each meets the one across. After a round all but the first move on by a place, round both
    lines, so that in n - 1 rounds each has met each; nothing is gathered or scattered.
    """
    if rows.shape[0] % 2:
        logs = jnp.concatenate([logs, jnp.full(1, NEVER, logs.dtype)])
        rows = jnp.concatenate([rows, jnp.zeros_like(rows[:1])])
    count, eps = rows.shape[0], jnp.finfo(rows.dtype).eps
    in_lines = lambda leaf: leaf.reshape(2, count // 2, *leaf.shape[1:])  # noqa: E731

    def turn(carry: Any, _: Any) -> tuple[Any, None]:
        *lines, worst = carry
        swap = lines[0][0] < lines[0][1]
        logs, rows, left = (_swapped(swap, line) for line in lines)
        (u, v), s = rows, jnp.exp(logs[1] - logs[0])
        c = jnp.sum(u * v, axis=1)
        down = 1 - s**2 + jnp.sqrt((1 - s**2) ** 2 + 4 * s**2 * c**2)
        ratio = jnp.where(down > 0, 2 * c / jnp.where(down > 0, down, 1), 0)
        tangent = ratio * s
        cosine = (1 / jnp.sqrt(1 + tangent**2))[None, :, None]
        length, rows = unit(cosine * jnp.stack([u + (ratio * s**2)[:, None] * v, v - ratio[:, None] * u]))
        if left is not None:
            a, b = left
            left = cosine * jnp.stack([a + tangent[:, None] * b, b - tangent[:, None] * a])
        # Each back to its own place, or they would not meet in turn.
        moved = tuple(_moved_on(_swapped(swap, line)) for line in (logs + length, rows, left))
        return (*moved, jnp.maximum(worst, jnp.max(jnp.abs(c)))), None

    def sweep(carry: Any) -> Any:
        lines, _, number = carry
        *lines, worst = jax.lax.scan(turn, (*lines, jnp.zeros((), rows.dtype)), length=count - 1)[0]
        return tuple(lines), worst, number + 1

    lengths, rows = unit(rows)
    start = logs + lengths, rows, left
    if count < 2:
        return start
    lines = jax.tree.map(in_lines, start)
    begun = lines, jnp.ones((), rows.dtype), jnp.zeros((), int)
    ended = jax.lax.while_loop(lambda c: (c[1] > 10 * eps) & (c[2] < _SWEEPS), sweep, begun)[0]
    return jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), ended)


def _swapped(swap: Array, lines: Any) -> Any:
    """The longer row of each pair in the first line."""
    return None if lines is None else jnp.where(swap.reshape(-1, *[1] * (lines.ndim - 2)), lines[::-1], lines)


def _moved_on(lines: Any) -> Any:
    """The next round of a tournament."""
    if lines is None or lines.shape[1] == 1:
        return lines
    first, second = lines
    return jnp.stack([jnp.concatenate([first[:1], second[:1], first[1:-1]]), jnp.concatenate([second[1:], first[-1:]])])


def unit(rows: Array) -> tuple[Array, Array]:
    """(ln |row|, row/|row|) of each; a row of zeros has the logarithm `NEVER`."""
    largest = jnp.max(jnp.abs(rows), axis=-1, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1)
    length = jnp.sqrt(jnp.sum((rows / largest) ** 2, axis=-1, keepdims=True))
    logs = jnp.where(length > 0, jnp.log(jnp.where(length > 0, length, 1)) + jnp.log(largest), NEVER)
    return logs[..., 0], rows / (largest * jnp.where(length > 0, length, 1))
