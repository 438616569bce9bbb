"""Residual networks and the flows they step along."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix.calculus import close_loop, limit
from separatrix.catalogue.listing import Entry
from separatrix.residual import (
    AlongDepth,
    BoundedPolicy,
    CartPole,
    LineDiffusion,
    PendulumPlant,
    Reaction,
    ResNet,
    universal,
)


def _field() -> Any:
    keys = jax.random.split(jax.random.key(4), 3)
    return AlongDepth([eqx.nn.MLP(3, 3, 6, 1, jnp.tanh, key=key) for key in keys])


def _net() -> Any:
    return ResNet(_field(), 0.125)


def _interaction(x: Any) -> Any:
    return jnp.stack([-x[0] * x[1], x[0] * x[1]])


def _growth(x: Any) -> Any:
    return jnp.stack([1.5 * x[0], -3.0 * x[1]])


def _pumped() -> Any:
    policy = BoundedPolicy(lambda seen: 4.0 * seen[2], limit=0.3, features=PendulumPlant.features)
    return close_loop(PendulumPlant(0.0), policy)


def _pushed() -> Any:
    plant = CartPole()
    return close_loop(plant, BoundedPolicy(lambda seen: -2.0 * seen[3], limit=5.0, features=plant.features))


def _logistic(u: Any) -> Any:
    return u * (1 - u)


def _fisher() -> Any:
    return universal(LineDiffusion(1.0, 0.5), Reaction(_logistic))


def _edge() -> Any:
    return jax.nn.sigmoid(jnp.linspace(3.0, -6.0, 12))


def _start() -> Any:
    return jnp.array([0.5, -0.5, 1.0])


ENTRIES = (
    Entry("residual-net", "map", "eight residual blocks, weights piecewise linear in depth", "x' = x + h f(l h, x)",
          "its limit is the neural ODE; the distance halves when the depth doubles", _net, _start, 8),
    Entry("neural-ode", "flow", "the limit of the residual net", "x' = f(t, x)",
          "Euler's method on it is the residual net", lambda: limit(_net()), _start, 1.0, 0.05),
    Entry("universal-lotka-volterra", "flow", "growth known, interaction added", "x' = (1.5 x, -3 y) + (-x y, x y)",
          "x - 3 ln x + y - 1.5 ln y is constant", lambda: universal(_growth, _interaction), lambda: jnp.array([1.0, 1.0]), 1.0, 0.01),
    Entry("pumped-pendulum", "flow", "a pendulum with a torque along its motion", "q'' = -sin q + 0.3 tanh(4 q')",
          "the energy q'^2/2 - cos q grows at the rate u q' >= 0", _pumped, lambda: jnp.array([0.5, 0.5]), 1.0, 0.05),
    Entry("cart-pole", "flow", "a cart with a hanging pole, braked", "(M + m) x'' + m l (q'' cos q - q'^2 sin q) = u, u = -5 tanh(2 x'/sqrt(g l))",
          "the energy falls at the rate u x' <= 0", _pushed, lambda: jnp.array([0.1, 0.6, 0.5, 0.2]), 0.5, 0.01),
    Entry("fisher-kpp", "flow", "a front that invades, along lines", "u' = u_xx + u (1 - u)",
          "its front runs at 2 in the end, less 3/(2 t) on the way", _fisher, _edge, 0.5, 0.02),
)  # fmt: skip
