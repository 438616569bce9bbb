"""What the games chapter measures, against closed forms and the dense Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.tour.measure.distances import frechet_distance, principal_features, two_sample_accuracy
from separatrix.tour.measure.games import modes_reached, ring


def whitened(rng, count, size):
    """A sample of mean 0 and covariance 1 exactly."""
    sample = rng.standard_normal((count, size))
    sample -= sample.mean(axis=0)
    return np.linalg.solve(np.linalg.cholesky(np.cov(sample, rowvar=False)), sample.T).T


def test_frechet_distance_of_gaussians_with_known_moments():
    """Commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2; and a full one by the symmetric root."""
    rng = np.random.default_rng(0)
    white, means, spreads = whitened(rng, 500, 3), np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 3.0])
    expected = np.sum(means**2) + np.sum((spreads - 1) ** 2)
    np.testing.assert_allclose(frechet_distance(means + spreads * white, white), expected, rtol=1e-8)
    mixed, turned = rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    first, second = mixed @ mixed.T, turned @ turned.T
    values = np.linalg.eigvals(first @ second)
    trace = np.trace(first + second) - 2 * np.sum(np.sqrt(values.real))
    np.testing.assert_allclose(frechet_distance(white @ mixed.T, white @ turned.T), trace, rtol=1e-6)


def test_principal_features_are_centred_and_uncorrelated_with_falling_spread():
    data = np.random.default_rng(1).standard_normal((400, 6)) @ np.diag([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) + 7.0
    features = principal_features(data, 4)(data)
    covariance = np.cov(features, rowvar=False)
    top = np.linalg.eigvalsh(np.cov(data, rowvar=False))[::-1][:4]
    np.testing.assert_allclose(covariance, np.diag(top), atol=1e-10)
    np.testing.assert_allclose(features.mean(axis=0), 0.0, atol=1e-10)


def test_two_sample_accuracy_is_a_half_for_one_law_and_one_for_two():
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((600, 4)), rng.standard_normal((400, 4))
    share, error = two_sample_accuracy(first, second)
    assert abs(share - 0.5) < 4 * error
    assert two_sample_accuracy(first, second + 20.0)[0] == 1.0


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_share_of_the_dirac_gan(gamma):
    """J = ((0, -1/2), (1/2, -gamma)): |A|^2 = 1/2, |S|^2 = gamma^2."""
    flow, point = sx.field(sx.DiracGAN(gamma)), (jnp.asarray(0.0), jnp.asarray(0.0))
    found = sx.field_split(flow, point, key=jax.random.key(0), probes=20_000)
    # Five standard errors, and rounding where every probe says the same.
    assert abs(found.index - 0.5 / (0.5 + gamma**2)) < 5 * found.index_error + 1e-12


def test_share_of_a_gradient_is_zero():
    flow = sx.limit(sx.GradientDescent(sx.Himmelblau(), 0.1))
    assert sx.field_split(flow, jnp.array([1.0, -2.0]), key=jax.random.key(0), probes=64).index < 1e-28


def test_modes_of_a_ring_are_counted():
    points = ring(jax.random.key(0), 20_000, spread=0.1)
    count, near = modes_reached(points)
    assert int(count) == 8
    # Of a plane Gaussian 1 - exp(-k^2/2) lies within k = 3 spreads; five standard errors.
    inside = 1 - np.exp(-4.5)
    np.testing.assert_allclose(near, inside, atol=5 * np.sqrt(inside * (1 - inside) / 20_000))
    half = points[points[:, 1] > 1.0]
    assert int(modes_reached(half)[0]) == 3
    assert [int(v) for v in modes_reached(jnp.zeros((10, 2)))] == [0, 0]
