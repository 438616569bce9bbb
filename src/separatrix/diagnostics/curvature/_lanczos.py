r"""Leading eigenpairs of a symmetric matrix from products alone, and its tridiagonal form.

`leading` is Lanczos with thick restarts, written as Davidson's method so that it can go on from any block of vectors:

    Q = [start];  repeat:  T = Q^T A Q,  T y_i = theta_i y_i,  r_i = A Q y_i - theta_i Q y_i,  Q <- [Q, r_i / |r_i|],

r_i being the residual of the first wanted pair that is not accurate yet. From a single vector this is the Lanczos process
(its residuals all point along the next Lanczos vector); from good approximations of eigenvectors the first products only
confirm them. A full basis is replaced by its leading Ritz vectors. An eigenvalue's error is bounded by

    |lambda_i - theta_i| <= min(|r_i|, sum_j |r_j|^2 / gap),      gap = theta_i - theta_(k+1) - |r_(k+1)|,

the second (Kato and Temple) with the first pair that is not wanted, the guard, at the top of its own error bar; without a
guard, with the gap that an earlier search saw. No bound on
residuals says that an eigenvalue found is the outermost: the guard has to be accurate too, roughly, before the search ends,
for a Krylov space finds outer eigenvalues first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._tree import dot, norm
from separatrix._types import State

Multiply = Callable[[State], State]
Chance = Callable[[Any], State]
# Residual of a guard over its value. Measured along training of two small networks: without this condition a cold start
# stopped at the second eigenvalue in one call of ten; at 0.1 and at 0.3 in none, for two products more.
_LOOSE = 0.1


class Pairs(NamedTuple):
    """Ritz pairs: the wanted ones first, then those kept to go on from (vectors: a tree with a leading axis)."""

    values: Array
    vectors: State
    residuals: Array
    errors: Array
    products: Array
    converged: Array
    gap: Array  # (theta_k - theta_(k+1))/|theta_k| as far as it was seen


class Wanted(NamedTuple):
    """What a search is for, and what it has.

    `pairs` to relative accuracy `tol`, `kept` of them to go on from; a basis of at most `room`, `limit` products (those of
    the start in any case); `gap`, relative, as an earlier search saw it, for where no guard is kept (NaN for none);
    `chance(i)`: random vectors.
    """

    pairs: int
    kept: int
    room: int
    tol: Any
    limit: Any
    gap: Any
    chance: Chance


class _Space(NamedTuple):
    """A basis Q with its images A Q, T = Q^T A Q, and what they say."""

    rows: State  # leaves (m, 2, ...): q_i and A q_i
    projected: Array  # (m, m)
    size: Array
    products: Array
    values: Array  # (m,), descending
    mix: Array  # (m, m), a column y_i for each
    residuals: Array  # (b,)
    errors: Array  # (k,)
    direction: State
    converged: Array


def leading(multiply: Multiply, start: State, wanted: Wanted) -> Pairs:
    """The largest eigenvalues that are wanted, from vectors to begin with (a leading axis of s)."""
    rows = orthonormal(start, wanted.chance)
    return _searched(_begun(rows, jax.lax.map(multiply, rows), wanted), multiply, wanted)


def resumed(multiply: Multiply, q: State, image: State, wanted: Wanted) -> Pairs:
    """The same from one unit vector whose image is known."""
    rows, images = (jax.tree.map(lambda leaf: leaf[None], tree) for tree in (q, image))
    return _searched(_begun(rows, images, wanted), multiply, wanted)


def _begun(rows: State, images: State, wanted: Wanted) -> _Space:
    """The space of the vectors given and their images, with room for more."""
    room, given = wanted.room, jax.tree.leaves(rows)[0].shape[0]
    projected = jax.vmap(lambda q: jax.vmap(lambda w: dot(q, w))(images))(rows)
    size, dtype = jnp.asarray(given, int), projected.dtype

    def placed(q: Array, w: Array) -> Array:
        return jnp.zeros((room, 2, *q.shape[1:]), q.dtype).at[:given, 0].set(q).at[:given, 1].set(w)

    projected = jnp.zeros((room, room), dtype).at[:given, :given].set((projected + projected.T) / 2)
    first, none = jax.tree.map(lambda q: q[0], rows), jnp.full(room, jnp.nan, dtype)
    return _Space(
        jax.tree.map(placed, rows, images), projected, size, size, *_ritz(projected, size), none[: wanted.kept],
        none[: wanted.pairs], first, jnp.zeros((), bool),
    )  # fmt: skip


def _searched(space: _Space, multiply: Multiply, wanted: Wanted) -> Pairs:
    """Extend a space until its pairs are accurate."""
    room, kept, n = wanted.room, wanted.kept, _size(space.direction)

    def go_on(space: _Space) -> Any:
        return ~space.converged & (space.products < wanted.limit) & jnp.isfinite(space.values[0]) & (space.size < n)

    def advance(space: _Space) -> _Space:
        space = jax.lax.cond(space.size == room, lambda s: _restart(s, max(kept, room // 2)), lambda s: s, space)
        return _judged(_extended(space, multiply), wanted)

    space = jax.lax.while_loop(go_on, advance, _judged(space, wanted))
    converged = space.converged | ((space.size == n) & jnp.isfinite(space.values[0]))
    values = jnp.pad(space.values, (0, 1), constant_values=jnp.nan)
    count = wanted.pairs
    # Ritz values lie below eigenvalues, so that of two gaps the smaller is nearer to the truth.
    gap = jnp.fmin((values[count - 1] - values[count]) / jnp.abs(values[count - 1]), wanted.gap)
    vectors = jax.tree.map(lambda leaf: leaf[:, 0], _sums(space.mix[:, :kept], space.rows, space.size))
    return Pairs(values[:kept], vectors, space.residuals, space.errors, space.products, converged, gap)


def _judged(space: _Space, wanted: Wanted) -> _Space:
    """Residuals and errors of a space, whether they suffice, and where to go on if not."""
    count, kept, tol = wanted.pairs, wanted.kept, wanted.tol
    values = space.values[:kept]
    sums = _sums(space.mix[:, :kept], space.rows, space.size)
    left = jax.vmap(lambda value, pair: jax.tree.map(lambda leaf: leaf[1] - value * leaf[0], pair))(values, sums)
    residuals = jax.vmap(norm)(left)
    errors = errors_of(space.values, residuals, space.size, count, wanted.gap)
    floor = rounding(jnp.nanmax(jnp.abs(space.values)))
    # The pairs kept beside need be known only roughly: that what was found is outermost, and by how much.
    allowed = jnp.where(jnp.arange(kept) < count, tol, jnp.maximum(tol, _LOOSE)) * jnp.abs(values)
    excess = jnp.concatenate([errors, residuals[count:]]) - jnp.maximum(allowed, floor)
    # A pair that is not there yet (NaN) is the worst of all, and where no residual is left the space is invariant. In both
    # cases go on from somewhere else.
    worst = jnp.argmax(excess)
    ahead = jax.lax.cond(
        residuals[worst] > floor,
        lambda: jax.tree.map(lambda leaf: leaf[worst], left),
        lambda: wanted.chance(space.products),
    )
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
    rows = jax.tree.map(lambda leaf, a, b: leaf.at[last].set(jnp.stack([a, b])), space.rows, q, image)
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
    kept = _sums(space.mix[:, :size], space.rows, space.size)
    rows = jax.tree.map(lambda leaf, some: leaf.at[:size].set(some), space.rows, kept)
    values = jnp.where(jnp.arange(space.values.shape[0]) < size, space.values, 0)
    return space._replace(rows=rows, projected=jnp.diag(values), size=jnp.asarray(size, int))


def _size(tree: State) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _row(rows: State, i: Any) -> State:
    """q_i."""
    return jax.tree.map(lambda leaf: leaf[i, 0], rows)


def _dots(rows: State, vector: State, size: Array) -> Array:
    """<q_i, v> for i < size: what is not in use is not read."""
    leaf = jax.tree.leaves(rows)[0]
    zero = jnp.zeros(leaf.shape[0], leaf.dtype)
    return jax.lax.fori_loop(0, size, lambda i, out: out.at[i].set(dot(_row(rows, i), vector)), zero)


def _sums(mix: Array, rows: State, size: Array) -> State:
    """sum_(i < size) mix[i, j] rows_i, a leading axis for the columns j."""

    def add(i: Any, out: State) -> State:
        return jax.tree.map(lambda sums, leaf: sums + jnp.tensordot(mix[i], leaf[i], 0), out, rows)

    zero = jax.tree.map(lambda leaf: jnp.zeros((mix.shape[1], *leaf.shape[1:]), leaf.dtype), rows)
    return jax.lax.fori_loop(0, size, add, zero)


def _orthogonal(vector: State, rows: State, size: Array) -> State:
    """A unit vector orthogonal to q_i, i < size: Gram-Schmidt, twice."""

    def remove(i: Any, v: State) -> State:
        q = _row(rows, i % size)
        part = dot(q, v)
        return jax.tree.map(lambda a, b: a - part * b, v, q)

    return unit(jax.lax.fori_loop(0, 2 * size, remove, unit(vector)))


def unit(vector: State) -> State:
    """v/|v|, and 0 for 0."""
    length = norm(vector)
    return jax.tree.map(lambda leaf: leaf / jnp.where(length > 0, length, 1), vector)


def orthonormal(vectors: State, chance: Chance) -> State:
    """Gram-Schmidt; a vector that is dependent, zero or not finite is replaced by a random one."""

    def add(i: Any, rows: State) -> State:
        one = unit(jax.tree.map(lambda leaf: leaf[i], vectors))
        left = jnp.sqrt(jnp.maximum(dot(one, one) - jnp.sum(_dots(rows, one, i) ** 2), 0))
        vector = jax.lax.cond(left > 1e-3, lambda: one, lambda: chance(i))  # not NaN either
        return jax.tree.map(lambda leaf, v: leaf.at[i, 0].set(v), rows, _orthogonal(vector, rows, i))

    count = jax.tree.leaves(vectors)[0].shape[0]
    rows = jax.lax.fori_loop(0, count, add, jax.tree.map(lambda leaf: jnp.zeros_like(leaf)[:, None], vectors))
    return jax.tree.map(lambda leaf: leaf[:, 0], rows)


def tridiagonal(multiply: Callable[[Array], Array], start: Array, steps: int) -> tuple[Array, Array]:
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
