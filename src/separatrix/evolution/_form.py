"""A state as one array, so that the arithmetic of a Runge-Kutta step is a few operations whatever the tree holds."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._types import State


class StateForm(eqx.Module):
    """How a tree of several leaves of one dtype is laid out as a vector; any other tree stays as it is."""

    structure: Any = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def flatten(self, state: State) -> Any:
        """The tree as a vector."""
        if not self.shapes:
            return state
        return jnp.concatenate([jnp.reshape(leaf, -1) for leaf in jax.tree.leaves(state)])

    def restore(self, vector: Any) -> State:
        """The vector as the tree it was."""
        if not self.shapes:
            return vector
        ends = [0]
        for shape in self.shapes:
            ends.append(ends[-1] + math.prod(shape))
        pairs = zip(self.shapes, ends[:-1], ends[1:], strict=True)
        leaves = [vector[first:last].reshape(shape) for shape, first, last in pairs]
        return jax.tree.unflatten(self.structure, leaves)


def form_of(state: State) -> StateForm:
    """The form of a state."""
    leaves, structure = jax.tree.flatten(state)
    one_dtype = len({leaf.dtype for leaf in leaves}) == 1
    return StateForm(structure, tuple(leaf.shape for leaf in leaves) if one_dtype and len(leaves) > 1 else ())
