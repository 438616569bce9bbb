"""Langevin dynamics and its steps: what they sample, their orders and their limits, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

import separatrix as sx
from separatrix.calculus.methods.base import normal
from separatrix.catalogue.learning import NoisyQuadratic

KEY = jax.random.key(0)


def step_matrices(sde, method, h, start, noises):
    """A step of a linear system is x' = A x + B z: A and B by differentiation in x and z."""
    flat, restore = jax.flatten_util.ravel_pytree(start)

    def step(x, z):
        moved = method.advance_with(sde, jnp.asarray(0.0), restore(x), jnp.asarray(h), noises(z))
        return jax.flatten_util.ravel_pytree(moved)[0]

    zero = jnp.zeros_like(flat)
    a, b = jax.jacobian(step, (0, 1))(zero, zero)
    return np.asarray(a), np.asarray(b @ b.T)


def step_variance(*arguments):
    """Stationary covariance of a step."""
    return scipy.linalg.solve_discrete_lyapunov(*step_matrices(*arguments))


def test_weak_order_of_baoab():
    """Mean and covariance at time 1 of a linear oscillator in its bath, exactly, over halvings of the step."""
    friction, curvature, temperature = 0.7, 2.0, 0.3
    bath = sx.optimization.UnderdampedLangevin(sx.optimization.Quadratic(curvature), friction, temperature)
    motion = scipy.linalg.expm(np.array([[0.0, 1.0], [-curvature, -friction]]))
    stationary = np.diag([temperature / curvature, temperature])
    exact = stationary - motion @ stationary @ motion.T
    counts, errors = 2 ** np.arange(3, 7), []
    for count in counts:
        a, q = step_matrices(bath, sx.optimization.BAOAB(), 1 / count, bath.init(jnp.zeros(1)), lambda z: z[1:])
        covariance = np.zeros((2, 2))
        for _ in range(count):
            covariance = a @ covariance @ a.T + q
        errors.append([np.abs(np.linalg.matrix_power(a, count) - motion).max(), np.abs(covariance - exact).max()])
    np.testing.assert_allclose(-np.polyfit(np.log2(counts), np.log2(errors), 1)[0], 2.0, atol=0.15)


def test_large_friction_is_the_overdamped_equation_in_slow_time():
    """The slow rate times a goes to l, off by l^2/a^2; with Var x = T/l that is the same Gaussian process."""
    curvature = 2.0
    for friction in (50.0, 100.0):
        bath = sx.optimization.UnderdampedLangevin(sx.optimization.Quadratic(curvature), friction, 0.3)
        start = bath.init(jnp.zeros(1))
        slow = np.max(np.real(sx.linear_stability(bath, start).spectrum)) * friction
        assert friction**2 * (-slow / curvature - 1) == pytest.approx(curvature, rel=0.01)
        assert float(sx.optimization.stationary_covariance(bath, start).covariance[0, 0]) == pytest.approx(
            0.15, rel=1e-10
        )


@pytest.mark.parametrize("h", [0.1, 0.9])
@pytest.mark.parametrize("friction", [0.2, 3.0])
def test_baoab_has_exact_positions_on_a_quadratic(h, friction):
    bath = sx.optimization.UnderdampedLangevin(sx.optimization.Quadratic(2.0), friction, temperature=0.3)
    variance = step_variance(bath, sx.optimization.BAOAB(), h, bath.init(jnp.zeros(1)), lambda z: z[1:])
    assert variance[0, 0] == pytest.approx(0.3 / 2.0, rel=1e-12)
    # Velocities are not exact: T (1 - h^2 l/4), as for every kick-drift-kick.
    assert variance[1, 1] == pytest.approx(0.3 * (1 - h**2 * 2.0 / 4), rel=1e-12)


def test_euler_maruyama_heats_by_a_known_amount():
    h, curvature, temperature = 0.3, 2.0, 0.5
    bath = sx.optimization.Langevin(sx.optimization.Quadratic(curvature), temperature)
    variance = step_variance(bath, sx.EulerMaruyama(), h, jnp.zeros(1), lambda z: h**0.5 * z)
    assert variance[0, 0] == pytest.approx(temperature / (curvature * (1 - h * curvature / 2)), rel=1e-12)


def test_sgld_samples_at_the_temperature_raised_by_gradient_noise():
    h, temperature = 0.2, 0.4
    sampler = sx.optimization.SGLD(NoisyQuadratic(), h, temperature)
    found = sx.optimization.stationary_covariance(sampler, jnp.zeros(1), key=KEY, samples=16384)
    expected = (temperature + h / 2) / (1 - h / 2)
    assert abs(found.covariance[0, 0] - expected) < 4 * found.error[0, 0]
    assert found.error[0, 0] < 0.03 * expected


def test_limits_of_langevin_steps_are_what_is_left_without_noise():
    x = jnp.array([0.3, -2.0])
    np.testing.assert_allclose(
        sx.limit(sx.optimization.SGLD(sx.optimization.Himmelblau(), 0.1, 1.0)).velocity(0.0, x),
        -jax.grad(sx.optimization.Himmelblau())(x),
        rtol=1e-14,
    )
    bath = sx.optimization.UnderdampedLangevin(sx.optimization.Himmelblau(), 0.7, 1.0)
    state = sx.optimization.PhasePoint(x, jnp.array([1.0, 0.5]))
    moved = sx.limit(sx.discretize(bath, sx.optimization.BAOAB(), 0.1)).velocity(0.0, state)
    ball = sx.limit(sx.optimization.HeavyBall(sx.optimization.Himmelblau(), 0.01, 1 - 0.7 * 0.1)).velocity(0.0, state)
    for ours, drift, limit in zip(*map(jax.tree.leaves, (moved, bath.drift(0.0, state), ball)), strict=True):
        np.testing.assert_allclose(ours, drift, rtol=1e-14)
        np.testing.assert_allclose(limit, drift, rtol=1e-12)


def test_diffusion_limit_of_sgld_is_langevin():
    """h^-1 Cov of a step is 2 T: over the keys of the measure, within four standard errors."""
    sampler = sx.optimization.SGLD(sx.optimization.Quadratic(1.0), 0.01, 0.7)
    g = sx.diffusion_limit(sampler, key=KEY, samples=4096).diffusion(0.0, jnp.zeros(1)).T.mv(jnp.ones(1))
    bath = sx.optimization.Langevin(sx.optimization.Quadratic(1.0), 0.7).diffusion(0.0, jnp.zeros(1)).as_matrix()
    assert float(g @ g) == pytest.approx(float(bath[0, 0] ** 2), rel=4 * (2 / 4096) ** 0.5)


def test_density_of_the_double_well():
    """E x^2 and E x^4 under exp(-L/T) by quadrature, against BAOAB at two frictions (density without friction in it)."""
    temperature, members = 0.3, 4000
    density = lambda x: np.exp(-((x**2 - 1) ** 2) / 4 / temperature)
    total = scipy.integrate.quad(density, -6, 6)[0]
    expected = [scipy.integrate.quad(lambda x, k=k: x**k * density(x), -6, 6)[0] / total for k in (2, 4)]
    for friction in (0.5, 3.0):
        bath = sx.optimization.UnderdampedLangevin(sx.optimization.DoubleWell(), friction, temperature)
        starts = sx.optimization.PhasePoint(jnp.ones((members, 1)), jnp.zeros((members, 1)))
        final = sx.ensemble(
            bath, starts, steps=300, step_size=0.1, method=sx.optimization.BAOAB(), key=jax.random.key(2), save="last"
        ).final
        for power, truth in zip((2, 4), expected, strict=True):
            values = np.asarray(final.position) ** power
            # BAOAB is off by O(h^2) of the fourth derivative: here under 0.002.
            assert abs(values.mean() - truth) < 4 * values.std() / members**0.5 + 0.002
        assert abs(np.mean(final.velocity**2) - temperature) < 4 * temperature * (2 / members) ** 0.5 + 0.002


def test_einsteins_relation():
    """A free particle spreads as 2 (T/a^2)(a t - 1 + e^{-a t}) from rest in equilibrium of velocities: D = T/a."""
    friction, temperature, time, members = 2.0, 0.5, 5.0, 4000
    bath = sx.optimization.UnderdampedLangevin(lambda x: 0.0 * jnp.sum(x), friction, temperature)
    velocities = temperature**0.5 * normal(jax.random.key(5), jax.ShapeDtypeStruct((members, 1), jnp.float64))
    starts = sx.optimization.PhasePoint(jnp.zeros((members, 1)), velocities)
    final = sx.ensemble(
        bath,
        starts,
        times=(0.0, time),
        step_size=0.05,
        method=sx.optimization.BAOAB(),
        key=jax.random.key(6),
        save="last",
    ).final
    spread = float(jnp.mean(final.position**2))
    expected = 2 * temperature / friction**2 * (friction * time - 1 + np.exp(-friction * time))
    assert abs(spread - expected) < 4 * expected * (2 / members) ** 0.5


def test_langevin_refuses():
    with pytest.raises(ValueError, match=r"Langevin: temperature\n  got -1.0, expected a finite number of at least 0"):
        sx.optimization.Langevin(sx.optimization.Quadratic(1.0), -1.0)
    with pytest.raises(TypeError, match=r"SGLD: step_size\n  got 'fast', expected a finite number above 0"):
        sx.optimization.SGLD(sx.optimization.Quadratic(1.0), "fast", 1.0)
    with pytest.raises(TypeError, match=r"PhasePoint.*\n.*Start from init"):
        sx.optimization.UnderdampedLangevin(sx.optimization.Quadratic(1.0), 1.0, 1.0).drift(0.0, jnp.zeros(1))
    with pytest.raises(TypeError, match="BAOAB is not defined here"):
        bath = sx.optimization.Langevin(sx.optimization.Quadratic(1.0), 1.0)
        sx.discretize(bath, sx.optimization.BAOAB(), 0.1).step(
            0, sx.optimization.PhasePoint(jnp.zeros(1), jnp.zeros(1)), key=KEY
        )
