"""Samplers on laws whose score is known: closed forms, DDIM written out, and orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

PROCESSES = {"vp": sx.VP(), "ve": sx.VE(0.05, 20.0), "brownian": sx.Brownian(2.0)}
EACH = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def normal(scale):
    return sx.GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.array([scale]))


def pair():
    return sx.GaussianMixture(jnp.array([0.3, 0.7]), jnp.array([[-2.0], [1.0]]), jnp.array([0.5, 1.0]))


def test_brownian_flow_back_in_closed_form():
    # y(0) = y(T) s/sqrt(s^2 + T)
    s, horizon = 0.7, 4.0
    process = sx.Brownian(horizon)
    flow = sx.probability_flow(process, normal(s).score_under(process))
    y = jnp.array([[2.0], [-1.0]])
    back = sx.evolve(sx.reverse(flow, horizon=horizon), y, times=(0.0, horizon), rtol=1e-10, atol=1e-12).final
    np.testing.assert_allclose(back, y * s / (s**2 + horizon) ** 0.5, rtol=1e-8)  # tolerance per step, some 50 steps


@EACH
def test_denoising_flow_is_the_probability_flow_in_another_clock(process):
    # d(x/alpha)/dt = (v - f x)/alpha = eps ds/dt, at a point, for the mixture's exact score.
    score, x, t = pair().score_under(process), jnp.array([[0.3], [-1.7]]), 0.37
    flow = sx.DenoisingFlow(process, sx.noise_of(process, score))
    alpha = process.marginal(t)[0]
    direct = (sx.probability_flow(process, score).velocity(t, x) - process.drift(t, x)) / alpha
    rate = jax.grad(lambda time: flow.clock(time))(t)
    np.testing.assert_allclose(rate * flow.velocity(flow.clock(t), x / alpha), direct, rtol=1e-9)


@EACH
def test_euler_in_that_clock_is_ddim(process):
    # Song, Meng & Ermon (2021), equation 12 with eta = 0: predict x0, then noise it again with the same noise.
    noise = sx.noise_of(process, pair().score_under(process))
    key = jax.random.key(0)
    horizon = float(process.horizon)
    x = process.prior(jax.random.split(key)[0], (5, 1))
    times = np.linspace(horizon, 1e-3, 11)
    for now, then in zip(times[:-1], times[1:], strict=True):
        (alpha, sigma), (alpha2, sigma2) = process.marginal(now), process.marginal(then)
        eps = noise(now, x)
        x0 = (x - sigma * eps) / alpha
        x = alpha2 * x0 + sigma2 * eps
    found = sx.sample(process, pair().score_under(process), (5, 1), key=key, method=sx.Euler(), steps=10)
    np.testing.assert_allclose(found, x, rtol=1e-9)  # the clock is inverted once a step


def test_ddim_on_standard_normal_data_in_closed_form():
    # eps = sigma x: with alpha = cos(a), sigma = sin(a), each step multiplies by cos(a' - a).
    process, key = sx.VP(), jax.random.key(1)
    found = sx.sample(process, lambda t, x: -x, (3, 1), key=key, method=sx.Euler(), steps=20)
    alpha, sigma = process.marginal(jnp.linspace(1.0, 1e-3, 21))
    factor = jnp.prod(jnp.cos(jnp.diff(jnp.arctan2(sigma, alpha))))
    np.testing.assert_allclose(found, factor * process.prior(jax.random.split(key)[0], (3, 1)), rtol=1e-10)


@pytest.mark.parametrize(("method", "order"), [(sx.Euler(), 1), (sx.Heun(), 2)], ids=["ddim", "heun"])
@pytest.mark.parametrize("law", [normal(0.5), pair()], ids=["normal", "mixture"])
def test_orders_with_the_exact_score(method, order, law):
    process, key = sx.VP(), jax.random.key(2)
    score = law.score_under(process)

    def run(method, steps):
        return sx.sample(process, score, (8, 1), key=key, method=method, steps=steps, earliest=0.05)

    truth = run(sx.RK4(), 4000)
    counts = np.array([200, 400, 800])
    errors = [float(jnp.abs(run(method, int(n)) - truth).max()) for n in counts]
    assert abs(-np.polyfit(np.log(counts), np.log(errors), 1)[0] - order) < 0.15


def variance(steps, start):
    """The variance of reverse Euler-Maruyama, by its own coefficients: v' = a^2 v + g^2 h, as the score is linear."""
    process = sx.VP()
    horizon, earliest = 1.0, 1e-3
    backwards = sx.reverse(process, score=normal(0.5).score_under(process), horizon=horizon)
    h = (horizon - earliest) / steps
    step = sx.discretize(backwards, sx.EulerMaruyama(), h)

    def advance(n, v):
        one = jnp.ones(1)
        a, g = step.step(n, one)[0], backwards.diffusion(n * h, one).mv(one)[0]
        return a**2 * v + g**2 * h

    return float(sx.evolve(sx.as_map(advance), jnp.asarray(start), steps=steps, save="last").final)


def test_variance_of_the_reverse_sde():
    found = [variance(n, 1.0) for n in (100, 200, 400)]
    np.testing.assert_allclose(found, [0.253904, 0.251931, 0.250991], atol=1e-6)  # as printed
    alpha, sigma = sx.VP().marginal(1e-3)
    exact = float(alpha**2 * 0.25 + sigma**2)
    np.testing.assert_allclose(exact, 0.2500824580, atol=5e-11)
    order = -np.polyfit(np.log([100, 200, 400]), np.log(np.subtract(found, exact)), 1)[0]
    assert abs(order - 1) < 0.15


def test_samples_of_the_reverse_sde_have_that_variance():
    count = 40_000
    score = normal(0.5).score_under(sx.VP())
    x = sx.sample(sx.VP(), score, (count, 1), key=jax.random.key(3), method=sx.EulerMaruyama(), steps=100)
    assert abs(float(x.var()) / 0.253904 - 1) < 4 * (2 / count) ** 0.5  # four standard errors
    assert abs(float(x.mean())) < 4 * 0.504 / count**0.5


@pytest.mark.parametrize("method", [sx.EulerMaruyama(), sx.Heun()], ids=["sde", "ode"])
def test_samples_of_a_mixture_follow_its_distribution_function(method):
    from scipy.stats import norm

    count = 5000
    x = sx.sample(sx.VP(), pair().score_under(sx.VP()), (count, 1), key=jax.random.key(4), method=method, steps=300)
    points = np.linspace(-3.0, 3.0, 13)
    found = np.mean(np.asarray(x) < points[None], axis=0)
    truth = 0.3 * norm(-2, 0.5).cdf(points) + 0.7 * norm(1, 1).cdf(points)
    # Kolmogorov's distance is above 1.95/sqrt(N) once in a thousand; the steps' own bias is below 0.005.
    assert np.abs(found - truth).max() < 1.95 / count**0.5 + 0.005


def test_denoised_is_the_posterior_mean():
    # E[x0 | x] = int x0 p(x0) N(x; alpha x0, sigma^2) dx0 / p_t(x), by the trapezoidal rule.
    process, t, x = sx.VP(), 0.3, 0.8
    alpha, sigma = process.marginal(t)
    grid = jnp.linspace(-12.0, 12.0, 4001)
    mass = jnp.exp(pair().log_density(grid[:, None]) - 0.5 * ((x - alpha * grid) / sigma) ** 2)
    found = sx.denoised(process, pair().score_under(process), t, jnp.array([[x]]))
    np.testing.assert_allclose(found, jnp.sum(grid * mass) / jnp.sum(mass), rtol=1e-10)


def test_what_cannot_sample_is_refused():
    with pytest.raises(ValueError, match="at least two times"):
        sx.on_grid(sx.as_flow(lambda x: x), sx.Euler(), jnp.ones(1))
