r"""Roots from many starts at once: Newton's method with backtracking, and minima of the speed where there is no root.

    r(z) = 0:      z <- z - s J^+ r(z),      s = 1, 1/2, 1/4, ... until |r|^2 falls enough (Armijo)
    q(z) = |r(z)|^2 / 2 -> min:      Levenberg-Marquardt, then Newton's method on grad q

J^+ is the pseudo-inverse by singular values where J is formed (at most 512 unknowns), so that a family of roots is met
at its nearest point; larger problems solve J^T J d = J^T r by conjugate gradients on products alone. A value counts as
a root if |r| is small and the next Newton step is too: where r fades away at infinity the step stays large.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

# As in `linear_stability`: beyond this no matrix is formed.
DENSE = 512
# Jacobians and their factors that a batch may hold at once.
_BYTES = 1 << 26
# A Newton step at a double root is half its error, which is the root of the residual.
_STEP_POWER = 0.25


class Search(NamedTuple):
    """Where each start ended: z, |r| and the size of the next Newton step, both relative to max(1, |z|)."""

    values: Any  # (S, n)
    residuals: Any  # (S,)
    steps: Any  # (S,)


class DampedNewton(optx.AbstractGaussNewton):
    """z <- z - s J^+ r(z), with s halved until |r|^2 falls."""

    rtol: float
    atol: float
    norm: Callable
    descent: optx.NewtonDescent
    search: optx.BacktrackingArmijo
    verbose: Callable

    def __init__(self, rtol: float, atol: float, linear_solver: Any):
        self.rtol, self.atol, self.norm = rtol, atol, optx.max_norm
        self.descent = optx.NewtonDescent(linear_solver=linear_solver)
        self.search = optx.BacktrackingArmijo()
        self.verbose = _silent


def _silent(**_: Any) -> None:
    return None


def linear_solver(size: int, cutoff: float | None = None) -> Any:
    """By the singular values above the cutoff (relative), or by conjugate gradients on the normal equations."""
    return lx.SVD(cutoff) if size <= DENSE else lx.Normal(lx.CG(rtol=1e-6, atol=1e-14))


def over_starts(function: Any, rows: Any, size: int) -> Any:
    """The function over rows, as many at once as memory for their Jacobians allows."""
    each = 64 * size * (size if size <= DENSE else 1)
    count = len(jax.tree.leaves(rows)[0])
    if count <= max(1, _BYTES // each):
        return jax.vmap(function)(rows)
    return jax.lax.map(function, rows, batch_size=max(1, _BYTES // each) if size <= DENSE else 1)


@eqx.filter_jit
def find_roots(
    equations: Any, starts: Float[Array, "S n"], extra: Any, max_steps: int, cutoff: float | None = None
) -> Search:
    """Newton's method for equations(z, extra) = 0 from each start, `extra` with the same leading axis.

    Singular values of the Jacobian below `cutoff` times the largest are noise: nothing moves along them.
    """
    tolerance, solver = _tolerance(starts), linear_solver(starts.shape[1], cutoff)

    def one(row: Any) -> Search:
        newton = DampedNewton(tolerance, tolerance, solver)
        found = optx.root_find(equations, newton, row[0], row[1], max_steps=max_steps, throw=False)
        return _judge(equations, found.value, row[1], solver)

    return over_starts(one, (starts, extra), starts.shape[1])


@eqx.filter_jit
def find_minima(equations: Any, starts: Float[Array, "S n"], extra: Any, max_steps: int) -> Search:
    """Local minima of |equations(z, extra)|^2 / 2; `steps` holds the size of a Newton step on its gradient."""
    tolerance, size = _tolerance(starts), starts.shape[1]
    inner = lx.QR() if size <= DENSE else lx.Normal(lx.CG(rtol=1e-3, atol=1e-14))

    def one(row: Any) -> Search:
        start, extra = row
        descent = optx.LevenbergMarquardt(tolerance, tolerance, linear_solver=inner)
        z = optx.least_squares(equations, descent, start, extra, max_steps=max_steps, throw=False).value

        def slope(z: Any, extra: Any) -> Any:
            value, pull = jax.vjp(lambda z: equations(z, extra), z)
            return pull(value)[0]

        polish = optx.Newton(tolerance, tolerance, linear_solver=linear_solver(size))
        refined = optx.root_find(slope, polish, z, extra, max_steps=32, throw=False).value
        near = jnp.linalg.norm(refined - z) <= 1e-2 * _size(z)
        z = jnp.where(near, refined, z)
        ended = _judge(slope, z, extra, linear_solver(size))
        return Search(ended.values, jnp.linalg.norm(equations(ended.values, extra)) / _size(z), ended.steps)

    return over_starts(one, (starts, extra), size)


def _judge(equations: Any, z: Any, extra: Any, solver: Any) -> Search:
    """One plain Newton step more, kept where it lowers the residual."""
    residual, push = jax.linearize(lambda z: equations(z, extra), z)
    operator = lx.FunctionLinearOperator(push, jax.eval_shape(lambda: z))
    step = lx.linear_solve(operator, residual, solver, throw=False).value
    following = z - step
    after = jnp.linalg.norm(equations(following, extra))
    before = jnp.linalg.norm(residual)
    better = after < before
    size = _size(z)
    value = jnp.where(better, following, z)
    return Search(value, jnp.where(better, after, before) / size, jnp.linalg.norm(step) / size)


def converged(found: Search, tol: float) -> np.ndarray:
    """Which starts ended at a root."""
    eps = float(jnp.finfo(found.values.dtype).eps)
    with np.errstate(invalid="ignore"):
        good = (np.asarray(found.residuals) <= tol) & (np.asarray(found.steps) <= eps**_STEP_POWER)
    return good & np.isfinite(np.asarray(found.values)).all(axis=1)


def default_tolerance(dtype: Any) -> float:
    """Residual below which a point is a root: 4e-10 in float64, 7e-5 in float32."""
    return float(jnp.finfo(dtype).eps) ** 0.6


def merged(
    vectors: np.ndarray, residuals: np.ndarray, radii: np.ndarray, orbits: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that stand for all others, the smallest residual first, and for each row which one it is.

    Rows are one where their distance is at most the radius times max(1, |x|); with the `orbits` of all rows, shape
    (S, k, d), where a row is that near to any point of the other's orbit.
    """
    orbits = vectors[:, None] if orbits is None else orbits
    owner, chosen = np.full(len(vectors), -1), []
    for row in np.argsort(residuals, kind="stable"):
        if owner[row] >= 0:
            continue
        reach = radii[row] * max(1.0, float(np.linalg.norm(vectors[row])))
        open_rows = np.flatnonzero(owner < 0)
        apart = [np.linalg.norm(vectors[open_rows] - point, axis=1) for point in orbits[row]]
        owner[open_rows[np.min(apart, axis=0) <= reach]] = len(chosen)
        owner[row] = len(chosen)
        chosen.append(row)
    return np.asarray(chosen, int), owner


def _tolerance(starts: Any) -> float:
    return float(jnp.finfo(starts.dtype).eps) ** 0.75


def _size(z: Any) -> Any:
    return jnp.maximum(jnp.linalg.norm(z), 1)
