"""Rows of a trajectory: what `save` keeps of each saved state, NaN where the evolution never came."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from separatrix._tree import all_finite, is_inexact
from separatrix._types import Function, State


def blank_unless(good: Any, values: PyTree) -> PyTree:
    """The values, with NaN in the inexact leaves where they are not good."""

    def blank(leaf: Any) -> Any:
        return jnp.where(good, leaf, jnp.asarray(jnp.nan, leaf.dtype)) if is_inexact(leaf) else leaf

    return jax.tree.map(blank, jax.tree.map(jnp.asarray, values))


def rows_of(fn: Function, states: State, instead: State) -> PyTree:
    """`fn` of each row of states; a row that is not finite is NaN, and `fn` never sees it."""

    def row(state: State) -> PyTree:
        good = all_finite(state)
        safe = jax.tree.map(lambda x, y: jnp.where(good, x, y), state, instead)
        return blank_unless(good, fn(safe))

    return jax.vmap(row)(states)
