r"""A map in pieces, for whoever looks on between them: x[n+1] = F(n, x[n]), n = first, ..., stop - 1.

First, stop and interval of rows are numbers of the compiled loop, not its shape. So one executable takes every piece, and a
run that is cut anywhere gives the bits of one that is not. `evolve` is for all else: it can be traced and differentiated.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import all_finite, is_inexact
from separatrix._types import Function, Key, State
from separatrix.evolution.checks import check_key, check_state, check_step_form, check_system
from separatrix.systems.map import Map
from separatrix.systems.optax_maps import finite_part

_FEW = 256  # numbers that are cheaper to add up than to reduce


class Piece(NamedTuple):
    """What a piece gave.

    - `state`: after the last good step. `n`: the number of the next one.
    - `good`: whether the piece reached its stop; else step n broke: its result is not finite.
    - `rows`: what was kept, in a fixed number of places; the first `kept` are of this piece.
    """

    state: State
    n: int
    good: bool
    rows: Any
    kept: int


def checked_start(map: Map, state: State, key: Key | None, what: str) -> State:
    """Return the state as arrays; refuse a map, state or key that cannot be run, in words."""
    check_system(map, what)
    check_key(key, what)
    return check_state(state, differentiable=False, what=f"{what}: state")


def advance(
    map: Map,
    state: State,
    first: int,
    stop: int,
    *,
    key: Key | None,
    fn: Function,
    origin: int,
    every: int,
    places: int,
) -> Piece:
    """Take the steps first, ..., stop - 1, keeping `fn(state)` after each step whose number is a multiple of `every` from
    `origin` on.

    **Arguments:**

    - `places`: how many rows the piece has room for.

    **Returns:** a `Piece`, which ends before the first step whose result is not finite.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> halving = sx.as_map(lambda x: 0.5 * x)
    >>> piece = advance(halving, jnp.asarray(8.0), 0, 4, key=None, fn=lambda x: x, origin=0, every=2, places=3)
    >>> float(piece.state), piece.n, piece.rows[: piece.kept].tolist()
    (0.5, 4, [2.0, 0.5])
    """
    bounds = jnp.asarray(origin), jnp.asarray(every)
    after, n, good, rows = _loop(map, state, jnp.asarray(first), jnp.asarray(stop), key, fn, bounds, places)
    if not bool(good):
        # Again, up to the step that broke: the same executable, so the same numbers.
        stop = int(n) - 1
        after, n, _, rows = _loop(map, state, jnp.asarray(first), jnp.asarray(stop), key, fn, bounds, places)
    kept = (int(n) - origin) // every - (first - origin) // every
    return Piece(after, int(n), bool(good), rows, kept)


@eqx.filter_jit
def _loop(
    map: Map, state: State, first: Any, stop: Any, key: Key | None, fn: Function, bounds: Any, places: int
) -> tuple[State, Any, Any, Any]:
    """(state, n, whether all was finite, rows); it ends with the first step whose result is not finite."""
    check_step_form(map, state, key)
    origin, every = bounds
    blank = jax.tree.map(
        lambda leaf: jnp.zeros((places, *leaf.shape), leaf.dtype),
        eqx.filter_eval_shape(lambda state: jax.tree.map(jnp.asarray, fn(state)), state),
    )

    def going(carry: Any) -> Any:
        n, _, good, _, _ = carry
        return good & (n < stop)

    def step(carry: Any) -> Any:
        n, state, _, rows, place = carry
        state = map.step(n, state, key=None if key is None else jax.random.fold_in(key, n))
        good = _sound(state)
        due = good & ((n + 1 - origin) % every == 0)

        def kept() -> Any:
            return jax.tree.map(lambda all, one: all.at[place].set(one), rows, jax.tree.map(jnp.asarray, fn(state)))

        return n + 1, state, good, jax.lax.cond(due, kept, lambda: rows), place + due.astype(place.dtype)

    n, state, good, rows, _ = jax.lax.while_loop(
        going, step, (first, state, jnp.asarray(True), blank, jnp.zeros((), first.dtype))
    )
    return state, n, good, rows


def _sound(state: State) -> Any:
    """Whether a state is finite: a sum of 0 x is zero if all x are, and NaN otherwise; it vectorises."""
    watched = [leaf for leaf in jax.tree.leaves(finite_part(state)) if is_inexact(leaf)]
    large, small = ([leaf for leaf in watched if (leaf.size > _FEW) == over] for over in (True, False))
    return all_finite([jnp.sum(0 * leaf) for leaf in large]) & all_finite(small)
