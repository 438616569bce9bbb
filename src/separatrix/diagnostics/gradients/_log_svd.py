r"""Singular values of a matrix whose rows may differ by any factor: A = diag(exp l) U.

One-sided Jacobi: pairs of rows are turned until all are orthogonal; their lengths are the singular values. With
s = exp(l_j - l_i) <= 1 and c = <u_i, u_j> of unit rows, the turn is

    u_i <- u_i + t s u_j,     u_j <- u_j - (t/s) u_i,     t/s = 2 c / (1 - s^2 + sqrt((1 - s^2)^2 + 4 s^2 c^2)),

which needs exp l nowhere: ratios of e^(+-1000) and more do no harm, and small singular values are as accurate, relatively,
as large ones.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

# Stands for log 0: whatever is added to it, it stays.
NEVER = -1e30
_SWEEPS = 30


def log_singular_values(logs: Array, rows: Array) -> Array:
    """Logarithms of the singular values of diag(exp logs) rows, descending; shapes (b,), (b, m) -> (b,)."""
    count = rows.shape[0]
    if count % 2:
        logs = jnp.concatenate([logs, jnp.full(1, NEVER, logs.dtype)])
        rows = jnp.concatenate([rows, jnp.zeros_like(rows[:1])])
    rounds = jnp.asarray(_tournament(logs.shape[0]))
    eps = jnp.finfo(rows.dtype).eps

    def turn(carry: tuple[Array, Array, Array], pairs: Array) -> tuple[tuple[Array, Array, Array], None]:
        logs, rows, worst = carry
        swap = logs[pairs[:, 0]] < logs[pairs[:, 1]]
        i, j = jnp.where(swap, pairs[:, 1], pairs[:, 0]), jnp.where(swap, pairs[:, 0], pairs[:, 1])
        u, v, s = rows[i], rows[j], jnp.exp(logs[j] - logs[i])
        c = jnp.sum(u * v, axis=1)
        down = 1 - s**2 + jnp.sqrt((1 - s**2) ** 2 + 4 * s**2 * c**2)
        ratio = jnp.where(down > 0, 2 * c / jnp.where(down > 0, down, 1), 0)
        cosine = 1 / jnp.sqrt(1 + (ratio * s) ** 2)
        first, second = u + (ratio * s**2)[:, None] * v, v - ratio[:, None] * u
        for place, row, start in ((i, first, logs[i]), (j, second, logs[j])):
            row = cosine[:, None] * row
            length, row = unit(row)
            rows, logs = rows.at[place].set(row), logs.at[place].set(start + length)
        return (logs, rows, jnp.maximum(worst, jnp.max(jnp.abs(c)))), None

    def sweep(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        logs, rows, _, number = carry
        (logs, rows, worst), _ = jax.lax.scan(turn, (logs, rows, jnp.zeros((), rows.dtype)), rounds)
        return logs, rows, worst, number + 1

    lengths, rows = unit(rows)
    start = logs + lengths, rows, jnp.ones((), rows.dtype), jnp.zeros((), int)
    if start[0].shape[0] < 2:
        return start[0]
    found = jax.lax.while_loop(lambda c: (c[2] > 10 * eps) & (c[3] < _SWEEPS), sweep, start)
    return -jnp.sort(-found[0])[:count]


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
