"""Numbers that have a range: refused in words where they are known, passed on where they are traced.

A parameter of a system is a leaf, which may be traced, swept or trained: then its value is not there to be looked at. A
count is static, and is always looked at. Nothing outside its range, and no NaN, falls through: what is asked is that a
comparison holds, never that its opposite fails. What passes comes back as a leaf, a whole number
as a float.
"""

import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_inexact, is_traced
from separatrix.systems.base import as_parameter

# What to do about a number of which a paper, or optax, knows a good value.
DO = "Pass the value that the paper or optax would take."

# Arrays of JAX that were looked at and are finite: they cannot change, and are not looked at again while they live. So data
# are checked where they come in, and not at each of the evolutions that they go through.
_SOUND: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def first_not_finite(leaf: Any) -> tuple[Any, tuple[int, ...]] | None:
    """The first NaN or infinity of an array, and its index; None if there is none, or none to be seen while tracing."""
    if is_traced(leaf) or not is_inexact(leaf) or _SOUND.get(id(leaf)) is leaf:
        return None
    values = np.asarray(leaf)
    wrong = ~np.isfinite(values)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        return values[index], index
    if isinstance(leaf, jax.Array):
        _SOUND[id(leaf)] = leaf
    return None


def finite(what: str, value: Any, do: str = DO) -> Any:
    """Refuse anything but finite real numbers; return the value as a leaf."""
    return require(what, value, "a finite number", lambda known: np.full(known.shape, True), do)


def positive(what: str, value: Any, do: str = DO) -> Any:
    """Refuse anything but finite numbers above 0; return the value as a leaf."""
    return require(what, value, "a finite number above 0", lambda known: known > 0, do)


def nonnegative(what: str, value: Any, do: str = DO) -> Any:
    """Refuse anything but finite numbers of at least 0; return the value as a leaf."""
    return require(what, value, "a finite number of at least 0", lambda known: known >= 0, do)


def share(what: str, value: Any, do: str = DO) -> Any:
    """Refuse anything but numbers from 0 to 1; return the value as a leaf."""
    return require(what, value, "a number from 0 to 1", lambda known: (known >= 0) & (known <= 1), do)


def ordered(what: str, low: Any, high: Any, do: str, *, strictly: bool = False) -> None:
    """Refuse two known numbers that are not in order."""
    if is_traced(low, high):
        return
    first, second = np.asarray(low).astype(float), np.asarray(high).astype(float)
    if not bool(np.all(first < second if strictly else first <= second)):
        raise ValueError(explain(what, f"{low} and {high}", "the first below the second", do))


def whole(what: str, value: Any, do: str = "Give a count.", *, least: int = 1, most: int | None = None) -> int:
    """Return a whole number in its range as an int."""
    expected = f"a whole number >= {least}" if most is None else f"{least} to {most}"
    counted = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not counted or value < least or (most is not None and value > most):
        raise ValueError(explain(what, value if counted else repr(value), expected, do))
    return int(value)


def indices(what: str, values: Any, count: int, do: str) -> None:
    """Refuse anything but integers in [0, count), naming the first that is outside."""
    if not jnp.issubdtype(jnp.result_type(values), jnp.integer):
        raise TypeError(explain(what, f"dtype {jnp.result_type(values)}", f"integers from 0 to {count - 1}", do))
    if is_traced(values):
        return
    known = np.asarray(values)
    outside = (known < 0) | (known >= count)
    if outside.any():
        raise ValueError(explain(what, _first(known, outside), f"integers from 0 to {count - 1}", do))


def require(what: str, value: Any, expected: str, holds: Callable[[Any], Any], do: str = DO) -> Any:
    """Refuse anything but finite real numbers for which something holds; return the value as a leaf."""
    try:
        dtype = jnp.result_type(value)
        real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    except TypeError:
        real = False
    if not real:
        raise TypeError(explain(what, repr(value), expected, do))
    if not is_traced(value):
        # NumPy keeps what is known known while something else is being traced.
        known = np.asarray(value).astype(float)
        wrong = ~(np.isfinite(known) & holds(known))
        if wrong.any():
            raise ValueError(explain(what, _first(known, wrong), expected, do))
    return as_parameter(float(value) if isinstance(value, int) else value)


def _first(known: Any, wrong: Any) -> str:
    """The first value that is wrong, and where in an array it stands."""
    if known.ndim == 0:
        return str(known)
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{known[index]} at index {list(index)}"
