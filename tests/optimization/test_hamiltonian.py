"""Momentum as a Hamiltonian flow with friction: what its methods keep exactly, their limits, orders and rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import separatrix as sx
from separatrix.catalogue.learning import NoisyQuadratic

FRICTION, H = 0.7, 0.1
START = sx.optimization.CanonicalPoint(jnp.array([-0.5, 0.8]), jnp.array([1.0, -2.0]))
OMEGA = np.block([[np.zeros((2, 2)), np.eye(2)], [-np.eye(2), np.zeros((2, 2))]])
METHODS = [sx.optimization.ConformalSymplecticEuler(), sx.optimization.ConformalLeapfrog()]
KINETIC = {
    "quadratic": None,
    "relativistic": sx.optimization.RelativisticKinetic(1.5, 2.0),
    "power": sx.optimization.PowerKinetic(4 / 3),
}


def flow_of(kinetic=None, objective=None, friction=FRICTION):
    return sx.optimization.ConformalHamiltonian(objective or sx.optimization.Rosenbrock(1.0, 3.0), friction, kinetic)


def vector(state):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state)])


def assert_states_close(first, second, **tolerance):
    np.testing.assert_allclose(vector(first), vector(second), **tolerance)


# What a step keeps


@pytest.mark.parametrize("kinetic", KINETIC.values(), ids=KINETIC)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_steps_contract_volume_and_the_form_by_exactly_the_friction(method, kinetic):
    """J^T Omega J = e^{-a h} Omega, hence det J = e^{-a h d}, far from the minimum and at a step that is not small."""
    map = sx.discretize(flow_of(kinetic), method, H)
    jacobian = np.asarray(sx.linearize(map, START).as_matrix())
    factor = np.exp(-FRICTION * H)
    np.testing.assert_allclose(jacobian.T @ OMEGA @ jacobian, factor * OMEGA, atol=1e-12)
    assert np.linalg.det(jacobian) == pytest.approx(factor**2, rel=1e-12)


def test_other_steps_of_the_same_flow_do_not():
    """Heun's step contracts volume to its order only, and Maddison's by 1/(1 + a h) a dimension."""
    heun = np.asarray(sx.linearize(sx.discretize(flow_of(), sx.Heun(), H), START).as_matrix())
    assert abs(np.linalg.det(heun) / np.exp(-FRICTION * H * 2) - 1) > 1e-5
    descent = sx.optimization.HamiltonianDescent(sx.optimization.Rosenbrock(1.0, 3.0), H, FRICTION)
    assert np.linalg.det(sx.linearize(descent, START).as_matrix()) == pytest.approx((1 + FRICTION * H) ** -2, rel=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_steps_are_undone_by_reverse(method):
    map = sx.discretize(flow_of(KINETIC["relativistic"]), method, H)
    assert_states_close(sx.reverse(map).step(0, map.step(0, START)), START, rtol=1e-12)


def test_energy_is_lost_to_friction_alone():
    """dH/dt = -a p . grad K(p)."""
    for kinetic in KINETIC.values():
        flow = flow_of(kinetic)
        rate = jax.jvp(flow.energy, (START,), (flow.velocity(0.0, START),))[1]
        lost = -FRICTION * jnp.sum(START.momentum * jax.grad(flow.kinetic)(START.momentum))
        assert float(rate) == pytest.approx(float(lost), rel=1e-12)


# Orders and limits


@pytest.mark.parametrize(("method", "order"), list(zip(METHODS, (1, 2), strict=True)), ids=["Euler", "leapfrog"])
def test_measured_order(method, order):
    flow = flow_of(KINETIC["relativistic"])
    exact = sx.evolve(flow, START, times=(0.0, 1.0), rtol=1e-12, atol=1e-12, save="last").final
    counts = 2 ** np.arange(5, 9)
    errors = []
    for count in counts:
        final = sx.evolve(flow, START, steps=int(count), times=(0.0, 1.0), method=method, save="last").final
        errors.append(np.linalg.norm(vector(final) - vector(exact)))
    assert -np.polyfit(np.log2(counts), np.log2(errors), 1)[0] == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("name", ["Euler", "leapfrog", "relativistic", "hamiltonian"])
def test_every_step_has_the_conformal_flow_as_its_limit(name):
    kinetic = KINETIC["relativistic"]
    objective = sx.optimization.Rosenbrock(1.0, 3.0)
    map = {
        "Euler": lambda: sx.discretize(flow_of(kinetic), METHODS[0], H),
        "leapfrog": lambda: sx.discretize(flow_of(kinetic), METHODS[1], H),
        "relativistic": lambda: sx.optimization.RelativisticDescent(objective, H, FRICTION, speed=1.5, mass=2.0),
        "hamiltonian": lambda: sx.optimization.HamiltonianDescent(objective, H, FRICTION, kinetic),
    }[name]()
    assert_states_close(sx.limit(map).velocity(0.0, START), flow_of(kinetic).velocity(0.0, START), rtol=1e-13)


def test_conformal_symplectic_euler_is_heavy_ball():
    """Learning rate h^2 and momentum e^{-a h}, step for step."""
    map = sx.discretize(flow_of(), sx.optimization.ConformalSymplecticEuler(), H)
    ball = sx.optimization.HeavyBall(sx.optimization.Rosenbrock(1.0, 3.0), H**2, np.exp(-FRICTION * H))
    ours = sx.evolve(map, START, steps=50).states
    theirs = sx.evolve(ball, sx.optimization.PhasePoint(*START), steps=50).states
    assert_states_close(ours, theirs, rtol=1e-11, atol=1e-12)
    random = sx.discretize(flow_of(objective=NoisyQuadratic()), sx.optimization.ConformalSymplecticEuler(), H)
    noisy = sx.optimization.HeavyBall(NoisyQuadratic(), H**2, np.exp(-FRICTION * H))
    key = jax.random.key(4)
    ours, theirs = random.step(0, START, key=key), noisy.step(0, sx.optimization.PhasePoint(*START), key=key)
    assert_states_close(ours, theirs, rtol=1e-13)
    assert np.linalg.norm(vector(ours) - vector(random.step(0, START))) > 1e-3


# Relativistic descent


def test_relativistic_descent_is_the_algorithm_of_its_source():
    """In mu, epsilon, delta and v, written out, at alpha = 1."""
    speed, mass = 1.5, 2.0
    mu, epsilon, delta = np.exp(-FRICTION * H), H**2 / (2 * mass), 4 / (speed * H) ** 2
    slope = jax.grad(sx.optimization.Rosenbrock(1.0, 3.0))
    x, v = np.asarray(START.position), H / (2 * mass) * np.asarray(START.momentum)
    for _ in range(10):
        half = x + np.sqrt(mu) * v / np.sqrt(mu * delta * v @ v + 1)
        v = np.sqrt(mu) * v - epsilon * np.asarray(slope(jnp.asarray(half)))
        x = half + v / np.sqrt(delta * v @ v + 1)
        v = np.sqrt(mu) * v
    descent = sx.optimization.RelativisticDescent(sx.optimization.Rosenbrock(1.0, 3.0), H, FRICTION, speed, mass)
    final = sx.evolve(descent, START, steps=10, save="last").final
    np.testing.assert_allclose(final.position, x, rtol=1e-12)
    np.testing.assert_allclose(H / (2 * mass) * final.momentum, v, rtol=1e-12)


def test_no_relativistic_step_is_longer_than_the_speed_allows():
    """From where the gradient is 10^5, and nearly as long as allowed there: heavy ball would leap by 10^3."""
    descent = sx.optimization.RelativisticDescent(sx.optimization.Rosenbrock(), H, FRICTION, speed=2.0)
    path = sx.evolve(descent, descent.init(jnp.array([-5.0, 50.0])), steps=200).states.position
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert lengths[0] > 0.45 * 2.0 * H and np.all(lengths < 2.0 * H)
    assert lengths[1] > 0.99 * 2.0 * H


def test_relativistic_descent_goes_to_heavy_ball_as_the_speed_grows():
    """Its limit differs from heavy ball's by O(1/c^2), with the coefficient -p |p|^2/2."""
    ball = sx.limit(sx.optimization.HeavyBall(sx.optimization.Rosenbrock(1.0, 3.0), H**2, 1 - FRICTION * H)).velocity(
        0.0, sx.optimization.PhasePoint(*START)
    )
    momentum = np.asarray(START.momentum)
    for speed in (100.0, 200.0):
        descent = sx.optimization.RelativisticDescent(sx.optimization.Rosenbrock(1.0, 3.0), H, FRICTION, speed)
        ours = sx.limit(descent).velocity(0.0, START)
        np.testing.assert_allclose(ours.momentum, ball.velocity, rtol=1e-12)
        gap = speed**2 * (np.asarray(ours.position) - np.asarray(ball.position))
        # The next term is relatively (|p|/c)^2 * 3/4 smaller.
        np.testing.assert_allclose(gap, -momentum * (momentum @ momentum) / 2, rtol=1e-3)


# A chosen kinetic energy


def quartic(x):
    return jnp.sum(x**4) / 4


def test_kinetic_energy_of_the_dual_power_makes_a_flat_minimum_linear():
    """On x^4/4 with K = |p|^{4/3} 3/4 and friction 5 there is a straight solution x = e^{-mu t}, mu^3 (5 - 3 mu) = 1.

    All others are drawn to it: the logarithm of L falls by 4 mu a unit of time. With K = p^2/2 it falls as 1/t^2:
    a^2/(16 t^2), for x' = -x^3/a in the end.
    """
    friction = 5.0
    rate = scipy.optimize.brentq(lambda mu: mu**3 * (friction - 3 * mu) - 1, 0.1, 1.0)
    flow = flow_of(sx.optimization.PowerKinetic(4 / 3), quartic, friction)
    start = sx.optimization.CanonicalPoint(jnp.array([1.0]), jnp.array([-1e-3]))
    path = sx.evolve(flow, start, times=jnp.array([0.0, 10.0, 20.0]), rtol=1e-10, atol=1e-30).states.position[:, 0]
    assert float(jnp.log(path[1] / path[2])) / 10 == pytest.approx(rate, rel=1e-3)
    slow = sx.evolve(flow_of(None, quartic, friction), start, times=(0.0, 2000.0)).final.position[0]
    # Corrections are of relative size log(t)/t.
    assert float(quartic(slow)) == pytest.approx(friction**2 / (16 * 2000.0**2), rel=0.05)


def test_hamiltonian_descent_is_linear_at_the_rate_of_its_own_recursion():
    """x[n] = r^n, p[n] = -q x[n]^3 with q r^3 = (q + h)/(1 + a h) and r = 1 - h ((q + h)/(1 + a h))^{1/3}."""
    h, friction = 0.1, 5.0

    def equations(unknowns):
        q, r = unknowns
        kicked = (q + h) / (1 + friction * h)
        return q * r**3 - kicked, r - 1 + h * np.cbrt(kicked)

    _, r = scipy.optimize.fsolve(equations, (0.3, 0.93), xtol=1e-12)
    descent = sx.optimization.HamiltonianDescent(quartic, h, friction, sx.optimization.PowerKinetic(4 / 3))
    path = sx.evolve(descent, descent.init(jnp.array([1.0])), steps=300, save=100).states.position[:, 0]
    assert float(path[3] / path[2]) ** (1 / 100) == pytest.approx(r, rel=1e-6)
    # What the example of the class says: 200 steps reach 1e-16, and those of heavy ball not 1e-5.
    ball = sx.optimization.HamiltonianDescent(quartic, h, friction)
    slow = sx.evolve(ball, ball.init(jnp.array([1.0])), steps=200, save="last").final.position
    assert path[2] ** 4 / 4 < 1e-16 and quartic(slow) > 1e-5


def test_kinetic_energies_and_their_velocities():
    p = jnp.array([3.0, -4.0])
    np.testing.assert_allclose(jax.grad(sx.optimization.QuadraticKinetic(2.0))(p), p / 2, rtol=1e-14)
    np.testing.assert_allclose(
        jax.grad(sx.optimization.RelativisticKinetic(2.0, 3.0))(p), 2 * p / np.sqrt(25 + 36), rtol=1e-14
    )
    np.testing.assert_allclose(jax.grad(sx.optimization.PowerKinetic(1.5))(p), p * 5**-0.5, rtol=1e-14)
    assert float(sx.optimization.RelativisticKinetic(2.0, 3.0)(p)) == pytest.approx(2 * np.sqrt(61.0) - 12, rel=1e-14)
    # At slow momenta no digits cancel; at rest the velocity of a power is 0 and not NaN.
    assert float(sx.optimization.RelativisticKinetic(1.0)(jnp.array([1e-9]))) == pytest.approx(0.5e-18, rel=1e-12)
    np.testing.assert_array_equal(jax.grad(sx.optimization.PowerKinetic(1.2))(jnp.zeros(2)), 0.0)


# No friction: it oscillates for ever


def test_a_million_steps_without_friction_keep_the_exact_invariants():
    """On l x^2/2: symplectic Euler keeps l x^2 + w^2 - h l x w, leapfrog (drift, kick, drift) l x^2 + (1 - h^2 l/4) p^2.

    Rounding is the only change: a random walk of 10^6 steps of eps is 10^-13, a drift 10^-10.
    """
    h, curvature = 0.3, 2.0
    euler = lambda x, w: curvature * x**2 + w**2 - h * curvature * x * w
    leapfrog = lambda x, p: curvature * x**2 + (1 - h**2 * curvature / 4) * p**2
    flow = flow_of(None, sx.optimization.Quadratic(curvature), 0.0)
    ball = sx.optimization.HeavyBall(sx.optimization.Quadratic(curvature), h**2, momentum=1.0)
    cases = (
        (ball, sx.optimization.PhasePoint, euler),
        (sx.discretize(flow, METHODS[0], h), sx.optimization.CanonicalPoint, euler),
        (sx.discretize(flow, METHODS[1], h), sx.optimization.CanonicalPoint, leapfrog),
    )
    for map, form, invariant in cases:
        path = sx.evolve(map, form(jnp.array([1.0]), jnp.array([0.5])), steps=1_000_000, save=100_000).states
        values = np.ravel(invariant(*path))
        np.testing.assert_allclose(values, values[0], rtol=1e-10)
        assert np.ptp(np.ravel(path[0])) > 0.5  # and it does move


def test_refusals_say_what_to_do():
    with pytest.raises(TypeError, match="a conformal method is not defined here\n  got a FunctionFlow"):
        sx.discretize(sx.as_flow(lambda s: s), sx.optimization.ConformalLeapfrog(), 0.1).step(0, START)
    with pytest.raises(TypeError, match="Start from init"):
        flow_of().velocity(0.0, jnp.zeros(2))
    with pytest.raises(
        ValueError, match=r"ConformalHamiltonian: friction\n  got -1.0, expected a finite number of at least 0"
    ):
        flow_of(friction=-1.0)
    with pytest.raises(ValueError, match=r"PowerKinetic: power\n  got 1.0, expected a number above 1"):
        sx.optimization.PowerKinetic(1.0)
    with pytest.raises(TypeError, match="kinetic\n  got float"):
        flow_of(2.0)
