r"""Steps of Newton's method for many problems r(z) = 0 at once, one row of a batch for each.

    far off      (J^T J + mu) d = -J^T r         Levenberg and Marquardt's, mu > 0
    near by      J d = -r                        by LU, where J is formed
    products     |J d + r| <= eta |r|            by GMRES, eta of the order of |r|, which keeps it quadratic

J is formed for up to 512 unknowns. A row whose J is singular to rounding takes a lightly damped step, which is the shortest
to some four digits, so that a family of roots is met at its nearest point. Of larger problems a row
on which GMRES stalls has its matrix formed up to 2,048 unknowns, and is solved by conjugate gradients on J^T J beyond.

Where the damping does not see to it, the length of a step does: z + s d with s = 1, then by the parabola through what is
known of |r|^2, until it falls enough (Armijo). (Nocedal & Wright, *Numerical Optimization* (2006), chapters 3, 10 and 11;
Eisenstat & Walker, *Choosing the forcing terms in an inexact Newton method* (1996).)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg, gmres
from jaxtyping import Array

# Above the first GMRES is cheaper than the matrix; above the second the matrix has more than 32 MB.
FORMED, FORMED_AT_LEAST_ONCE = 512, 2048
# Vectors of a Krylov space, and how often it is begun anew.
_KRYLOV, _RESTARTS = 64, 4
# Iterations of conjugate gradients for a damped step.
_CUT_OFF = 64
# Largest and smallest part of |r| that GMRES leaves, and what it must not leave.
_LOOSE, _TIGHT, _STALLED = 0.1, 1e-10, 0.5
# |r|^2 must fall by this part of what its slope says; the shortest part of a step.
_ENOUGH, _SHORTEST = 0.1, 2.0**-14


class Linearised(NamedTuple):
    """r and the Newton step d, each (B, n)."""

    residuals: Any
    steps: Any


class Damped(NamedTuple):
    """d and J^T r (B, n); |J| and by how much |r|^2 should fall (B,); c is the mean square of J's columns, |J|^2/n."""

    steps: Any
    slopes: Any
    sizes: Any
    expected: Any


class Moved(NamedTuple):
    """z + s d (B, n), r there (B, n), s where |r| fell enough, else 0 (B,), and how many times r was evaluated (B,)."""

    values: Any
    residuals: Any
    parts: Any
    trials: Any


def matrices_of(equations: Any, values: Array, extra: Any) -> tuple[Array, Array]:
    """r (B, n) and J (B, n, n). Pushed forward, what is linear in the state before it meets z is done once for all rows."""

    def one(z: Any, extra: Any) -> Any:
        def twice(z: Any) -> Any:
            residual = equations(z, extra)
            return residual, residual

        matrix, residual = jax.jacfwd(twice, has_aux=True)(z)
        return residual, matrix

    return jax.vmap(one)(values, extra)


def newton_steps(equations: Any, values: Array, extra: Any, wanted: Array) -> Linearised:
    """d of J d = -r for the rows wanted, by LU; lightly damped where J is singular to rounding."""
    residuals, matrices = matrices_of(equations, values, extra)
    steps, sound = _by_factors(matrices, residuals)
    # Along what J does not see J^T r is rounding, eps |J| |r|, of which the step takes eps/mu: mu lies well above eps.
    light = jnp.full(len(values), values.shape[1] * float(jnp.finfo(values.dtype).eps) ** (2 / 3), values.dtype)
    repaired = lambda: jnp.where(sound[:, None], steps, damped_steps(matrices, residuals, light).steps)  # noqa: E731
    return Linearised(residuals, jax.lax.cond(jnp.all(sound | ~wanted), lambda: steps, repaired))


def shortest_steps(equations: Any, values: Array, extra: Any, cutoff: float) -> Linearised:
    """The shortest d with |J d + r| least; nothing moves along singular values below the cutoff times the largest."""
    residuals, matrices = matrices_of(equations, values, extra)
    u, sizes, v = jnp.linalg.svd(matrices, full_matrices=False)
    kept = sizes > cutoff * sizes[:, :1]
    along = jnp.einsum("bij,bi->bj", u, residuals)
    weights = jnp.where(kept, along / jnp.where(kept, sizes, 1), jnp.where(jnp.isfinite(sizes), 0, jnp.nan))
    return Linearised(residuals, -jnp.einsum("bji,bj->bi", v, weights))


def damped_steps(matrices: Array, residuals: Array, mu: Array) -> Damped:
    """d of (J^T J + mu c) d = -J^T r, by Cholesky."""
    size = matrices.shape[1]
    normal = jnp.einsum("bki,bkj->bij", matrices, matrices)
    slopes = jnp.einsum("bki,bk->bi", matrices, residuals)
    scale = jnp.trace(normal, axis1=1, axis2=2) / size
    shift = mu * scale + jnp.finfo(mu.dtype).tiny
    factor = jnp.linalg.cholesky(normal + shift[:, None, None] * jnp.eye(size, dtype=mu.dtype)[None])
    solve = jax.lax.linalg.triangular_solve
    middle = solve(factor, slopes[:, :, None], left_side=True, lower=True)
    steps = -solve(factor, middle, left_side=True, lower=True, transpose_a=True)[:, :, 0]
    # |r|^2 - |r + J d|^2 = <d, mu c d - J^T r>.
    expected = jnp.sum(steps * (shift[:, None] * steps - slopes), axis=1)
    return Damped(steps, slopes, jnp.sqrt(size * scale), expected)


def damped_by_products(equations: Any, z: Array, extra: Any, mu: Array) -> tuple[Array, Damped]:
    """r and the same of one row, by conjugate gradients."""
    residual, push = jax.linearize(lambda z: equations(z, extra), z)
    pull = jax.linear_transpose(push, z)
    slope = pull(residual)[0]
    # |J v|^2 of a few random vectors has the mean |J|^2.
    probes = jax.random.rademacher(jax.random.key(0), (4, z.size), z.dtype)
    total = jnp.mean(jax.vmap(lambda v: jnp.sum(push(v) ** 2))(probes))
    shift = mu * total / z.size
    # Far from a root a few digits of the step are enough; cut off early, it is damped by that (Steihaug).
    loose: Any = jnp.clip(jnp.sqrt(jnp.linalg.norm(residual)), 1e-3, _LOOSE)
    step = cg(lambda v: pull(push(v))[0] + shift * v, -slope, tol=loose, maxiter=_CUT_OFF)[0]
    expected = jnp.sum(residual**2) - jnp.sum((residual + push(step)) ** 2)
    return residual, Damped(step, slope, jnp.sqrt(total), expected)


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
            jnp.where(fell, part, moved.parts),
            moved.trials + pending.astype(int),
        )
        # The parabola with |r|^2 and its slope -2 |r|^2 at 0, and the value found, is least at this part.
        curve = after - before + 2 * part * before
        least = jnp.where(curve > 0, part**2 * before / jnp.where(curve > 0, curve, 1), 0)
        part = jnp.clip(jnp.where(jnp.isfinite(least), least, 0), 0.1 * part, 0.5 * part)
        return new, part, pending & ~fell & (part >= _SHORTEST)

    nothing = jnp.zeros(len(values), int)
    finite = jnp.isfinite(found.steps).all(axis=1) & jnp.isfinite(before)
    begun = Moved(values, found.residuals, jnp.zeros_like(before), nothing)
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


def steps_by_products(equations: Any, values: Array, extra: Any, wanted: Array) -> Linearised:
    """Steps by GMRES; a wanted row of which it leaves too much is solved otherwise, on its own."""
    size = values.shape[1]

    def one(z: Any, extra: Any) -> Any:
        residual, push = jax.linearize(lambda z: equations(z, extra), z)
        length = jnp.linalg.norm(residual)
        loose: Any = jnp.clip(length / jnp.maximum(jnp.linalg.norm(z), 1), _TIGHT, _LOOSE)
        space = min(size, _KRYLOV)
        step = gmres(push, -residual, tol=loose, restart=space, maxiter=_RESTARTS, solve_method="incremental")[0]
        left = jnp.linalg.norm(push(step) + residual)
        return residual, step, (left <= _STALLED * length) | ~jnp.isfinite(length)

    residuals, steps, sound = jax.vmap(one)(values, extra)
    sound |= ~wanted

    def repaired(row: Any) -> Any:
        z, extra, step, sound = row
        return jax.lax.cond(sound, lambda: step, lambda: _otherwise(equations, z, extra))

    alone = lambda: jax.lax.map(repaired, (values, extra, steps, sound))  # noqa: E731
    return Linearised(residuals, jax.lax.cond(jnp.all(sound), lambda: steps, alone))


def _otherwise(equations: Any, z: Array, extra: Any) -> Array:
    """One step without GMRES."""
    residual, push = jax.linearize(lambda z: equations(z, extra), z)
    if z.size <= FORMED_AT_LEAST_ONCE:
        matrix = jax.vmap(push, out_axes=1)(jnp.eye(z.size, dtype=z.dtype))
        return _by_factors(matrix[None], residual[None])[0][0]
    pull = jax.linear_transpose(push, z)
    return cg(lambda v: pull(push(v))[0], -pull(residual)[0], tol=1e-6)[0]
