r"""The k-th iterate of a map: x[n+1] = F(kn + k - 1, ... F(kn, x[n])).

Its fixed points are the orbits of period k. The iterate of a near-identity map has step size H = k h,
G_H = F_{H/k} o ... o F_{H/k}, and the same limit.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.systems.map import FiniteMap, InvertibleMap, InvertibleNearIdentityMap, Map, NearIdentityMap


class IteratedMap(Map):
    """x -> F(kn + k - 1, ... F(kn, x))."""

    map: Map
    count: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return _repeat(self.map, self.count, n, state, key)

    def parameters(self, state: State) -> State:
        """Return those of the map below."""
        return self.map.parameters(state)


class IteratedFiniteMap(FiniteMap):
    """As many k-fold steps as a finite map holds."""

    map: FiniteMap
    count: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return _repeat(self.map, self.count, n, state, key)


class IteratedNearIdentityMap(NearIdentityMap):
    """G_H(t, x) = F_h(t + (k - 1) h, ... F_h(t, x)), h = H/k."""

    map: NearIdentityMap
    count: int = eqx.field(static=True)

    @property
    def step_size(self) -> Any:
        """k times the step size of the map below."""
        return self.count * jnp.asarray(self.map.step_size)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        small = step_size / self.count

        def body(state: State, i: Any) -> tuple[State, None]:
            time = t + i.astype(jnp.result_type(t)) * small
            return self.map.advance(time, state, small, key=_part(key, i)), None

        return jax.lax.scan(body, state, jnp.arange(self.count))[0]

    def parameters(self, state: State) -> State:
        """Return those of the map below."""
        return self.map.parameters(state)


class IteratedInvertibleMap(InvertibleMap):
    """The k-fold step of a map that knows its inverse, which the iterate then knows too."""

    map: InvertibleMap
    count: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return _repeat(self.map, self.count, n, state, key)

    def inverse_step(self, n: StepIndex, state: State) -> State:
        return _unrepeat(self.map, self.count, n, state)


class IteratedInvertibleFiniteMap(FiniteMap, InvertibleMap):
    """As many k-fold steps, forth and back, as a finite map holds that knows its inverse."""

    map: Any  # a `FiniteMap` that is an `InvertibleMap`
    count: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return _repeat(self.map, self.count, n, state, key)

    def inverse_step(self, n: StepIndex, state: State) -> State:
        return _unrepeat(self.map, self.count, n, state)


class IteratedInvertibleNearIdentityMap(InvertibleNearIdentityMap):
    """G_H and its inverse, step by step, for a near-identity map that knows its own."""

    map: InvertibleNearIdentityMap
    count: int = eqx.field(static=True)

    @property
    def step_size(self) -> Any:
        """k times the step size of the map below."""
        return self.count * jnp.asarray(self.map.step_size)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return IteratedNearIdentityMap(self.map, self.count).advance(t, state, step_size, key=key)

    def retreat(self, t: Scalar, state: State, step_size: Scalar) -> State:
        small = step_size / self.count

        def body(state: State, i: Any) -> tuple[State, None]:
            return self.map.retreat(t + i.astype(jnp.result_type(t)) * small, state, small), None

        return jax.lax.scan(body, state, jnp.arange(self.count), reverse=True)[0]


def iterate(map: Any, k: Any) -> Map:
    r"""Return the k-th iterate of a map.

    **Arguments:**

    - `map`: a `Map`.
    - `k`: how often, at least 1. A finite map of length L gives one of length L // k.

    **Returns:** a `Map`, near the identity, finite and invertible where the given one is.

    **Raises:** `ValueError` for k < 1; `TypeError` for a flow, whose time-h map is its evolution.

    **Example:** the logistic map at r = 3.2 alternates; its second iterate rests.

    >>> import separatrix as sx
    >>> twice = sx.iterate(sx.as_map(lambda x: 3.2 * x * (1.0 - x)), 2)
    >>> orbit = sx.evolve(twice, 0.3, steps=100)
    >>> bool(abs(orbit.states[-1] - orbit.states[-2]) < 1e-9)
    True
    """
    if not isinstance(map, Map):
        raise TypeError(
            explain("iterate is not defined here", f"a {type(map).__name__}", "Map", "Discretise a flow first.")
        )
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(explain("iterate: k", repr(k), "a whole number >= 1", "Pass how many steps make one."))
    match map:
        case InvertibleNearIdentityMap():
            return IteratedInvertibleNearIdentityMap(map, int(k))
        case NearIdentityMap():
            return IteratedNearIdentityMap(map, int(k))
        case FiniteMap() if isinstance(map, InvertibleMap):
            return IteratedInvertibleFiniteMap(map, int(k), map.length // int(k))
        case InvertibleMap():
            return IteratedInvertibleMap(map, int(k))
        case FiniteMap():
            return IteratedFiniteMap(map, int(k), map.length // int(k))
    return IteratedMap(map, int(k))


def _repeat(map: Map, count: int, n: StepIndex, state: State, key: Key | None) -> State:
    def body(state: State, i: Any) -> tuple[State, None]:
        return map.step(count * n + i, state, key=_part(key, i)), None

    return jax.lax.scan(body, state, jnp.arange(count))[0]


def _unrepeat(map: InvertibleMap, count: int, n: StepIndex, state: State) -> State:
    def body(state: State, i: Any) -> tuple[State, None]:
        return map.inverse_step(count * n + i, state), None

    return jax.lax.scan(body, state, jnp.arange(count), reverse=True)[0]


def _part(key: Key | None, i: Any) -> Any:
    return None if key is None else jax.random.fold_in(key, i)
