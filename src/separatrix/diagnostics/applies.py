r"""To which systems a question applies: what the conditions of several questions are made of."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import float_dtype
from separatrix._types import Key, State
from separatrix.calculus import limit
from separatrix.calculus.dependence import depends_on
from separatrix.linear.coordinates import as_vector, dimension_of, from_vector, rate
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.sde import SDE

# Unasked up to this many coordinates: what compiles and runs in a few seconds.
SMALL, FORMED = 64, 512


def has_tangent(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether there is anything to linearise."""
    return dimension_of(state) > 0


def is_autonomous(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether the rate of a flow or SDE, or the step of a near-identity map, is the same at all times."""
    if isinstance(system, NearIdentityMap):
        h = jnp.asarray(system.step_size, float_dtype(state))
        return not depends_on(lambda t: system.advance(t, state, h, key=key), jnp.zeros_like(h))
    time = jnp.zeros((), float_dtype(state))
    noisy = isinstance(system, SDE) and depends_on(lambda t: _noise(system, t, state), time)
    return not (noisy or depends_on(lambda t: rate(system, state, at=t, key=key), time))


def is_simultaneous(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether a near-identity map is Euler's step on its own limit: all coordinates move at once by h f(x).

    Compared beside the state, for at rest all steps are one.
    """
    h, point = jnp.asarray(system.step_size, float_dtype(state)), as_vector(state)
    point = point + 0.1 * jnp.cos(jnp.arange(point.size).astype(point.dtype)) * jnp.maximum(jnp.max(jnp.abs(point)), 1)
    beside = from_vector(point, state)
    moved, along = _step_and_limit(system, beside, h, key)
    moved = moved - point
    rounding = 100 * float(jnp.finfo(point.dtype).eps) * float(jnp.max(jnp.abs(point)) + jnp.max(jnp.abs(along)))
    return bool(jnp.max(jnp.abs(moved - along)) <= rounding)


@eqx.filter_jit
def _step_and_limit(system: NearIdentityMap, state: State, h: Any, key: Key | None) -> tuple[Any, Any]:
    moved, along = system.step(0, state, key=key), rate(limit(system), state, key=key)
    return as_vector(moved), h * as_vector(along)


def _noise(sde: SDE, time: Any, state: State) -> State:
    operator = sde.diffusion(time, state)
    return operator.mv(jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), operator.in_structure()))
