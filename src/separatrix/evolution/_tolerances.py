"""Tolerances of an adaptive solve, in the state's dtype."""

import math
import warnings
from typing import Any

import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import is_traced

# Error per step: near the square root of what a dtype resolves, where a pair of order five is still efficient.
_DEFAULTS = {"float64": 1e-6, "float32": 1e-4}
# The absolute tolerance unless it is said: for a state of size one, a hundredth of the relative one.
_RATIO = 1e-2


def tolerances(dtype: Any, rtol: Any, atol: Any, *, adaptive: bool, what: str) -> tuple[Any, Any]:
    """(rtol, atol). `atol` follows `rtol` unless it is said; what the dtype cannot resolve is raised to what it can."""
    name = jnp.dtype(dtype).name
    if name not in _DEFAULTS:
        if adaptive:
            do = "Convert the state with .astype(jnp.float32), or fix the step with step_size=."
            raise ValueError(
                explain(f"{what}: adaptive steps", f"a state of {name}, which cannot hold an error estimate",
                        "float32 or float64", do)
            )  # fmt: skip
        return jnp.asarray(0.1, dtype), jnp.asarray(0.01, dtype)
    if rtol is None:
        rtol = _DEFAULTS[name]
    elif not is_traced(rtol):
        rtol = _resolved(float(rtol), dtype, what)
    atol = rtol * _RATIO if atol is None else atol
    return jnp.asarray(rtol, dtype), jnp.asarray(atol, dtype)


def _resolved(rtol: float, dtype: Any, what: str) -> float:
    least = 10 * float(jnp.finfo(dtype).eps)
    if rtol >= least:
        return rtol
    do = "It is raised to that; use float64 for more."
    text = explain(f"{what}: rtol", f"{rtol:g}", f"at least {least:.1e} in {jnp.dtype(dtype).name}", do)
    warnings.warn(text, stacklevel=5)
    return math.nextafter(least, math.inf)
