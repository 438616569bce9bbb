"""A state as a real vector and what has no tangent.

Newton's method over a sequence needs Jacobians as matrices. The inexact leaves of a state are laid out as one real
vector (a complex leaf as its real and imaginary part, since a step need not be holomorphic); the rest is kept apart.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._tree import float_dtype, is_inexact
from separatrix._types import State


def pack(state: State) -> tuple[Float[Array, " dim"], State]:
    """(the inexact leaves as one real vector, the other leaves)."""
    moving, rest = eqx.partition(state, is_inexact)
    dtype = float_dtype(state)
    parts = [part.astype(dtype) for leaf in jax.tree.leaves(moving) for part in _parts(leaf)]
    return jnp.concatenate(parts), rest


def unpack(vector: Float[Array, " dim"], rest: State, like: State) -> State:
    """The state with the form of `like` whose inexact leaves are in the vector."""
    moving, _ = eqx.partition(like, is_inexact)
    leaves, structure = jax.tree.flatten(moving)
    out, first = [], 0
    for leaf in leaves:
        size = math.prod(leaf.shape)
        count = 2 * size if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else size
        out.append(_leaf(vector[first : first + count], leaf))
        first += count
    return eqx.combine(jax.tree.unflatten(structure, out), rest)


def _parts(leaf: Any) -> list[Any]:
    flat = jnp.reshape(leaf, -1)
    return [flat.real, flat.imag] if jnp.iscomplexobj(flat) else [flat]


def _leaf(values: Any, like: Any) -> Any:
    if not jnp.issubdtype(like.dtype, jnp.complexfloating):
        return values.reshape(like.shape).astype(like.dtype)
    real = jnp.finfo(like.dtype).dtype
    halves = values.reshape(2, *like.shape).astype(real)
    return jax.lax.complex(halves[0], halves[1])
