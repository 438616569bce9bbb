"""Control: against Riccati's equation, and the work that a torque does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

import separatrix as sx

INTEGRATOR = sx.as_open_flow(lambda x, u: jnp.stack([x[1], u]))
OPTIMUM = jnp.array([1.0, np.sqrt(3.0)])


class Gain(eqx.Module):
    """u = -K x."""

    values: jax.Array

    def __call__(self, x):
        return -self.values @ x


def quadratic(x, u):
    return x @ x + u**2


def test_lqr_of_the_double_integrator():
    gain = sx.residual.lqr([[0, 1], [0, 0]], [[0], [1]], np.eye(2), [[1]])
    np.testing.assert_allclose(gain, OPTIMUM[None], rtol=1e-12)


def test_lqr_has_the_stable_eigenvalues_of_the_hamiltonian():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 4)), rng.normal(size=(4, 2))
    q, r = np.diag([1.0, 2.0, 3.0, 0.5]), np.array([[2.0, 0.3], [0.3, 1.0]])
    hamiltonian = np.block([[a, -b @ np.linalg.solve(r, b.T)], [-q, -a.T]])
    stable = np.sort_complex([value for value in np.linalg.eigvals(hamiltonian) if value.real < 0])
    closed = np.sort_complex(np.linalg.eigvals(a - b @ np.asarray(sx.residual.lqr(a, b, q, r))))
    np.testing.assert_allclose(closed, stable, rtol=1e-8)


def test_loss_of_the_best_policy_is_the_value_function():
    # J = x^T P x with P = [[sqrt 3, 1], [1, sqrt 3]]; what is left after T = 16 decays as exp(-sqrt 3 T).
    loss = sx.residual.policy_loss(INTEGRATOR, quadratic, horizon=16.0, steps=800)
    starts = jnp.array([[1.0, 0.5], [-0.3, 2.0]])
    p = np.array([[np.sqrt(3.0), 1.0], [1.0, np.sqrt(3.0)]])
    expected = np.mean([x @ p @ x for x in np.asarray(starts)])
    assert loss(Gain(OPTIMUM), starts).item() == pytest.approx(expected, rel=1e-7)


def test_terminal_cost_is_added_at_the_end():
    # Without a cost on the way, from x = 2 under u = -x: x(1) = 2/e.
    plant = sx.as_open_flow(lambda x, u: u)
    loss = sx.residual.policy_loss(
        plant, lambda x, u: 0.0 * x[0], horizon=1.0, steps=100, terminal=lambda x: jnp.sum(x) * 3.0
    )
    assert loss(Gain(jnp.eye(1)), jnp.array([[2.0]])).item() == pytest.approx(6 / np.e, rel=1e-9)


def test_a_policy_of_time_has_the_value_of_a_finite_horizon_and_is_stationary_at_its_optimum():
    # x' = u, cost x^2 + u^2 over (0, T): u = -tanh(T - t) x, J = tanh(T) x^2.
    class Fading(eqx.Module):
        scale: jax.Array

        def __call__(self, t, x):
            return -self.scale * jnp.tanh(2.0 - t) * x

    plant = sx.as_open_flow(lambda x, u: u)
    loss = sx.residual.policy_loss(plant, lambda x, u: x[0] ** 2 + u[0] ** 2, horizon=2.0, steps=100)
    value, slope = jax.value_and_grad(loss)(Fading(jnp.array(1.0)), jnp.array([[1.5]]))
    assert value.item() == pytest.approx(1.5**2 * np.tanh(2.0), rel=1e-8)
    assert abs(slope.scale.item()) < 1e-7
    assert loss(Fading(jnp.array(1.1)), jnp.array([[1.5]])) > value


def test_what_passes_a_constraint_is_fined_by_its_square_over_the_time():
    # At rest in x = 2 with x <= 1 and x >= -1: w 1^2 T, and nothing for what is kept.
    plant = sx.as_open_flow(lambda x, u: 0.0 * x)
    fence = lambda x, u: jnp.stack([x[0] - 1.0, -1.0 - x[0]])
    loss = sx.residual.policy_loss(plant, lambda x, u: 0.0 * x[0], horizon=3.0, steps=30, constraint=fence, weight=5.0)
    assert loss(lambda x: x, jnp.array([[2.0]])).item() == pytest.approx(15.0, rel=1e-12)
    assert loss(lambda x: x, jnp.array([[0.9]])).item() == 0.0


def test_a_cart_and_its_pole_obey_the_equations_of_lagrange():
    plant = sx.residual.CartPole(cart=1.3, pole=0.4, length=0.7, gravity=9.0)
    masses, length, gravity = (1.3, 0.4), 0.7, 9.0

    def lagrangian(q, v):
        # The weight is at (x + l sin q, -l cos q).
        moved = jax.jvp(lambda q: jnp.stack([q[0] + length * jnp.sin(q[1]), -length * jnp.cos(q[1])]), (q,), (v,))[1]
        kinetic = 0.5 * masses[0] * v[0] ** 2 + 0.5 * masses[1] * moved @ moved
        return kinetic + masses[1] * gravity * length * jnp.cos(q[1])

    state, force = jnp.array([0.3, 2.2, -0.5, 1.7]), 2.5
    q, v = state[:2], state[2:]
    rate = plant.velocity(0.0, state, force)
    np.testing.assert_allclose(rate[:2], v)
    momentum = lambda q, v: jax.grad(lagrangian, argnums=1)(q, v)
    change = jax.jvp(momentum, (q, v), (v, rate[2:]))[1]
    np.testing.assert_allclose(change - jax.grad(lagrangian)(q, v), [force, 0.0], atol=1e-12)
    power = jax.jvp(plant.energy, (state,), (rate,))[1]
    assert power.item() == pytest.approx(force * v[0].item(), rel=1e-12)
    still = sx.residual.CartPole(gravity=4.0, length=2.0)
    np.testing.assert_allclose(still.features(jnp.array([1.0, 0.0, 2.0, 3.0])), [0.5, 1.0, 0.0, 2 / 8**0.5, 3 / 2**0.5])
    assert still.pole_energy(jnp.array([0.0, np.pi, 0.0, 2.0])).item() == pytest.approx(1 + 0.5 * 4 * 2 / 4)
    offset = still.from_upright(jnp.array([1.0, 3 * np.pi + 0.1, 2.0, 3.0]))
    np.testing.assert_allclose(offset, [1.0, 0.1, 2.0, 3.0], atol=1e-12)


def test_numbers_of_the_plant_in_the_features_are_not_trained():
    policy = sx.residual.BoundedPolicy(
        eqx.nn.Linear(5, "scalar", key=jax.random.key(0)), 5.0, sx.residual.CartPole().features
    )
    assert len(jax.tree.leaves(policy)) == 2  # weight and bias
    timed = sx.residual.TimedPolicy(lambda seen: seen[0] * seen[-1], limit=2.0, horizon=4.0)
    assert timed(1.0, jnp.array([3.0])).item() == pytest.approx(2 * np.tanh(0.75), rel=1e-12)


def test_a_gain_trained_through_the_simulator_is_the_one_of_riccati():
    # Short horizons are cheap: the terminal cost x^T P x is what remains, so that T = 4 has the optimum of T = infinity.
    p = jnp.array([[np.sqrt(3.0), 1.0], [1.0, np.sqrt(3.0)]])
    loss = sx.residual.policy_loss(INTEGRATOR, quadratic, horizon=4.0, steps=80, terminal=lambda x: x @ p @ x)
    found = sx.fit(loss, optax.lbfgs(1.0, linesearch=None), jnp.eye(2), initial=Gain(jnp.array([0.3, 0.3])), steps=20)
    # RK4 with h = 0.05: h^4/120 of one, times powers of the rates of order 3.
    np.testing.assert_allclose(found.model.values, OPTIMUM, atol=1e-5)


def test_torque_and_friction_do_the_work_that_changes_the_energy():
    plant = sx.residual.PendulumPlant(0.3)
    for q, v, u in [(0.4, 1.3, 0.7), (2.5, -0.8, -0.2)]:
        state = jnp.array([q, v])
        power = jax.jvp(plant.energy, (state,), (plant.velocity(0.0, state, u),))[1]
        assert power.item() == pytest.approx(u * v - 0.3 * v**2, rel=1e-12)


def test_a_free_pendulum_of_small_amplitude_has_the_period_of_the_elliptic_integral():
    angle = 1.0
    period = 4 * scipy.special.ellipk(np.sin(angle / 2) ** 2)
    free = sx.close_loop(sx.residual.PendulumPlant(), lambda x: 0.0)
    end = sx.evolve(free, jnp.array([angle, 0.0]), times=(0.0, float(period)), rtol=1e-10, atol=1e-12).final
    np.testing.assert_allclose(end, [angle, 0.0], atol=1e-8)


def test_the_bound_of_a_policy_holds_and_is_not_trained():
    policy = sx.residual.BoundedPolicy(
        eqx.nn.MLP(3, "scalar", 4, 1, key=jax.random.key(0)), 0.6, sx.residual.PendulumPlant.features
    )
    large = jax.tree.map(lambda leaf: 1e3 * leaf, policy)
    outputs = jax.vmap(large)(jax.random.normal(jax.random.key(1), (100, 2)))
    assert float(jnp.max(jnp.abs(outputs))) == pytest.approx(0.6, rel=1e-12)
    # Once round more is the same place.
    x = jnp.array([0.7, -0.3])
    assert policy(x).item() == pytest.approx(policy(x + jnp.array([2 * np.pi, 0.0])).item(), rel=1e-12)
    direct = 0.6 * np.tanh(policy.net.thaw()(jnp.stack([np.cos(0.7), np.sin(0.7), jnp.array(-0.3)])))
    assert policy(x).item() == pytest.approx(direct.item(), rel=1e-12)


def test_refusals_say_what_to_do():
    with pytest.raises(ValueError, match=r"lqr\n  got A \(2, 2\), B \(2,\)"):
        sx.residual.lqr(np.eye(2), np.ones(2), np.eye(2), np.eye(1))
    with pytest.raises(ValueError, match=r"Check that \(A, B\) can be stabilised"):
        sx.residual.lqr(np.eye(2), np.zeros((2, 1)), np.eye(2), np.eye(1))
    with pytest.raises(ValueError, match=r"policy_loss\n  got horizon 0"):
        sx.residual.policy_loss(INTEGRATOR, quadratic, horizon=0.0, steps=10)
    with pytest.raises(ValueError, match=r"limit\n  got -1"):
        sx.residual.BoundedPolicy(lambda x: x, -1.0)
