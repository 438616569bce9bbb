"""What all systems share.

A system is an `equinox.Module`, hence a pytree: its parameters are leaves that can be traced, swept, differentiated
and trained. A class is either abstract or final; systems vary by wrapping one another, never by overriding.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Key


class System(eqx.Module):
    """Anything that moves a state: a `Map`, a `Flow` or an `SDE`."""


def as_parameter(value: Any) -> Any:
    """Turn a Python number into a traced leaf, so that changing it does not recompile.

    Floats stay weakly typed and so take the dtype of the state they meet.
    """
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, (bool, int, float, complex)) else leaf, value
    )


def as_step_size(what: str, value: Any) -> Any:
    """Turn a step size into a traced leaf, a whole one into a float; refuse what is no finite number other than 0."""
    if isinstance(value, str | complex) or value is None or not jnp.issubdtype(jnp.result_type(value), jnp.number):
        raise TypeError(explain(what, repr(value), "a real number", "Pass for example 0.1."))
    # NumPy keeps what is known known while something else is being traced.
    if not is_traced(value) and not np.all(np.isfinite(value) & (np.asarray(value) != 0)):
        raise ValueError(explain(what, value, "a finite number other than 0", "Pass for example 0.1."))
    return as_parameter(float(value) if isinstance(value, int) else value)


def require_key(key: Key | None, name: str) -> Key:
    """Return the key, or say that this random system needs one."""
    if key is None:
        raise ValueError(
            explain(f"{name} is random", "key=None", "a PRNG key", "pass key=jax.random.key(0), or any key of your own")
        )
    return key
