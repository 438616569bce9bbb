r"""What every question refuses before anything is compiled: states, samples, counts, numbers and keys that cannot be meant.

A value that is known is looked at, and named with its place. A traced one cannot be: there the answer itself is NaN where
the input was, and a comparison with NaN decides nothing.
"""

import operator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from separatrix._errors import explain
from separatrix._tree import asarrays, is_inexact, is_traced
from separatrix._types import State
from separatrix.systems.optax_maps import finite_part


def checked_state(what: str, state: Any) -> State:
    """Return a state with array leaves; refuse one that is empty, no numbers, or not finite."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    if not leaves:
        raise ValueError(explain(what, "an empty tree", "at least one array", "Pass the state to ask about."))
    for path, leaf in leaves:
        name = f"{what}{jax.tree_util.keystr(path)}"
        if not eqx.is_array_like(leaf):
            do = "Keep functions and strings out of the state: eqx.partition parts them."
            raise TypeError(explain(name, type(leaf).__name__, "an array or number", do))
        if jnp.size(leaf) == 0:
            got = f"an array of shape {jnp.shape(leaf)}"
            raise ValueError(explain(name, got, "at least one number", "Drop the empty leaf."))
    check_finite(what, finite_part(state))
    return asarrays(state)


def check_finite(what: str, tree: Any) -> None:
    """Refuse NaN and infinity in what is known of a tree, naming leaf and index."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not eqx.is_array_like(leaf) or is_traced(leaf) or not is_inexact(leaf):
            continue
        values = np.asarray(leaf)
        if not np.isfinite(values).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            where = f"{what}{jax.tree_util.keystr(path)}" + (f"[{', '.join(map(str, index))}]" if index else "")
            raise ValueError(explain(where, values[index], "a finite number", "Look at where this value was made."))


def check_count(what: str, got: Any, least: int, most: int | None = None) -> Any:
    """Return a whole number within its range; one that is traced as it is."""
    if isinstance(got, Tracer):
        return got
    expected = f"at least {least}" if most is None else f"{least} to {most}"
    try:
        number = None if isinstance(got, bool | np.bool_) else operator.index(got)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(explain(what, repr(got), f"a whole number, {expected}", "Give a Python int."))
    if number < least or (most is not None and number > most):
        raise ValueError(explain(what, number, expected, "Ask within that."))
    return number


def check_number(what: str, got: Any, *, above: float | None = None, least: float | None = None) -> None:
    """Refuse what is not one finite real number in its range; a traced one passes."""
    bound = f" > {above:g}" if above is not None else f" >= {least:g}" if least is not None else ""
    expected = f"one finite number{bound}"
    if isinstance(got, Tracer):
        return
    try:
        value = np.asarray(got)
    except (TypeError, ValueError):
        value = np.asarray(None)
    real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    good = value.shape == () and real and bool(np.isfinite(value))
    good = good and (above is None or float(value) > above) and (least is None or float(value) >= least)
    if not good:
        raise ValueError(explain(what, got if value.shape == () else f"shape {value.shape}", expected, "Pass one."))


def check_key(what: str, key: Any, *, needed: bool = False) -> None:
    """Refuse a seed where a key is meant, and None where one is needed."""
    if key is None and not needed:
        return
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0
    raw = isinstance(key, jax.Array | np.ndarray) and key.dtype == jnp.uint32 and key.shape == (2,)
    if not (typed or raw):
        got = f"an array of keys {key.shape}" if isinstance(key, jax.Array) else repr(key)
        raise TypeError(explain(f"{what}: key", got, "one PRNG key", "Pass key=jax.random.key(0)."))
