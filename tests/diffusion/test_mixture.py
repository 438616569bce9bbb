"""The mixture against known values, its own gradient, and what noise does to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx


def pair():
    return sx.GaussianMixture(jnp.array([0.3, 0.7]), jnp.array([[-2.0], [1.0]]), jnp.array([0.5, 1.0]))


def plane():
    means = jnp.array([[-2.0, 0.5], [1.0, 1.0], [0.0, -2.0]])
    return sx.GaussianMixture(jnp.array([1.0, 2.0, 1.0]), means, jnp.array([0.5, 1.0, 0.3]))


def test_known_values():
    x = jnp.array([[-2.0], [0.0], [1.0], [3.0]])
    density = [-1.4168869295, -1.7751395172, -1.2756134641, -3.2756134771]
    score = [0.0383840121, 0.9957353709, -1.5665e-7, -2.0]
    np.testing.assert_allclose(pair().log_density(x), density, atol=5e-11)  # as printed
    np.testing.assert_allclose(pair().score(x)[:, 0], score, atol=1e-9)  # the last, -2.0, is rounded in its source


def test_score_is_the_gradient_of_the_log_density():
    mixture = plane()
    x = jax.random.normal(jax.random.key(0), (3, 4, 2)) * 3
    expected = jax.vmap(jax.vmap(jax.grad(mixture.log_density)))(x)
    np.testing.assert_allclose(mixture.score(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("process", [sx.VP(), sx.VE(0.1, 5.0), sx.Brownian()])
def test_noised_density_is_the_convolution(process):
    # p_t(y) = int p(x) N(y; alpha x, sigma^2) dx, by the trapezoidal rule: spectrally exact for such integrands.
    alpha, sigma = process.marginal(0.3)
    x, y = jnp.linspace(-12.0, 12.0, 4001), jnp.linspace(-3.0, 3.0, 7)
    kernel = jnp.exp(-0.5 * ((y[:, None] - alpha * x[None]) / sigma) ** 2) / (sigma * jnp.sqrt(2 * jnp.pi))
    direct = kernel @ jnp.exp(pair().log_density(x[:, None])) * (x[1] - x[0])
    found = jnp.exp(pair().noised(process, 0.3).log_density(y[:, None]))
    np.testing.assert_allclose(found, direct, rtol=1e-10)


def test_score_obeys_the_fokker_planck_equation():
    # d/dt log p = -div(f) - f . s + g^2/2 (div s + |s|^2), in one dimension at one point.
    process, mixture, t, x = sx.VP(), pair(), 0.2, jnp.array([0.4])
    score = mixture.score_under(process)
    rate = jax.grad(lambda s: mixture.noised(process, s).log_density(x))(t)
    f, g = process.coefficients(t)
    s, slope = score(t, x)[0], jax.grad(lambda y: score(t, y)[0])(x)[0]
    np.testing.assert_allclose(rate, -f - f * x[0] * s + 0.5 * g**2 * (slope + s**2), rtol=1e-10)


def test_samples_have_the_moments():
    count, mixture = 40_000, plane()
    x = np.asarray(mixture.sample(jax.random.key(5), count))
    mean = np.asarray(mixture.weights @ mixture.means)
    second = mixture.weights @ (mixture.means**2 + mixture.scales[:, None] ** 2)
    spread = np.sqrt(np.asarray(second) - mean**2)
    assert np.all(np.abs(x.mean(axis=0) - mean) < 4 * spread / count**0.5)
    # (1/N) sum -log p(x) is the entropy; E score = 0 by Stokes. Four standard errors each.
    scores = np.asarray(mixture.score(jnp.asarray(x)))
    assert np.all(np.abs(scores.mean(axis=0)) < 4 * scores.std(axis=0) / count**0.5)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(K,\), \(K, d\) and \(K,\)"):
        sx.GaussianMixture(jnp.ones(2), jnp.ones(2), jnp.ones(2))
