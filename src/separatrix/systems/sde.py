"""Random continuous time, in the sense of Ito: dx = f(t, x) dt + g(t, x) dW."""

from abc import abstractmethod

from separatrix._types import Operator, Scalar, State
from separatrix.systems.base import System


class SDE(System):
    """dx = f(t, x) dt + g(t, x) dW (Ito), with independent standard Brownian motions W.

    The diffusion is a lineax operator from the structure of the noise to that of the state. A diagonal operator means
    diagonal noise; a matrix, general noise.
    """

    @abstractmethod
    def drift(self, t: Scalar, state: State) -> State:
        """Return f(t, x), with the structure, shapes and dtypes of x."""

    @abstractmethod
    def diffusion(self, t: Scalar, state: State) -> Operator:
        """Return g(t, x) as a lineax operator from noise to state."""
