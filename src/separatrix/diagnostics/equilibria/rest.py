"""Points of rest: slow points beside roots, what starts agree on, and the spectrum of what is found."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix.diagnostics.equilibria.linear_stability import linear_stability
from separatrix.diagnostics.starts import rows_of
from separatrix.linear.closed_orbits import Anchor, ClosedOrbit
from separatrix.linear.coordinates import from_vector, kind_of
from separatrix.linear.root_search import DENSE, Endings, find_minima, jacobians, merged
from separatrix.linear.spectrum import least_stable_first

# A tenth of the speed, a hundredth of q: what `slow=True` calls slow beside the starts.
_SLOW = 1e-2
# A minimum of q: the Newton step on its gradient is this small.
_SETTLED = 1e-3

# Singular values of every point before duplicates merge: only where they cost next to nothing.
_LOOKED_AT = 64
# Steps of the power method.
_POWERS = 12


@eqx.filter_jit
def _speeds(equations: ClosedOrbit, vectors: Any, anchors: Anchor) -> Any:
    """q = |r|^2/2 at each row."""
    return jax.vmap(lambda z, anchor: jnp.sum(equations(z, anchor) ** 2) / 2)(vectors, anchors)


def with_slow_points(
    equations: ClosedOrbit,
    vectors: Any,
    anchors: Anchor,
    found: Endings,
    good: np.ndarray,
    slow: Any,
    tol: float,
    steps: int,
) -> tuple[Endings, np.ndarray, np.ndarray]:
    """Where no root was found, the minimum of q nearby: a slow point, or a root after all."""
    speeds = np.asarray(_speeds(equations, vectors, anchors))
    limit = _SLOW * float(np.nanmedian(speeds)) if slow is True else float(slow)
    lost = np.flatnonzero(~good)
    minima = find_minima(equations, found.values[lost], rows_of(anchors, lost), steps)
    both = Endings(*(_replaced(old, lost, new) for old, new in zip(found, minima, strict=True)))
    size = np.maximum(1, np.linalg.norm(both.values, axis=1))
    still = ~good & np.isfinite(both.residuals) & (both.steps <= _SETTLED)
    roots = good | (still & (both.residuals <= tol))
    return both, roots, still & ~roots & ((both.residuals * size) ** 2 / 2 <= limit)


def _replaced(old: np.ndarray, rows: np.ndarray, new: np.ndarray) -> np.ndarray:
    whole = old.copy()
    whole[rows] = new
    return whole


class Distinct(NamedTuple):
    """Which point each start went to (-1 for none), the start that stands for each point, and Df or DF there."""

    owner: np.ndarray  # (S,)
    chosen: np.ndarray  # (P,)
    matrices: np.ndarray | None  # (P, d, d), None where d > 512


def distinct(
    equations: ClosedOrbit, found: Endings, anchors: Anchor, good: np.ndarray, resting: np.ndarray
) -> Distinct:
    """The points that starts ended at, each once."""
    rows = np.flatnonzero(good | resting)
    vectors, residuals = found.values[rows], found.residuals[rows]
    eps, size = float(jnp.finfo(vectors.dtype).eps), vectors.shape[1]
    close = np.full(len(rows), 20 * eps**0.5)
    first, owner = merged(vectors, residuals, close)
    matrices = None
    if size <= DENSE:
        matrices = jacobians(equations.image, vectors[first], rows_of(anchors, rows[first])).astype(float)
    # What is known to fewer digits, a double root or a minimum of q, is one within more of them.
    singular = resting[rows[first]].copy()
    if matrices is not None and size <= _LOOKED_AT:
        singular |= _singular(matrices - np.eye(size) if kind_of(equations.system) == "map" else matrices, eps)
    second, heir = merged(vectors[first], residuals[first], np.where(singular, eps**0.25, 20 * eps**0.5))
    owners = np.full(len(good), -1)
    if len(rows):
        owners[rows] = heir[owner]
    return Distinct(owners, rows[first[second]], None if matrices is None else matrices[second])


def _singular(matrices: np.ndarray, eps: float) -> np.ndarray:
    defined, matrices = _defined(matrices)
    values = np.linalg.svd(matrices, compute_uv=False)
    return ~defined | (values[:, -1] <= eps**0.25 * np.maximum(1, values[:, 0]))


def _defined(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which are finite, and all with 0 in the place of those that are not: these have no spectrum."""
    defined = np.asarray(np.isfinite(matrices).all(axis=(1, 2)))
    return defined, np.where(defined[:, None, None], matrices, 0.0)


def spectra_of(matrices: np.ndarray, kind: str, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of each matrix, the least stable first, and how near the border is neutral; NaN without derivatives."""
    defined, matrices = _defined(matrices)
    values = np.where(defined[:, None], np.linalg.eigvals(matrices).astype(complex), np.nan)
    order = np.array([least_stable_first(row, kind) for row in values], int).reshape(values.shape)
    # Where it is singular a point is known to the root of the residual, and its eigenvalues no better.
    tolerances = 100 * eps**0.5 * np.maximum(1, _norms(matrices))
    return np.take_along_axis(values, order, axis=1), tolerances


def _norms(matrices: np.ndarray) -> np.ndarray:
    """|J| of each; of large ones by a few steps of the power method, which is good to a tenth."""
    if matrices.shape[1] <= _LOOKED_AT:
        return np.linalg.norm(matrices, 2, axis=(1, 2))
    vectors = np.random.default_rng(0).standard_normal((*matrices.shape[:2], 1))
    images = vectors
    for _ in range(_POWERS):
        images = matrices @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        vectors = np.swapaxes(matrices, 1, 2) @ images
        if not np.all(np.linalg.norm(vectors, axis=1) > 0):
            break
    return np.linalg.norm(images, axis=(1, 2))


def leading_spectra(equations: ClosedOrbit, vectors: Any, anchors: Anchor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of states too large for a matrix: the leading eigenvalues alone."""
    if not len(vectors):
        return np.zeros((0, min(vectors.shape[1], count)), complex), np.zeros(0)
    system, at, key = equations.part, equations.at, equations.key
    points = [from_vector(jnp.asarray(vector), rows_of(anchors.like, row)) for row, vector in enumerate(vectors)]
    answers = [linear_stability(system, point, at=at, key=key, count=count) for point in points]
    return np.stack([a.spectrum for a in answers]), np.stack([a.tolerance for a in answers])
