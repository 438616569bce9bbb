r"""Shuffled orders that are computed, not stored: place i of order e is a function of (key, e, i).

    (l, r) in Z_a x Z_b,  x = l b + r:    l <- l + f_j(r) mod a,    r <- r + g_j(l) mod b,    j = 1, ..., 4,

a Feistel network, is a permutation of 0, ..., a b - 1 whatever the f_j and g_j are; here they are hashes of keys that
`fold_in(key, e)` draws. With a = ceil(sqrt(n)) and b = ceil(n/a) less than a of the a b numbers are none of 0, ..., n - 1:
one that is lands there again until it is (cycle walking), which leaves a permutation of 0, ..., n - 1. So an epoch costs
nothing but the places that are asked for, and resumes from its number. Few items are sorted by random numbers instead,
which makes all orders equally likely.

**Reference:** Luby & Rackoff, *How to construct pseudorandom permutations from pseudorandom functions* (1988); Black &
Rogaway, *Ciphers with arbitrary finite domains* (2002), for cycle walking and for Z_a x Z_b.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from separatrix._types import Key

_ROUNDS = 4
# Up to here a sort is as cheap as the network.
_FEW = 256


def shuffled(key: Key, epoch: Any, places: Any, count: int) -> Any:
    r"""Return which of `count` items stand at some places of a shuffled order.

    **Arguments:**

    - `key`, `epoch`: which order; the epoch is a whole number, which may be traced.
    - `places`: whole numbers from 0 to count - 1, of any shape.
    - `count`: how many items, at most 2^31 - 1.

    **Returns:** whole numbers of int32, of the shape of `places`. All places together give each item once.

    **Example:**

    >>> import jax, jax.numpy as jnp
    >>> order = shuffled(jax.random.key(0), 3, jnp.arange(1000), 1000)
    >>> sorted(order.tolist()) == list(range(1000))
    True
    """
    key = jax.random.fold_in(key, epoch)
    if count <= _FEW:
        return jax.random.permutation(key, count).astype(jnp.int32)[places]
    rows = math.isqrt(count - 1) + 1
    columns = -(-count // rows)
    keys = jax.random.bits(key, (_ROUNDS, 2), jnp.uint32)
    a, b, n = (jnp.asarray(size, jnp.uint32) for size in (rows, columns, count))

    def network(x: Any) -> Any:
        left, right = x // b, x % b
        for j in range(_ROUNDS):
            left = (left + _hash(right ^ keys[j, 0]) % a) % a
            right = (right + _hash(left ^ keys[j, 1]) % b) % b
        return left * b + right

    first = network(jnp.asarray(places).astype(jnp.uint32))
    walked = jax.lax.while_loop(lambda x: jnp.any(x >= n), lambda x: jnp.where(x >= n, network(x), x), first)
    return walked.astype(jnp.int32)


def _hash(x: Any) -> Any:
    """The finaliser of MurmurHash3 (Appleby 2011): each bit of 32 depends on all."""
    x = (x ^ (x >> 16)) * jnp.asarray(0x85EBCA6B, jnp.uint32)
    x = (x ^ (x >> 13)) * jnp.asarray(0xC2B2AE35, jnp.uint32)
    return x ^ (x >> 16)
