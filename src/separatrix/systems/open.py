"""Systems with an input port: x[n+1] = F(n, x[n], u[n]) and dx/dt = f(t, x, u).

An open system is not yet a dynamical system. `drive` closes it with inputs that depend on time, `close_loop` with a
policy that depends on the state.
"""

from abc import abstractmethod

import equinox as eqx
from jaxtyping import PyTree

from separatrix._types import Key, Scalar, State, StepIndex


class OpenSystem(eqx.Module):
    """A system that waits for an input."""


class OpenMap(OpenSystem):
    """x[n+1] = F(n, x[n], u[n])."""

    @abstractmethod
    def step(self, n: StepIndex, state: State, inputs: PyTree, *, key: Key | None = None) -> State:
        """Return x[n+1] from x[n] and the input u[n]."""


class OpenFlow(OpenSystem):
    """dx/dt = f(t, x, u)."""

    @abstractmethod
    def velocity(self, t: Scalar, state: State, inputs: PyTree) -> State:
        """Return dx/dt at time t under the input u."""
