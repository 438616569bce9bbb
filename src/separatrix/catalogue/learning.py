"""Learning systems: optimisers, their limits, layers and cells."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from separatrix.calculus import discretize, limit
from separatrix.catalogue.listing import Entry
from separatrix.optimization import (
    BAOAB,
    SGLD,
    Adagrad,
    AdamW,
    AggMo,
    BregmanFlow,
    CanonicalPoint,
    ConformalHamiltonian,
    ConformalLeapfrog,
    DelayCompensatedDescent,
    DelayedDescent,
    Downpour,
    ElasticAveraging,
    GradientDescent,
    HamiltonianDescent,
    HeavyBall,
    HighResolutionNesterov,
    Himmelblau,
    LocalDescent,
    MirrorPoint,
    Nesterov,
    Newton,
    PhasePoint,
    PowerKinetic,
    Quadratic,
    RelativisticDescent,
    RelativisticKinetic,
    RestartedNesterov,
    Rosenbrock,
    StaleDescent,
    UnderdampedLangevin,
)
from separatrix.systems import Objective, from_cell, from_layers, from_optax
from separatrix.systems.clock import from_time
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


class Quartic(Objective):
    """L = sum_i x_i^4/4."""

    def __call__(self, parameters: Any, *, key: Any = None) -> Any:
        return jnp.sum(parameters**4) / 4


def _relativistic() -> Any:
    return ConformalHamiltonian(_curvatures(), 0.5, RelativisticKinetic(2.0))


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
    Entry("delayed-descent", "map", "gradient descent whose gradients come two steps late", "x[n+1] = x[n] - h grad L(x[n-2])",
          "stable on curvature l iff h l < 2 sin(pi/10) = 0.618; limit x' = -grad L",
          lambda: DelayedDescent(_curvatures(), 0.005, 2), lambda: DelayedDescent(_curvatures(), 0.005, 2).init(_pair()), 20),
    Entry("stale-descent", "map", "gradients late by a random number of steps, coordinate by coordinate (Hogwild)",
          "x[n+1] = x[n] - h grad L(x[n-D]), D uniform on 0..3", "its mean obeys the mean of the delays",
          lambda: StaleDescent(NoisyQuadratic(), 0.1, 3, consistent=False),
          lambda: StaleDescent(NoisyQuadratic(), 0.1, 3).init(_pair()), 20, None, True),
    Entry("compensated-descent", "map", "late gradients carried forward by lambda diag(g g^T) (DC-ASGD)",
          "x' = x - h (g + lambda g^2 (x - x[n-2])), g = grad L(x[n-2])", "the stability edge of delayed descent at a minimum",
          lambda: DelayCompensatedDescent(Himmelblau(), 0.002, 2, 0.01),
          lambda: DelayCompensatedDescent(Himmelblau(), 0.002, 2, 0.01).init(_pair()), 20),
    Entry("downpour", "map", "three staggered workers that fetch and push every second step", "c' = c - h sum of pushed gradients",
          "limit c' = -3 grad L(c); with n_fetch = n_push = 1 descent with step size 3 h",
          lambda: Downpour(_curvatures(), 0.002, 3, fetch=2, push=2),
          lambda: Downpour(_curvatures(), 0.002, 3, fetch=2, push=2).init(_pair()), 20),
    Entry("elastic-averaging", "map", "four workers on springs to a centre (EASGD)",
          "x_i' = x_i - h (grad L(x_i) + r (x_i - c)), c' = c + h r sum (x_i - c)",
          "stable iff h < 2/k, k the largest eigenvalue of ((l + r, -r), (-4 r, 4 r))",
          lambda: ElasticAveraging(_curvatures(), 0.01, 1.0, 4), lambda: ElasticAveraging(_curvatures(), 0.01, 1.0, 4).init(_pair()), 20),
    Entry("local-descent", "map", "four workers that average after three steps on their own samples (local SGD)",
          "c' = mean of D_i^3(c)", "stationary variance of the mean h/(2 - h)/4, whatever the number of local steps",
          lambda: LocalDescent(NoisyQuadratic(), 0.1, 3, 4), _pair, 20, None, True),
    Entry("training", "map", "full-batch training of a small classifier", "theta' = theta - h grad L(theta)",
          "the loss falls while h is below 2/sharpness", _training, lambda: _classifier().initial, 20),
    Entry("layers", "map", "six tanh layers, depth as time", "x' = tanh(W_l x + b_l)",
          "the net's own output after 6 steps", _layers, lambda: jnp.array([0.5, -0.5, 1.0]), 6),
    Entry("gru", "map", "a GRU driven by a constant input", "x' = GRU(u, x)",
          "the state stays inside the unit cube", _cell, lambda: jnp.zeros(3), 10),
    Entry("sgld", "map", "stochastic gradient Langevin dynamics on a quadratic with unit gradient noise",
          "x' = x - h (x - z) + sqrt(2 h T) z', T = 0.5", "stationary variance (T + h/2)/(1 - h/2)",
          lambda: SGLD(NoisyQuadratic(), 0.1, 0.5), _pair, 20, None, True),
    Entry("baoab", "map", "Langevin dynamics by splitting, on curvatures 1 and 100", "half kick, half drift, heat bath, half drift, half kick",
          "positions have variance T/l exactly while h < 2/sqrt(l)",
          lambda: discretize(UnderdampedLangevin(_curvatures(), 1.0, 0.5), BAOAB(), 0.1),
          lambda: UnderdampedLangevin(_curvatures(), 1.0, 0.5).init(_pair()), 20, None, True),
    Entry("conformal-hamiltonian", "flow", "momentum with friction and a relativistic kinetic energy", "x' = grad K(p), p' = -grad L - a p",
          "volume contracts by exp(-a t d), and K + L falls at the rate a p . grad K",
          _relativistic, lambda: CanonicalPoint(_pair(), jnp.array([0.5, -1.0])), 1.0, 0.01),
    Entry("conformal-leapfrog", "map", "the same flow by conformal leapfrog", "D(h/2) T(h/2) V(h) T(h/2) D(h/2)",
          "a step contracts volume by exactly exp(-a h d)",
          lambda: discretize(_relativistic(), ConformalLeapfrog(), 0.05), lambda: CanonicalPoint(_pair(), jnp.array([0.5, -1.0])), 20),
    Entry("relativistic-descent", "map", "relativistic gradient descent in Rosenbrock's valley", "heavy ball with the velocity c p/sqrt(p^2 + m^2 c^2)",
          "no step is longer than c h; as c grows it is heavy ball",
          lambda: RelativisticDescent(Rosenbrock(), 0.02, 1.0, 2.0), lambda: CanonicalPoint(jnp.array([-1.0, 1.0]), jnp.array([0.5, 0.5])), 20),
    Entry("hamiltonian-descent", "map", "Hamiltonian descent on |x|^4/4 with the dual kinetic energy", "p' = (p - h grad L)/(1 + a h), x' = x + h |p'|^(-2/3) p'",
          "linear convergence where heavy ball is sublinear",
          lambda: HamiltonianDescent(Quartic(), 0.1, 5.0, PowerKinetic(4 / 3)), lambda: CanonicalPoint(_pair(), jnp.array([-0.5, 0.2])), 20),
    Entry("bregman-flow", "flow", "the accelerated flow of order 3, from time 1", "x'' + (4/t) x' + (9/4) t grad L = 0",
          "the flow of order 2 by the clock t^(3/2)",
          lambda: from_time(BregmanFlow(_curvatures(), 3.0), 1.0), lambda: MirrorPoint(_pair(), jnp.array([0.5, 0.8])), 1.0, 0.01),
    Entry("high-resolution-nesterov", "flow", "what Nesterov's method follows at order 2", "x'' + 2 sqrt(m) x' + sqrt(s) Hess L x' + (1 + sqrt(m s)) grad L = 0",
          "friction 2 sqrt(m) + sqrt(s) l along curvature l",
          lambda: HighResolutionNesterov(_curvatures(), 0.005, 1.0), lambda: PhasePoint(_pair(), jnp.array([0.5, -1.0])), 1.0, 0.01),
    Entry("adagrad", "map", "Adagrad on curvatures 1 and 100, in the time n eta^2", "S' = S + h g^2, x' = x - h g/sqrt(S' + e)",
          "its limit keeps L(x) + 2 sum sqrt(S + e)",
          lambda: Adagrad(_curvatures(), 0.1), lambda: Adagrad(_curvatures(), 0.1).init(_pair()), 20),
    Entry("adamw", "map", "Adam with decoupled weight decay on Himmelblau's function", "x' = x - h (mhat/(sqrt(vhat) + eps) + d x)",
          "stable while the preconditioned curvature is below (1 + b1)(2 - h d)/((1 - b1) h)",
          lambda: AdamW(Himmelblau(), 0.05, weight_decay=0.1), lambda: AdamW(Himmelblau(), 0.05).init(_pair()), 20),
    Entry("aggregated-momentum", "map", "three momenta, averaged, on curvatures 1 and 100", "v_k' = b_k v_k - g, x' = x + (e/K) sum v_k'",
          "stable iff e l < 2K / sum 1/(1 + b_k)",
          lambda: AggMo(_curvatures(), 0.01), lambda: AggMo(_curvatures(), 0.01).init(_pair()), 20),
    Entry("damped-newton", "map", "Newton's method with step 1/2 on Himmelblau's function", "x' = x - h H^-1 grad L",
          "its limit shrinks the gradient as exp(-t)", lambda: Newton(Himmelblau(), 0.5), lambda: jnp.array([3.5, 2.5]), 10),
    Entry("restarted-nesterov", "map", "Nesterov's method that drops its momentum where it climbs", "n/(n + 3) begun anew where grad L . dx > 0",
          "the rate of the best constant momentum, without knowing the condition number",
          lambda: RestartedNesterov(_curvatures(), 0.01), lambda: RestartedNesterov(_curvatures(), 0.01).init(_pair()), 20),
)  # fmt: skip
