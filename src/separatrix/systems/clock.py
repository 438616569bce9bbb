r"""A system whose clock starts later: the same orbit, counted from another origin.

    x[n+1] = F(n + origin, x[n]; fold_in(key, n + origin))
    x[n+1] = F_h(origin + n h, x[n])
    dx/dt  = f(origin + t, x)

A run that is cut into spans is the run in one piece only if step numbers, times and keys go on from span to span. A map
that started at 0 each time would meet the same noise again.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.systems.base import as_parameter
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map, NearIdentityMap


class MapFrom(Map):
    """F from step `origin` on, on the noise of its own key: evolve it without one."""

    map: Map
    origin: Any
    key: Key | None

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        number = n + self.origin
        return self.map.step(number, state, key=None if self.key is None else jax.random.fold_in(self.key, number))

    def parameters(self, state: State) -> State:
        """Return those of the map below."""
        return self.map.parameters(state)


class NearIdentityFrom(NearIdentityMap):
    """A near-identity map whose clock starts at `origin`."""

    map: NearIdentityMap
    origin: Scalar

    @property
    def step_size(self) -> Any:
        """Step size of the map below."""
        return self.map.step_size

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return self.map.advance(jnp.asarray(self.origin, jnp.result_type(t)) + t, state, step_size, key=key)

    def parameters(self, state: State) -> State:
        """Return those of the map below."""
        return self.map.parameters(state)


class FlowFrom(Flow):
    """f from time `origin` on."""

    flow: Flow
    origin: Any

    def velocity(self, t: Scalar, state: State) -> State:
        time = jnp.asarray(t)
        return self.flow.velocity(time + jnp.asarray(self.origin, time.dtype), state)


def from_time(system: Any, origin: Any) -> Any:
    """Return a near-identity map or a flow whose clock starts at a time; itself where that is known to be 0."""
    if not is_traced(origin) and jnp.ndim(origin) == 0 and float(origin) == 0.0:
        return system
    match system:
        case NearIdentityMap():
            return NearIdentityFrom(system, as_parameter(origin))
        case Flow():
            return FlowFrom(system, as_parameter(origin))
    do = "Use MapFrom for a map that counts steps."
    raise TypeError(explain("from_time", type(system).__name__, "a NearIdentityMap or Flow", do))
