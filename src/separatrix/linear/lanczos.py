r"""Leading eigenpairs of a symmetric matrix from products alone, and its tridiagonal form.

`leading` is Lanczos with thick restarts, written as Davidson's method so that it can go on from any block of vectors:

    Q = [start];  repeat:  T = Q^T A Q,  T y_i = theta_i y_i,  r_i = A Q y_i - theta_i Q y_i,  Q <- [Q, r_i / |r_i|],

r_i being the residual of the first wanted pair that is not accurate yet. From a single vector this is the Lanczos process
(its residuals all point along the next Lanczos vector); from good approximations of eigenvectors the first products only
confirm them. A full basis is replaced by its leading Ritz vectors. An eigenvalue's error is bounded by

    |lambda_i - theta_i| <= min(|r_i|, sum_j |r_j|^2 / gap),      gap = theta_i - theta_(k+1) - |r_(k+1)|,

the second (Kato and Temple) with the first pair that is not wanted, the guard, at the top of its own error bar; without a
guard, with the gap that an earlier search saw, and then it is an estimate. No bound on residuals says that an eigenvalue
found is the outermost: the guard has to be accurate too, roughly, before the search ends, for a Krylov space finds outer
eigenvalues first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

Multiply = Callable[[Array], Array]
RandomVector = Callable[[Any], Array]
# Residual of a guard over its value. Measured along training of two small networks: without this condition a cold start
# stopped at the second eigenvalue in one call of ten; at 0.1 and at 0.3 in none, for two products more.
_LOOSE = 0.1


class Pairs(NamedTuple):
    """Ritz pairs: the wanted ones first, then those kept to go on from. Vectors are rows, or a tree with a leading axis."""

    values: Array
    vectors: Any
    residuals: Array
    errors: Array
    products: Array
    converged: Array
    gap: Array  # (theta_k - theta_(k+1))/|theta_k| as far as it was seen


class PairSearch(NamedTuple):
    """What a search for eigenpairs is for, and what it has.

    `pairs` to relative accuracy `tol`, `kept` of them to go on from; a basis of at most `room`, `limit` products (those of
    the start in any case); `gap`, relative, as an earlier search saw it, for where no guard is kept (NaN for none);
    `random_vector(i)`: one for each i.
    """

    pairs: int
    kept: int
    room: int
    tol: Any
    limit: Any
    gap: Any
    random_vector: RandomVector


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


def leading(multiply: Multiply, start: Array, search: PairSearch) -> Pairs:
    """The largest eigenvalues that are wanted, from vectors to begin with, shape (s, n)."""
    rows = orthonormal(start, search.random_vector)
    return _searched(_begun(rows, jax.lax.map(multiply, rows), search), multiply, search)


def resumed(multiply: Multiply, q: Array, image: Array, search: PairSearch) -> Pairs:
    """The same from one unit vector whose image is known."""
    return _searched(_begun(q[None], image[None], search), multiply, search)


def _begun(rows: Array, images: Array, search: PairSearch) -> _Space:
    """The space of the vectors given and their images, with room for more."""
    room, (given, n), size = search.room, rows.shape, jnp.asarray(rows.shape[0], int)
    whole = jnp.zeros((room, 2, n), rows.dtype).at[:given, 0].set(rows).at[:given, 1].set(images)
    projected = rows @ images.T
    projected = jnp.zeros((room, room), rows.dtype).at[:given, :given].set((projected + projected.T) / 2)
    none = jnp.full(room, jnp.nan, rows.dtype)
    return _Space(
        whole, projected, size, size, *_ritz(projected, size), none[: search.kept], none[: search.pairs], rows[0],
        jnp.zeros((), bool),
    )  # fmt: skip


def _searched(space: _Space, multiply: Multiply, search: PairSearch) -> Pairs:
    """Extend a space until its pairs are accurate."""
    room, kept, n = search.room, search.kept, space.direction.shape[0]

    def go_on(space: _Space) -> Any:
        return ~space.converged & (space.products < search.limit) & jnp.isfinite(space.values[0]) & (space.size < n)

    def advance(space: _Space) -> _Space:
        space = jax.lax.cond(space.size == room, lambda s: _restart(s, max(kept, room // 2)), lambda s: s, space)
        return _judged(_extended(space, multiply), search)

    space = jax.lax.while_loop(go_on, advance, _judged(space, search))
    converged = space.converged | ((space.size == n) & jnp.isfinite(space.values[0]))
    values = jnp.pad(space.values, (0, 1), constant_values=jnp.nan)
    count = search.pairs
    # Ritz values lie below eigenvalues, so that of two gaps the smaller is nearer to the truth.
    gap = jnp.fmin((values[count - 1] - values[count]) / jnp.abs(values[count - 1]), search.gap)
    vectors = _sums(space.mix[:, :kept], space.rows, space.size)[:, 0]
    return Pairs(values[:kept], vectors, space.residuals, space.errors, space.products, converged, gap)


def _judged(space: _Space, search: PairSearch) -> _Space:
    """Residuals and errors of a space, whether they suffice, and where to go on if not."""
    count, kept, tol = search.pairs, search.kept, search.tol
    values = space.values[:kept]
    sums = _sums(space.mix[:, :kept], space.rows, space.size)
    left = sums[:, 1] - values[:, None] * sums[:, 0]
    residuals = jnp.linalg.norm(left, axis=1)
    errors = errors_of(space.values, residuals, space.size, count, search.gap)
    floor = rounding(jnp.nanmax(jnp.abs(space.values)))
    # The pairs kept beside need be known only roughly: that what was found is outermost, and by how much.
    allowed = jnp.where(jnp.arange(kept) < count, tol, jnp.maximum(tol, _LOOSE)) * jnp.abs(values)
    excess = jnp.concatenate([errors, residuals[count:]]) - jnp.maximum(allowed, floor)
    # A pair that is not there yet (NaN) is the worst of all, and where no residual is left the space is invariant. In both
    # cases go on from somewhere else.
    worst = jnp.argmax(excess)
    ahead = jax.lax.cond(residuals[worst] > floor, lambda: left[worst], lambda: search.random_vector(space.products))
    return space._replace(
        residuals=residuals,
        errors=errors,
        direction=_orthogonal(ahead, space.rows, space.size),
        converged=jnp.all(excess <= 0) & (space.size >= kept),
    )


def rounding(size: Array) -> Array:
    """What a product is off by where eigenvalues are of this size, which no number of products undoes."""
    return 10 * jnp.finfo(size.dtype).eps * size


def _extended(space: _Space, multiply: Multiply) -> _Space:
    """One more vector with its image, and the Ritz pairs of the larger space."""
    last, size, q = space.size, space.size + 1, space.direction
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


def errors_of(values: Array, residuals: Array, size: Array, count: int, gap: Any) -> Array:
    """min(|r_i|, sum_j |r_j|^2 / gap) for the wanted pairs; infinite where there is none yet."""
    r, last = residuals[:count], values[count - 1]
    # The next pair at the top of its own error bar; without a guard, where an earlier search saw it.
    guarded = residuals.shape[0] > count
    following = values[count] + residuals[count] if guarded else last - gap * jnp.abs(last)
    distance = values[:count] - following
    close = jnp.sum(r**2) / jnp.where(distance > 0, distance, jnp.nan)
    return jnp.where(jnp.arange(count) < size, jnp.where(close < r, close, r), jnp.inf)


def _restart(space: _Space, size: int) -> _Space:
    """Keep the leading Ritz vectors: their residuals all point along the one direction that comes next."""
    rows = space.rows.at[:size].set(_sums(space.mix[:, :size], space.rows, space.size))
    values = jnp.where(jnp.arange(space.values.shape[0]) < size, space.values, 0)
    return space._replace(rows=rows, projected=jnp.diag(values), size=jnp.asarray(size, int))


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

    return unit(jax.lax.fori_loop(0, 2 * size, remove, unit(vector)))


def unit(vector: Array) -> Array:
    """v/|v|, and 0 for 0."""
    length = jnp.linalg.norm(vector)
    return vector / jnp.where(length > 0, length, 1)


def orthonormal(vectors: Array, random_vector: RandomVector) -> Array:
    """Gram-Schmidt; a vector that is dependent, zero or not finite is replaced by a random one."""

    def add(i: Any, rows: Array) -> Array:
        one = unit(vectors[i])
        left = jnp.sqrt(jnp.maximum(jnp.sum(one**2) - jnp.sum(_dots(rows, one, i) ** 2), 0))
        vector = jax.lax.cond(left > 1e-3, lambda: one, lambda: random_vector(i))  # not NaN either
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
