r"""Rows made orthonormal, and how much each had grown.

    V = L Q,      Q Q^T = 1,      L lower triangular, L_ii > 0;      ln L_ii is what row i grew by

in three ways, of which the shape decides:

    Gram-Schmidt, twice   q_i = (v_i - sum_j <q_j, v_i> q_j)/L_ii, the sum taken off two times
    Householder           V^T = Q^T R by reflections, signs turned so that R_ii > 0
    Cholesky, twice       V V^T = L L^T, Q = L^-1 V, the same again on Q, L = L_2 L_1

Measured on a CPU with two cores, microseconds for k rows of length d (smallest of three runs, one thread):

    k, d               1, 3   3, 3   4, 4   8, 8   8, 40   40, 40   20, 1000   64, 1024   128, 128
    Gram-Schmidt       0.02   0.2    0.3    1.5    6.6     -        -          -          -
    Householder        0.4    0.6    0.8    1.7    2.3     46       189        1191       400
    Cholesky twice     0.6    0.9    1.6    2.4    3.8     76       76         452        300

Cholesky loses the rows where their condition number passes 1e7 (its square is what is factored): what comes out is then
not orthonormal, which is seen, and Householder's answer is taken.

(Golub & Van Loan, *Matrix Computations* (2013), chapter 5; Giraud, Langou & Rozloznik (2005), that twice is enough;
Yamamoto, Nakatsukasa, Yanagisawa & Fukaya, *Roundoff error analysis of the CholeskyQR2 algorithm* (2015).)
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Up to here the rows are unrolled, from here on products of matrices win where the rows are long.
_UNROLLED = 4
_WIDE = 16
# A triangle of this size is factored by LAPACK; larger ones are split, so that the work is products of matrices.
_LEAF = 64


def scheme_of(k: int, d: int) -> str:
    """Return which of the three is fastest for k rows of length d."""
    if k <= _UNROLLED:
        return "gram-schmidt"
    return "cholesky" if k >= 2 * _LEAF or (k >= _WIDE and d >= 4 * k) else "householder"


def orthonormalise(rows: Float[Array, "k d"], scheme: str | None = None) -> tuple[Array, Array]:
    """Return Q, shape (k, d), and ln L_ii, shape (k,); a row that vanished has the logarithm of the smallest number."""
    match scheme or scheme_of(*rows.shape):
        case "gram-schmidt":
            return _gram_schmidt(rows)
        case "householder":
            return _householder(rows)
    return _cholesky_twice(rows)


def triangular(rows: Float[Array, "k d"]) -> tuple[Array, Array]:
    """Return Q and L of V = L Q with L_ii >= 0, by Householder."""
    q, r = jnp.linalg.qr(rows.T)
    sign = _sign(jnp.diagonal(r))
    return (q * sign[None]).T, (r * sign[:, None]).T


def _gram_schmidt(rows: Array) -> tuple[Array, Array]:
    found: list[Array] = []
    lengths: list[Array] = []
    for i in range(rows.shape[0]):
        row = rows[i]
        for _ in range(2):
            for q in found:
                row = row - jnp.sum(q * row) * q
        length = jnp.sqrt(jnp.sum(row * row))
        alive = length > 0
        # A direction that died goes on as another.
        spare = jnp.zeros_like(row).at[i].set(1)
        found.append(jnp.where(alive, row / jnp.where(alive, length, 1), spare))
        lengths.append(length)
    return jnp.stack(found), _log(jnp.stack(lengths))


def _householder(rows: Array) -> tuple[Array, Array]:
    q, r = jnp.linalg.qr(rows.T)
    diagonal = jnp.diagonal(r)
    return (q * _sign(diagonal)[None]).T, _log(jnp.abs(diagonal))


def _cholesky_twice(rows: Array) -> tuple[Array, Array]:
    once, first = _cholesky_once(rows)
    twice, second = _cholesky_once(once)
    # The second factor is the identity, to (condition)^2 eps: where it is far from it the first pass lost the rows.
    good = jnp.all(jnp.isfinite(twice)) & jnp.all(jnp.abs(second) < 0.1)
    return jax.lax.cond(good, lambda: (twice, first + second), lambda: _householder(rows))


def _cholesky_once(rows: Array) -> tuple[Array, Array]:
    inverse, logs = _inverse_factor(rows @ rows.T)
    return inverse @ rows, logs


def _inverse_factor(gram: Array) -> tuple[Array, Array]:
    """L^-1 and ln L_ii of G = L L^T: [[A, 0], [B, C]]^-1 = [[A^-1, 0], [-C^-1 B A^-1, C^-1]], down to a leaf."""
    k = gram.shape[0]
    if k <= _LEAF:
        factor = jnp.linalg.cholesky(gram, symmetrize_input=False)
        unit = jnp.eye(k, dtype=gram.dtype)
        return jax.scipy.linalg.solve_triangular(factor, unit, lower=True), _log(jnp.diagonal(factor))
    half = k // 2
    a, first = _inverse_factor(gram[:half, :half])
    b = gram[half:, :half] @ a.T
    c, second = _inverse_factor(gram[half:, half:] - b @ b.T)
    upper = jnp.zeros((half, k - half), gram.dtype)
    return jnp.block([[a, upper], [-c @ (b @ a), c]]), jnp.concatenate([first, second])


def _sign(values: Array) -> Array:
    return jnp.where(values < 0, -1, 1).astype(values.dtype)


def _log(lengths: Array) -> Any:
    return jnp.log(jnp.maximum(lengths, jnp.finfo(lengths.dtype).tiny))
