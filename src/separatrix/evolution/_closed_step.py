"""A map's step as one function with all that it depends on in its leaves.

A rule for gradients may only use what it is handed. A plain function that refers to an array of its surroundings (one
that is being differentiated, say) hides it; closure conversion brings it out, so that no gradient is lost.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._types import Key, State
from separatrix.systems.map import InvertibleMap, Map


def closed_step(map: Map, state: State, key: Key | None) -> Callable[[Any, State, Any], State]:
    """(n, x, key of step n) -> F(n, x), a pytree in whose leaves are all parameters of F."""
    return eqx.filter_closure_convert(lambda n, x, here: map.step(n, x, key=here), jnp.zeros((), int), state, key)


def closed_inverse(map: InvertibleMap, state: State) -> Callable[[Any, State], State]:
    """(n, x[n+1]) -> x[n]."""
    return eqx.filter_closure_convert(map.inverse_step, jnp.zeros((), int), state)


def key_of_step(key: Key | None, n: Any) -> Any:
    """Counter-based: step n draws from fold_in(key, n)."""
    return None if key is None else jax.random.fold_in(key, n)
