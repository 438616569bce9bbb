"""Learning systems: optimisers, their limits, layers and cells."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from separatrix.calculus import limit
from separatrix.catalogue.entry import Entry
from separatrix.optimization import GradientDescent, HeavyBall, Himmelblau, Nesterov, Quadratic, Rosenbrock
from separatrix.systems import Objective, from_cell, from_layers, from_optax
from separatrix.training import supervised


class NoisyQuadratic(Objective):
    """L = |x - z|^2/2 with z standard normal where a key is given, and its mean (less a constant) without."""

    def __call__(self, parameters: Any, *, key: Any = None) -> Any:
        shift = (
            jnp.zeros_like(parameters) if key is None else jax.random.normal(key, parameters.shape, parameters.dtype)
        )
        return 0.5 * jnp.sum((parameters - shift) ** 2)


def _curvatures() -> Any:
    return Quadratic(jnp.array([1.0, 100.0]))


def _classifier() -> Any:
    key = jax.random.key(0)
    model = eqx.nn.MLP(2, 2, 8, 2, jax.nn.tanh, key=key)
    inputs = jax.random.normal(key, (32, 2))
    return supervised(model, (inputs, (inputs[:, 0] * inputs[:, 1] > 0).astype(int)))


def _training() -> Any:
    return GradientDescent(_classifier(), 0.5)


def _layers() -> Any:
    keys = jax.random.split(jax.random.key(1), 6)
    return from_layers([eqx.nn.Sequential([eqx.nn.Linear(3, 3, key=key), eqx.nn.Lambda(jnp.tanh)]) for key in keys])


def _cell() -> Any:
    return from_cell(eqx.nn.GRUCell(2, 3, key=jax.random.key(2)), jnp.ones((10, 2)))


def _pair() -> Any:
    return jnp.array([1.0, 1.0])


ENTRIES = (
    Entry("gradient-descent", "map", "gradient descent on a quadratic with curvatures 1 and 100", "x' = x - h grad L(x)",
          "component i contracts by 1 - h l_i; stable iff h < 2/100",
          lambda: GradientDescent(_curvatures(), 0.01), _pair, 20),
    Entry("heavy-ball", "map", "heavy ball on the same quadratic", "v' = g v + e grad L(x), x' = x - v'",
          "best rate (sqrt k - 1)/(sqrt k + 1); limit x'' + a x' = -grad L",
          lambda: HeavyBall(_curvatures(), 0.01, 0.9), lambda: HeavyBall(_curvatures(), 0.01, 0.9).init(_pair()), 20),
    Entry("nesterov", "map", "Nesterov's method with the schedule n/(n + 3)", "x' = y - e grad L(y)",
          "limit x'' + (3/t) x' = -grad L; from 1 on x^2/2: 2 J1(t)/t",
          lambda: Nesterov(_curvatures(), 0.005), lambda: Nesterov(_curvatures(), 0.005).init(_pair()), 20),
    Entry("heavy-ball-flow", "flow", "the limit of heavy ball", "x'' + a x' = -grad L(x)",
          "without friction |x'|^2/2 + L(x) is constant",
          lambda: limit(HeavyBall(_curvatures(), 0.01, 0.9)), lambda: HeavyBall(_curvatures(), 0.01, 0.9).init(_pair()), 1.0, 0.01),
    Entry("stochastic-gradient-descent", "map", "SGD on a quadratic with unit gradient noise", "x' = x - h (x - z), z ~ N(0, 1)",
          "stationary variance h/(2 - h)",
          lambda: GradientDescent(NoisyQuadratic(), 0.1), _pair, 20, None, True),
    Entry("adam", "map", "optax's Adam on Himmelblau's function", "any optax transformation is a map",
          "converges to one of four minima",
          lambda: from_optax(Himmelblau(), optax.adam(0.1)), lambda: from_optax(Himmelblau(), optax.adam(0.1)).init(_pair()), 20),
    Entry("rosenbrock-descent", "map", "gradient descent in Rosenbrock's valley", "x' = x - h grad L(x)",
          "fixed point (1, 1)", lambda: GradientDescent(Rosenbrock(), 1e-3), lambda: jnp.array([-1.0, 1.0]), 20),
    Entry("training", "map", "full-batch training of a small classifier", "theta' = theta - h grad L(theta)",
          "the loss falls while h is below 2/sharpness", _training, lambda: _classifier().initial, 20),
    Entry("layers", "map", "six tanh layers, depth as time", "x' = tanh(W_l x + b_l)",
          "the net's own output after 6 steps", _layers, lambda: jnp.array([0.5, -0.5, 1.0]), 6),
    Entry("gru", "map", "a GRU driven by a constant input", "x' = GRU(u, x)",
          "the state stays inside the unit cube", _cell, lambda: jnp.zeros(3), 10),
)  # fmt: skip
