"""Distances of trajectories, and the order at which they fall."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def distance(first: Any, second: Any) -> float:
    """Largest Euclidean distance of two trajectories over their common times."""
    pairs = zip(jax.tree.leaves(first.states), jax.tree.leaves(second.states), strict=True)
    gaps = [jnp.sum((a - b) ** 2, axis=tuple(range(1, a.ndim))) for a, b in pairs]
    return float(jnp.sqrt(jnp.max(sum(gaps))))


def slope(step_sizes: Any, errors: Any) -> float:
    """Slope of errors over step sizes on logarithmic axes: the measured order."""
    return float(np.polyfit(np.log(step_sizes), np.log(errors), 1)[0])
