"""Likelihoods against known densities, probes against the exact trace, bits against entropies, dimensions of a plane."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import separatrix as sx

D = sx.diffusion
KEY = jax.random.key(5)
VP = D.VP()
LAW = D.GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.0, 0.0]], [0.4, 0.7])
PREDICTION = D.Prediction(VP, LAW.score_under(VP).clean, "clean")


def test_densities_of_a_mixture_and_the_errors_of_probes():
    # At the horizon of this process 2e-9 of the data's variance is left: the prior is the law.
    process = D.VP(0.1, 40.0)
    prediction = D.Prediction(process, LAW.score_under(process).clean, "clean")
    points = LAW.sample(KEY, 100)
    schedule = D.UniformLogSNR(1e-3)
    exact = D.log_density(prediction, points, steps=300, schedule=schedule)
    np.testing.assert_allclose(exact.values, LAW.log_density(points), atol=2e-3)
    assert (exact.standard_errors == 0).all()
    probed = D.log_density(prediction, points, probes=8, key=KEY, steps=300, schedule=schedule)
    gaps = np.abs(probed.values - exact.values) / probed.standard_errors
    # Student's t of seven degrees of freedom is below 2.365 in 95 of 100. The count is binomial, of mean 95 and standard
    # deviation 2.2: below 89 it is once in 200 seeds, and 100 would be bars too wide, once in 170.
    assert 89 <= np.sum(gaps < 2.365) < 100


@pytest.mark.slow
def test_a_learned_density_of_eight_normal_laws_is_within_a_twentieth_of_a_nat_of_the_entropy():
    """The mean of log p over fresh points is minus the entropy less the divergence, which is not negative."""
    angles = 2 * jnp.pi * jnp.arange(8.0) / 8
    centres = 2 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    ring = D.GaussianMixture(jnp.full(8, 1 / 8), centres, jnp.full(8, 0.25))
    model = D.DiffusionModel.fit(ring.sample(KEY, 20_000), key=KEY, steps=4000, batch_size=512, width=96)
    points = ring.sample(jax.random.key(6), 2000)
    found = np.asarray(model.log_density(np.asarray(points, np.float32), steps=100).values)
    gaps = np.asarray(ring.log_density(points)) - found
    assert -4 * gaps.std() / len(gaps) ** 0.5 < gaps.mean() < 0.05


def test_signs_vary_less_than_normal_probes():
    """On a field with Jacobian diag(a, b) signs are exact; normal probes have the variance 2 (a^2 + b^2)."""
    law = D.GaussianMixture([1.0], [[0.0, 0.0]], [0.5])
    prediction = D.Prediction(VP, law.score_under(VP).clean, "clean")
    x = jnp.array([[0.3, -0.2]])
    signs, normal = (
        D.log_density(prediction, x, probes=4, probe=p, key=KEY, steps=50) for p in ("rademacher", "gaussian")
    )
    assert float(signs.standard_errors[0]) < 1e-12 < 0.01 < float(normal.standard_errors[0])


def test_bits_of_a_rounded_normal_law():
    """k = round(N(127.5, 10^2)) + u has variance 100 + 1/6; the best normal density costs 5.3702249 bits."""
    spread = (100 + 1 / 6) ** 0.5 / 256
    unit = D.Prediction(VP, lambda t, x: -x, "score")
    levels = jnp.round(127.5 + 10 * jax.random.normal(KEY, (4000, 1))).astype(jnp.int32)
    found = D.bits_per_dimension(
        unit, levels, key=jax.random.key(1), center=0.5, spread=spread, batch_size=4000, steps=20
    )
    assert abs(found.mean - 5.3702249) < 4 * found.standard_error and found.standard_error < 0.02
    # log p of each, in closed form: N(127.5 + 1/2, 100 + 1/6) at k + u, here over u by its mean.
    assert float(jnp.min(found.each)) > np.log2(256 * spread * np.sqrt(2 * np.pi)) - 1e-3


def test_entropy_of_a_rounded_normal_law_and_the_best_normal_density():
    """N(127.5, 10^2) in 256 levels; the second number again by the flow's own likelihood of k + u, without a draw."""
    shares = np.diff(norm.cdf((np.arange(257) - 128) / 10))
    found = D.level_bits(shares)
    assert float(found.entropy) == pytest.approx(5.3696246, abs=6e-8)
    assert float(found.normal) == pytest.approx(5.3702249, abs=6e-8)
    # E over k by the shares, over u by Gauss-Legendre: log p is a quadratic in u, so two nodes are exact.
    nodes, _ = np.polynomial.legendre.leggauss(2)
    levels = np.arange(60, 197)  # beyond +-6.7 deviations there is 2e-11 of the law
    spread = (100 + 1 / 6) ** 0.5 / 256
    points = ((levels[:, None] + (nodes + 1) / 2) / 256 - 0.5).reshape(-1, 1) / spread
    unit = D.Prediction(VP, lambda t, x: -x, "score")
    logs = np.asarray(D.log_density(unit, jnp.asarray(points), steps=20).values).reshape(-1, 2).mean(axis=1)
    bits = np.log2(256 * spread) - logs @ shares[levels] / np.log(2)
    assert bits == pytest.approx(5.3702249, abs=1e-7)
    assert float(D.level_bits(np.full(8, 1 / 8)).entropy) == 3.0 and float(D.level_bits([0.0, 1.0]).entropy) == 0.0
    for wrong, words in (([0.5, 0.6], "a sum of 1.1"), ([[1.0]], r"shape \(1, 1\)"), ([1.5, -0.5], "got -0.5")):
        with pytest.raises(ValueError, match=words):
            D.level_bits(wrong)


def plane(t, x):
    """Three dimensions of N(0, 1) in ten."""
    return jnp.where(jnp.arange(10) < 3, x / (1 + t**2), 0.0)


def test_dimension_of_a_plane():
    prediction = D.Prediction(D.EDM(), plane, "clean")
    clean = jnp.zeros((2, 10))
    np.testing.assert_allclose(D.local_dimension(prediction, clean, 0.1), 2.9702970, atol=6e-8)
    probed = D.local_dimension(prediction, clean, 0.1, probes=3, key=KEY)
    np.testing.assert_allclose(probed, 2.9702970, atol=6e-8)  # the Jacobian is diagonal: signs are exact
    # The trap: at noised points the mean is 10, whatever the data.
    drawn = jnp.where(jnp.arange(10) < 3, jax.random.normal(KEY, (20_000, 10)), 0.0)
    noised = drawn + 0.1 * jax.random.normal(jax.random.key(6), drawn.shape)
    values = np.asarray(jax.jit(lambda x: D.local_dimension(prediction, x, 0.1))(noised))
    assert abs(values.mean() - 10) < 4 * values.std() / 20_000**0.5


def test_densities_out_of_range_are_refused_in_words():
    x = jnp.zeros((1, 2))
    for call, words in (
        (lambda: D.log_density(PREDICTION, x, probes=2), "key\n  got None"),
        (lambda: D.log_density(PREDICTION, x, probes=0, key=KEY), "probes\n  got 0"),
        (lambda: D.log_density(PREDICTION, x, probe="signs"), "expected one of rademacher"),
        (lambda: D.bits_per_dimension(PREDICTION, jnp.array([[256, 0]]), key=KEY), "256 at index"),
        (lambda: D.local_dimension(PREDICTION, x, 0.0), "sigma\n  got 0.0"),
    ):
        with pytest.raises(ValueError, match=f"(?s){words}"):
            call()
