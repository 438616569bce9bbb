"""Stationary covariance of noisy descent, of maps and SDEs, against closed forms, series and a long simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

import separatrix as sx
from separatrix.catalogue.learning import NoisyQuadratic

KEY = jax.random.key(0)


def test_sgd_on_the_noisy_quadratic():
    """Variance h/(2 - h), to four of the standard errors that the answer gives."""
    h = 0.3
    found = sx.optimization.stationary_covariance(
        sx.optimization.GradientDescent(NoisyQuadratic(), h), jnp.zeros(2), key=KEY
    )
    assert np.all(np.abs(found.covariance - h / (2 - h) * np.eye(2)) < 4 * found.error)
    # sqrt(2/4096) is the relative error of a variance; the estimate from 8 batches is good to a factor of 2.
    assert found.error[0, 0] / found.covariance[0, 0] == pytest.approx((2 / 4096) ** 0.5, rel=1.0)
    assert found.cautions == ()


def test_sgd_with_momentum_in_closed_form():
    """eta s^2 (1 + g)/(l (1 - g) (2 (1 + g) - eta l)) for x; from one draw of z the noise of the step is h s z in w."""
    eta, momentum, curvature = 0.1, 0.8, 1.0
    ball = sx.optimization.HeavyBall(NoisyQuadratic(), eta, momentum)
    found = sx.optimization.stationary_covariance(ball, ball.init(jnp.zeros(1)), key=KEY)
    expected = eta * (1 + momentum) / (curvature * (1 - momentum) * (2 * (1 + momentum) - eta * curvature))
    assert abs(found.covariance[0, 0] - expected) < 4 * found.error[0, 0]
    scale = found.noise[1, 1] / eta
    assert found.covariance[0, 0] / scale == pytest.approx(expected, rel=1e-10)


def test_long_simulation_has_the_covariance_of_lyapunovs_equation():
    """4000 runs of 200 steps, memory 0.9^200 = 1e-9: each entry within four standard errors of both."""
    members = 4000
    ball = sx.optimization.HeavyBall(NoisyQuadratic(), 0.2, 0.8)
    start = ball.init(jnp.zeros(1))
    predicted = sx.optimization.stationary_covariance(ball, start, key=KEY)
    starts = jax.tree.map(lambda leaf: jnp.zeros((members, 1)), start)
    final = sx.ensemble(ball, starts, steps=200, key=jax.random.key(1), save="last").final
    sample = np.cov(np.stack([final.position[:, 0], final.velocity[:, 0]]))
    x = np.asarray(predicted.covariance)
    scatter = np.sqrt((np.outer(np.diag(x), np.diag(x)) + x**2) / members)
    assert np.all(np.abs(sample - x) < 4 * np.hypot(scatter, predicted.error))


def test_ornstein_uhlenbeck():
    entry = sx.catalogue.entry("ornstein-uhlenbeck")
    found = sx.optimization.stationary_covariance(entry.build(), jnp.array([1.0]))
    np.testing.assert_allclose(found.covariance, [[1 / 16]], rtol=1e-14)
    assert float(found.displacement) == 0.0 and float(found.error[0, 0]) == 0.0


def test_asymmetric_drift_against_the_integral():
    """X = int_0^inf e^{J t} Q e^{J^T t} dt by quadrature: another answer for a transposed Jacobian."""
    drift = np.array([[-1.0, 3.0], [0.0, -2.0]])
    noise = np.diag([1.0, 0.25])
    sde = sx.as_sde(lambda x: jnp.asarray(drift) @ x, lambda x: jnp.array([1.0, 0.5]))
    found = sx.optimization.stationary_covariance(sde, jnp.zeros(2)).covariance
    at = lambda t: scipy.linalg.expm(drift * t) @ noise @ scipy.linalg.expm(drift.T * t)
    np.testing.assert_allclose(found, scipy.integrate.quad_vec(at, 0, 20, epsrel=1e-7)[0], rtol=1e-6)


def test_asymmetric_map_against_the_series():
    matrix = np.array([[0.5, 0.7], [0.0, -0.6]])

    def step(x, *, key=None):
        noise = jnp.zeros(2) if key is None else jax.random.normal(key, (2,)) * jnp.array([1.0, 0.0])
        return jnp.asarray(matrix) @ x + noise

    found = sx.optimization.stationary_covariance(sx.as_map(step), jnp.zeros(2), key=KEY)
    series, power = np.zeros((2, 2)), np.eye(2)
    for _ in range(200):
        series, power = series + power @ np.asarray(found.noise) @ power.T, matrix @ power
    np.testing.assert_allclose(found.covariance, series, rtol=1e-12, atol=1e-14)


def test_no_covariance_about_an_unstable_point():
    found = sx.optimization.stationary_covariance(
        sx.optimization.Langevin(sx.optimization.DoubleWell(), 0.1), jnp.array([0.0])
    )
    assert np.isnan(found.covariance).all()
    assert "not stable (margin 1)" in found.cautions[0]


def test_a_state_that_is_no_fixed_point_is_told():
    found = sx.optimization.stationary_covariance(
        sx.optimization.Langevin(sx.optimization.Quadratic(1.0), 0.5), jnp.array([1.0])
    )
    # One standard deviation is sqrt(T/l), and the minimum is 1 away.
    assert float(found.displacement) == pytest.approx(2**0.5, rel=1e-12)
    assert "no fixed point: one is 1.4 standard deviations away" in found.cautions[0]


def test_stationary_covariance_refuses():
    with pytest.raises(TypeError, match=r"got a FunctionFlow, expected a random Map or an SDE"):
        sx.optimization.stationary_covariance(sx.as_flow(lambda x: -x), jnp.zeros(1))
    with pytest.raises(ValueError, match=r"key\n  got None, expected a PRNG key"):
        sx.optimization.stationary_covariance(sx.optimization.GradientDescent(NoisyQuadratic(), 0.1), jnp.zeros(1))
    with pytest.raises(ValueError, match="got 513 coordinates, expected at most 512"):
        sx.optimization.stationary_covariance(
            sx.optimization.Langevin(sx.optimization.Quadratic(1.0), 0.1), jnp.zeros(513)
        )
