"""Classical stochastic differential equations, in the sense of Ito."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from separatrix.catalogue.listing import Entry
from separatrix.optimization import DoubleWell, Langevin, Quadratic, UnderdampedLangevin
from separatrix.systems import as_sde
from separatrix.systems.base import as_parameter


class Proportional(eqx.Module):
    """x -> rate x."""

    rate: Any = eqx.field(converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        return self.rate * x


class Restoring(eqx.Module):
    """x -> theta (mean - x)."""

    theta: Any = eqx.field(converter=as_parameter)
    mean: Any = eqx.field(converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        return self.theta * (self.mean - x)


class Constant(eqx.Module):
    """x -> value."""

    value: Any = eqx.field(converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        return self.value


class DoubleWellForce(eqx.Module):
    """x -> x - x^3."""

    def __call__(self, x: Any) -> Any:
        return x - x**3


ENTRIES = (
    Entry("geometric-brownian-motion", "sde", "growth with noise in proportion", "dx = mu x dt + sigma x dW, mu = 1.5, sigma = 1",
          "E x(t) = e^{mu t}, Var x(t) = e^{2 mu t} (e^{sigma^2 t} - 1) from 1",
          lambda: as_sde(Proportional(1.5), Proportional(1.0)), lambda: jnp.ones(4), 1.0, 0.05, True),
    Entry("ornstein-uhlenbeck", "sde", "noise with a restoring force", "dx = theta (m - x) dt + s dW, theta = 2, m = 1, s = 0.5",
          "mean m + (x0 - m) e^{-theta t}, variance s^2 (1 - e^{-2 theta t})/(2 theta)",
          lambda: as_sde(Restoring(2.0, 1.0), Constant(0.5)), lambda: 3.0 * jnp.ones(4), 0.5, 0.05, True),
    Entry("double-well-langevin", "sde", "Langevin dynamics in a double well", "dx = (x - x^3) dt + sqrt(2 T) dW, T = 0.25",
          "stationary density proportional to exp(-(x^2 - 1)^2/(4 T))",
          lambda: as_sde(DoubleWellForce(), Constant(0.5**0.5)), lambda: jnp.ones(4), 1.0, 0.05, True),
    Entry("langevin", "sde", "gradient flow in a heat bath", "dx = -grad L dt + sqrt(2 T) dW, L = x^T diag(1, 4) x/2, T = 0.5",
          "stationary density proportional to exp(-L/T): variances T and T/4",
          lambda: Langevin(Quadratic(jnp.array([1.0, 4.0])), 0.5), lambda: jnp.array([1.0, -1.0]), 1.0, 0.05, True),
    Entry("underdamped-langevin", "sde", "a particle with friction in a heat bath and a double well",
          "dx = w dt, dw = (-grad L - a w) dt + sqrt(2 a T) dW, a = 1, T = 0.25",
          "stationary density proportional to exp(-(L + |w|^2/2)/T), whatever the friction a",
          lambda: UnderdampedLangevin(DoubleWell(), 1.0, 0.25),
          lambda: UnderdampedLangevin(DoubleWell(), 1.0, 0.25).init(jnp.array([1.0, -0.8])), 1.0, 0.05, True),
)  # fmt: skip
