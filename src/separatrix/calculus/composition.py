r"""Composition of maps, and of near-identity maps as a splitting.

    compose(f, g)(x) = f(g(x)).

Near-identity maps compose to a near-identity map: when the first advances by h, the i-th advances by r_i h with r_i the
ratio of their own step sizes, so that limit(compose(f, g)) = r_f limit(f) + r_g limit(g). With equal steps this is the
Lie-Trotter splitting of the sum of two fields, and its first correction is half their commutator.
"""

from typing import Any

import equinox as eqx
import jax

from separatrix._errors import explain
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import as_parameter
from separatrix.systems.map import FiniteMap, InvertibleMap, Map, NearIdentityMap, step_ratio


class Composition(Map):
    """x -> F_1(n, F_2(n, ... F_k(n, x)))."""

    maps: tuple[Map, ...]

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        for index in reversed(range(len(self.maps))):
            state = self.maps[index].step(n, state, key=_part(key, index))
        return state


class InvertibleComposition(InvertibleMap):
    """x -> F_1(n, F_2(n, ... F_k(n, x))), undone in the other order."""

    maps: tuple[InvertibleMap, ...]

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        for index in reversed(range(len(self.maps))):
            state = self.maps[index].step(n, state, key=_part(key, index))
        return state

    def inverse_step(self, n: StepIndex, state: State) -> State:
        for map in self.maps:
            state = map.inverse_step(n, state)
        return state


class FiniteComposition(FiniteMap):
    """A composition that is defined as long as the shortest of its finite parts."""

    maps: tuple[Map, ...]
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        for index in reversed(range(len(self.maps))):
            state = self.maps[index].step(n, state, key=_part(key, index))
        return state


class Splitting(NearIdentityMap):
    """F_h(t, x) = F^1_{r_1 h}(r_1 t, F^2_{r_2 h}(r_2 t, ...)), with r_i = h_i / h_1."""

    maps: tuple[NearIdentityMap, ...]
    step_size: Scalar

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        for index in reversed(range(len(self.maps))):
            ratio = step_ratio(self.maps[index], self.maps[0], step_size)
            state = self.maps[index].advance(ratio * t, state, ratio * step_size, key=_part(key, index))
        return state


def compose(*maps: Any) -> Map:
    r"""Return the map that applies the last of the maps first: compose(f, g)(x) = f(g(x)).

    **Arguments:**

    - `maps`: at least one `Map`, all on states of one form. If all are near the identity, so is the result, at the step
      size of the first.

    **Returns:** a `Map`. A random one gives each part its own key, `fold_in(key, position)`.

    **Raises:** `TypeError` for anything but maps: add the fields of flows instead, or compose their discretisations.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> add_one, double = sx.as_map(lambda x: x + 1.0), sx.as_map(lambda x: 2.0 * x)
    >>> sx.compose(add_one, double).step(0, jnp.array(3.0)).item()
    7.0

    **Reference:** Hairer, Lubich & Wanner, *Geometric Numerical Integration* (2006), section II.5.
    """
    if not maps:
        raise ValueError(
            explain("compose", "no maps", "at least one Map", "Pass the maps in the order f, g for f(g(x)).")
        )
    for map in maps:
        if not isinstance(map, Map):
            raise undefined("compose", map, "Map", "Discretise a flow first, or add the two velocities with as_flow.")
    if len(maps) == 1:
        return maps[0]
    if all(isinstance(map, NearIdentityMap) for map in maps):
        return Splitting(maps, as_parameter(maps[0].step_size))
    lengths = [map.length for map in maps if isinstance(map, FiniteMap)]
    if lengths:
        return FiniteComposition(maps, min(lengths))
    if all(isinstance(map, InvertibleMap) for map in maps):
        return InvertibleComposition(maps)
    return Composition(maps)


def _part(key: Key | None, index: int) -> Any:
    return None if key is None else jax.random.fold_in(key, index)
