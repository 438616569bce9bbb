r"""Rest as equations r(x) = 0, r = f (flow) or F - x (map); what starts agree on, and the spectrum of what is found."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._types import State
from separatrix.diagnostics.equilibria.linear_stability import linear_stability
from separatrix.linear.coordinates import as_vector, from_vector, kind_of, rate
from separatrix.linear.root_search import DENSE, Search, find_minima, merged, over_starts
from separatrix.linear.spectrum import least_stable_first

# A tenth of the speed, a hundredth of q: what `slow=True` calls slow beside the starts.
_SLOW = 1e-2
# A minimum of q: the Newton step on its gradient is this small.
_SETTLED = 1e-3

# Singular values of every point before duplicates merge: only where they cost next to nothing.
_LOOKED_AT = 64


class Equations(eqx.Module):
    """f(x), or F(x) - x, in coordinates; the second argument supplies what has no tangent."""

    system: Any
    at: Any
    key: Any

    def image(self, vector: Float[Array, " d"], like: State) -> Float[Array, " d"]:
        """f(x) or F(x)."""
        return as_vector(rate(self.system, from_vector(vector, like), at=self.at, key=self.key))

    def __call__(self, vector: Float[Array, " d"], like: State) -> Float[Array, " d"]:
        image = self.image(vector, like)
        return image - vector if kind_of(self.system) == "map" else image


def with_slow_points(
    equations: Equations, vectors: Any, likes: State, found: Search, good: np.ndarray, slow: Any, tol: float, steps: int
) -> tuple[Search, np.ndarray, np.ndarray]:
    """Where Newton's method found no root, the minimum of q from there: a slow point, or a root after all."""
    speeds = np.asarray(jax.vmap(lambda z, like: jnp.sum(equations(z, like) ** 2) / 2)(vectors, likes))
    limit = _SLOW * float(np.nanmedian(speeds)) if slow is True else float(slow)
    minima = find_minima(equations, vectors, likes, steps)
    pick = jnp.asarray(good)
    both = jax.tree.map(lambda a, b: jnp.where(pick.reshape(-1, *[1] * (a.ndim - 1)), a, b), found, minima)
    residuals, size = np.asarray(both.residuals), np.maximum(1, np.linalg.norm(np.asarray(both.values), axis=1))
    still = ~good & np.isfinite(residuals) & (np.asarray(both.steps) <= _SETTLED)
    roots = good | (still & (residuals <= tol))
    return both, roots, still & ~roots & ((residuals * size) ** 2 / 2 <= limit)


def distinct(
    equations: Equations, found: Search, likes: State, good: np.ndarray, resting: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (which point each start went to, -1 for none; the start that stands for each point)."""
    rows = np.flatnonzero(good | resting)
    vectors, residuals = np.asarray(found.values)[rows], np.asarray(found.residuals)[rows]
    eps = float(jnp.finfo(found.values.dtype).eps)
    close = np.full(len(rows), 20 * eps**0.5)
    first, owner = merged(vectors, residuals, close)
    # What is known to fewer digits, a double root or a minimum of q, is one within more of them.
    singular = _singular(equations, vectors[first], take(likes, rows[first]), eps) | resting[rows[first]]
    second, heir = merged(vectors[first], residuals[first], np.where(singular, eps**0.25, 20 * eps**0.5))
    owners = np.full(len(good), -1)
    if len(rows):
        owners[rows] = heir[owner]
    return owners, rows[first[second]]


def _singular(equations: Equations, vectors: np.ndarray, likes: State, eps: float) -> np.ndarray:
    if not len(vectors) or vectors.shape[1] > _LOOKED_AT:
        return np.zeros(len(vectors), bool)
    shift = np.eye(vectors.shape[1]) if kind_of(equations.system) == "map" else 0
    values = np.linalg.svd(np.asarray(_matrices(equations, jnp.asarray(vectors), likes)) - shift, compute_uv=False)
    return values[:, -1] <= eps**0.25 * np.maximum(1, values[:, 0])


@eqx.filter_jit
def _matrices(equations: Equations, vectors: Any, likes: State) -> Any:
    one = lambda row: jax.jacfwd(equations.image)(row[0], row[1])  # noqa: E731
    return over_starts(one, (vectors, likes), vectors.shape[1])


def spectra_at(equations: Equations, vectors: Any, likes: State, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues at each point, the least stable first, and how near the border is neutral."""
    size, eps = vectors.shape[1], float(jnp.finfo(vectors.dtype).eps)
    if not len(vectors):
        return np.zeros((0, min(size, count) if size > DENSE else size), complex), np.zeros(0)
    if size > DENSE:
        points = jax.vmap(from_vector)(vectors, likes)
        system, at, key = equations.system, equations.at, equations.key
        rows = [take(points, row) for row in range(len(vectors))]
        answers = [linear_stability(system, point, at=at, key=key, count=count) for point in rows]
        return np.stack([a.spectrum for a in answers]), np.stack([a.tolerance for a in answers])
    matrices = np.asarray(_matrices(equations, vectors, likes), float)
    values = np.linalg.eigvals(matrices).astype(complex)
    order = np.stack([least_stable_first(row, kind_of(equations.system)) for row in values])
    # Where it is singular a point is known to the root of the residual, and its eigenvalues no better.
    tolerances = 100 * eps**0.5 * np.maximum(1, np.linalg.norm(matrices, 2, axis=(1, 2)))
    return np.take_along_axis(values, order, axis=1), tolerances


def take(tree: State, rows: Any) -> State:
    """Rows of a batch of states."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], tree)
