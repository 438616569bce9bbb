r"""Euler-Maruyama: x' = x + f(t, x) h + g(t, x) dW, with dW ~ N(0, h I).

Strong order 1/2 (1 for additive noise), weak order 1, in the sense of Ito.
"""

from typing import ClassVar

from jaxtyping import PyTree

from separatrix._tree import add, axpy
from separatrix._types import Key, Scalar, State
from separatrix.calculus.methods.base import SDEMethod, brownian, noise_structure
from separatrix.systems.sde import SDE


class EulerMaruyama(SDEMethod):
    """x' = x + f(t, x) h + g(t, x) dW.

    **Reference:** Maruyama (1955); Kloeden & Platen, *Numerical Solution of SDEs* (1992), section 10.2.
    """

    strong_order: ClassVar[float] = 0.5
    weak_order: ClassVar[float] = 1.0

    def increments(self, system: SDE, t: Scalar, state: State, step_size: Scalar, key: Key) -> PyTree:
        return brownian(key, noise_structure(system, t, state), step_size)

    def advance_with(self, system: SDE, t: Scalar, state: State, step_size: Scalar, noise: PyTree | None) -> State:
        moved = axpy(step_size, system.drift(t, state), state)
        return moved if noise is None else add(moved, system.diffusion(t, state).mv(noise))
