"""What a kind of system should be asked beside the general questions: findings that its family knows.

A family registers a function for its own class (`examine.register`); a system without one has none.
"""

import functools
from typing import Any

from separatrix.diagnostics.finding import Finding


@functools.singledispatch
def examine(system: Any, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """Return the findings of a system's own family at a state; none where it registered no examination.

    **Arguments:** those of `diagnose`.

    **Example:** write one for a class of your own.

    >>> import equinox as eqx, jax.numpy as jnp, separatrix as sx
    >>> class Doubling(sx.Map):
    ...     def step(self, n, state, *, key=None):
    ...         return 2.0 * state
    >>> @sx.diagnostics.examine.register
    ... def _(system: Doubling, state, *, at=0, key=None):
    ...     return [sx.diagnostics.Finding("growth a step", 2.0, "<=", 1.0, "it doubles", "Halve it.")]
    >>> [str(finding) for finding in sx.diagnostics.examine(Doubling(), jnp.ones(1))]
    ['growth a step: 2, must be <= 1. It doubles. Halve it.']
    """
    return []
