r"""The fastest rate of a flow or of an SDE along its orbit, from which a fixed step is chosen.

    L = max_n max_v |Df(t_n, x_n) v|/|v|        (plus sum_k |Dg_k v|^2/|v|^2 for an SDE)

The largest stretch of a vector is looked for by products alone, v <- Df v/|Df v| from a few random ones: it is found from
below, and by less than a factor of two in practice. The orbit is taken twice, first over a hundred times the scale 1/L
seen where it starts, then over a thousand times what was seen there.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import float_dtype
from separatrix._types import Key, State
from separatrix.evolution import evolve
from separatrix.linear.coordinates import as_vector, from_vector, rate
from separatrix.systems.flow import Flow
from separatrix.systems.sde import SDE

_SAMPLES = 256
_VECTORS = 4
_PRODUCTS = 8
_SPANS = (100.0, 1000.0)
# Steps of the orbit of an SDE, as a part of its time scale.
_NOISY_STEP = 0.02


def fastest_rate(system: Flow | SDE, state: State, start: Any = 0.0, key: Key | None = None) -> float:
    """Return L; 1 for a system that moves nothing."""
    return rates(system, state, start, key)[0]


def rates(system: Flow | SDE, state: State, start: Any = 0.0, key: Key | None = None) -> tuple[float, float]:
    """(L, the median of the same along the orbit): far apart where the fast part is a spike."""
    here = _stretches_along(system, jax.tree.map(lambda leaf: leaf[None], state), jnp.asarray([start], float))
    found = max(float(np.max(here, initial=0.0)), _own_rate(system, state, start))
    typical = found
    for span in _SPANS:
        times, states = _orbit(system, state, float(start), span / found, key)
        along = _stretches_along(system, states, times)
        found = max(found, float(np.max(along, initial=0.0)))
        typical = float(np.median(along)) if along.size else found
    return found, typical if typical > 0 else found


def _orbit(system: Flow | SDE, state: State, start: float, span: float, key: Key | None) -> tuple[Any, Any]:
    times = start + np.linspace(0.0, span, _SAMPLES + 1)
    if isinstance(system, Flow):
        path = evolve(system, state, times=times)
    else:
        inner = int(np.ceil(span / _SPANS[0] / _NOISY_STEP))
        steps = _SAMPLES * max(inner, 1)
        path = evolve(system, state, times=times, steps=steps, key=key)
    return path.times, path.states


@eqx.filter_jit
def _stretches(system: Flow | SDE, states: State, times: Any) -> Any:
    """The largest stretch seen at each of some states."""

    def one(state: State, time: Any) -> Any:
        point = as_vector(state)
        _, push = jax.linearize(lambda x: as_vector(rate(system, from_vector(x, state), at=time)), point)
        noise = _noise_stretch(system, state, time) if isinstance(system, SDE) else lambda v: jnp.zeros((), v.dtype)

        def product(v: Any, _: Any) -> tuple[Any, Any]:
            image = push(v)
            length = jnp.linalg.norm(image)
            following = jnp.where(length > 0, image / jnp.where(length > 0, length, 1), v)
            return following, length + noise(v)

        def largest(v: Any) -> Any:
            return jnp.max(jax.lax.scan(product, v / jnp.linalg.norm(v), length=_PRODUCTS)[1])

        return jnp.max(jax.vmap(largest)(jax.random.normal(jax.random.key(1), (_VECTORS, point.size), point.dtype)))

    return jax.vmap(one)(states, times)


def _noise_stretch(sde: SDE, state: State, time: Any) -> Any:
    """v -> sum_k |Dg_k v|^2, in the mean over a random noise."""
    point = as_vector(state)
    noise = sde.diffusion(time, state).in_structure()
    leaves, structure = jax.tree.flatten(noise)
    signs = [jax.random.rademacher(jax.random.key(i), s.shape).astype(s.dtype) for i, s in enumerate(leaves)]

    def pushed(x: Any) -> Any:
        return as_vector(sde.diffusion(time, from_vector(x, state)).mv(jax.tree.unflatten(structure, signs)))

    _, push = jax.linearize(pushed, point)
    return lambda v: jnp.sum(push(v) ** 2)


def _stretches_along(system: Flow | SDE, states: State, times: Any) -> np.ndarray:
    """The finite ones: rows past the end of an orbit that broke are NaN."""
    found = np.asarray(_stretches(system, states, jnp.asarray(times, float_dtype(states))))
    return found[np.isfinite(found)]


def _own_rate(system: Flow | SDE, state: State, start: Any) -> float:
    """|f|/|x|, a hundredth of it: for a start at which the linear part vanishes."""
    speed = float(jnp.linalg.norm(as_vector(rate(system, state, at=start))))
    size = float(jnp.linalg.norm(as_vector(state)))
    return 0.01 * speed / size if speed > 0 and size > 0 else 1e-2
