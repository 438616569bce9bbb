"""A box in coordinates, the grid of starts in it, and the states that they stand for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import asarrays
from separatrix.linear.coordinates import as_vector, from_vector


def corners(region: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high), checked, in their common floating-point dtype."""
    if not isinstance(region, tuple | list) or len(region) != 2:
        raise ValueError(explain("region", region, "(low, high)", "Pass two corners, each of d numbers."))
    dtype = jnp.result_type(*[jnp.asarray(corner, float) if isinstance(corner, tuple | list) else jnp.asarray(corner)
                              for corner in region])  # fmt: skip
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.zeros(()).dtype
    low, high = (np.atleast_1d(np.asarray(corner, dtype)) for corner in region)
    if low.ndim != 1 or low.shape != high.shape or not np.all(low < high):
        raise ValueError(explain("region", f"{low} to {high}", "low < high, both (d,)", "Swap or widen the corners."))
    return low, high


def starts_of(states: Any, region: Any, resolution: Any, embed: Any) -> tuple[np.ndarray, tuple[int, ...], Any]:
    """Points (N, p), the shape of their grid, and what makes states of them."""
    if region is None:
        states = asarrays(states)
        counts = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(states)}
        if len(counts) != 1 or counts == {()}:
            got, do = f"leading axes {sorted(counts)}", "Stack the starts: (N, ...) in every leaf."
            raise ValueError(explain("basins: states", got, "one of N starts in every leaf", do))
        form = jax.tree.map(lambda leaf: leaf[0], states)
        points = np.asarray(jax.vmap(as_vector)(states))
        return points, (len(points),), lambda point: from_vector(point, form)
    low, high = corners(region)
    counts = [int(n) for n in np.broadcast_to(resolution, low.shape)]
    if min(counts) < 2:
        raise ValueError(explain("basins: resolution", resolution, "at least 2 a side", "Take resolution=64."))
    axes = [np.linspace(a, b, n, dtype=low.dtype) for a, b, n in zip(low, high, counts, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(low))
    return points, tuple(counts), embed or (lambda point: point)


def embedded(points: np.ndarray, embed: Callable[[Any], Any]) -> np.ndarray:
    """Coordinates (N, d) of the states at the points."""
    return np.array(jax.vmap(lambda point: as_vector(embed(point)))(jnp.asarray(points)))
