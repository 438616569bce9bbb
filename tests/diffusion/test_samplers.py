"""Samplers by step: DDIM written out and in closed form, whole distributions, the mean of what is behind the noise."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import separatrix as sx

PAIR = sx.diffusion.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [0.5, 1.0])
PROCESSES = {"vp": sx.diffusion.VP(), "ve": sx.diffusion.VE(0.05, 20.0), "brownian": sx.diffusion.Brownian(2.0)}
EACH = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def ddim(process, score, x, times, method=None):
    """`method` (Euler, which is DDIM) down the times, in y = x/alpha against s = sigma/alpha."""
    alphas, sigmas = process.marginal(jnp.asarray(times))
    steps = sx.on_grid(sx.diffusion.DenoisingFlow(process, score), method or sx.Euler(), sigmas / alphas)
    return alphas[-1] * sx.evolve(steps, x / alphas[0], save="last").final


@EACH
def test_euler_on_uneven_steps_is_ddim(process):
    # Song, Meng & Ermon (2021), equation 12 without noise: predict x0, then noise it again with the same noise.
    score, times = PAIR.score_under(process), np.linspace(float(process.horizon), 1e-3, 11)
    start = x = jnp.array([[0.7], [-1.9], [0.1]])
    for now, then in itertools.pairwise(times):
        (alpha, sigma), (alpha2, sigma2) = process.marginal(now), process.marginal(then)
        noise = -sigma * score(now, x)
        x = alpha2 * (x - sigma * noise) / alpha + sigma2 * noise
    np.testing.assert_allclose(ddim(process, score, start, times), x, rtol=1e-9)  # the clock is inverted at each step


def test_ddim_on_standard_normal_data_is_a_product_of_cosines():
    # noise = sigma x: with alpha = cos(a), sigma = sin(a), each step multiplies by cos(a' - a).
    process, times = sx.diffusion.VP(), jnp.linspace(1.0, 1e-3, 21)
    alpha, sigma = process.marginal(times)
    factor = jnp.prod(jnp.cos(jnp.diff(jnp.arctan2(sigma, alpha))))
    found = ddim(process, lambda t, x: -x, jnp.array([[2.0]]), times)
    np.testing.assert_allclose(found, 2.0 * factor, rtol=1e-11)


@pytest.mark.parametrize(("method", "order"), [(sx.Euler(), 1), (sx.Heun(), 2)], ids=["ddim", "heun"])
def test_orders_from_the_prior_to_the_data(method, order):
    score, start = PAIR.score_under(sx.diffusion.VP()), jnp.array([[0.7], [-1.9], [0.1]])

    def run(method, steps):
        return ddim(sx.diffusion.VP(), score, start, np.linspace(1.0, 0.05, steps + 1), method)

    truth, counts = run(sx.RK4(), 4000), np.array([200, 400, 800])
    errors = [float(jnp.abs(run(method, n) - truth).max()) for n in counts]
    np.testing.assert_allclose(-np.polyfit(np.log(counts), np.log(errors), 1)[0], order, atol=0.15)


@EACH
def test_denoising_flow_is_the_probability_flow_in_another_clock(process):
    # d(x/alpha)/dt = (v - a x)/alpha, and ds/dt times the velocity in s.
    score, x, t = PAIR.score_under(process), jnp.array([[0.3], [-1.7]]), 0.37
    alpha, sigma = process.marginal(t)
    rate = jax.grad(lambda t: process.marginal(t)[1] / process.marginal(t)[0])(t)
    direct = (sx.probability_flow(process, score).velocity(t, x) - process.drift(t, x)) / alpha
    np.testing.assert_allclose(
        rate * sx.diffusion.DenoisingFlow(process, score).velocity(sigma / alpha, x / alpha), direct, rtol=1e-9
    )


@pytest.mark.parametrize("method", [sx.EulerMaruyama(), sx.Heun()], ids=["sde", "ode"])
def test_samples_follow_the_distribution_function_of_the_mixture(method):
    count, score = 5000, PAIR.score_under(sx.diffusion.VP())
    x = sx.diffusion.sample(sx.diffusion.VP(), score, jax.random.key(4), (count, 1), steps=300, method=method).final
    points = np.linspace(-3.0, 3.0, 13)
    found = np.mean(np.asarray(x) < points[None], axis=0)
    truth = 0.3 * norm(-2, 0.5).cdf(points) + 0.7 * norm(1, 1).cdf(points)
    # Kolmogorov's distance is above 1.95/sqrt(N) once in a thousand; the bias of 300 steps is below 0.005.
    assert np.abs(found - truth).max() < 1.95 / count**0.5 + 0.005


def test_denoised_is_the_posterior_mean():
    # E[x0 | x] = int x0 p(x0) N(x; alpha x0, sigma^2) dx0 / p_t(x), by the trapezoidal rule, spectrally exact here.
    process, t, x = sx.diffusion.VP(), 0.3, 0.8
    alpha, sigma = process.marginal(t)
    grid = jnp.linspace(-12.0, 12.0, 4001)
    mass = jnp.exp(PAIR.log_density(grid[:, None]) - 0.5 * ((x - alpha * grid) / sigma) ** 2)
    found = sx.diffusion.denoised(process, PAIR.score_under(process), t, jnp.array([[x]]))[0, 0]
    np.testing.assert_allclose(found, jnp.sum(grid * mass) / jnp.sum(mass), rtol=1e-10)


def test_a_grid_needs_two_times():
    with pytest.raises(ValueError, match="at least two times"):
        sx.on_grid(sx.as_flow(lambda x: x), sx.Euler(), jnp.ones(1))
