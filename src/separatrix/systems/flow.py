"""Continuous time: dx/dt = f(t, x)."""

from abc import abstractmethod

from separatrix._types import Scalar, State
from separatrix.systems.base import System


class Flow(System):
    """dx/dt = f(t, x)."""

    @abstractmethod
    def velocity(self, t: Scalar, state: State) -> State:
        """Return dx/dt at time t, with the structure, shapes and dtypes of x."""
