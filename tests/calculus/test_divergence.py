"""The covariance D = g g^T of general noise and its divergence, as reversal and probability flow take them."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

import separatrix as sx

X, T, HORIZON = jnp.array([0.7, -0.4]), 0.6, 2.0


def drift(t, x):
    return jnp.stack([x[1] - t * x[0] ** 2, jnp.sin(x[0])])


def columns(t, x):
    """Three noises into two components; neither square nor symmetric."""
    return jnp.stack([jnp.stack([x[1], 0.5 * x[0] * t, jnp.cos(x[0])]), jnp.stack([x[0] ** 2, -x[1], 0.3 * x[1] ** 3])])


def score(t, x):
    return jnp.stack([-x[0] + t, x[0] * x[1]])


def covariance(t, x):
    g = columns(t, x)
    return g @ g.T


def divergence(t, x):
    """sum_j d D_ij / d x_j."""
    return jnp.einsum("ijj->i", jax.jacrev(covariance, argnums=1)(t, x))


GENERAL = sx.as_sde(drift, lambda t, x: lx.MatrixLinearOperator(columns(t, x)))


def test_reverse_of_general_noise():
    back, t = sx.reverse(GENERAL, score=score, horizon=HORIZON), HORIZON - T
    expected = -drift(t, X) + divergence(t, X) + covariance(t, X) @ score(t, X)
    np.testing.assert_allclose(back.drift(T, X), expected, rtol=1e-12)
    np.testing.assert_allclose(back.diffusion(T, X).as_matrix(), columns(t, X), rtol=1e-14)


def test_probability_flow_of_general_noise():
    expected = drift(T, X) - 0.5 * divergence(T, X) - 0.5 * covariance(T, X) @ score(T, X)
    np.testing.assert_allclose(sx.probability_flow(GENERAL, score).velocity(T, X), expected, rtol=1e-12)


def test_divergence_of_diagonal_noise_that_looks_across():
    """D = diag(g_1^2, g_2^2): only d g_i/d x_i enters."""
    across = sx.as_sde(drift, lambda x: jnp.stack([x[0] * x[1], x[0] + x[1] ** 2]))
    g, slopes = np.array([X[0] * X[1], X[0] + X[1] ** 2]), np.array([X[1], 2 * X[1]])
    expected = drift(T, X) - g * slopes - 0.5 * g**2 * score(T, X)
    np.testing.assert_allclose(sx.probability_flow(across, score).velocity(T, X), expected, rtol=1e-12)
