r"""Kinetic energies K(p): which velocity grad K(p) a momentum gives.

    quadratic      K = |p|^2/(2 m)                          grad K = p/m
    relativistic   K = c sqrt(|p|^2 + m^2 c^2) - m c^2       grad K = c p/sqrt(|p|^2 + m^2 c^2),  |grad K| < c
    power          K = |p|^a/a                              grad K = |p|^{a-2} p

A power suits an objective that grows as |x|^b with 1/a + 1/b = 1: flat minima (b > 2) need velocities that stay large as
the momentum vanishes (a < 2). Each takes a momentum of any form, |p| being the norm over all its leaves.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import dot, is_traced
from separatrix._types import Scalar, State
from separatrix.systems.ranges import positive


class QuadraticKinetic(eqx.Module):
    r"""K = |p|^2/(2 m), the kinetic energy of heavy ball.

    **Arguments:** `mass`: m > 0.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> float(sx.optimization.QuadraticKinetic(2.0)(jnp.array([2.0])))
    1.0
    """

    mass: Scalar

    def __init__(self, mass: Any = 1.0):
        self.mass = positive("QuadraticKinetic: mass", mass)

    def __call__(self, momentum: State) -> Scalar:
        square = dot(momentum, momentum)
        return square / (2 * jnp.asarray(self.mass, square.dtype))


class RelativisticKinetic(eqx.Module):
    r"""K = c sqrt(|p|^2 + m^2 c^2) - m c^2: no velocity reaches c; for slow ones K = |p|^2/(2 m).

    **Arguments:** `speed`: c > 0. `mass`: m > 0.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> round(float(jax.grad(sx.optimization.RelativisticKinetic(speed=2.0))(jnp.array(1e6))), 6)
    2.0

    **Reference:** Franca, Sulam, Robinson & Vidal, *Conformal symplectic and relativistic optimization* (2020).
    """

    speed: Scalar
    mass: Scalar

    def __init__(self, speed: Any, mass: Any = 1.0):
        self.speed = positive("RelativisticKinetic: speed", speed)
        self.mass = positive("RelativisticKinetic: mass", mass)

    def __call__(self, momentum: State) -> Scalar:
        square = dot(momentum, momentum)
        speed, mass = (jnp.asarray(value, square.dtype) for value in (self.speed, self.mass))
        # The difference of the two terms, written so that no digits cancel at small momenta.
        return square / (mass + jnp.sqrt(square / speed**2 + mass**2))


class PowerKinetic(eqx.Module):
    r"""K = |p|^a/a, with velocity |p|^{a-2} p, which is 0 at p = 0.

    **Arguments:** `power`: a > 1. Twice differentiable at 0 only for a >= 2.

    **Example:** the partner of |x|^4/4.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> round(float(jax.grad(sx.optimization.PowerKinetic(4 / 3))(jnp.array(8.0))), 6)
    2.0

    **Reference:** Maddison, Paulin, Teh, O'Donoghue & Doucet, *Hamiltonian descent methods* (2018).
    """

    power: Scalar

    def __init__(self, power: Any):
        self.power = positive("PowerKinetic: power", power)
        if not is_traced(power) and not np.all(np.asarray(power) > 1):
            do = "Pass b/(b - 1) for an objective that grows as |x|^b."
            raise ValueError(explain("PowerKinetic: power", power, "a number above 1", do))

    def __call__(self, momentum: State) -> Scalar:
        square = dot(momentum, momentum)
        power = jnp.asarray(self.power, square.dtype)
        moving = square > 0
        return jnp.where(moving, jnp.where(moving, square, 1) ** (power / 2) / power, 0)
