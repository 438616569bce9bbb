r"""The order in which an epoch visits its examples: a permutation of 0, ..., N - 1 that is nowhere stored.

A place x < a b is a pair (l, r) in Z_a x Z_b. Rounds shear one half by a function of the other,

    l <- l + F_i(r) mod a    and    r <- r + F_i(l) mod b    in turn,

each of which can be undone, whatever F_i is; so the whole is a permutation of a b places. With a = ceil(sqrt N) and
b = ceil(N/a) fewer than a of them lie past N: from there it goes on until it is back inside, which is a permutation of N.
The order of epoch e depends on (key, e) alone, and any part of it can be had by itself: a run resumes without it.

**Reference:** Black & Rogaway, *Ciphers with arbitrary finite domains* (2002), sections 4 and 5. It is a shuffle here, and
no cipher: F_i is the finaliser of MurmurHash3.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from separatrix._types import Key

ROUNDS = 12
# Orders have a stream of their own, apart from those of steps and of metrics.
_STREAM = 2**31 - 2


def visited(key: Key, epoch: Any, places: Any, count: int) -> Any:
    """Which of `count` examples stand at some places, 0 <= place < count, of an epoch's order."""
    own = jax.random.fold_in(jax.random.fold_in(key, _STREAM), epoch)
    rounds = jax.random.bits(own, (ROUNDS,), jnp.uint32)
    rows = math.isqrt(count - 1) + 1
    columns = -(-count // rows)

    def moved(places: Any) -> Any:
        halves, sizes = [places // jnp.uint32(columns), places % jnp.uint32(columns)], (rows, columns)
        for i in range(ROUNDS):
            this, other, size = i % 2, 1 - i % 2, jnp.uint32(sizes[i % 2])
            halves[this] = (halves[this] + _mixed(halves[other] ^ rounds[i]) % size) % size
        return halves[0] * jnp.uint32(columns) + halves[1]

    def walk(places: Any) -> Any:
        return jnp.where(places < count, places, moved(places))

    inside = moved(jnp.asarray(places).astype(jnp.uint32))
    return jax.lax.while_loop(lambda at: jnp.any(at >= count), walk, inside).astype(int)


def _mixed(values: Any) -> Any:
    """A hash of 32 bits: each bit that goes in turns over half of those that come out."""
    values = (values ^ (values >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    values = (values ^ (values >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    return values ^ (values >> jnp.uint32(16))
