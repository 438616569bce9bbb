"""The algebra of nouns and verbs, by its laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix import optimization

METHODS = [
    sx.Euler(),
    sx.Midpoint(),
    sx.Heun(),
    sx.RK4(),
    sx.ImplicitEuler(),
    sx.ImplicitMidpoint(),
    sx.ExponentialEuler(),
]
NAMES = [type(method).__name__ for method in METHODS]
# Rounding of a handful of operations on numbers of size one.
ROUNDING = 1e-13


def forced(t, x):
    """A nonlinear, time-dependent, asymmetric field: it tells a transposed Jacobian and a forgotten d/dt."""
    return jnp.stack([x[1] - 0.3 * x[0] ** 2, -jnp.sin(x[0]) + 0.2 * x[0] * x[1] + jnp.cos(t)])


def quartic(x):
    return 0.25 * jnp.sum(x**4) + 0.5 * x[0] * x[1] + 0.5 * jnp.sum(x**2)


FLOW = sx.as_flow(forced)
X = jnp.array([0.7, -0.4])
T = 0.3


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_limit_undoes_discretize(method):
    back = sx.limit(sx.discretize(FLOW, method, 0.1))
    np.testing.assert_allclose(back.velocity(T, X), FLOW.velocity(T, X), rtol=1e-12)


def test_gradient_descent_is_euler_on_gradient_flow():
    descent = optimization.GradientDescent(quartic, 0.1)
    euler = sx.discretize(sx.as_flow(lambda x: -jax.grad(quartic)(x)), sx.Euler(), 0.1)
    np.testing.assert_allclose(descent.step(3, X), euler.step(3, X), rtol=ROUNDING)


def test_modified_loss_of_gradient_descent_is_the_known_one():
    h = 0.05
    flow = sx.modified(optimization.GradientDescent(quartic, h), corrections=1)

    def modified_loss(x):
        return quartic(x) + h / 4 * jnp.sum(jax.grad(quartic)(x) ** 2)

    np.testing.assert_allclose(flow.velocity(0.0, X), -jax.grad(modified_loss)(X), rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_modified_series_of_a_linear_map_is_the_logarithm(order):
    # exp(h f) = 1 - h l  =>  f = ln(1 - h l)/h = -sum_k h^(k-1) l^k / k.
    curvature, h = 1.3, 0.2
    flow = sx.modified(optimization.GradientDescent(optimization.Quadratic(curvature), h), corrections=order)
    series = -sum(h ** (k - 1) * curvature**k / k for k in range(1, order + 2))
    assert flow.velocity(0.0, jnp.array([1.0]))[0] == pytest.approx(series, rel=1e-12)


def test_first_correction_of_a_splitting_is_half_the_commutator():
    a, b = jnp.array([[0.0, 1.0], [0.0, 0.3]]), jnp.array([[0.2, 0.0], [1.0, 0.0]])
    h = 0.1

    def exact(matrix):
        return sx.as_near_identity(lambda t, x, step: jax.scipy.linalg.expm(step * matrix) @ x, h)

    flow = sx.modified(sx.compose(exact(a), exact(b)), corrections=1)
    # exp(hA) exp(hB) = exp(h (A + B) + h^2/2 [A, B] + ...)  (Baker, Campbell, Hausdorff)
    expected = (a + b + h / 2 * (a @ b - b @ a)) @ X
    np.testing.assert_allclose(flow.velocity(0.0, X), expected, rtol=1e-12)


def test_limit_of_a_composition_is_the_sum_of_limits_weighted_by_step():
    first, second = (
        optimization.GradientDescent(quartic, 0.1),
        optimization.GradientDescent(optimization.Quadratic(2.0), 0.05),
    )
    both = sx.limit(sx.compose(first, second)).velocity(0.0, X)
    expected = sx.limit(first).velocity(0.0, X) + 0.5 * sx.limit(second).velocity(0.0, X)
    np.testing.assert_allclose(both, expected, rtol=ROUNDING)


def test_limit_of_heavy_ball_is_the_second_order_equation():
    learning_rate, momentum = 0.04, 0.9
    ball = optimization.HeavyBall(quartic, learning_rate, momentum)
    friction = (1 - momentum) / jnp.sqrt(learning_rate)
    w = jnp.array([0.3, 0.8])
    rate = sx.limit(ball).velocity(0.0, optimization.PhasePoint(X, w))
    np.testing.assert_allclose(rate.position, w, rtol=ROUNDING)
    np.testing.assert_allclose(rate.velocity, -friction * w - jax.grad(quartic)(X), rtol=ROUNDING)


def test_limit_of_nesterov_has_friction_three_over_t():
    nesterov = optimization.Nesterov(quartic, 0.01)
    w, t = jnp.array([0.3, 0.8]), 1.7
    rate = sx.limit(nesterov).velocity(t, optimization.PhasePoint(X, w))
    np.testing.assert_allclose(rate.velocity, -3 / t * w - jax.grad(quartic)(X), rtol=1e-12)


@pytest.mark.parametrize("name", ["gradient descent", "heavy ball", "nesterov"])
def test_modified_is_one_order_closer_than_limit(name):
    """Slope over five halvings in the asymptotic window, within 0.15 of 1 and 2."""
    build = {
        "gradient descent": lambda h: optimization.GradientDescent(quartic, h),
        "heavy ball": lambda h: optimization.HeavyBall(quartic, h**2, 1 - 0.5 * h),
        "nesterov": lambda h: optimization.Nesterov(quartic, h**2, 1 - 0.5 * h),
    }[name]
    steps = 2 ** np.arange(5, 10)
    end = 2.0
    errors = {"limit": [], "modified": []}
    for count in steps:
        family = build(end / count)
        start = family.init(X)
        final = sx.evolve(family, start, steps=int(count), save="last").final
        for verb, flow in (("limit", sx.limit(family)), ("modified", sx.modified(family, 1))):
            reached = sx.evolve(flow, start, times=(0.0, end), rtol=1e-11, atol=1e-12).final
            gap = [jnp.max(jnp.abs(a - b)) for a, b in zip(*map(jax.tree.leaves, (final, reached)), strict=True)]
            errors[verb].append(float(max(gap)))
    slopes = {verb: -np.polyfit(np.log2(steps), np.log2(values), 1)[0] for verb, values in errors.items()}
    assert slopes["limit"] == pytest.approx(1.0, abs=0.15), errors
    assert slopes["modified"] == pytest.approx(2.0, abs=0.15), errors


@pytest.mark.parametrize("system", ["flow", "invertible map", "near-identity map"])
def test_reverse_is_an_involution(system):
    original = {
        "flow": FLOW,
        "invertible map": sx.discretize(sx.as_flow(lambda z: (z[1], -jnp.sin(z[0]))), sx.Leapfrog(), 0.1),
        "near-identity map": sx.discretize(FLOW, sx.Euler(), 0.1),
    }[system]
    assert sx.reverse(sx.reverse(original)) is original


def test_reverse_runs_a_time_dependent_flow_back_to_its_start():
    there = sx.evolve(FLOW, X, times=(0.0, 2.0), rtol=1e-11, atol=1e-12).final
    back = sx.evolve(sx.reverse(FLOW, horizon=2.0), there, times=(0.0, 2.0), rtol=1e-11, atol=1e-12).final
    np.testing.assert_allclose(back, X, rtol=1e-8)


def test_reverse_of_a_map_by_newton_runs_back_to_its_start():
    euler = sx.discretize(FLOW, sx.Euler(), 0.05)
    there = sx.evolve(euler, X, steps=20).final
    back = sx.evolve(sx.reverse(euler, horizon=1.0), there, steps=20).final
    np.testing.assert_allclose(back, X, rtol=1e-11)


def test_limit_of_a_reversed_map_is_the_reversed_limit():
    euler = sx.discretize(FLOW, sx.Euler(), 0.05)
    one = sx.limit(sx.reverse(euler, horizon=1.0)).velocity(T, X)
    other = sx.reverse(sx.limit(euler), horizon=1.0).velocity(T, X)
    np.testing.assert_allclose(one, other, rtol=1e-10)


def test_reverse_of_a_reversed_sde_has_the_first_drift():
    def score(t, x):
        return -x / (1 + t) + 0.1 * x**2

    sde = sx.as_sde(lambda t, x: -x * t, lambda t, x: 0.5 + 0.3 * x**2)
    horizon = 2.0
    there = sx.reverse(sde, score=score, horizon=horizon)
    back = sx.reverse(there, score=lambda t, x: score(horizon - t, x), horizon=horizon + 0.0)
    again = sx.reverse(there, horizon=horizon)
    assert again is sde
    np.testing.assert_allclose(back.drift(0.7, X), sde.drift(0.7, X), rtol=1e-12)


def test_reverse_drift_of_noise_in_proportion_to_the_state():
    # dx = s x dW from lognormal x(0): D = s^2 x^2, div D = 2 s^2 x; the reverse drift is 2 s^2 x + s^2 x^2 grad log p.
    s, t, horizon = 0.4, 0.5, 2.0
    sde = sx.as_sde(lambda x: 0.0 * x, lambda x: s * x)

    def score(t, x):
        return -1.0 / x - jnp.log(x) / (x * (1 + t))

    x = jnp.array([0.7, 1.9])
    expected = 2 * s**2 * x + s**2 * x**2 * score(horizon - t, x)
    np.testing.assert_allclose(sx.reverse(sde, score=score, horizon=horizon).drift(t, x), expected, rtol=1e-12)


def test_probability_flow_solves_the_continuity_equation():
    # d/dt p + d/dx (p v) = 0 for the exact density of an Ornstein-Uhlenbeck process started from a normal law.
    theta, s, m0, v0 = 2.0, 0.5, 3.0, 0.4
    sde = sx.as_sde(lambda x: -theta * x, lambda x: s)

    def log_density(t, x):
        mean = m0 * jnp.exp(-theta * t)
        variance = v0 * jnp.exp(-2 * theta * t) + s**2 / (2 * theta) * (1 - jnp.exp(-2 * theta * t))
        return -0.5 * (x - mean) ** 2 / variance - 0.5 * jnp.log(2 * jnp.pi * variance)

    flow = sx.probability_flow(sde, jax.grad(log_density, argnums=1))
    t, x = 0.3, 1.1
    rate = jax.grad(lambda t: jnp.exp(log_density(t, x)))(t)
    flux = jax.grad(lambda x: jnp.exp(log_density(t, x)) * flow.velocity(t, x))(x)
    assert float(rate + flux) == pytest.approx(0.0, abs=1e-13)


def test_probability_flow_of_noise_in_proportion_to_the_state_solves_it_too():
    # Geometric Brownian motion: ln x is normal with variance v0 + s^2 t and mean -s^2 t/2.
    s, v0 = 0.4, 0.3
    sde = sx.as_sde(lambda x: 0.0 * x, lambda x: s * x)

    def log_density(t, x):
        variance = v0 + s**2 * t
        return -0.5 * (jnp.log(x) + s**2 * t / 2) ** 2 / variance - 0.5 * jnp.log(2 * jnp.pi * variance) - jnp.log(x)

    flow = sx.probability_flow(sde, jax.grad(log_density, argnums=1))
    t, x = 0.3, 1.1
    rate = jax.grad(lambda t: jnp.exp(log_density(t, x)))(t)
    flux = jax.grad(lambda x: jnp.exp(log_density(t, x)) * flow.velocity(t, x))(x)
    assert float(rate + flux) == pytest.approx(0.0, abs=1e-13)


def test_linearize_of_a_composition_is_the_chain_rule():
    f = sx.as_map(lambda x: jnp.stack([x[0] * x[1], jnp.sin(x[0])]))
    g = sx.as_map(lambda x: jnp.stack([x[1] ** 2, x[0] - 2 * x[1]]))
    whole = sx.linearize(sx.compose(f, g), X).as_matrix()
    parts = sx.linearize(f, g.step(0, X)).as_matrix() @ sx.linearize(g, X).as_matrix()
    np.testing.assert_allclose(whole, parts, rtol=ROUNDING)


def test_linearize_commutes_with_euler():
    step = sx.linearize(sx.discretize(FLOW, sx.Euler(), 0.1), X, at=4).as_matrix()
    field = sx.linearize(FLOW, X, at=0.4).as_matrix()
    np.testing.assert_allclose(step, jnp.eye(2) + 0.1 * field, rtol=ROUNDING)


def test_linearize_transposes():
    operator = sx.linearize(FLOW, X, at=T)
    np.testing.assert_allclose(operator.T.as_matrix(), operator.as_matrix().T, rtol=ROUNDING)
    by_hand = [[-0.6 * X[0], 1.0], [-jnp.cos(X[0]) + 0.2 * X[1], 0.2 * X[0]]]
    np.testing.assert_allclose(operator.as_matrix(), by_hand, rtol=ROUNDING)


def test_tangent_commutes_with_discretize():
    v = jnp.array([0.2, 1.0])
    one = sx.discretize(sx.tangent(FLOW), sx.RK4(), 0.1).step(2, sx.TangentState(X, v))
    other = sx.tangent(sx.discretize(FLOW, sx.RK4(), 0.1)).step(2, sx.TangentState(X, v))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=ROUNDING)


def test_tangent_of_a_block_is_the_jacobian():
    block = sx.tangent(FLOW).velocity(T, sx.TangentState(X, jnp.eye(2))).perturbation
    np.testing.assert_allclose(block.T, sx.linearize(FLOW, X, at=T).as_matrix(), rtol=ROUNDING)


def test_adjoint_is_the_transpose_of_the_tangent():
    euler = sx.discretize(FLOW, sx.Euler(), 0.1)
    path = sx.evolve(euler, X, steps=15)
    v, costate = jnp.array([0.3, -1.0]), jnp.array([1.0, 2.0])
    pushed = sx.evolve(sx.tangent(euler), sx.TangentState(X, v), steps=15).final.perturbation
    pulled = sx.evolve(sx.adjoint(euler, path), costate).final
    assert float(jnp.vdot(costate, pushed)) == pytest.approx(float(jnp.vdot(pulled, v)), rel=1e-12)


def test_adjoint_is_backpropagation():
    cell = sx.from_cell(lambda u, x: jnp.tanh(jnp.array([[1.2, -0.4], [0.7, 0.3]]) @ x + u), jnp.ones((12, 2)) * 0.1)
    path = sx.evolve(cell, X)
    costate = sx.evolve(sx.adjoint(cell, path), 2 * path.final).final
    gradient = jax.grad(lambda x: jnp.sum(sx.evolve(cell, x).final ** 2))(X)
    np.testing.assert_allclose(costate, gradient, rtol=1e-12)


def test_adjoint_with_running_cost_is_the_gradient_of_the_sum():
    euler = sx.discretize(FLOW, sx.Euler(), 0.1)
    path = sx.evolve(euler, X, steps=10)
    system = sx.adjoint(euler, path, cost=lambda n, x: jnp.sum(x**2))
    costate = sx.evolve(system, jnp.zeros(2)).final
    gradient = jax.grad(lambda x: jnp.sum(sx.evolve(euler, x, steps=10).states[:-1] ** 2))(X)
    np.testing.assert_allclose(costate, gradient, rtol=1e-12)


def test_adjoint_of_a_flow_carries_the_gradient():
    path = sx.evolve(FLOW, X, times=(0.0, 1.0), dense=True, rtol=1e-11, atol=1e-12)
    system = sx.adjoint(FLOW, path)
    costate = sx.evolve(system, jnp.array([1.0, 2.0]), times=(0.0, 1.0), rtol=1e-10, atol=1e-11).final
    v = jnp.array([0.3, -1.0])
    start = sx.TangentState(X, v)
    pushed = sx.evolve(sx.tangent(FLOW), start, times=(0.0, 1.0), rtol=1e-11, atol=1e-12).final.perturbation
    # The interpolation is of order four, its error about 1e-8 at this tolerance.
    assert float(jnp.vdot(costate, v)) == pytest.approx(float(jnp.array([1.0, 2.0]) @ pushed), rel=1e-7)


def test_closed_loop_of_the_linear_quadratic_regulator():
    # Double integrator, Q = I, R = 1: gain (1, sqrt 3), closed-loop poles (-sqrt 3 +- i)/2.
    plant = sx.as_open_flow(lambda x, u: jnp.stack([x[1], u]))
    closed = sx.close_loop(plant, lambda x: -x[0] - jnp.sqrt(3.0) * x[1])
    poles = jnp.linalg.eigvals(sx.linearize(closed, X).as_matrix())
    np.testing.assert_allclose(jnp.sort(poles.imag), [-0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(poles.real, -jnp.sqrt(3.0) / 2, rtol=1e-12)


def test_iterate_keeps_the_limit_and_equals_that_many_steps():
    euler = sx.discretize(FLOW, sx.Euler(), 0.1)
    thrice = sx.iterate(euler, 3)
    np.testing.assert_allclose(thrice.step(2, X), sx.evolve(euler, X, steps=3, start=6).final, rtol=ROUNDING)
    np.testing.assert_allclose(sx.limit(thrice).velocity(T, X), FLOW.velocity(T, X), rtol=ROUNDING)


def test_coupling_commutes_with_the_limit():
    def pull(t, states):
        return states[1] - states[0], t * (states[0] - states[1])

    pair = (X, 2 * X)
    flows = sx.couple(FLOW, sx.as_flow(lambda x: -x), coupling=pull).velocity(T, pair)
    maps = sx.couple(
        sx.discretize(FLOW, sx.Euler(), 0.1), optimization.GradientDescent(optimization.Quadratic(1.0), 0.1), coupling=pull
    )  # fmt: skip
    for a, b in zip(sx.limit(maps).velocity(T, pair), flows, strict=True):
        np.testing.assert_allclose(a, b, rtol=ROUNDING)


def test_projection_onto_the_circle_commutes_with_the_field():
    # du/dt = DP f: the angle of a rotation about the origin grows at its rate.
    spiral = sx.as_flow(lambda x: jnp.stack([-0.1 * x[0] - 2 * x[1], 2 * x[0] - 0.1 * x[1]]))
    angle = sx.project(
        spiral, lambda x: jnp.arctan2(x[1], x[0]), complete=lambda a: jnp.stack([jnp.cos(a), jnp.sin(a)])
    )  # fmt: skip
    assert float(angle.velocity(0.0, jnp.asarray(0.4))) == pytest.approx(2.0, rel=1e-13)
