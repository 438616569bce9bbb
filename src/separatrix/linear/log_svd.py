r"""Singular values of a matrix whose rows may differ by any factor: A = diag(exp l) U.

One-sided Jacobi: pairs of rows are turned until all are orthogonal; their lengths are the singular values. With
s = exp(l_j - l_i) <= 1 and c = <u_i, u_j> of unit rows, the turn is

    u_i <- u_i + t s u_j,     u_j <- u_j - (t/s) u_i,     t/s = 2 c / (1 - s^2 + sqrt((1 - s^2)^2 + 4 s^2 c^2)),

which needs exp l nowhere: ratios of e^(+-1000) and more do no harm, and small singular values are as accurate, relatively,
as large ones. With K the product of all turns, K A = diag(exp s) X: the rows of X are the right singular vectors, those of
K the left ones.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

# Stands for log 0: whatever is added to it, it stays.
NEVER = -1e30
_SWEEPS = 30


def log_singular_values(logs: Array, rows: Array) -> Array:
    """Logarithms of the singular values of diag(exp logs) rows, descending; shapes (b,), (b, m) -> (b,)."""
    return -jnp.sort(-_turned(logs, rows, None)[0])[: rows.shape[0]]


def log_svd(logs: Array, rows: Array) -> tuple[Array, Array, Array]:
    """The same with the left vectors (b, b) and the right ones (b, m), one in each row."""
    count = rows.shape[0]
    values, right, left = _turned(logs, rows, jnp.eye(count + count % 2, dtype=rows.dtype))
    order = jnp.argsort(-values)[:count]
    return values[order], left[order][:, :count], right[order]


def _turned(logs: Array, rows: Array, left: Array | None) -> tuple[Array, Array, Any]:
    """Rows that are orthogonal, with the logarithms of their lengths, and what turned them; in no order."""
    if rows.shape[0] % 2:
        logs = jnp.concatenate([logs, jnp.full(1, NEVER, logs.dtype)])
        rows = jnp.concatenate([rows, jnp.zeros_like(rows[:1])])
    rounds = jnp.asarray(_tournament(logs.shape[0]))
    eps = jnp.finfo(rows.dtype).eps

    def turn(carry: Any, pairs: Array) -> tuple[Any, None]:
        logs, rows, left, worst = carry
        swap = logs[pairs[:, 0]] < logs[pairs[:, 1]]
        i, j = jnp.where(swap, pairs[:, 1], pairs[:, 0]), jnp.where(swap, pairs[:, 0], pairs[:, 1])
        u, v, s = rows[i], rows[j], jnp.exp(logs[j] - logs[i])
        c = jnp.sum(u * v, axis=1)
        down = 1 - s**2 + jnp.sqrt((1 - s**2) ** 2 + 4 * s**2 * c**2)
        ratio = jnp.where(down > 0, 2 * c / jnp.where(down > 0, down, 1), 0)
        tangent = ratio * s
        cosine = 1 / jnp.sqrt(1 + tangent**2)
        first, second = u + (ratio * s**2)[:, None] * v, v - ratio[:, None] * u
        for place, row, start in ((i, first, logs[i]), (j, second, logs[j])):
            row = cosine[:, None] * row
            length, row = unit(row)
            rows, logs = rows.at[place].set(row), logs.at[place].set(start + length)
        if left is not None:
            a, b = left[i], left[j]
            left = left.at[i].set(cosine[:, None] * (a + tangent[:, None] * b))
            left = left.at[j].set(cosine[:, None] * (b - tangent[:, None] * a))
        return (logs, rows, left, jnp.maximum(worst, jnp.max(jnp.abs(c)))), None

    def sweep(carry: Any) -> Any:
        logs, rows, left, _, number = carry
        nothing = jnp.zeros((), rows.dtype)
        (logs, rows, left, worst), _ = jax.lax.scan(turn, (logs, rows, left, nothing), rounds)
        return logs, rows, left, worst, number + 1

    lengths, rows = unit(rows)
    start = logs + lengths, rows, left, jnp.ones((), rows.dtype), jnp.zeros((), int)
    if rows.shape[0] < 2:
        return start[:3]
    return jax.lax.while_loop(lambda c: (c[3] > 10 * eps) & (c[4] < _SWEEPS), sweep, start)[:3]


def unit(rows: Array) -> tuple[Array, Array]:
    """(ln |row|, row/|row|) of each; a row of zeros has the logarithm `NEVER`."""
    largest = jnp.max(jnp.abs(rows), axis=-1, keepdims=True)
    largest = jnp.where(largest > 0, largest, 1)
    length = jnp.sqrt(jnp.sum((rows / largest) ** 2, axis=-1, keepdims=True))
    logs = jnp.where(length > 0, jnp.log(jnp.where(length > 0, length, 1)) + jnp.log(largest), NEVER)
    return logs[..., 0], rows / (largest * jnp.where(length > 0, length, 1))


def _tournament(count: int) -> np.ndarray:
    """Rounds of disjoint pairs in which each meets each, shape (count - 1, count/2, 2), for an even count."""
    players, rounds = list(range(count)), []
    for _ in range(count - 1):
        rounds.append([(players[k], players[-1 - k]) for k in range(count // 2)])
        players = [players[0], players[-1], *players[1:-1]]
    return np.asarray(rounds, int).reshape(max(count - 1, 0), count // 2, 2)
