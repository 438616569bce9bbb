"""Who hears whom: a few different numbers for each row, drawn evenly."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from separatrix._types import Key

# Past so many a row a shuffle of all numbers is cheaper.
_FEW = 32


def distinct(key: Key, rows: int, total: int, count: int) -> Int[Array, "rows count"]:
    """For each row `count` different numbers of 0, ..., total - 1.

    The j-th is a place among the total - j that are left, moved past those taken before it, in their order.
    """
    if count > _FEW:
        order = jax.vmap(lambda part: jax.random.permutation(part, total))(jax.random.split(key, rows))
        return order[:, :count].astype(jnp.int32)
    taken = jnp.zeros((rows, 0), jnp.int32)
    for j, part in enumerate(jax.random.split(key, count)):
        place = jax.random.randint(part, (rows,), 0, total - j, jnp.int32)
        ordered = jnp.sort(taken, axis=1)
        for i in range(j):
            place = place + (place >= ordered[:, i]).astype(jnp.int32)
        taken = jnp.concatenate([taken, place[:, None]], axis=1)
    return taken
