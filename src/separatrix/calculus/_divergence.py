r"""The covariance D = g g^T of a diffusion, and its divergence (div D)_i = sum_j d D_ij / d x_j."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree

from separatrix._tree import scale
from separatrix._types import Operator, Scalar, State
from separatrix.calculus.dependence import depends_on
from separatrix.systems.sde import SDE


def covariance_times(diffusion: Operator, vector: State) -> State:
    """g g^T v; a diagonal g needs no transpose."""
    if isinstance(diffusion, lx.DiagonalLinearOperator):
        return jax.tree.map(lambda g, v: g * g * v, diffusion.diagonal, vector)
    return diffusion.mv(diffusion.T.mv(vector))


def covariance_divergence(sde: SDE, t: Scalar, state: State) -> State:
    """div(g g^T)(t, x): zero where g does not depend on x, else one forward derivative for each component of x."""

    def times(x: State, vector: State) -> State:
        return covariance_times(sde.diffusion(t, x), vector)

    if not depends_on(lambda x: times(x, state), state):
        return scale(0, state)
    flat, unravel = ravel_pytree(state)

    def column(direction: Any) -> Any:
        along = jax.jvp(lambda x: times(unravel(x), unravel(direction)), (flat,), (direction,))[1]
        return ravel_pytree(along)[0]

    return unravel(jnp.sum(jax.vmap(column)(jnp.eye(flat.size, dtype=flat.dtype)), axis=0))
