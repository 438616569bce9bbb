"""Marginals against the moment equations, the processes themselves, and the literature's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx

PROCESSES = {
    "vp": sx.VP(),
    "vp-constant": sx.VP(2.0, 2.0),
    "ve": sx.VE(0.05, 20.0),
    "brownian": sx.Brownian(2.0, 0.5),
}
EACH = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
TIMES = (0.05, 0.3, 0.9)


@EACH
@pytest.mark.parametrize("t", TIMES)
def test_marginal_obeys_the_moment_equations(process, t):
    # alpha' = f alpha and (sigma^2)' = 2 f sigma^2 + g^2, with f and g read off the SDE itself.
    one = jnp.ones(1)
    f, g = process.drift(t, one)[0], process.diffusion(t, one).mv(one)[0]
    (alpha, sigma), (slope, growth) = jax.jvp(
        lambda s: (process.marginal(s)[0], process.marginal(s)[1] ** 2), (jnp.asarray(t),), (jnp.asarray(1.0),)
    )
    np.testing.assert_allclose(slope, f * alpha, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(growth, 2 * f * sigma + g**2, rtol=1e-12)


@EACH
def test_marginal_starts_at_the_data_and_its_ratio_is_inverted(process):
    assert [float(c) for c in process.marginal(0.0)] == [1.0, 0.0]
    t = jnp.array([0.0, 1e-6, 0.01, 0.4, 1.0])
    alpha, sigma = process.marginal(t)
    np.testing.assert_allclose(process.time_at(sigma / alpha), t, rtol=1e-9, atol=1e-15)


def test_vp_at_one_half():
    alpha, sigma = sx.VP().marginal(0.5)
    np.testing.assert_allclose([alpha, sigma**2], [0.281182881, 0.920936188], atol=5e-10)  # as printed


def test_ddpm_schedule():
    found = np.asarray(sx.ddpm_schedule())[[0, 99, 499, 999]]
    np.testing.assert_allclose(found, [0.9999, 0.897018146, 0.078587243, 4.03582977e-5], rtol=3e-9)  # as printed


def test_ddpm_schedule_tends_to_vp():
    # The two betas run from N first to N last; the error of the product is O(1/N): it halves as N doubles.
    errors = [
        float(jnp.abs(jnp.sqrt(sx.ddpm_schedule(n, 0.1 / n, 20.0 / n)[n // 2 - 1]) - sx.VP().marginal(0.5)[0]))
        for n in (1000, 2000, 4000)
    ]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 1.0, atol=0.15)


@EACH
def test_paths_have_the_marginal(process):
    count, t = 20_000, 0.5
    start = jnp.full((count,), 1.5)
    final = sx.evolve(process, start, times=(0.0, t), steps=200, key=jax.random.key(3), save="last").final
    alpha, sigma = (float(c) for c in process.marginal(t))
    # Four standard errors, and the weak error of Euler-Maruyama with 200 steps: below 1 % of the rate, rate h/2.
    assert abs(float(final.mean()) - 1.5 * alpha) < 4 * sigma / count**0.5 + 0.02
    assert abs(float(final.var()) / sigma**2 - 1) < 4 * (2 / count) ** 0.5 + 0.03


@EACH
def test_perturbed_batch_is_the_mean_plus_its_own_noise(process):
    x, t = jnp.arange(24.0).reshape(4, 3, 2), jnp.array([0.1, 0.4, 0.7, 1.0])
    noised, noise = process.perturb(jax.random.key(0), t, x)
    for number in range(4):
        alpha, sigma = process.marginal(t[number])
        np.testing.assert_allclose(noised[number], alpha * x[number] + sigma * noise[number], rtol=1e-14)
    assert noise.std() > 0.5


def test_priors():
    from scipy.stats import norm

    x = jnp.linspace(-3.0, 4.0, 12).reshape(3, 2, 2)
    truths = {"vp": 1.0, "vp-constant": 1.0, "ve": 20.0, "brownian": 2.5**0.5}
    for name, width in truths.items():
        density = norm(scale=width).logpdf(np.asarray(x)).sum(axis=(1, 2))
        np.testing.assert_allclose(PROCESSES[name].prior_log_density(x), density, rtol=1e-12)
        drawn = PROCESSES[name].prior(jax.random.key(1), (50_000,))
        assert abs(float(drawn.std()) / width - 1) < 4 / (2 * 50_000) ** 0.5  # four standard errors


def test_float32_stays_float32():
    for process in PROCESSES.values():
        x = jnp.ones((5, 2), jnp.float32)
        noised, noise = process.perturb(jax.random.key(0), jnp.full(5, 0.5, jnp.float32), x)
        dtypes = {v.dtype for v in (noised, noise, process.drift(0.5, x), process.prior_log_density(x))}
        assert dtypes == {jnp.dtype("float32")}


@pytest.mark.parametrize(("build", "low", "high"), [(sx.VP, 20.0, 0.1), (sx.VE, 1.0, 1.0), (sx.VE, -1.0, 1.0)])
def test_scales_out_of_order_are_refused(build, low, high):
    with pytest.raises(ValueError, match="smaller one first"):
        build(low, high)
