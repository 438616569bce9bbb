"""Numbers that have a range: refused at once where they are known, as traced leaves otherwise."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix.systems.base import as_parameter


def positive(what: str, value: Any) -> Any:
    """Return a finite number above 0 as a leaf."""
    return _checked(what, value, "a number above 0", lambda known: (known > 0) & np.isfinite(known))


def nonnegative(what: str, value: Any) -> Any:
    """Return a finite number of at least 0 as a leaf."""
    return _checked(what, value, "a number of at least 0", lambda known: (known >= 0) & np.isfinite(known))


def fraction(what: str, value: Any, word: str = "a number") -> Any:
    """Return a number from 0 to 1 as a leaf; `word` is what it is called."""
    return _checked(what, value, f"{word} in [0, 1]", lambda known: (known >= 0) & (known <= 1))


def require(what: str, value: Any, expected: str, holds: Callable[[Any], Any]) -> None:
    """Refuse a known value outside its range; one that is traced passes."""
    # NumPy keeps what is known known while something else is being traced.
    if not is_traced(value) and not bool(np.all(holds(np.asarray(value)))):
        raise ValueError(explain(what, value, expected, "Pass the value that the paper or optax would take."))


def _checked(what: str, value: Any, expected: str, holds: Callable[[Any], Any]) -> Any:
    try:
        real = jnp.issubdtype(jnp.result_type(value), jnp.number) and jnp.isrealobj(value)
    except TypeError:
        real = False
    if not real:
        raise TypeError(explain(what, repr(value), expected, "Pass for example 0.1."))
    require(what, value, expected, holds)
    return as_parameter(float(value) if isinstance(value, int) else value)
