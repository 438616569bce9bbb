r"""The fastest rate of a flow or of an SDE along its orbit, from which a fixed step is chosen.

    L = max_n max_v |Df(t_n, x_n) v|/|v|        (plus sum_k |Dg_k v|^2/|v|^2 for an SDE)

The largest stretch of a vector is looked for by products alone, v <- Df v/|Df v| from a few random ones that are carried
along the orbit: it is found from below, and by less than a factor of two in practice. The orbit of a flow takes a thousand
steps of RK4, each a quarter of the time scale 1/L seen last. That of an SDE is taken twice, first over a hundred times the
scale seen where it starts, then over a thousand times what was seen there.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import float_dtype
from separatrix._types import Key, State
from separatrix.calculus.methods import RK4
from separatrix.evolution import evolve
from separatrix.linear.coordinates import InCoordinates, as_vector, dimension_of, from_vector, rate
from separatrix.systems.flow import Flow
from separatrix.systems.sde import SDE

_STEPS = 1_024
_SAMPLES = 256
_VECTORS = 4
_PRODUCTS = 8
_SPANS = (100.0, 1000.0)
# A step of the orbit of a flow as a part of 1/L, L forgotten by so much a step; and of an SDE's.
_STEP, _FORGET = 0.25, 0.95
_NOISY_STEP = 0.02


def fastest_rate(system: Flow | SDE, state: State, start: Any = 0.0, key: Key | None = None) -> float:
    """Return L; 1 for a system that moves nothing."""
    return rates(system, state, start, key)[0]


def rates(system: Flow | SDE, state: State, start: Any = 0.0, key: Key | None = None) -> tuple[float, float]:
    """(L, the median of the same along the orbit): far apart where the fast part is a spike."""
    if isinstance(system, Flow):
        # Drawn here: a program that draws takes as long to compile as all the rest.
        drawn = np.random.default_rng(1).standard_normal((_VECTORS, dimension_of(state)))
        along = _along_flow(system, state, np.asarray(start, float), jnp.asarray(drawn, float_dtype(state)))
        stretches, own = (np.asarray(found) for found in along)
    else:
        stretches, own = _along_sde(system, state, start, key)
    stretches = stretches[np.isfinite(stretches)]
    fastest = max(float(np.max(stretches, initial=0.0)), float(own))
    typical = float(np.median(stretches)) if stretches.size else fastest
    return fastest, typical if typical > 0 else fastest


@eqx.filter_jit
def _along_flow(flow: Flow, state: State, start: Any, directions: Any) -> tuple[Any, Any]:
    """The largest stretch at each step of an orbit, and the scale of the start by itself."""
    coordinates = InCoordinates(flow, state)
    point = as_vector(state)
    dtype = point.dtype

    def stretched(time: Any, point: Any, directions: Any) -> tuple[Any, Any]:
        _, push = jax.linearize(lambda x: coordinates.velocity(time, x), point)
        images = jax.vmap(push)(directions)
        lengths = jnp.linalg.norm(images, axis=1)
        alive = (lengths > 0)[:, None]
        return jnp.where(alive, images / jnp.where(alive, lengths[:, None], 1), directions), jnp.max(lengths)

    def product(directions: Any, _: Any) -> tuple[Any, Any]:
        return stretched(time, point, directions)

    def step(carry: Any, _: Any) -> tuple[Any, Any]:
        time, point, directions, recent = carry
        directions, length = stretched(time, point, directions)
        recent = jnp.maximum(length, _FORGET * recent)
        h = _STEP / recent
        return (time + h, RK4().advance(coordinates, time, point, h), directions, recent), length

    time = jnp.asarray(start, dtype)
    directions = directions / jnp.linalg.norm(directions, axis=1, keepdims=True)
    directions, first = jax.lax.scan(product, directions, length=_PRODUCTS)
    speed, size = jnp.linalg.norm(coordinates.velocity(time, point)), jnp.linalg.norm(point)
    own = _own_scale(speed, size)
    recent = jnp.maximum(jnp.max(first), own)
    _, lengths = jax.lax.scan(step, (time, point, directions, recent), length=_STEPS)
    return jnp.concatenate([first[-1:], lengths]), own


def _own_scale(speed: Any, size: Any) -> Any:
    """|f|/|x|, a hundredth of it: for a start at which the linear part vanishes."""
    known = (speed > 0) & (size > 0)
    return jnp.where(known, 0.01 * speed / jnp.where(size > 0, size, 1), 1e-2)


def _along_sde(sde: SDE, state: State, start: Any, key: Key | None) -> tuple[np.ndarray, float]:
    here = _stretches_along(sde, jax.tree.map(lambda leaf: leaf[None], state), jnp.asarray([start], float))
    speed = jnp.linalg.norm(as_vector(rate(sde, state, at=start)))
    own = float(_own_scale(speed, jnp.linalg.norm(as_vector(state))))
    found = max(float(np.max(here, initial=0.0)), own)
    along = here
    for span in _SPANS:
        times, states = _orbit(sde, state, float(start), span / found, key)
        along = _stretches_along(sde, states, times)
        found = max(found, float(np.max(along, initial=0.0)))
    return along, found


def _orbit(sde: SDE, state: State, start: float, span: float, key: Key | None) -> tuple[Any, Any]:
    times = start + np.linspace(0.0, span, _SAMPLES + 1)
    inner = int(np.ceil(span / _SPANS[0] / _NOISY_STEP))
    path = evolve(sde, state, times=times, steps=_SAMPLES * max(inner, 1), key=key)
    return path.times, path.states


@eqx.filter_jit
def _stretches(system: SDE, states: State, times: Any) -> Any:
    """The largest stretch seen at each of some states."""

    def one(state: State, time: Any) -> Any:
        point = as_vector(state)
        _, push = jax.linearize(lambda x: as_vector(rate(system, from_vector(x, state), at=time)), point)
        noise = _noise_stretch(system, state, time)

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


def _stretches_along(system: SDE, states: State, times: Any) -> np.ndarray:
    """The finite ones: rows past the end of an orbit that broke are NaN."""
    found = np.asarray(_stretches(system, states, jnp.asarray(times, float_dtype(states))))
    return found[np.isfinite(found)]
