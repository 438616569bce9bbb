"""Classical flows."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from separatrix.catalogue.listing import Entry
from separatrix.systems import as_flow
from separatrix.systems.base import as_parameter


class Linear(eqx.Module):
    """dx/dt = A x."""

    matrix: Any

    def __call__(self, x: Any) -> Any:
        return self.matrix.astype(x.dtype) @ x


class LotkaVolterra(eqx.Module):
    """x' = a x - b x y, y' = -c y + d x y."""

    a: Any = eqx.field(default=1.5, converter=as_parameter)
    b: Any = eqx.field(default=1.0, converter=as_parameter)
    c: Any = eqx.field(default=3.0, converter=as_parameter)
    d: Any = eqx.field(default=1.0, converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        prey, predator = x[0], x[1]
        return jnp.stack([
            self.a * prey - self.b * prey * predator,
            -self.c * predator + self.d * prey * predator,
        ])  # fmt: skip

    def invariant(self, x: Any) -> Any:
        """d x - c ln x + b y - a ln y, constant along every orbit."""
        return self.d * x[0] - self.c * jnp.log(x[0]) + self.b * x[1] - self.a * jnp.log(x[1])


class Lorenz(eqx.Module):
    """x' = sigma (y - x), y' = x (rho - z) - y, z' = x y - beta z."""

    sigma: Any = eqx.field(default=10.0, converter=as_parameter)
    rho: Any = eqx.field(default=28.0, converter=as_parameter)
    beta: Any = eqx.field(default=8 / 3, converter=as_parameter)

    def __call__(self, state: Any) -> Any:
        x, y, z = state[0], state[1], state[2]
        return jnp.stack([self.sigma * (y - x), x * (self.rho - z) - y, x * y - self.beta * z])


class Rossler(eqx.Module):
    """x' = -y - z, y' = x + a y, z' = b + z (x - c)."""

    a: Any = eqx.field(default=0.2, converter=as_parameter)
    b: Any = eqx.field(default=0.2, converter=as_parameter)
    c: Any = eqx.field(default=5.7, converter=as_parameter)

    def __call__(self, state: Any) -> Any:
        x, y, z = state[0], state[1], state[2]
        return jnp.stack([-y - z, x + self.a * y, self.b + z * (x - self.c)])


class Lorenz96(eqx.Module):
    """x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F on a ring."""

    forcing: Any = eqx.field(default=8.0, converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + self.forcing


class Robertson(eqx.Module):
    """Three reactions whose rates span nine orders of magnitude."""

    k1: Any = eqx.field(default=0.04, converter=as_parameter)
    k2: Any = eqx.field(default=3e7, converter=as_parameter)
    k3: Any = eqx.field(default=1e4, converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        first, second, third = self.k1 * x[0], self.k2 * x[1] ** 2, self.k3 * x[1] * x[2]
        return jnp.stack([-first + third, first - third - second, second])


class Arenstorf(eqx.Module):
    """The plane restricted three-body problem in rotating coordinates, mass ratio mu; state (x, y, x', y')."""

    mu: Any = eqx.field(default=0.012277471, converter=as_parameter)

    def __call__(self, state: Any) -> Any:
        x, y, u, v = state[0], state[1], state[2], state[3]
        near, far = self.mu, 1.0 - self.mu
        d1 = ((x + near) ** 2 + y**2) ** 1.5
        d2 = ((x - far) ** 2 + y**2) ** 1.5
        return jnp.stack([
            u,
            v,
            x + 2.0 * v - far * (x + near) / d1 - near * (x - far) / d2,
            y - 2.0 * u - far * y / d1 - near * y / d2,
        ])  # fmt: skip


class VanDerPol(eqx.Module):
    """x'' = mu (1 - x^2) x' - x."""

    mu: Any = eqx.field(default=1.0, converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        return jnp.stack([x[1], self.mu * (1.0 - x[0] ** 2) * x[1] - x[0]])


class Pendulum(eqx.Module):
    """q'' = -sin q, on the pair (q, p)."""

    def __call__(self, state: Any) -> Any:
        position, momentum = state
        return momentum, -jnp.sin(position)


def _rotation() -> Any:
    return as_flow(Linear(jnp.array([[-0.1, 2.0], [-2.0, -0.1]])))


ENTRIES = (
    Entry("linear", "flow", "a damped rotation", "x' = A x, A = [[-0.1, 2], [-2, -0.1]]",
          "x(t) = expm(A t) x(0)", _rotation, lambda: jnp.array([2.0, 0.0]), 1.5, 0.05),
    Entry("lotka-volterra", "flow", "predator and prey", "x' = 1.5x - xy, y' = -3y + xy",
          "x - 3 ln x + y - 1.5 ln y is constant", lambda: as_flow(LotkaVolterra()), lambda: jnp.array([1.0, 1.0]), 1.0, 0.01),
    Entry("lorenz", "flow", "the Lorenz equations (10, 28, 8/3)", "x' = s(y - x), y' = x(r - z) - y, z' = xy - bz",
          "divergence -41/3 everywhere; exponents 0.9061, 0, -14.5728",
          lambda: as_flow(Lorenz()), lambda: jnp.ones(3), 1.0, 0.01),
    Entry("rossler", "flow", "the Rossler equations (0.2, 0.2, 5.7)", "x' = -y - z, y' = x + ay, z' = b + z(x - c)",
          "equilibria at z = (c +- sqrt(c^2 - 4ab))/(2a)", lambda: as_flow(Rossler()), lambda: jnp.array([1.0, 1.0, 0.0]), 1.0, 0.01),
    Entry("lorenz-96", "flow", "Lorenz-96 on a ring of 40, F = 8", "x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F",
          "divergence -40 everywhere; the advection conserves |x|^2",
          lambda: as_flow(Lorenz96()), lambda: 8.0 + 0.01 * jnp.sin(jnp.arange(40.0)), 1.0, 0.01),
    Entry("robertson", "flow", "stiff chemical kinetics", "three reactions with rates 0.04, 3e7, 1e4",
          "the concentrations sum to 1", lambda: as_flow(Robertson()), lambda: jnp.array([1.0, 0.0, 0.0]), 1e-3, 1e-5),
    Entry("arenstorf", "flow", "a periodic orbit of the restricted three-body problem", "mu = 0.012277471",
          "returns after T = 17.0652165601579625588917206249 (Hairer, Norsett & Wanner, section II.0)",
          lambda: as_flow(Arenstorf()), lambda: jnp.array([0.994, 0.0, 0.0, -2.00158510637908252240537862224]), 0.01, 1e-4),
    Entry("van-der-pol", "flow", "a relaxation oscillator, mu = 1", "x'' = mu (1 - x^2) x' - x",
          "one limit cycle, of amplitude near 2", lambda: as_flow(VanDerPol()), lambda: jnp.array([1.0, 0.0]), 1.0, 0.01),
    Entry("pendulum", "flow", "the pendulum, on a pair of position and momentum", "q' = p, p' = -sin q",
          "p^2/2 - cos q is constant", lambda: as_flow(Pendulum()), lambda: (jnp.asarray(1.0), jnp.asarray(0.0)), 1.0, 0.01),
)  # fmt: skip
