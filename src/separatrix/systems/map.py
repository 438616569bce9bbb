"""Discrete time: x[n+1] = F(n, x[n]).

A `NearIdentityMap` is a one-parameter family F_h(t, x) with F_0 = identity, read at its own step size:

    x[n+1] = F_h(n h, x[n]).

Because the family is known for every h, its limit h -> 0 and its corrections follow by differentiation in h.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from separatrix._tree import float_dtype
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.systems.base import System
from separatrix.systems.memory import Remembered

if TYPE_CHECKING:
    # To a type checker an abstract attribute is no argument of `__init__`: the subclass says what it is.
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class Map(System):
    """x[n+1] = F(n, x[n]), random where a key is given."""

    @abstractmethod
    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        """Return x[n+1] from x[n] at step number n, with the structure, shapes and dtypes of x[n]."""

    def parameters(self, state: State) -> State:
        """Return the part of a state that is trained: the state itself, or what a `Remembered` one has first.

        `fit`, its metrics and its monitors look at this part alone. A map whose state holds its parameters elsewhere says
        here where: `return state.weights`.
        """
        return state[0] if isinstance(state, Remembered) else state


class FiniteMap(Map):
    """A map that is defined for n = 0, ..., length - 1 only: layers of a net, a recorded input sequence."""

    length: AbstractVar[int]


class InvertibleMap(Map):
    """A map whose inverse is known in closed form: `inverse_step(n, step(n, x)) = x`."""

    @abstractmethod
    def inverse_step(self, n: StepIndex, state: State) -> State:
        """Return x[n] from x[n+1]."""


class NearIdentityMap(Map):
    """x[n+1] = F_h(n h, x[n]) with F_0(t, x) = x.

    A subclass says `advance` and holds a `step_size` leaf. Step size and time arrive in the dtype of the state.
    """

    step_size: AbstractVar[Scalar]

    @abstractmethod
    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        """Return F_h(t, x), which must equal x at h = 0 and be smooth in h there."""

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        """Return F_h(n h, x[n])."""
        t, step_size = self.clock(n, float_dtype(state))
        return self.advance(t, state, step_size, key=key)

    def clock(self, n: StepIndex, dtype: Any) -> tuple[Scalar, Scalar]:
        """Return (n h, h) in a dtype."""
        step_size = jnp.asarray(self.step_size, dtype)
        return jnp.asarray(n).astype(dtype) * step_size, step_size


class InvertibleNearIdentityMap(NearIdentityMap, InvertibleMap):
    """A near-identity map whose step is undone in closed form, whatever its time and size."""

    @abstractmethod
    def retreat(self, t: Scalar, state: State, step_size: Scalar) -> State:
        """Return the state at t from that at t + h: the inverse of `advance` at time t."""

    def inverse_step(self, n: StepIndex, state: State) -> State:
        """Return x[n] from x[n+1]."""
        t, step_size = self.clock(n, float_dtype(state))
        return self.retreat(t, state, step_size)


def step_ratio(map: NearIdentityMap, first: NearIdentityMap, like: Any) -> Any:
    """h_i/h_1, by which a map that runs beside another advances in its time, in the dtype of `like`."""
    dtype = jnp.result_type(like)
    return jnp.asarray(map.step_size, dtype) / jnp.asarray(first.step_size, dtype)
