r"""Feedback: an open system closed by a policy u = pi(t, x).

map    x[n+1] = F(n, x[n], pi(n, x[n]))          flow   dx/dt = f(t, x, pi(t, x))
"""

from typing import Any

import equinox as eqx

from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map
from separatrix.systems.open import OpenFlow, OpenMap
from separatrix.systems.signature import as_pytree, positional_count


class ClosedMap(Map):
    """x[n+1] = F(n, x[n], pi(n, x[n]))."""

    open: OpenMap
    policy: Function
    takes_index: bool = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        inputs = self.policy(n, state) if self.takes_index else self.policy(state)
        return self.open.step(n, state, inputs, key=key)


class ClosedFlow(Flow):
    """dx/dt = f(t, x, pi(t, x))."""

    open: OpenFlow
    policy: Function
    takes_time: bool = eqx.field(static=True)

    def inputs(self, t: Scalar, state: State) -> Any:
        """What the policy does at time t in a state."""
        return self.policy(t, state) if self.takes_time else self.policy(state)

    def velocity(self, t: Scalar, state: State) -> State:
        return self.open.velocity(t, state, self.inputs(t, state))


def close_loop(system: Any, policy: Function) -> System:
    r"""Return the closed system in which a policy chooses the input.

    **Arguments:**

    - `system`: an `OpenMap` or `OpenFlow`.
    - `policy`: u(x), or u(n, x) for a map, u(t, x) for a flow; a module's parameters stay trainable leaves.

    **Returns:** a `Map` or a `Flow`.

    **Raises:** `TypeError` for a system without an input.

    **Example:** the double integrator under u = -x - 2 v is critically damped.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> plant = sx.as_open_flow(lambda x, u: jnp.stack([x[1], u]))
    >>> damped = sx.close_loop(plant, lambda x: -x[0] - 2.0 * x[1])
    >>> damped.velocity(0.0, jnp.array([1.0, 0.0])).tolist()
    [0.0, -1.0]
    """
    match system:
        case OpenMap():
            return ClosedMap(system, as_pytree(policy), positional_count(policy, (1, 2), "u(x) or u(n, x)") == 2)
        case OpenFlow():
            return ClosedFlow(system, as_pytree(policy), positional_count(policy, (1, 2), "u(x) or u(t, x)") == 2)
    raise undefined("close_loop", system, "OpenMap or OpenFlow", "Make one with as_open_map or as_open_flow.")
