r"""Implicit methods, by Newton's method on the equation of the step.

    implicit Euler      x' = x + h f(t + h, x')                    order 1, A-stable and damping
    implicit midpoint   x' = x + h f(t + h/2, (x + x')/2)          order 2, A-stable, symplectic, keeps quadratic invariants

The increment z = x' - x is sought, from z = 0. Derivatives pass by the implicit function theorem, so these steps too have
limits and corrections. A step whose equation is not solved is NaN, which the evolution reports.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
import optimistix as optx

from separatrix._tree import add, axpy, float_dtype, scale, subtract, where
from separatrix._types import Key, Scalar, State
from separatrix.calculus.methods.base import FlowMethod
from separatrix.systems.flow import Flow


class ImplicitEuler(FlowMethod):
    """x' = x + h f(t + h, x'), of order 1.

    **Reference:** Hairer & Wanner, *Solving Ordinary Differential Equations II* (1996), section IV.3.
    """

    order: ClassVar[int] = 1

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return add(state, solve_increment(lambda h, x, z: system.velocity(t + h, add(x, z)), state, step_size))


class ImplicitMidpoint(FlowMethod):
    """x' = x + h f(t + h/2, (x + x')/2), of order 2.

    **Reference:** Hairer, Lubich & Wanner, *Geometric Numerical Integration* (2006), equation I.1.7.
    """

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return add(
            state, solve_increment(lambda h, x, z: system.velocity(t + h / 2, axpy(0.5, z, x)), state, step_size)
        )


def solve_increment(rate: Callable[[Any, Any, Any], Any], state: State, step_size: Scalar) -> State:
    """Return z with z = h rate(h, x, z), NaN where Newton's method does not find it."""

    def residual(z: State, arguments: Any) -> State:
        h, x = arguments
        return subtract(z, scale(h, rate(h, x, z)))

    eps = float(jnp.finfo(float_dtype(state)).eps)
    # Newton converges quadratically: an update of eps^(2/3) is followed by an error below rounding.
    solver = optx.Newton(rtol=eps ** (2 / 3), atol=eps ** (2 / 3))
    start = scale(0, state)
    solution = optx.root_find(residual, solver, start, args=(step_size, state), max_steps=30, throw=False)
    solved = solution.result == optx.RESULTS.successful
    return where(solved, solution.value, scale(jnp.nan, state))
