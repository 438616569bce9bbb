"""Likelihood by the flow beside densities in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx


def plane():
    means = jnp.array([[-2.0, 0.5], [1.0, 1.0], [0.0, -2.0]])
    return sx.GaussianMixture(jnp.array([1.0, 2.0, 1.0]), means, jnp.array([0.5, 1.0, 0.3]))


def test_density_of_a_mixture():
    process, mixture = sx.VP(), plane()
    flow = sx.probability_flow(process, mixture.score_under(process))
    x = mixture.sample(jax.random.key(0), 6)
    end = mixture.noised(process, 1.0)
    found = sx.log_likelihood(flow, x, (0.0, 1.0), end.log_density, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found, mixture.log_density(x), atol=1e-6)  # the solver's error over some 100 steps


def test_a_linear_flow_that_is_not_symmetric():
    # dx/dt = A x: log p0(x) = log N(e^A x; 0, I) + tr A; a state of shape (2, 1), so that axes are flattened.
    matrix = jnp.array([[0.3, 1.0], [-0.5, 0.4]])
    flow = sx.as_flow(lambda x: jnp.einsum("ij,bjk->bik", matrix, x))
    x = jax.random.normal(jax.random.key(1), (4, 2, 1))
    end = jnp.einsum("ij,bjk->bik", jax.scipy.linalg.expm(matrix), x)
    truth = sx.VP().prior_log_density(end) + jnp.trace(matrix)
    found = sx.log_likelihood(flow, x, (0.0, 1.0), sx.VP().prior_log_density, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found, truth, atol=1e-8)


def test_one_random_direction_is_right_on_average():
    # For signs z the estimate of tr A is tr A + z_1 z_2 (A_12 + A_21): two values, each with probability one half.
    matrix = jnp.array([[0.3, 1.0], [-0.5, 0.4]])
    flow = sx.as_flow(lambda x: x @ matrix.T)
    x = jnp.zeros((4000, 2))
    prior = sx.VP().prior_log_density
    found = sx.log_likelihood(
        flow, x, (0.0, 1.0), prior, divergence="hutchinson", key=jax.random.key(2), rtol=1e-10, atol=1e-12
    )
    offsets = np.asarray(found - prior(x)) - 0.7
    np.testing.assert_allclose(np.abs(offsets), 0.5, atol=1e-9)
    assert abs(offsets.mean()) < 4 * 0.5 / 4000**0.5


def test_choices_are_told():
    with pytest.raises(ValueError, match='"exact" or "hutchinson"'):
        sx.log_likelihood(sx.as_flow(lambda x: x), jnp.ones((1, 1)), (0.0, 1.0), jnp.sum, divergence="trace")
    with pytest.raises(ValueError, match="key=None"):
        sx.log_likelihood(sx.as_flow(lambda x: x), jnp.ones((1, 1)), (0.0, 1.0), jnp.sum, divergence="hutchinson")
