r"""Taylor coefficients of a near-identity map in its own step size.

    F_h(t, x) = x + h c_1(t, x) + h^2 c_2(t, x) + ...,      c_k = (1/k!) d^k/dh^k F_h(t, x) at h = 0,

by k nested forward derivatives.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import all_finite, float_dtype, is_traced, scale, structure
from separatrix._types import Key, Scalar, State
from separatrix.systems.map import NearIdentityMap

Field = Callable[[Any, Any], Any]


def coefficient(map: NearIdentityMap, k: int) -> Field:
    """Return c_k as a function of (t, x)."""

    def field(t: Scalar, state: State) -> State:
        def derivative(h: Scalar, times: int) -> State:
            if times == 0:
                return map.advance(t, state, h)
            return jax.jvp(lambda s: derivative(s, times - 1), (h,), (jnp.ones_like(h),))[1]

        zero = jnp.zeros((), float_dtype(state))
        return scale(1.0 / math.factorial(k), derivative(zero, k))

    return field


def first_coefficient(map: NearIdentityMap, t: Scalar, state: State, key: Key | None = None) -> State:
    """Return c_1(t, x), on the key's noise where there is one, having checked that the map is the identity at h = 0."""
    zero = jnp.zeros((), float_dtype(state))
    origin, velocity = jax.jvp(lambda h: map.advance(t, state, h, key=key), (zero,), (jnp.ones_like(zero),))
    if jax.tree.structure(origin) != jax.tree.structure(state):
        raise ValueError(
            explain(
                "step changes the form of the state",
                f"{structure(origin)}",
                f"{structure(state)}",
                "return from `advance` the structure that came in",
            )
        )
    return _require_identity(velocity, origin, state)


_NOT_IDENTITY = explain(
    "no limit under this scaling",
    "a map that is not the identity at step size zero",
    "advance(t, x, 0) = x, smooth in the step size",
    "rescale the state so that one step moves it by O(h): for momentum use HeavyBall or Nesterov "
    "(state (x, w), h = sqrt(learning rate))",
)
_NOT_SMOOTH = explain(
    "no limit under this scaling",
    "a step whose derivative at step size zero is not finite",
    "advance(t, x, h) smooth in h at zero",
    "for noise of size sqrt(h) use diffusion_limit; for a field that is singular at this time start later",
)


def _require_identity(velocity: State, origin: State, state: State) -> State:
    """Return the velocity where F_0(x) = x to rounding; say so where it is not."""
    tolerance = jnp.sqrt(jnp.finfo(float_dtype(state)).eps)

    def leaf_moved(before: Any, after: Any) -> Any:
        return jnp.any(jnp.abs(after - before) > tolerance * (1 + jnp.abs(before)))

    moved = jnp.stack(jax.tree.leaves(jax.tree.map(leaf_moved, state, origin))).any() & all_finite(state)
    if is_traced(velocity, moved):
        return eqx.error_if(velocity, moved, _NOT_IDENTITY)
    if moved:
        raise ValueError(_NOT_IDENTITY)
    if all_finite(state) and not all_finite(velocity):
        raise ValueError(_NOT_SMOOTH)
    return velocity
