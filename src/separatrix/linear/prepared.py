"""A function of a module and an array, taken apart once for many calls.

A call of a compiled function of modules first flattens them, which takes ten times as long as a small program runs. Where
the same module meets many arrays, its leaves are parted from its structure before the first.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np


def prepared(function: Callable[..., Any], module: Any) -> Callable[..., Any]:
    """Return x -> function(module, x), compiled; of the same program for all modules of one form.

    **Arguments:**

    - `function`: of a module and arrays. `module`: a pytree whose other leaves than arrays can be hashed.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from separatrix.linear.prepared import prepared
    >>> shifted = prepared(lambda shift, x: x + shift[0], (jnp.asarray(2.0),))
    >>> float(shifted(1.0))
    3.0
    """
    arrays, rest = eqx.partition(module, lambda leaf: isinstance(leaf, jax.Array | np.ndarray))
    others, structure = jax.tree.flatten(rest)
    return functools.partial(_called, _form(function, tuple(others), structure), arrays)


class _Form:
    """What is no array: compared by identity, for one of each content is kept."""

    def __init__(self, function: Callable[..., Any], others: tuple[Any, ...], structure: Any):
        self.function, self.others, self.structure = function, others, structure

    def __call__(self, arrays: Any, *inputs: Any) -> Any:
        return self.function(eqx.combine(arrays, jax.tree.unflatten(self.structure, self.others)), *inputs)


_form = functools.lru_cache(maxsize=1024)(_Form)


@functools.partial(jax.jit, static_argnums=0)
def _called(form: _Form, arrays: Any, *inputs: Any) -> Any:
    return form(arrays, *inputs)
