"""Traces, densities and noise: error bars that cover, closed forms, and moments of spectra that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx


class Bowl(sx.Objective):
    """x^T A x / 2."""

    matrix: jax.Array

    def __call__(self, x, *, key=None):
        return 0.5 * x @ self.matrix @ x


SPECTRUM = np.r_[np.linspace(-0.5, 1.0, 56), 5.0, 8.0, 13.0, 21.0]
BASIS, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))
BOWL = Bowl(jnp.asarray(BASIS * SPECTRUM @ BASIS.T))
X = jnp.ones(60)
KEYS = jax.random.split(jax.random.key(7), 200)


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_error_bars_of_the_trace_cover(method):
    found = jax.vmap(lambda key: sx.diagnostics.trace(BOWL, X, key, 36, method=method))(KEYS)
    z = np.asarray((found.value - SPECTRUM.sum()) / found.standard_error)
    # Two standard errors of a mean of 12 or 36 cover 93 to 95 of 100; the mean of 200 z's is 0 within 3/sqrt(200).
    assert (np.abs(z) < 2).mean() > 0.9 and abs(z.mean()) < 0.25
    assert found.products == 36


def test_hutchinson_has_the_variance_it_should_and_hutch_plus_plus_a_smaller_one():
    # Of signs: 2 (|A|_F^2 - sum A_ii^2) for each probe.
    plain = jax.vmap(lambda key: sx.diagnostics.trace(BOWL, X, key, 36, method="hutchinson").value)(KEYS)
    variance = 2 * ((SPECTRUM**2).sum() - (np.diag(BOWL.matrix) ** 2).sum()) / 36
    # A variance from 200 is good to a tenth: three of those.
    assert np.var(plain) == pytest.approx(variance, rel=0.3)
    better = jax.vmap(lambda key: sx.diagnostics.trace(BOWL, X, key, 36).value)(KEYS)
    assert np.var(better) < 0.1 * variance


def test_a_sketch_of_the_whole_space_is_exact():
    found = sx.diagnostics.trace(lambda x: x[0] ** 2 - 3 * x[1] ** 2 + x[0] * x[1], jnp.ones(2), jax.random.key(0), 6)
    assert float(found.value) == pytest.approx(-4.0, abs=1e-12) and float(found.standard_error) == 0.0


def test_moments_of_the_density_match_and_the_errors_cover():
    found = jax.vmap(lambda key: sx.spectral_density(BOWL, X, key, 40, 12))(KEYS[:100])
    for power in (1, 2, 3):
        value, error = (np.asarray(part) for part in found.moment(power))
        z = (value - (SPECTRUM**power).mean()) / error
        assert (np.abs(z) < 2).mean() >= 0.9, power
    # Gauss quadrature: each probe's own moments are exact up to 2m - 1 = 23.
    key = KEYS[0]
    one = sx.spectral_density(BOWL, X, key, 1, 4)
    z = jax.random.normal(key, (1, 60))[0]
    z = np.asarray(z / jnp.linalg.norm(z))
    for power in range(8):
        exact = z @ np.linalg.matrix_power(np.asarray(BOWL.matrix), power) @ z
        assert float(one.moment(power)[0]) == pytest.approx(exact, rel=1e-10, abs=1e-12)
    assert abs(float(one.moment(8)[0]) - z @ np.linalg.matrix_power(np.asarray(BOWL.matrix), 8) @ z) > 1.0


def test_density_of_a_uniform_spectrum_has_its_quantiles_and_integrates_to_one():
    values = np.linspace(-1.0, 3.0, 400)
    found = sx.spectral_density(lambda x: 0.5 * jnp.sum(jnp.asarray(values) * x**2), jnp.ones(400), KEYS[0], 12, 40)
    # The mean of 12 probes of 400 coordinates: 1/sqrt(2 * 4800) of the range, three times, and the nodes' distance.
    np.testing.assert_allclose(found.quantile([0.1, 0.5, 0.9]), [-0.6, 1.0, 2.6], atol=0.12)
    share, error = found.share_above(2.0)
    assert abs(float(share) - 0.25) < 3 * float(error) + 0.02
    area = np.trapezoid(found.density, found.grid)
    assert area == pytest.approx(1, abs=1e-3)
    middle = np.abs(np.asarray(found.grid) - 1) < 0.5
    assert np.mean(np.asarray(found.density)[middle]) == pytest.approx(0.25, rel=0.15)


def test_a_space_that_is_exhausted_gives_the_whole_spectrum():
    matrix = jnp.asarray(np.diag([1.0, 2.0, 2.0, 7.0, 0.0]))
    found = sx.spectral_density(Bowl(matrix), jnp.ones(5), KEYS[0], 3, 40)
    held = np.asarray(found.nodes)[np.asarray(found.weights) > 1e-10]
    np.testing.assert_allclose(np.unique(held.round(8)), [0, 1, 2, 7], atol=1e-8)
    np.testing.assert_allclose(np.sum(found.weights, axis=1), 1, rtol=1e-12)


def noisy(batch_size):
    # L = E |x - a|^2/2: the gradient x - a has covariance that of a, and mean x - E a.
    points = 0.7 + 2.0 * jax.random.normal(jax.random.key(1), (500, 6))
    return sx.sampled(
        lambda x, a: jnp.mean(jnp.sum((x[None] - a) ** 2, axis=1)) / 2, points, batch_size=batch_size
    ), points


def test_noise_scale_of_a_quadratic_in_closed_form():
    loss, points = noisy(5)
    x = jnp.full(6, 2.0)
    noise, signal = float(jnp.sum(jnp.var(points, axis=0))), float(jnp.sum((x - points.mean(axis=0)) ** 2))
    found = jax.vmap(lambda key: sx.noise_scale(loss, x, key, 40))(KEYS)
    for value, error, truth in (
        (found.noise, found.noise_error, noise),
        (found.signal, found.signal_error, signal),
        (found.value, found.standard_error, noise / signal),
    ):
        assert (np.abs(np.asarray((value - truth) / error)) < 2).mean() > 0.9
    # Two of them are without bias: within three standard errors of the mean of 200.
    for value, truth in ((found.noise, noise), (found.signal, signal)):
        assert abs(float(value.mean()) - truth) < 3 * float(value.std()) / 200**0.5
    plain = sx.noise_scale(lambda p, *, key: loss(p, key=key), x, KEYS[0], 40, batch_size=5)
    assert float(plain.value) == pytest.approx(float(found.value[0]), rel=1e-12)


def test_noise_that_drowns_the_signal_is_told():
    loss, points = noisy(5)
    assert "not clear of its own error" in sx.noise_scale(loss, points.mean(axis=0), KEYS[0], 40).cautions[0]


def test_misuse_is_told():
    bowl = lambda x: jnp.sum(x**2)
    with pytest.raises(ValueError, match=r"hutch\+\+, hutchinson"):
        sx.diagnostics.trace(bowl, jnp.ones(3), KEYS[0], method="exact")
    with pytest.raises(ValueError, match="at least 6"):
        sx.diagnostics.trace(bowl, jnp.ones(3), KEYS[0], 3)
    with pytest.raises(ValueError, match="at least 1"):
        sx.spectral_density(bowl, jnp.ones(3), KEYS[0], 0)
    with pytest.raises(ValueError, match="how many examples a key draws"):
        sx.noise_scale(bowl, jnp.ones(3), KEYS[0])
    with pytest.raises(ValueError, match="one without a key"):
        sx.noise_scale(bowl, jnp.ones(3), KEYS[0], batch_size=3)


def test_figures_show_what_was_found():
    density = sx.spectral_density(BOWL, X, KEYS[0], 4, 12)
    line = sx.plotting.plot(density).axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), np.maximum(density.density, 1e-6 * density.density.max()))
    found = sx.diagnostics.trace(BOWL, X, KEYS[0], 36)
    assert sx.plotting.plot(found).axes[0].patches[1].get_height() == pytest.approx(float(found.value))
    scale = sx.noise_scale(noisy(5)[0], jnp.full(6, 2.0), KEYS[0], 40)
    assert "noise scale" in sx.plotting.plot(scale).axes[0].get_title()
