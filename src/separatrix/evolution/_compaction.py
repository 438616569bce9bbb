r"""Many loops of unequal length at once, at about the cost of each on its own.

A batch stepped under `vmap` runs until its slowest member is done, and all of it runs. Here the batch shrinks as its
members finish. Stages hold n, n/4, n/32, n/256, ..., 1 members; the loop of a stage ends when no more members are
unfinished than the next stage holds; those are gathered, go on there, and are scattered back. Every shape is known
while tracing, so it is one program. A stage does at most eight times (the first: four times) the work its unfinished
members need, and on vector hardware less than that, since narrow batches leave lanes empty anyway.

What a member needs to go on (`carry`) moves between stages; what it leaves behind (`rows`) stays in one buffer of the
whole batch, to which each step writes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from separatrix._tree import where

# The first stage runs while most members do, and is left early; later ones trade lanes against loops to compile.
_FIRST_RATIO, _RATIO = 4, 8


def stage_sizes(count: int) -> list[int]:
    """n, n/4, n/32, n/256, ..., 1."""
    sizes, ratio = [count], _FIRST_RATIO
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // ratio))
        ratio = _RATIO
    return sizes


class Loop(NamedTuple):
    """What every stage of a batch does.

    - `advance`: one member's (constants, carry) -> (its next carry, what it has to write); a member that is done stays
      as it is.
    - `done`: one member's carry -> whether it needs no further step.
    - `retire`: one member's carry -> the same, done; for places that nobody takes.
    - `write`: `(rows, members, written)` -> rows with what some members had to write; a member number past the batch
      stands for nobody.
    - `constants`: what members need and never change, with a leading axis.
    """

    advance: Callable[[Any, Any], tuple[Any, Any]]
    done: Callable[[Any], Bool[Array, ""]]
    retire: Callable[[Any], Any]
    write: Callable[[Any, Int[Array, " members"], Any], Any]
    constants: Any


def run_compacted(loop: Loop, carry: Any, rows: Any) -> tuple[Any, Any]:
    """Advance every member until it is done.

    **Arguments:**

    - `loop`: what to do.
    - `carry`: all members' carries, with a leading axis.
    - `rows`: the buffer of the whole batch.

    **Returns:** the final carries and rows.
    """
    count = jax.tree.leaves(carry)[0].shape[0]
    return _run_stages(loop, carry, rows, jnp.arange(count), stage_sizes(count), count)


def _run_stages(loop: Loop, carry: Any, rows: Any, members: Any, sizes: list[int], count: int) -> tuple[Any, Any]:
    """Run one stage and, on its unfinished members, the following ones."""
    constants = _rows_of(loop.constants, members)
    if sizes[0] == 1:
        return _run_alone(loop, constants, carry, rows, members)

    def step(running: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        carry, rows, going = running
        carry, written = jax.vmap(loop.advance)(constants, carry)
        rows = loop.write(rows, jnp.where(going, members, count), written)
        return carry, rows, ~jax.vmap(loop.done)(carry)

    begin = (carry, rows, ~jax.vmap(loop.done)(carry))
    carry, rows, going = jax.lax.while_loop(lambda running: running[2].sum() > sizes[1], step, begin)
    places = jnp.nonzero(going, size=sizes[1], fill_value=sizes[0])[0]
    taken = places < sizes[0]
    who = jnp.where(taken, _rows_of(members, places), count)
    some = jax.vmap(lambda there, one: where(there, one, loop.retire(one)))(taken, _rows_of(carry, places))
    some, rows = _run_stages(loop, some, rows, who, sizes[1:], count)
    carry = jax.tree.map(lambda leaf, part: leaf.at[places].set(part, mode="drop"), carry, some)
    return carry, rows


def _run_alone(loop: Loop, constants: Any, carry: Any, rows: Any, members: Any) -> tuple[Any, Any]:
    """The last stage, of one member or nobody, without the axis of a batch: scalars stay in registers."""
    constants, carry = jax.tree.map(lambda leaf: leaf[0], (constants, carry))

    def step(running: tuple[Any, Any]) -> tuple[Any, Any]:
        carry, written = loop.advance(constants, running[0])
        return carry, loop.write(running[1], members, jax.tree.map(lambda leaf: leaf[None], written))

    carry, rows = jax.lax.while_loop(lambda running: ~loop.done(running[0]), step, (carry, rows))
    return jax.tree.map(lambda leaf: leaf[None], carry), rows


def _rows_of(tree: Any, places: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.at[places].get(mode="clip"), tree)
