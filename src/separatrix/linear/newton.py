r"""Steps of Newton's method for many problems r(z) = 0 at once, one row of a batch for each.

    direction    J d = -r
    length       z <- z + s d,    s = 1, then by the parabola through what is known of |r|^2, until it falls enough (Armijo)

Up to 256 unknowns J is formed from one linearisation and factored by LU; a row whose J is singular to rounding takes the
shortest least-squares step, by singular values, so that a family of roots is met at its nearest point. Beyond, GMRES on
products makes |J d + r| <= eta |r| with eta of the order of |r|, which keeps the convergence quadratic. A row on which it
stalls has its matrix formed up to 2,048 unknowns, and is solved by conjugate gradients on J^T J beyond.

LAPACK takes the rows of a batch one after another on a CPU. What is said of a row is therefore done for that row alone.
(Nocedal & Wright, *Numerical Optimization* (2006), chapters 3 and 11; Eisenstat & Walker, *Choosing the forcing terms in
an inexact Newton method* (1996).)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg, gmres
from jaxtyping import Array

# Above the first GMRES is cheaper than the matrix; above the second the matrix has more than 32 MB.
FORMED, FORMED_AT_LEAST_ONCE = 256, 2048
# Vectors of a Krylov space, and how often it is begun anew.
_KRYLOV, _RESTARTS = 64, 4
# Largest and smallest part of |r| that GMRES leaves, and what it must not leave.
_LOOSE, _TIGHT, _STALLED = 0.1, 1e-10, 0.5
# |r|^2 must fall by this part of what its slope says; the shortest part of a step.
_ENOUGH, _SHORTEST = 0.1, 2.0**-14


class Linearised(NamedTuple):
    """r (B, n), the Newton step d (B, n), and J (B, n, n) where it was formed for all rows."""

    residuals: Any
    steps: Any
    matrices: Any


class Moved(NamedTuple):
    """z + s d (B, n), r there (B, n), whether |r| fell enough (B,), and how many times r was evaluated (B,)."""

    values: Any
    residuals: Any
    fell: Any
    trials: Any


def matrices_of(equations: Any, values: Array, extra: Any) -> tuple[Array, Array]:
    """r (B, n) and J (B, n, n): one linearisation a row, all columns pushed through it."""

    def one(z: Any, extra: Any) -> Any:
        residual, push = jax.linearize(lambda z: equations(z, extra), z)
        return residual, jax.vmap(push, out_axes=1)(jnp.eye(z.size, dtype=z.dtype))

    return jax.vmap(one)(values, extra)


def newton_steps(equations: Any, values: Array, extra: Any, cutoff: float | None) -> Linearised:
    """d of J d = -r for every row; with a cutoff nothing moves along singular values below it times the largest."""
    if values.shape[1] > FORMED and cutoff is None:
        return _by_products(equations, values, extra)
    residuals, matrices = matrices_of(equations, values, extra)
    if cutoff is not None:
        steps = jax.lax.map(lambda row: shortest(row[0], row[1], cutoff), (matrices, residuals))
        return Linearised(residuals, steps, matrices)
    steps, sound = _by_factors(matrices, residuals)

    def repaired(row: Any) -> Any:
        matrix, residual, step, sound = row
        return jax.lax.cond(sound, lambda: step, lambda: shortest(matrix, residual))

    alone = lambda: jax.lax.map(repaired, (matrices, residuals, steps, sound))  # noqa: E731
    return Linearised(residuals, jax.lax.cond(jnp.all(sound), lambda: steps, alone), matrices)


def shortest(matrix: Array, residual: Array, cutoff: float | None = None) -> Array:
    """The shortest d that makes |J d + r| least; NaN where J is not finite."""
    eps = float(jnp.finfo(matrix.dtype).eps)
    u, sizes, v = jnp.linalg.svd(matrix, full_matrices=False)
    kept = sizes > (eps * len(matrix) if cutoff is None else cutoff) * sizes[0]
    along = u.T @ residual
    return -v.T @ jnp.where(kept, along / jnp.where(kept, sizes, 1), jnp.where(jnp.isfinite(sizes), 0, jnp.nan))


def backtracked(equations: Any, values: Array, extra: Any, found: Linearised, wanted: Array) -> Moved:
    """Go along the steps of the rows that are wanted, each as far as lowers its own residual."""
    before = jnp.sum(found.residuals**2, axis=1)

    def trial(state: Any) -> Any:
        moved, part, pending = state
        there = values + part[:, None] * found.steps
        residuals = jax.vmap(equations)(there, extra)
        after = jnp.sum(residuals**2, axis=1)
        fell = pending & (after <= (1 - 2 * _ENOUGH * part) * before)
        new = Moved(
            jnp.where(fell[:, None], there, moved.values),
            jnp.where(fell[:, None], residuals, moved.residuals),
            moved.fell | fell,
            moved.trials + pending.astype(int),
        )
        # The parabola with |r|^2 and its slope -2 |r|^2 at 0, and the value found, is least at this part.
        curve = after - before + 2 * part * before
        least = jnp.where(curve > 0, part**2 * before / jnp.where(curve > 0, curve, 1), 0)
        part = jnp.clip(jnp.where(jnp.isfinite(least), least, 0), 0.1 * part, 0.5 * part)
        return new, part, pending & ~fell & (part >= _SHORTEST)

    nothing = jnp.zeros(len(values), int)
    finite = jnp.isfinite(found.steps).all(axis=1) & jnp.isfinite(before)
    begun = Moved(values, found.residuals, jnp.zeros(len(values), bool), nothing)
    start = (begun, jnp.ones_like(before), wanted & finite)
    return jax.lax.while_loop(lambda state: jnp.any(state[2]), trial, start)[0]


def _by_factors(matrices: Array, residuals: Array) -> tuple[Array, Array]:
    """Steps by LU, and which of them can be used: a pivot that is rounding says that J is singular."""
    factors, _, order = jax.lax.linalg.lu(matrices)
    right = jnp.take_along_axis(-residuals, order, axis=1)[:, :, None]
    solve = jax.lax.linalg.triangular_solve
    middle = solve(factors, right, left_side=True, lower=True, unit_diagonal=True)
    steps = solve(factors, middle, left_side=True, lower=False)[:, :, 0]
    pivots = jnp.abs(jnp.diagonal(factors, axis1=1, axis2=2))
    rounding = 16 * matrices.shape[1] * float(jnp.finfo(matrices.dtype).eps)
    sound = jnp.min(pivots, axis=1) > rounding * jnp.max(pivots, axis=1)
    # What is not finite stays so: no other method makes a step of it.
    return steps, (sound & jnp.isfinite(steps).all(axis=1)) | ~jnp.isfinite(matrices).all(axis=(1, 2))


def _by_products(equations: Any, values: Array, extra: Any) -> Linearised:
    """Steps by GMRES; what it leaves too much of is solved otherwise, row by row."""
    size = values.shape[1]

    def one(z: Any, extra: Any) -> Any:
        residual, push = jax.linearize(lambda z: equations(z, extra), z)
        length = jnp.linalg.norm(residual)
        loose = jnp.clip(length / jnp.maximum(jnp.linalg.norm(z), 1), _TIGHT, _LOOSE)
        space = min(size, _KRYLOV)
        step = gmres(push, -residual, tol=loose, restart=space, maxiter=_RESTARTS, solve_method="incremental")[0]
        left = jnp.linalg.norm(push(step) + residual)
        return residual, step, (left <= _STALLED * length) | ~jnp.isfinite(length)

    residuals, steps, sound = jax.vmap(one)(values, extra)

    def repaired(row: Any) -> Any:
        z, extra, step, sound = row
        return jax.lax.cond(sound, lambda: step, lambda: _otherwise(equations, z, extra))

    alone = lambda: jax.lax.map(repaired, (values, extra, steps, sound))  # noqa: E731
    return Linearised(residuals, jax.lax.cond(jnp.all(sound), lambda: steps, alone), None)


def _otherwise(equations: Any, z: Array, extra: Any) -> Array:
    """One step without GMRES."""
    residual, push = jax.linearize(lambda z: equations(z, extra), z)
    if z.size <= FORMED_AT_LEAST_ONCE:
        matrix = jax.vmap(push, out_axes=1)(jnp.eye(z.size, dtype=z.dtype))
        steps, sound = _by_factors(matrix[None], residual[None])
        return jax.lax.cond(sound[0], lambda: steps[0], lambda: shortest(matrix, residual))
    pull = jax.linear_transpose(push, z)
    return cg(lambda v: pull(push(v))[0], -pull(residual)[0], tol=1e-6)[0]
