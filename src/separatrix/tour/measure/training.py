"""What the first chapter measures: sharpness, and the fate of a training run."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh

import separatrix as sx


@eqx.filter_jit
def _curvature_product(flow: Any, parameters: Any, vector: Any) -> Any:
    """Hessian times vector: minus the linearised gradient flow."""
    _, restore = ravel_pytree(parameters)
    return -ravel_pytree(sx.linearize(flow, parameters).mv(restore(vector)))[0]


def sharpness(objective: Any, parameters: Any, guess: Any = None) -> tuple[float, Any]:
    """(top eigenvalue of the Hessian, its eigenvector), by Lanczos on the linearised gradient flow, to one per mille."""
    flow = sx.limit(sx.GradientDescent(objective, 1.0))
    flat, _ = ravel_pytree(parameters)
    guess = np.ones(flat.size) if guess is None else guess

    def multiply(vector: Any) -> Any:
        return np.asarray(_curvature_product(flow, parameters, jnp.asarray(vector.ravel(), flat.dtype)), float)

    operator: Any = LinearOperator((flat.size, flat.size), matvec=multiply, dtype=float)  # pyright: ignore[reportCallIssue]
    values, vectors = eigsh(operator, k=1, which="LA", v0=guess, tol=1e-3)  # pyright: ignore[reportArgumentType]
    return float(values[0]), vectors[:, 0]


def sharpness_along(objective: Any, states: Any) -> list[float]:
    """The top eigenvalue at each row of states, each search started from the eigenvector before."""
    values, guess = [], None
    for number in range(jax.tree.leaves(states)[0].shape[0]):
        value, guess = sharpness(objective, jax.tree.map(lambda leaf, i=number: leaf[i], states), guess)
        values.append(value)
    return values


def fate(losses: Any) -> str:
    """How a run went: it "diverges" (lost, or ends above its start), "oscillates" (rises on the way), or "converges"."""
    if not np.isfinite(losses).all() or losses[-1] > losses[0]:
        return "diverges"
    return "oscillates" if (np.diff(losses) > 1e-3 * losses[:-1]).any() else "converges"
