"""Rows of a trajectory: what `save` keeps of each saved state, NaN where the evolution never came."""

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from separatrix._tree import all_finite, poison
from separatrix._types import Function, State


def rows_of(fn: Function, states: State, instead: State) -> PyTree:
    """`fn` of each row of states; a row that is not finite is NaN, and `fn` never sees it."""

    def row(state: State) -> PyTree:
        good = all_finite(state)
        safe = jax.tree.map(lambda x, y: jnp.where(good, x, y), state, instead)
        return poison(good, fn(safe))

    return jax.vmap(row)(states)
