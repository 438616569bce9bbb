r"""Where a linearisation is not defined: derivatives that are not finite, found before an eigenvalue is sought.

    J v  or  J^T v  not finite at a finite v:  some dF_i/dx_j does not exist, or is infinite

A square root at 0 does it, a quotient by 0, the length of a zero vector. An optimiser that divides by the root of a mean
square (Adam, RMSprop) does it at a parameter that never had a slope. Routines for eigenvalues print, loop or raise in
words of their own when they meet such a number, so it is refused first.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_inexact
from separatrix.linear.coordinates import dimension_of


def require_derivatives(what: str, jacobian: Any, products: Any) -> Any:
    """Return what products with J, of a `Jacobian` or its like, gave; refused in words where one of them is not finite.

    **Raises:** `ValueError` that names the first coordinate in which the derivative is not finite.
    """
    found = np.asarray(products)
    if np.isfinite(found).all():
        return found
    raise ValueError(
        explain(
            f"{what}: derivatives of the system",
            f"a Jacobian that is not finite{_where(jacobian)}",
            "a system that has derivatives at this state",
            "Ask at another state; a root, a length or a quotient at 0 has no derivative (an optimiser's mean square of "
            "a parameter without slopes: give it eps_root=1e-16).",
        )
    )


def _where(jacobian: Any) -> str:
    """In which coordinates of the state, by one product with the transpose; nothing where it does not tell."""
    probe = np.random.default_rng(0).standard_normal(jacobian.size)
    try:
        columns = np.asarray(jacobian.rmv(jnp.asarray(probe, jacobian.point.dtype)))
    except (ValueError, TypeError, NotImplementedError):  # a step without a transpose
        return ""
    bad = np.flatnonzero(~np.isfinite(columns))
    if not len(bad):
        return ""
    return f" in {len(bad)} of {jacobian.size} coordinates, first {_name(jacobian.state, int(bad[0]))}"


def _name(state: Any, place: int) -> str:
    """The leaf that holds a coordinate, and its place there."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if not is_inexact(leaf):
            continue
        size = dimension_of(leaf)
        if place < size:
            return f"state{jax.tree_util.keystr(path)}, number {place}"
        place -= size
    return "unknown"
