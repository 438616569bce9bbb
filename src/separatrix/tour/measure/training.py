"""What the first chapter measures: sharpness along a run, and its fate."""

from typing import Any

import jax
import numpy as np

import separatrix as sx


def sharpness_along(objective: Any, states: Any) -> list[float]:
    """The top eigenvalue of the Hessian at each row of states, each search started from what the one before found."""
    values, found = [], None
    for number in range(jax.tree.leaves(states)[0].shape[0]):
        found = sx.curvature(objective, jax.tree.map(lambda leaf, i=number: leaf[i], states), start=found)
        values.append(float(found.sharpness))
    return values


def fate(losses: Any) -> str:
    """How a run went: it "diverges" (lost, or ends above its start), "oscillates" (rises on the way), or "converges"."""
    if not np.isfinite(losses).all() or losses[-1] > losses[0]:
        return "diverges"
    return "oscillates" if (np.diff(losses) > 1e-3 * losses[:-1]).any() else "converges"
