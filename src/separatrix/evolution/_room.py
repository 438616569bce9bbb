r"""Room for the steps of a solve of unknown length.

The first K steps are kept all; past them every second, then every fourth, ..., each new one in the place of one that is no
longer kept: for K P/2 < N <= K P steps every P-th. K is a power of two, and where a step is kept follows from its number:

    n < K: place n.    Else step m 2^p, K/2 <= m < K, replaces the odd step (2 (m - K/2) + 1) 2^(p-1).

Reference: Griewank & Walther, *Evaluating Derivatives* (2008), section 12.3 (online checkpointing).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from separatrix._tree import float_dtype
from separatrix._types import State
from separatrix.evolution._adaptive_loop import Recorder
from separatrix.evolution._adaptive_step import Carry
from separatrix.evolution._stepper import Step


class Kept(NamedTuple):
    """Steps that were taken: t, h and the two errors before (as one array), x, and what the method carried."""

    times: Any
    states: State
    memory: Any


def kept_of(carry: Carry, step: Step, *, keeps_memory: bool) -> Kept:
    """What is kept of one step."""
    return Kept(jnp.stack([step.t, step.step_size, *carry.before]), step.x, carry.memory if keeps_memory else ())


def exponent(n: Any, room: int) -> Any:
    """p, if every 2^p-th step is kept while step n is being taken."""
    return 32 - jax.lax.clz((n // room).astype(jnp.int32))


def place_of(n: Any, room: int) -> Any:
    """Where step n is kept."""

    def replaced(n: Any) -> Any:
        p = exponent(n, room)
        return (2 * ((n >> p) - room // 2) + 1) << (p - 1)

    return jax.lax.while_loop(lambda n: n >= room, replaced, jnp.asarray(n, jnp.int32))


def make_room(kept: Any, room: int) -> Any:
    """An empty buffer for steps of a form."""
    return jax.tree.map(lambda leaf: jnp.zeros((room, *leaf.shape), leaf.dtype), kept)


def thinning_recorder(room: int, *, keeps_memory: bool) -> Recorder:
    """Keep every step, then every second, every fourth, ..., in a fixed room."""

    def empty(carry: Carry, step: Any) -> Kept:
        times = jnp.zeros(4, float_dtype(carry.x))
        return make_room(Kept(times, carry.x, carry.memory if keeps_memory else ()), room)

    def write(kept: Kept, carry: Carry, step: Step) -> Kept:
        n = carry.accepted
        due = (n & ((1 << exponent(n, room)) - 1)) == 0
        place = jnp.where(due, place_of(n, room), room)
        now = kept_of(carry, step, keeps_memory=keeps_memory)
        return jax.tree.map(lambda buffer, leaf: buffer.at[place].set(leaf, mode="drop"), kept, now)

    return Recorder(empty, write)


def load(kept: Kept, place: Any) -> Kept:
    """One of the kept steps."""
    return jax.tree.map(lambda leaf: leaf[place], kept)
