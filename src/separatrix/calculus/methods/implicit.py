r"""Implicit methods, by Newton's method on the equation of the step.

    implicit Euler      x' = x + h f(t + h, x')                order 1, A-stable and damping:  R(z) = 1/(1 - z)
    implicit midpoint   x' = x + h f(t + h/2, (x + x')/2)      order 2, A-stable, symplectic:  R(z) = (1 + z/2)/(1 - z/2)

The increment z = x' - x is sought, from z = 0. Derivatives pass by the implicit function theorem, so these steps too have
limits and corrections. A step whose equation is not solved is NaN, which the evolution reports. Small states solve
Newton's linear equation by a factored Jacobian; large ones by GMRES, without forming it.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx

from separatrix._tree import add, axpy, float_dtype, scale, subtract, where
from separatrix._types import Key, Scalar, State
from separatrix.calculus.methods.base import FlowMethod
from separatrix.systems.flow import Flow

# Components up to which a Jacobian is factored: 512^2 float64 are 2 MiB, and LU of them takes milliseconds.
DENSE = 512


class ImplicitEuler(FlowMethod):
    """x' = x + h f(t + h, x'), of order 1: for stiff fields; on gradient flow, the proximal point method.

    **Reference:** Hairer & Wanner, *Solving Ordinary Differential Equations II* (1996), section IV.3.
    """

    order: ClassVar[int] = 1

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return add(state, solve_increment(lambda h, x, z: system.velocity(t + h, add(x, z)), state, step_size))


class ImplicitMidpoint(FlowMethod):
    """x' = x + h f(t + h/2, (x + x')/2), of order 2: symplectic, and keeps every quadratic invariant.

    **Reference:** Hairer, Lubich & Wanner, *Geometric Numerical Integration* (2006), equation I.1.7, theorem IV.2.1.
    """

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        def rate(h: Scalar, x: State, z: State) -> State:
            return system.velocity(t + h / 2, axpy(0.5, z, x))

        return add(state, solve_increment(rate, state, step_size))


def solve_increment(rate: Callable[[Any, Any, Any], Any], state: State, step_size: Scalar) -> State:
    """Return z with z = h rate(h, x, z), NaN where Newton's method does not find it."""

    def residual(z: State, arguments: Any) -> State:
        h, x = arguments
        return subtract(z, scale(h, rate(h, x, z)))

    # Newton converges quadratically: an update of eps^(2/3) is followed by an error below rounding.
    tolerance = float(jnp.finfo(float_dtype(state)).eps) ** (2 / 3)
    linear = _linear_solver(state, tolerance)
    solution = optx.root_find(
        residual,
        optx.Newton(rtol=tolerance, atol=tolerance, linear_solver=linear),
        jax.tree.map(jnp.zeros_like, state),
        args=(step_size, state),
        adjoint=optx.ImplicitAdjoint(linear_solver=linear),
        max_steps=30,
        throw=False,
    )
    lost = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state)
    return where(solution.result == optx.RESULTS.successful, solution.value, lost)


def _linear_solver(state: State, tolerance: float) -> lx.AbstractLinearSolver[Any]:
    """LU where the Jacobian is small; past that, products with it only."""
    if sum(jnp.size(leaf) for leaf in jax.tree.leaves(state)) <= DENSE:
        return lx.AutoLinearSolver(well_posed=None)
    return lx.GMRES(rtol=tolerance, atol=tolerance, restart=30, max_steps=300)
