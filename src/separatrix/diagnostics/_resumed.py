r"""A system that goes on where an earlier span of it ended.

    x[n+1] = F(n + offset, x[n]; fold_in(key, n + offset)),        dx/dt = f(t + offset, x)

A run that is cut into spans is the run in one piece only if step numbers, times and keys go on from span to span: a map
started at 0 each time would meet the same noise again.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map


class Resumed(Map):
    """F from step `offset` on, on the noise of its own key: evolve it without one."""

    map: Map
    offset: Any
    key: Key | None

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        number = n + self.offset
        return self.map.step(number, state, key=None if self.key is None else jax.random.fold_in(self.key, number))


class ResumedFlow(Flow):
    """f from time `offset` on."""

    flow: Flow
    offset: Any

    def velocity(self, t: Scalar, state: State) -> State:
        time = jnp.asarray(t)
        return self.flow.velocity(time + jnp.asarray(self.offset, time.dtype), state)
