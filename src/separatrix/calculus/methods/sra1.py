r"""SRA1: strong order 3/2 for additive noise dx = f(t, x) dt + g(t) dW.

With the increments dW and dZ/h, dZ = int_t^{t+h} (W(s) - W(t)) ds, a step is

    H   = x + 3/4 h f(t, x) + 3/2 g(t + h) dZ/h
    x'  = x + h (1/3 f(t, x) + 2/3 f(t + 3/4 h, H)) + g(t + h) (dW - dZ/h) + g(t) dZ/h.

Jointly normal, they are dW = sqrt(h) z and dZ/h = sqrt(h)/2 (z + xi/sqrt(3)) for independent standard normal z and xi.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from separatrix._errors import explain
from separatrix._tree import add, axpy
from separatrix._types import Key, Scalar, State
from separatrix.calculus.dependence import depends_on
from separatrix.calculus.methods.base import SDEMethod, noise_structure, normal
from separatrix.systems.sde import SDE


class SRA1(SDEMethod):
    """Rossler's stochastic Runge-Kutta method for additive noise, of strong order 3/2 and weak order 2.

    Two evaluations of the drift a step. That the diffusion does not depend on the state is read off its program, so write
    it without the state: `lambda t, x: 0.5`, not `0.5 + 0 * x`.

    **Raises:** `ValueError` for a diffusion that is computed from the state.

    **Reference:** Rossler, *Runge-Kutta methods for the strong approximation of solutions of SDEs* (2010), table 6.3,
    method SRA1.
    """

    strong_order: ClassVar[float] = 1.5
    weak_order: ClassVar[float] = 2.0

    def increments(self, system: SDE, t: Scalar, state: State, step_size: Scalar, key: Key) -> PyTree:
        """Return (dW, dZ/h)."""
        first, second = jax.random.split(key)
        structure = noise_structure(system, t, state)
        z, xi = normal(first, structure), normal(second, structure)
        root = jnp.sqrt(step_size)
        dw = jax.tree.map(lambda a: root.astype(a.dtype) * a, z)
        dz = jax.tree.map(lambda a, b: 0.5 * root.astype(a.dtype) * (a + b * 3**-0.5), z, xi)
        return dw, dz

    def advance_with(self, system: SDE, t: Scalar, state: State, step_size: Scalar, noise: PyTree | None) -> State:
        _require_additive(system, t, state)
        here = system.drift(t, state)
        inner = axpy(0.75 * step_size, here, state)
        if noise is None:
            return _weigh(here, system.drift(t + 0.75 * step_size, inner), state, step_size)
        dw, dz = noise
        late, early = system.diffusion(t + step_size, state), system.diffusion(t, state)
        there = system.drift(t + 0.75 * step_size, axpy(1.5, late.mv(dz), inner))
        moved = _weigh(here, there, state, step_size)
        rest = jax.tree.map(jnp.subtract, dw, dz)
        return add(add(moved, late.mv(rest)), early.mv(dz))


def _weigh(here: State, there: State, state: State, step_size: Scalar) -> State:
    """x + h/3 f_1 + 2h/3 f_2."""
    return axpy(2 * step_size / 3, there, axpy(step_size / 3, here, state))


def _require_additive(system: SDE, t: Scalar, state: State) -> None:
    noise = noise_structure(system, t, state)

    def pushed(x: State) -> State:
        return system.diffusion(t, x).mv(jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), noise))

    if depends_on(pushed, state):
        raise ValueError(
            explain(
                "SRA1: diffusion",
                "noise that depends on the state",
                "additive noise g(t)",
                "Use EulerMaruyama, or Milstein for diagonal noise.",
            )
        )
