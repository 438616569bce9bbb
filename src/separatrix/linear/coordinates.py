r"""Real coordinates of a state: its floating-point leaves as one vector, and back.

    x  <->  (v, what is no number: counters, keys),        J = d v(F(x)) / d v(x)

A complex leaf gives its real and its imaginary parts. What is not floating point (an optimiser's counter) is held fixed,
for it has no tangent.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import asarrays, float_dtype, is_inexact
from separatrix._types import Key, Scalar, State
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map
from separatrix.systems.sde import SDE
from separatrix.systems.signature import accepts_key


def as_vector(state: State) -> Float[Array, " d"]:
    """Return v(x)."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if is_inexact(leaf)]
    if not leaves:
        raise ValueError(explain("state", "no floating-point leaf", "at least one", "Pass arrays of floats."))
    dtype = float_dtype(state)
    return jnp.concatenate([part.ravel().astype(dtype) for leaf in leaves for part in _parts(jnp.asarray(leaf))])


def dimension_of(state: Any) -> int:
    """Number of real coordinates: 0 of a state that holds whole numbers alone, which has no tangent."""
    floating = [leaf for leaf in jax.tree.leaves(state) if is_inexact(leaf)]
    return sum(math.prod(jnp.shape(leaf)) * _width(jnp.result_type(leaf)) for leaf in floating)


def from_vector(vector: Float[Array, " d"], like: State) -> State:
    """Return the state with these coordinates, the rest taken from `like`."""
    leaves, structure = jax.tree.flatten(like)
    built, place = [], 0
    for leaf in leaves:
        if not is_inexact(leaf):
            built.append(leaf)
            continue
        shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
        count = math.prod(shape)
        parts = [vector[place + i * count : place + (i + 1) * count].reshape(shape) for i in range(_width(dtype))]
        place += len(parts) * count
        built.append((jax.lax.complex(*parts) if len(parts) == 2 else parts[0]).astype(dtype))
    return jax.tree.unflatten(structure, built)


class InCoordinates(Flow):
    """A flow on the coordinates of its state: dv/dt = v(f(t, x(v))), so that a step is the arithmetic of one array."""

    flow: Flow
    like: State

    def velocity(self, t: Scalar, state: State) -> State:
        return as_vector(self.flow.velocity(t, from_vector(jnp.asarray(state), self.like)))


def rate(system: System, state: State, *, at: Any = 0, key: Key | None = None) -> State:
    """Return F(n, x), f(t, x), or an SDE's drift: what is linearised, on the key's noise where the system draws any."""
    match system:
        case Map():
            return system.step(at, state, key=key)
        case Flow():
            drawn = {"key": key} if key is not None and accepts_key(system.velocity) else {}
            return system.velocity(jnp.asarray(at, float_dtype(state)), state, **drawn)
        case SDE():
            return system.drift(jnp.asarray(at, float_dtype(state)), state)
    raise undefined("this question", system, "Map, Flow or SDE", "Make it one with as_map, as_flow or as_sde.")


def kind_of(system: Any) -> str:
    """Return "map", "flow" or "sde"."""
    for name, kind in (("map", Map), ("flow", Flow), ("sde", SDE)):
        if isinstance(system, kind):
            return name
    raise undefined("this question", system, "Map, Flow or SDE", "Make it one with as_map, as_flow or as_sde.")


class Jacobian(eqx.Module):
    """The linearisation of a system at a state, in real coordinates, one product at a time.

    Its products are compiled once for each form of system and state, whatever their numbers.
    """

    system: System
    state: State
    at: Any
    key: Key | None

    def __init__(self, system: Any, state: State, *, at: Any = 0, key: Key | None = None):
        kind_of(system)
        self.system, self.state, self.at, self.key = system, asarrays(state), jnp.asarray(at), key

    @property
    def size(self) -> int:
        """Number d of real coordinates."""
        return dimension_of(self.state)

    @property
    def point(self) -> Float[Array, " d"]:
        """Coordinates of the state."""
        return as_vector(self.state)

    def image(self, vector: Float[Array, " d"]) -> Float[Array, " d"]:
        """Return F or f in coordinates."""
        return as_vector(rate(self.system, from_vector(vector, self.state), at=self.at, key=self.key))

    @eqx.filter_jit
    def value(self) -> Float[Array, " d"]:
        """F(x) or f(x) in coordinates."""
        return self.image(self.point)

    @eqx.filter_jit
    def mv(self, vector: Float[Array, " d"]) -> Float[Array, " d"]:
        """J v."""
        return jax.jvp(self.image, (self.point,), (vector,))[1]

    @eqx.filter_jit
    def rmv(self, vector: Float[Array, " d"]) -> Float[Array, " d"]:
        """J^T v."""
        return jax.vjp(self.image, self.point)[1](vector)[0]

    @eqx.filter_jit
    def matrix(self) -> Float[Array, "d d"]:
        """J, a column for each coordinate."""
        _, push = jax.linearize(self.image, self.point)
        return jax.vmap(push, out_axes=1)(jnp.eye(self.size, dtype=self.point.dtype))


def _width(dtype: Any) -> int:
    return 2 if jnp.issubdtype(dtype, jnp.complexfloating) else 1


def _parts(leaf: Array) -> list[Array]:
    return [leaf.real, leaf.imag] if _width(leaf.dtype) == 2 else [leaf]
