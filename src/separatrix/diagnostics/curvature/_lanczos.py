r"""Leading eigenpairs of a symmetric matrix from products alone, and its tridiagonal form.

`leading` is Lanczos with thick restarts, written as Davidson's method so that it can go on from any block of vectors:

    Q = [start];  repeat:  T = Q^T A Q,  T y_i = theta_i y_i,  r_i = A Q y_i - theta_i Q y_i,  Q <- [Q, r_i / |r_i|],

r_i being the residual of the first wanted pair that is not accurate yet. From a single vector this is the Lanczos process
(its residuals all point along the next Lanczos vector); from good approximations of eigenvectors the first products only
confirm them. A full basis is replaced by its leading Ritz vectors. An eigenvalue's error is bounded by

    |lambda_i - theta_i| <= min(|r_i|, sum_j |r_j|^2 / gap),      gap = theta_i - theta_(k+1) - |r_(k+1)|,

the second (Kato and Temple) with the first pair that is not wanted, the guard, at the top of its own error bar. No bound on
residuals says that an eigenvalue found is the outermost: the guard has to be accurate too, roughly, before the search ends,
for a Krylov space finds outer eigenvalues first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

Multiply = Callable[[Array], Array]
# Residual of a guard over its value. Measured along training of two small networks: without this condition a cold start
# stopped at the second eigenvalue in one call of ten; at 0.1 and at 0.3 in none, for two products more.
_LOOSE = 0.1


class Pairs(NamedTuple):
    """Ritz pairs: the wanted ones first, then those kept to go on from."""

    values: Array
    vectors: Array
    residuals: Array
    errors: Array
    products: Array
    converged: Array


class _Space(NamedTuple):
    """A basis Q with its images A Q, T = Q^T A Q, and what they say."""

    rows: Array  # (m, 2, n): q_i and A q_i
    projected: Array  # (m, m)
    size: Array
    products: Array
    values: Array  # (m,), descending
    mix: Array  # (m, m), a column y_i for each
    residuals: Array  # (b,)
    errors: Array  # (k,)
    direction: Array  # (n,)
    converged: Array


def leading(
    multiply: Multiply, start: Array, chance: Array, *, count: int, kept: int, room: int, tol: Any, limit: Any
) -> Pairs:
    """The `count` largest eigenvalues to relative accuracy `tol`, with `kept` >= count Ritz vectors to go on from.

    `start`, shape (s, n): vectors to begin with; `chance`, shape (n,): a random one; `room`: the largest basis; `limit`:
    the largest number of products.
    """
    given, n = start.shape
    least = max(given, min(kept, n))

    def go_on(space: _Space) -> Any:
        sound = jnp.isfinite(space.values[0]) | (space.products == 0)
        return ~space.converged & (space.products < limit) & sound & (space.size < n)

    def advance(space: _Space) -> _Space:
        space = jax.lax.cond(space.size == room, lambda s: _restart(s, max(kept, room // 2)), lambda s: s, space)
        space = _extended(space, multiply, given)
        sums = _sums(space.mix[:, :kept], space.rows, space.size)
        left = sums[:, 1] - space.values[:kept, None] * sums[:, 0]
        residuals = jnp.linalg.norm(left, axis=1)
        errors = _errors(space.values, residuals, space.size, count)
        # Rounding of a product, which no number of them undoes.
        floor = 10 * jnp.finfo(start.dtype).eps * jnp.nanmax(jnp.abs(space.values))
        # The pairs kept beside need be known only roughly: that what was found is outermost, and by how much.
        allowed = jnp.where(jnp.arange(kept) < count, tol, jnp.maximum(tol, _LOOSE)) * jnp.abs(space.values[:kept])
        excess = jnp.concatenate([errors, residuals[count:]]) - jnp.maximum(allowed, floor)
        worst = jnp.argmax(excess)
        # Where no residual is left the space is invariant: go on from somewhere else.
        turn = jnp.where(residuals[worst] > floor, left[worst], jnp.roll(chance, space.products))
        return space._replace(
            residuals=residuals,
            errors=errors,
            direction=_orthogonal(turn, space.rows, space.size),
            converged=jnp.all(excess <= 0) & (space.size >= least),
        )

    space = jax.lax.while_loop(go_on, advance, _empty(orthonormal(start, chance), room, count, kept))
    converged = space.converged | ((space.size == n) & jnp.isfinite(space.values[0]))
    vectors = _sums(space.mix[:, :kept], space.rows, space.size)[:, 0]
    return Pairs(space.values[:kept], vectors, space.residuals, space.errors, space.products, converged)


def _empty(started: Array, room: int, count: int, kept: int) -> _Space:
    given, n = started.shape
    rows = jnp.zeros((room, 2, n), started.dtype).at[:given, 0].set(started)
    square, none, nan = jnp.zeros((room, room), started.dtype), jnp.zeros((), int), jnp.full(room, jnp.nan, rows.dtype)
    return _Space(rows, square, none, none, nan, square, nan[:kept], nan[:count], started[0], jnp.zeros((), bool))


def _extended(space: _Space, multiply: Multiply, given: int) -> _Space:
    """One more vector with its image, and the Ritz pairs of the larger space."""
    last, size = space.size, space.size + 1
    q = jnp.where(last < given, space.rows[last, 0], space.direction)
    image = multiply(q)
    rows = space.rows.at[last].set(jnp.stack([q, image]))
    line = _dots(rows, image, size)
    projected = space.projected.at[last].set(line).at[:, last].set(line)
    values, mix = _ritz(projected, size)
    return space._replace(
        rows=rows, projected=projected, size=size, products=space.products + 1, values=values, mix=mix
    )


def _ritz(projected: Array, size: Array) -> tuple[Array, Array]:
    """Eigenvalues of the active part of T, descending (NaN past `size`), and eigenvectors as columns."""
    active = jnp.arange(projected.shape[0]) < size
    both = active[:, None] & active[None]
    below = -2 * jnp.linalg.norm(projected) - 1
    values, vectors = jnp.linalg.eigh(jnp.where(both, projected, 0) + jnp.diag(jnp.where(active, 0, below)))
    return jnp.where(active, values[::-1], jnp.nan), jnp.where(both, vectors[:, ::-1], 0)


def _errors(values: Array, residuals: Array, size: Array, count: int) -> Array:
    """min(|r_i|, sum_j |r_j|^2 / gap) for the wanted pairs; infinite where there is none yet."""
    r = residuals[:count]
    if residuals.shape[0] > count:
        gap = values[:count] - values[count] - residuals[count]
        close = jnp.sum(r**2) / jnp.where(gap > 0, gap, jnp.nan)
        r = jnp.where(close < r, close, r)
    return jnp.where(jnp.arange(count) < size, r, jnp.inf)


def _restart(space: _Space, size: int) -> _Space:
    """Keep the leading Ritz vectors: their residuals all point along the one direction that comes next."""
    rows = jnp.zeros_like(space.rows).at[:size].set(_sums(space.mix[:, :size], space.rows, space.size))
    values = jnp.where(jnp.arange(space.values.shape[0]) < size, space.values, 0)
    return space._replace(rows=rows, projected=jnp.diag(values), size=jnp.asarray(size))


def _dots(rows: Array, vector: Array, size: Array) -> Array:
    """<q_i, v> for i < size: what is not in use is not read."""
    zero = jnp.zeros(rows.shape[0], rows.dtype)
    return jax.lax.fori_loop(0, size, lambda i, out: out.at[i].set(jnp.vdot(rows[i, 0], vector)), zero)


def _sums(mix: Array, rows: Array, size: Array) -> Array:
    """sum_(i < size) mix[i, j] rows_i, a row for each column j."""
    zero = jnp.zeros((mix.shape[1], *rows.shape[1:]), rows.dtype)
    return jax.lax.fori_loop(0, size, lambda i, out: out + mix[i][:, None, None] * rows[i][None], zero)


def _orthogonal(vector: Array, rows: Array, size: Array) -> Array:
    """A unit vector orthogonal to q_i, i < size: Gram-Schmidt, twice."""

    def remove(i: Any, v: Array) -> Array:
        q = rows[i % size, 0]
        return v - jnp.vdot(q, v) * q

    vector = jax.lax.fori_loop(0, 2 * size, remove, vector / jnp.linalg.norm(vector))
    length = jnp.linalg.norm(vector)
    return vector / jnp.where(length > 0, length, 1)


def orthonormal(vectors: Array, chance: Array) -> Array:
    """Gram-Schmidt; a vector that is dependent, zero or not finite is replaced by a random one."""

    def add(i: Any, rows: Array) -> Array:
        length = jnp.linalg.norm(vectors[i])
        unit = vectors[i] / jnp.where(length > 0, length, 1)
        left = jnp.sqrt(jnp.maximum(jnp.sum(unit**2) - jnp.sum(_dots(rows, unit, i) ** 2), 0))
        vector = jnp.where(left > 1e-3, unit, jnp.roll(chance, i))  # not NaN either
        return rows.at[i, 0].set(_orthogonal(vector, rows, i))

    return jax.lax.fori_loop(0, vectors.shape[0], add, jnp.zeros_like(vectors)[:, None])[:, 0]


def tridiagonal(multiply: Multiply, start: Array, steps: int) -> tuple[Array, Array]:
    """Diagonal (m,) and off-diagonal (m - 1,) of T = Q^T A Q by Lanczos with full reorthogonalisation, twice.

    Where the space is exhausted the off-diagonal is zero, and what follows is apart.
    """
    tiny = jnp.finfo(start.dtype).eps

    def step(carry: Any, j: Array) -> Any:
        basis, q, before, beta, size = carry
        basis = basis.at[j].set(q)
        w = multiply(q)
        alpha = jnp.vdot(q, w)
        w = w - alpha * q - beta * before
        for _ in range(2):
            w = w - basis.T @ (basis @ w)
        size = jnp.maximum(size, jnp.abs(alpha) + beta)
        length = jnp.linalg.norm(w)
        ended = ~(length > 100 * tiny * size)
        beta = jnp.where(ended, 0, length)
        return (basis, jnp.where(ended, 0, w / jnp.where(ended, 1, length)), q, beta, size), (alpha, beta)

    zero = jnp.zeros((), start.dtype)
    carry = jnp.zeros((steps, start.shape[0]), start.dtype), start, jnp.zeros_like(start), zero, zero
    _, (alphas, betas) = jax.lax.scan(step, carry, jnp.arange(steps))
    return alphas, betas[:-1]
