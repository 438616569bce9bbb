r"""Milstein's method for diagonal noise, in the sense of Ito:

    x_i' = x_i + f_i h + g_i dW_i + 1/2 g_i dg_i/dx_i (dW_i^2 - h),

of strong order 1. Diagonal noise means that g_i depends on x_i alone: otherwise Levy areas would be needed, and the step
is refused.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import PyTree

from separatrix._errors import explain
from separatrix._tree import add, axpy
from separatrix._types import Key, Scalar, State
from separatrix.calculus._sources import is_mixed
from separatrix.calculus.methods.base import SDEMethod, brownian, noise_structure
from separatrix.systems.sde import SDE


class Milstein(SDEMethod):
    """x' = x + f h + g dW + 1/2 g g' (dW^2 - h), for diagonal noise.

    The diffusion is a `lineax.DiagonalLinearOperator` (as `as_sde` makes of a scalar or an array) whose i-th entry depends
    on x_i and t alone. Both are read off its program, so write g entry by entry: a constant matrix times x counts as mixing
    its entries, be it diagonal.

    **Raises:** `ValueError` for any other operator, and for entries that are computed from other components.

    **Reference:** Milstein (1974); Kloeden & Platen, *Numerical Solution of SDEs* (1992), equation 10.3.12.
    """

    strong_order: ClassVar[float] = 1.0
    weak_order: ClassVar[float] = 1.0

    def increments(self, system: SDE, t: Scalar, state: State, step_size: Scalar, key: Key) -> PyTree:
        return brownian(key, noise_structure(system, t, state), step_size)

    def advance_with(self, system: SDE, t: Scalar, state: State, step_size: Scalar, noise: PyTree | None) -> State:
        moved = axpy(step_size, system.drift(t, state), state)
        if noise is None:
            return moved
        diagonal = _diagonal(system, t, state)
        _require_own_entries(system, t, state)
        # Along the direction g itself the derivative of g_i(x_i) is g_i g_i'.
        g, slope = jax.jvp(lambda x: _diagonal(system, t, x), (state,), (diagonal,))
        bracket = jax.tree.map(lambda dw: dw**2 - jnp.asarray(step_size, dw.dtype), noise)
        moved = add(moved, jax.tree.map(jnp.multiply, g, noise))
        return add(moved, jax.tree.map(lambda s, b: 0.5 * s * b, slope, bracket))


def _diagonal(system: SDE, t: Scalar, state: State) -> State:
    operator = system.diffusion(t, state)
    if not isinstance(operator, lx.DiagonalLinearOperator):
        raise ValueError(
            explain(
                "Milstein: diffusion",
                type(operator).__name__,
                "diagonal noise",
                "Use EulerMaruyama or StochasticHeun.",
            )
        )
    return operator.diagonal


def _require_own_entries(system: SDE, t: Scalar, state: State) -> None:
    if is_mixed(lambda x: _diagonal(system, t, x), state):
        raise ValueError(
            explain(
                "Milstein: diffusion",
                "an entry g_i that is computed from other components than x_i",
                "diagonal noise g_i(t, x_i)",
                "Use EulerMaruyama or StochasticHeun, of strong order 1/2 for such noise; or write g entry by entry.",
            )
        )
