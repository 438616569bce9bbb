r"""The same diffusion in the sense of Stratonovich, for methods that converge to it.

    dx = f dt + g dW (Ito)   =   dx = (f - 1/2 sum_j (Dg_j) g_j) dt + g o dW (Stratonovich),    g_j the columns of g.

Reference: Kloeden & Platen, *Numerical Solution of Stochastic Differential Equations* (1992), section 4.9.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._tree import axpy
from separatrix._types import Scalar, State
from separatrix.systems.sde import SDE


def stratonovich_drift(sde: SDE, t: Scalar, x: State) -> State:
    """f - 1/2 sum_j (Dg_j) g_j at (t, x), one product a component of the noise."""
    noise = sde.diffusion(t, x).in_structure()
    leaves, structure = jax.tree.flatten(noise)
    sizes = [leaf.size for leaf in leaves]

    def unit(i: Any) -> State:
        """The i-th unit vector of the noise."""
        out, first = [], 0
        for leaf, size in zip(leaves, sizes, strict=True):
            out.append((jnp.arange(first, first + size) == i).astype(leaf.dtype).reshape(leaf.shape))
            first += size
        return jax.tree.unflatten(structure, out)

    def column(i: Any) -> State:
        along = unit(i)
        push = lambda x: sde.diffusion(t, x).mv(along)  # noqa: E731
        return jax.jvp(push, (x,), (push(x),))[1]

    columns = jax.vmap(column)(jnp.arange(sum(sizes)))
    return axpy(-0.5, jax.tree.map(lambda leaf: leaf.sum(axis=0), columns), sde.drift(t, x))
