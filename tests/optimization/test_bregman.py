"""Accelerated flows: closed forms, time dilation, rates, and the equations that tell Nesterov from heavy ball."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import separatrix as sx
from separatrix import optimization

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
POINT = optimization.MirrorPoint(jnp.array([0.5, -1.0]), jnp.array([1.0, 2.0]))


def assert_states_close(first, second, **tolerance):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


# The Bregman family


@pytest.mark.parametrize("order", [2.0, 3.0, 4.0])
def test_on_a_quadratic_every_order_is_a_bessel_function_by_its_own_clock(order):
    """2 J1(s)/s at s = t^{p/2} sqrt(l), for C = 1/4."""
    curvature, time = 2.0, 2.5
    flow = optimization.BregmanFlow(optimization.Quadratic(curvature), order)
    final = sx.evolve(flow, flow.init(jnp.array([1.0])), times=(0.0, time), **TIGHT).final.position[0]
    s = time ** (order / 2) * curvature**0.5
    assert float(final) == pytest.approx(2 * scipy.special.j1(s) / s, abs=1e-7)


@pytest.mark.parametrize(("slow", "fast"), [(2.0, 3.0), (1.5, 6.0), (4.0, 2.0)])
def test_time_dilation_is_a_law_of_the_fields(slow, fast):
    """dilate(order p, t^{q/p}) is order q, at every point, with a mirror map too."""
    for mirror in (None, jax.nn.softmax):
        first = optimization.dilate(
            optimization.BregmanFlow(optimization.Rosenbrock(), slow, 0.7, mirror), lambda t: t ** (fast / slow)
        )
        second = optimization.BregmanFlow(optimization.Rosenbrock(), fast, 0.7, mirror)
        both = jax.jit(lambda t, flows=(first, second): [flow.velocity(t, POINT) for flow in flows])
        for t in (0.3, 1.7):
            assert_states_close(*both(t), rtol=1e-12)


def test_dilation_of_curves():
    """y(t) = x(tau(t)), for a flow that depends on time and a clock that is no power."""
    flow = sx.as_flow(lambda t, x: jnp.cos(t) * x)
    final = sx.evolve(optimization.dilate(flow, jnp.expm1), jnp.array(1.0), times=(0.0, 1.0), **TIGHT).final
    assert float(final) == pytest.approx(np.exp(np.sin(np.expm1(1.0))), rel=1e-8)
    with pytest.raises(TypeError, match="dilate is not defined here\n  got a GradientDescent, expected Flow"):
        optimization.dilate(optimization.GradientDescent(optimization.Quadratic(1.0), 0.1), jnp.exp)


@eqx.filter_jit
def second_order(flow, t, state):
    """x'' along a flow, by differentiation of its velocity along itself."""
    velocity = flow.velocity(t, state)
    _, rate = jax.jvp(lambda t, s: flow.velocity(t, s)[0], (t, state), (jnp.ones_like(t), velocity))
    return velocity[0], rate


def test_order_two_is_nesterovs_equation():
    """x'' + (3/t) x' + grad L = 0: the limit of Nesterov's method, in other coordinates."""
    t = jnp.asarray(1.3)
    velocity, acceleration = second_order(optimization.BregmanFlow(optimization.Rosenbrock()), t, POINT)
    slope = jax.grad(optimization.Rosenbrock())(POINT.position)
    np.testing.assert_allclose(acceleration, -3 / t * velocity - slope, rtol=1e-10)
    nesterov = sx.limit(optimization.Nesterov(optimization.Rosenbrock(), 0.01)).velocity(
        t, optimization.PhasePoint(POINT.position, velocity)
    )
    np.testing.assert_allclose(nesterov.velocity, acceleration, rtol=1e-10)


def test_any_order_is_its_equation_of_second_order():
    """x'' + ((p + 1)/t) x' + C p^2 t^{p-2} grad L = 0."""
    order, constant, t = 3.0, 0.4, jnp.asarray(0.8)
    velocity, acceleration = second_order(
        optimization.BregmanFlow(optimization.Rosenbrock(), order, constant), t, POINT
    )
    slope = jax.grad(optimization.Rosenbrock())(POINT.position)
    expected = -(order + 1) / t * velocity - constant * order**2 * t ** (order - 2) * slope
    np.testing.assert_allclose(acceleration, expected, rtol=1e-10)


def test_energy_of_the_family_never_grows():
    """D_h(x*, z) + C t^p (L - L*) on a convex function that is flat at its minimum; with it L - L* <= E(0)/(C t^p)."""
    loss = lambda x: jnp.sum(jnp.log(jnp.cosh(x)) ** 2)
    order, constant, times = 3.0, 0.25, jnp.linspace(0.0, 6.0, 61)
    flow = optimization.BregmanFlow(loss, order, constant)
    path = sx.evolve(flow, flow.init(jnp.array([2.0, -1.0])), times=times, **TIGHT).states
    losses = np.asarray(jax.vmap(loss)(path.position))
    energies = 0.5 * np.sum(np.asarray(path.dual) ** 2, axis=1) + constant * np.asarray(times) ** order * losses
    assert np.all(np.diff(energies) < 1e-8) and energies[-1] < 0.9 * energies[0]
    assert np.all(losses[1:] <= energies[0] / (constant * np.asarray(times)[1:] ** order))


def test_energy_on_the_simplex_never_grows():
    """The same with the entropy: D_h is the relative entropy of x* to softmax(dual), and x stays on the simplex."""
    target = jnp.array([0.2, 0.5, 0.3])
    loss = lambda x: 2.0 * jnp.sum((x - target) ** 2)
    times, dual = jnp.linspace(0.0, 10.0, 51), jnp.array([3.0, -1.0, 0.0])
    flow = optimization.BregmanFlow(loss, 2.0, 0.25, jax.nn.softmax)
    path = sx.evolve(flow, flow.init(jax.nn.softmax(dual), dual), times=times, **TIGHT).states
    z = np.asarray(jax.nn.softmax(path.dual, axis=1))
    energies = np.sum(np.asarray(target) * np.log(np.asarray(target) / z), axis=1)
    energies = energies + 0.25 * np.asarray(times) ** 2 * np.asarray(jax.vmap(loss)(path.position))
    assert np.all(np.diff(energies) < 1e-7)
    np.testing.assert_allclose(np.sum(path.position, axis=1), 1.0, rtol=1e-8)
    assert np.min(path.position) > 0
    with pytest.raises(ValueError, match="dual\n  got None, expected the dual variable"):
        flow.init(target)


# Strong convexity


def test_strongly_convex_flow():
    """Critically damped on mu x^2/2; x'' + 2 sqrt(mu) x' + grad L = 0; and its energy never grows."""
    mu, times = 2.0, jnp.linspace(0.0, 4.0, 41)
    flow = optimization.StronglyConvexFlow(optimization.Quadratic(mu), mu)
    path = sx.evolve(flow, flow.init(jnp.array([1.0])), times=times, **TIGHT).states
    phase = np.sqrt(mu) * np.asarray(times)
    np.testing.assert_allclose(path.position[:, 0], (1 + phase) * np.exp(-phase), atol=1e-8)
    velocity, acceleration = second_order(
        optimization.StronglyConvexFlow(optimization.Rosenbrock(), mu), jnp.asarray(0.0), POINT
    )
    slope = jax.grad(optimization.Rosenbrock())(POINT.position)
    np.testing.assert_allclose(acceleration, -2 * mu**0.5 * velocity - slope, rtol=1e-10)
    steep = optimization.Quadratic(jnp.array([mu, 50.0]))
    flow = optimization.StronglyConvexFlow(steep, mu)
    path = sx.evolve(flow, flow.init(jnp.array([1.0, -1.0])), times=times, **TIGHT).states
    energies = mu / 2 * np.sum(np.asarray(path.dual) ** 2, axis=1) + np.asarray(jax.vmap(steep)(path.position))
    assert np.all(np.diff(np.exp(phase) * energies) < 1e-7)


# High-resolution equations


def steep(x):
    """Curved, with third derivatives and unequal curvatures."""
    return 0.5 * (x[0] ** 2 + 5.0 * x[1] ** 2) + 0.3 * x[0] * x[1] + jnp.sum(jnp.cosh(x))


MU = 0.8
STATE = optimization.PhasePoint(jnp.array([0.6, -0.4]), jnp.array([-0.5, 1.2]))


def gap(method, equation, step, t=1.0, late=0.0):
    """x'' of modified(method, 1) less x'' of the equation, at equal (x, x'); `late` shifts the clock, in steps."""
    modified = sx.modified(method, 1)
    velocity, acceleration = second_order(modified, jnp.asarray(t), STATE)
    there = equation.velocity(jnp.asarray(t + late * step), optimization.PhasePoint(STATE.position, velocity))
    return jnp.linalg.norm(acceleration - there.velocity)


def order_of_gap(pair, **keywords):
    """Slope of the gap in the step h = sqrt(learning rate)."""
    steps = np.array([0.02, 0.01, 0.005])
    measured = jax.jit(lambda h: gap(*pair(h), h, **keywords))
    gaps = [float(measured(h)) for h in steps]
    return np.polyfit(np.log2(steps), np.log2(gaps), 1)[0]


def momentum(h):
    return (1 - MU**0.5 * h) / (1 + MU**0.5 * h)


PAIRS = {
    "heavy ball": (
        lambda h: optimization.HeavyBall(steep, h**2, momentum(h)),
        lambda h: optimization.HighResolutionHeavyBall(steep, h**2, MU)
    ),
    "Nesterov": (
        lambda h: optimization.Nesterov(steep, h**2, momentum(h)),
        lambda h: optimization.HighResolutionNesterov(steep, h**2, MU)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_modified_equation_is_the_high_resolution_equation(name):
    method, equation = PAIRS[name]
    assert order_of_gap(lambda h: (method(h), equation(h))) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("name", PAIRS)
def test_the_equation_of_the_other_method_is_a_whole_order_off(name):
    """They differ by h Hess L x' alone, which is what tells the two methods apart."""
    method, _ = PAIRS[name]
    _, other = PAIRS[{"heavy ball": "Nesterov", "Nesterov": "heavy ball"}[name]]
    assert order_of_gap(lambda h: (method(h), other(h))) == pytest.approx(1.0, abs=0.15)
    h = 1e-3
    flows = [PAIRS[key][1](h) for key in ("heavy ball", "Nesterov")]
    both = jax.jit(lambda t: [flow.velocity(t, STATE).velocity for flow in flows])(0.0)
    correction = jax.jit(jax.hessian(steep))(STATE.position) @ STATE.velocity
    np.testing.assert_allclose((both[0] - both[1]) / h, correction, rtol=1e-9)


def test_schedule_of_nesterov_by_its_clock():
    """Step n stands at t = (n + 3/2) h: with that clock the gap is of order 2, without it of order 1."""
    pair = lambda h: (optimization.Nesterov(steep, h**2), optimization.HighResolutionNesterov(steep, h**2))
    assert order_of_gap(pair, late=1.5) == pytest.approx(2.0, abs=0.15)
    assert order_of_gap(pair) == pytest.approx(1.0, abs=0.15)


@pytest.mark.slow
def test_orbit_follows_the_high_resolution_equation_at_order_two():
    """Nesterov's positions at time 2 against the equation started at the velocity that the modified flow has there."""
    steps = np.array([0.02, 0.01, 0.005])
    errors = []
    for h in map(float, steps):
        method, equation = PAIRS["Nesterov"][0](h), PAIRS["Nesterov"][1](h)
        velocity = sx.modified(method, 1).velocity(0.0, STATE).position
        orbit = sx.evolve(method, STATE, steps=round(2 / h), save="last").final.position
        start = optimization.PhasePoint(STATE.position, velocity)
        curve = sx.evolve(equation, start, times=(0.0, 2.0), **TIGHT).final.position
        errors.append(np.linalg.norm(orbit - curve))
    assert np.polyfit(np.log2(steps), np.log2(errors), 1)[0] == pytest.approx(2.0, abs=0.15)


# name: method and equation at step h, and the start of the equation's clock in steps
FROM_REST = {
    "heavy ball": (*PAIRS["heavy ball"], 0.0),
    "Nesterov": (*PAIRS["Nesterov"], 0.0),
    "schedule": (
        lambda h: optimization.Nesterov(steep, h**2),
        lambda h: optimization.HighResolutionNesterov(steep, h**2),
        1.5,
    ),
}


@pytest.mark.parametrize("name", FROM_REST)
def test_from_init_the_equation_follows_the_method_at_order_two(name):
    method, equation, late = FROM_REST[name]
    counts = np.array([40, 80, 160])
    errors = []
    for count in counts:
        h = 1.0 / int(count)
        ball, flow = method(h), equation(h)
        orbit = sx.evolve(ball, ball.init(STATE.position), steps=int(count), save="last").final.position
        times = (late * h, late * h + 1.0)
        curve = sx.evolve(flow, flow.init(STATE.position), times=times, save="last", rtol=1e-10, atol=1e-12).final
        errors.append(np.linalg.norm(orbit - curve.position))
    assert -np.polyfit(np.log2(counts), np.log2(errors), 1)[0] == pytest.approx(2.0, abs=0.15), errors


def test_on_a_constant_gradient_the_schedule_is_its_equation_to_the_last_digit():
    slope, h, steps = jnp.array([2.0, -0.5]), 0.1, 12
    line = lambda x: slope @ x
    method, flow = optimization.Nesterov(line, h**2), optimization.HighResolutionNesterov(line, h**2)
    orbit = sx.evolve(method, method.init(STATE.position), steps=steps).states.position
    np.testing.assert_allclose(orbit[-1] - orbit[0], -(h**2) * slope * (steps**2 + 7 * steps) / 8, rtol=1e-12)
    curve = sx.evolve(flow, flow.init(STATE.position), times=(1.5 * h, (steps + 1.5) * h), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(curve.final.position, orbit[-1], atol=1e-9)


def test_refusals_say_what_to_do():
    with pytest.raises(ValueError, match=r"BregmanFlow: power\n  got 0.0, expected a finite number above 0"):
        optimization.BregmanFlow(steep, 0.0)
    with pytest.raises(TypeError, match=r"MirrorPoint\(position, dual\)"):
        optimization.BregmanFlow(steep).velocity(1.0, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"learning_rate\n  got -0\.1"):
        optimization.HighResolutionNesterov(steep, -0.1)
