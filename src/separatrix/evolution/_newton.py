r"""Newton's method over a whole sequence: the equations x[n+1] - F(n, x[n]) = 0, n = 0, ..., N - 1, all at once.

Around a guess g (g[0] = x[0]) with residual r[n] = F(n, g[n]) - g[n+1] and Jacobian J[n] = DF(n, g[n]), the correction
d obeys a linear recurrence, which one associative scan of affine maps solves in log N rounds:

    d[n+1] = A[n] d[n] + r[n],    d[0] = 0,    A = J (full),  diag J (diagonal),  (1 - k) J (damped).

For any A whatever: where g is right up to step m, F(m, g[m]) is x[m+1]. So the rows up to m, the first whose residual
exceeds the tolerance, are left as they are and row m + 1 is set to F(m, g[m]); each round settles one row more at
least, N rounds settle all, and a correction that overflows (products of Jacobians past the horizon of chaos) does no
harm: there the row takes F of the guess, or stays.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Int

from separatrix._types import Function


class Guess(NamedTuple):
    """Rows 1, ..., N of a guess, as vectors and what has no tangent; F of rows 0, ..., N - 1; and how good it is."""

    vectors: Any  # (N, d)
    rest: Any  # leaves (N, ...)
    images: Any  # (N, d)
    image_rest: Any
    settled: Any  # how many leading rows meet the tolerance
    residual: Any  # the largest of all rows, relative to 1 + |x|
    rounds: Any


class Problem(NamedTuple):
    """F on rows: `images(points, rest)`, and its linearisation A at the rows, each (N, ...) -> (N, ...)."""

    images: Function
    slopes: Function
    start: Any  # x[0] as (vector, rest)
    length: int


def solve(problem: Problem, tolerance: Any, damping: Any, max_rounds: int) -> Guess:
    """Correct until every row meets the tolerance, the orbit is known to break, or the rounds are used up."""
    vector, rest = problem.start
    repeat = lambda leaf: jnp.broadcast_to(leaf, (problem.length, *jnp.shape(leaf)))  # noqa: E731
    first = _judge(problem, repeat(vector), jax.tree.map(repeat, rest), tolerance, jnp.asarray(0))

    def going(guess: Guess) -> Bool[Array, ""]:
        unsettled = guess.settled < problem.length
        return unsettled & ~broken(guess, problem.length) & (guess.rounds < max_rounds)

    def correct(guess: Guess) -> Guess:
        slopes = problem.slopes(*points(problem.start, guess.vectors, guess.rest), guess.rounds)
        damped = slopes * (1 - jnp.asarray(damping, slopes.dtype) * jnp.minimum(guess.residual, 1))
        vectors, rest = _corrected(guess, damped)
        return _judge(problem, vectors, rest, tolerance, guess.rounds + 1)

    return jax.lax.while_loop(going, correct, first)


def broken(guess: Guess, count: int) -> Bool[Array, ""]:
    """Whether the first row that is not settled is the first whose true value is not finite."""
    image = guess.images[jnp.minimum(guess.settled, count - 1)]
    return (guess.settled < count) & ~jnp.isfinite(image).all()


def points(start: Any, vectors: Any, rest: Any) -> tuple[Any, Any]:
    """Rows 0, ..., N - 1: x[0] before all rows but the last."""
    return jax.tree.map(lambda x, rows: jnp.concatenate([jnp.asarray(x)[None], rows[:-1]]), start, (vectors, rest))


def affine_scan(slopes: Array, shifts: Inexact[Array, "count dim"]) -> Inexact[Array, "count dim"]:
    """d[n+1] = A[n] d[n] + b[n] from d[0] = 0: all d[1], ..., d[N]. A: (N, d, d) matrices or (N, d) diagonals."""

    def then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        (a, b), (c, d) = first, second
        return _times(c, a), d + _times(c, b[..., None])[..., 0] if c.ndim == 3 else d + c * b

    return jax.lax.associative_scan(then, (slopes, shifts))[1]


def _times(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b) if a.ndim == 3 else a * b


def _judge(problem: Problem, vectors: Any, rest: Any, tolerance: Any, rounds: Int[Array, ""]) -> Guess:
    images, image_rest = problem.images(*points(problem.start, vectors, rest))
    size = 1 + jnp.max(jnp.abs(images), axis=1)
    errors = jnp.max(jnp.abs(images - vectors), axis=1) / size
    errors = jnp.where(jnp.isfinite(errors), errors, jnp.inf)
    good = errors <= jnp.asarray(tolerance, errors.dtype)
    for new, old in zip(jax.tree.leaves(image_rest), jax.tree.leaves(rest), strict=True):
        good &= (new == old).reshape(problem.length, -1).all(axis=1)
    settled = jnp.cumprod(good, dtype=int).sum()
    return Guess(vectors, rest, images, image_rest, settled, jnp.max(errors), rounds)


def _corrected(guess: Guess, slopes: Array) -> tuple[Any, Any]:
    """Rows of g + d, with the safeguards said above."""
    row = jnp.arange(guess.vectors.shape[0])
    shifts = guess.images - guess.vectors
    shifts = jnp.where(((row >= guess.settled) & _finite(shifts))[:, None], shifts, 0)
    carries = (row > guess.settled) & _finite(slopes)
    slopes = jnp.where(carries.reshape(-1, *[1] * (slopes.ndim - 1)), slopes, 0)
    following = guess.vectors + affine_scan(slopes, shifts)
    fallback = jnp.where(_finite(guess.images)[:, None], guess.images, guess.vectors)
    sound = _finite(following) & (row != guess.settled)
    following = jnp.where(sound[:, None], following, fallback)
    open_rows = row >= guess.settled
    return following, jax.tree.map(lambda old, new: _counted(old, new, open_rows), guess.rest, guess.image_rest)


def _counted(old: Array, new: Array, open_rows: Array) -> Array:
    """Rows without a tangent. Integers take A = 1, exact for counters; others take F of the guess."""
    if not jnp.issubdtype(old.dtype, jnp.integer):
        return new
    shift = jnp.where(open_rows.reshape(-1, *[1] * (old.ndim - 1)), new - old, jnp.zeros((), old.dtype))
    return old + jnp.cumsum(shift, axis=0, dtype=old.dtype)


def _finite(rows: Array) -> Bool[Array, " count"]:
    return jnp.isfinite(rows).reshape(rows.shape[0], -1).all(axis=1)
