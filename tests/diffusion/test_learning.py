"""The loss against closed forms, the schedule against its limit, and both networks on data that are one point."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

import separatrix as sx

SPREAD = 0.5


def best(t):
    """On data N(0, s^2): E[noise | x] = c x with c = sigma/(alpha^2 s^2 + sigma^2)."""
    alpha, sigma = sx.diffusion.VP().marginal(t)
    return sigma / (alpha**2 * SPREAD**2 + sigma**2)


@pytest.mark.parametrize("c", [best, lambda t: 0.3 + 0.0 * t, lambda t: -best(t)], ids=["best", "constant", "sign"])
def test_loss_of_a_linear_guess(c):
    """E_t (1 - 2 c sigma + c^2 (alpha^2 s^2 + sigma^2)), by the trapezoidal rule."""
    loss = sx.diffusion.DenoisingScoreMatching(sx.diffusion.VP())

    def once(key):
        data, noise = jax.random.split(key)
        return loss(lambda t, x: c(t) * x, SPREAD * jax.random.normal(data, (400, 1)), key=noise)

    values = np.asarray(jax.vmap(once)(jax.random.split(jax.random.key(1), 200)))
    t = jnp.linspace(1e-3, 1.0, 20_001)
    alpha, sigma = sx.diffusion.VP().marginal(t)
    expected = jnp.mean(1 - 2 * c(t) * sigma + c(t) ** 2 * (alpha**2 * SPREAD**2 + sigma**2))
    assert abs(values.mean() - expected) < 4 * values.std() / len(values) ** 0.5


def test_labels_are_dropped_as_often_as_was_said():
    class Marked(eqx.Module):
        classes: int = 10

        def __call__(self, t, x, label):
            return jnp.where(label == self.classes, 1e3, 0.0) + x

    batch, key = (jnp.zeros((20_000, 1)), jnp.arange(20_000) % 10), jax.random.key(0)
    some, none = (
        sx.diffusion.DenoisingScoreMatching(sx.diffusion.VP(), drop=drop)(Marked(), batch, key=key)
        for drop in (0.25, 0.0)
    )
    # Four standard errors of a share, and the cross term of the marks with the noise, below 1e-3 of them.
    assert abs(float(some - none) / 1e6 - 0.25) < 4 * (0.25 * 0.75 / 20_000) ** 0.5 + 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vector", "image"])
def test_networks_learn_a_point(kind):
    # Data that are one point x0: the noise is (x - alpha x0)/sigma exactly, so the best loss is 0; no guess at all has 1.
    key = jax.random.key(0)
    network, data = {
        "vector": (sx.diffusion.ScoreMLP(2, width=32, key=key), jnp.ones((64, 2), jnp.float32)),
        "image": (sx.diffusion.SmallUNet((4, 4), 8, key=key), jnp.ones((64, 4, 4), jnp.float32)),
    }[kind]
    loss = sx.diffusion.DenoisingScoreMatching(sx.diffusion.VP(), earliest=0.1)
    found = sx.fit(loss, optax.adam(3e-3), data, initial=network, steps=300, batch_size=64, key=key, every=300)
    assert float(found.losses[-1]) < 0.1 < 0.5 < float(found.losses[0])


def test_the_schedule_of_ddpm_tends_to_vp():
    # beta from 0.1/N to 20/N: the error of the product at t = 1/2 is O(1/N).
    counts = (1000, 2000, 4000)
    errors = [
        float(
            jnp.abs(
                jnp.sqrt(sx.diffusion.alpha_bar(n, 0.1 / n, 20.0 / n)[n // 2 - 1]) - sx.diffusion.VP().marginal(0.5)[0]
            )
        )
        for n in counts
    ]
    np.testing.assert_allclose(-np.polyfit(np.log(counts), np.log(errors), 1)[0], 1.0, atol=0.15)


def test_noised_density_is_the_convolution():
    # p_t(y) = int p(x) N(y; alpha x, sigma^2) dx, by the trapezoidal rule, spectrally exact here.
    mixture, process = sx.diffusion.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0]), sx.diffusion.VE(0.1, 5.0)
    alpha, sigma = process.marginal(0.3)
    x, y = jnp.linspace(-12.0, 12.0, 4001), jnp.linspace(-3.0, 3.0, 7)
    kernel = norm(loc=np.asarray(alpha * x)[None], scale=float(sigma)).pdf(np.asarray(y)[:, None])
    direct = kernel @ np.exp(mixture.log_density(x[:, None])) * (x[1] - x[0])
    np.testing.assert_allclose(jnp.exp(mixture.noised(process, 0.3).log_density(y[:, None])), direct, rtol=1e-10)


@pytest.mark.parametrize(
    ("process", "width"),
    [(sx.diffusion.VP(), 1.0), (sx.diffusion.VE(0.1, 20.0), 20.0), (sx.diffusion.Brownian(4.0), 2.0)],
)
def test_priors(process, width):
    x = jnp.linspace(-3.0, 4.0, 6).reshape(3, 2)
    np.testing.assert_allclose(process.prior_log_density(x), norm(scale=width).logpdf(np.asarray(x)).sum(), rtol=1e-12)
    drawn = process.prior(jax.random.key(1), (50_000,))
    assert abs(float(drawn.std()) / width - 1) < 4 / (2 * 50_000) ** 0.5  # four standard errors
