r"""Gradients through time: the norms of the costate.

    lambda[N] = dl/dx[N],      lambda[n] = DF(n, x[n])^T lambda[n+1]

Backpropagation through time is the adjoint of the driven map, so what vanishes or explodes is |lambda[n]| as n goes down
from N: exp((N - n) lambda_1) on the long run, for the largest Lyapunov exponent lambda_1 of the driven map.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._tree import norm, scale
from separatrix._types import Key, State
from separatrix.calculus.adjoint import adjoint
from separatrix.evolution import evolve
from separatrix.systems.map import Map
from separatrix.systems.trajectory import Trajectory


def gradient_norms(system: Map, trajectory: Trajectory, cotangent: State, *, key: Key | None = None) -> Array:
    r"""Return |dl/dx[n]| along a trajectory, n = 0, ..., N.

    **Arguments:**

    - `system`: the map that made the trajectory, which holds every state. `key`: that of a random map's trajectory.
    - `cotangent`: lambda[N], the gradient of the loss with respect to the last state, in its form.

    **Returns:** shape (N + 1,): row n is the Euclidean norm of lambda[n]; 0 below the smallest float, 1e-38 in float32.

    **Example:** halving a state five times leaves 1/32 of the gradient.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> halving = sx.as_map(lambda x: 0.5 * x)
    >>> path = sx.evolve(halving, jnp.ones(1), steps=5)
    >>> sx.gradient_norms(halving, path, jnp.ones(1)).tolist()
    [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0]

    **Reference:** Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks* (2013), section 2.
    """
    return evolve(adjoint(system, trajectory, key=key), cotangent, save=_safe_norm).states[::-1]


def _safe_norm(state: State) -> Array:
    """The norm by way of the largest entry, whose square may underflow."""
    largest = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(state)]).max()
    largest = jnp.where(largest > 0, largest, 1)
    return largest * norm(scale(1 / largest, state))
