"""Distances of orbits: closed forms of two Gaussians, two points, two autoregressions, and what they cannot compare."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ellipk

import separatrix as sx


def autoregression(phi, length, seed):
    from scipy.signal import lfilter

    return lfilter([1.0], [1.0, -phi], np.random.default_rng(seed).standard_normal(length))[500:, None]


def test_divergence_of_gaussians_by_sums_of_gaussians():
    # p and q are N(0, 1 + w^2) and N(m, s^2 + w^2) in each column; x is drawn from N(0, 1).
    rng, w, m, s = np.random.default_rng(0), 0.5, 0.7, 1.5
    true, learned = rng.standard_normal((1500, 2)), m + s * rng.standard_normal((1500, 2))
    scale = true.std(axis=0)
    v1, v2 = 1 + w**2, s**2 + w**2
    exact = 2 * 0.5 * (np.log(v2 / v1) + (1 + m**2) / v2 - 1 / v1)
    found = sx.recurrent.state_space_divergence(true, learned, width=w)
    assert abs(float(found.value) - exact) < 4 * float(found.error) + 0.01 * float(np.abs(scale - 1).max())
    assert float(found.error) < 0.08
    # The other way round, wide Gaussians: in tails where the narrow orbit has no points its density is too low.
    back = sx.recurrent.state_space_divergence(learned, true, width=1.0)
    v1, v2 = 1 + 1.0, 1 / s**2 + 1.0
    exact = 2 * 0.5 * (np.log(v2 / v1) + (1 + (m / s) ** 2) / v2 - 1 / v1)
    assert abs(float(back.value) - exact) < 4 * float(back.error) + 0.02


def test_divergence_of_gaussians_by_cubes():
    rng = np.random.default_rng(1)
    true, learned = rng.standard_normal((200_000, 1)), 0.5 + rng.standard_normal((200_000, 1))
    found = sx.recurrent.state_space_divergence(true, learned, bins=100)
    # m^2/2 = 1/8; 100 cubes of 200,000 rows add (K - 1)/n.
    assert float(found.value) == pytest.approx(0.125, abs=4 * float(found.error) + 1e-3)
    same = sx.recurrent.state_space_divergence(true, true, bins=100)
    assert abs(float(same.value)) < 1e-3


def test_a_cube_that_the_learned_orbit_never_sees_costs_its_share_of_the_logarithm():
    true, learned = np.tile([[0.0], [1.0]], (64, 1)), np.zeros((128, 1))
    found = sx.recurrent.state_space_divergence(true, learned, bins=2)
    assert float(found.value) == pytest.approx(0.5 * np.log(0.5) + 0.5 * np.log(0.5 / 1e-6), rel=1e-4)


def test_distance_of_the_spectra_of_autoregressions():
    spectrum = lambda phi: lambda w: (1 - phi**2) / (2 * np.pi * np.abs(1 - phi * np.exp(1j * w)) ** 2)
    true = np.concatenate([autoregression(0.0, 60_500, 0), autoregression(0.5, 60_500, 1)], axis=1)
    learned = np.concatenate([autoregression(0.8, 60_500, 2), autoregression(-0.3, 60_500, 3)], axis=1)
    f, g = spectrum(0.5), spectrum(-0.3)
    overlaps = [0.6 * 2 / np.pi * ellipk(0.64), quad(lambda w: np.sqrt(f(w) * g(w)), -np.pi, np.pi)[0]]
    exact = np.mean(np.sqrt(1 - np.array(overlaps)))
    found = sx.recurrent.spectrum_distance(true, learned, segment=128)
    # The window spreads a line over 4/128 of the circle, which blunts the peak of 0.8 by some parts in a hundred.
    assert float(found.value) == pytest.approx(exact, rel=0.03)
    assert float(found.error) < 0.01 and float(found.floor) < 0.15 * exact


def test_the_jackknife_covers_what_is_true():
    # Sixteen pairs of orbits: deviations over errors are of order one.
    exact, scores = np.sqrt(1 - 0.6 * 2 / np.pi * ellipk(0.64)), []
    for seed in range(16):
        pair = (autoregression(0.0, 8_500, seed), autoregression(0.8, 8_500, 100 + seed))
        found = sx.recurrent.spectrum_distance(*pair, segment=128)
        scores.append((float(found.value) - exact) / float(found.error))
    assert 0.4 < np.std(scores) < 2.0 and abs(np.mean(scores)) < 2.5


def test_what_cannot_be_compared():
    true = np.random.default_rng(0).standard_normal((100, 2))
    broken = np.full((100, 2), np.nan)
    assert float(sx.recurrent.state_space_divergence(true, broken).value) == np.inf
    assert float(sx.recurrent.spectrum_distance(true, broken).value) == 1.0
    assert float(sx.recurrent.spectrum_distance(true, np.zeros((100, 2))).value) == 1.0
    for measure in (sx.recurrent.state_space_divergence, sx.recurrent.spectrum_distance):
        with pytest.raises(ValueError, match=r"learned\n  got shape \(100, 1\)"):
            measure(true, true[:, :1])
        with pytest.raises(ValueError, match="constant column"):
            measure(np.zeros((100, 2)), true)
    with pytest.raises(ValueError, match="one of both"):
        sx.recurrent.state_space_divergence(true, true, bins=3, width=0.1)


def test_a_reservoir_that_has_learned_the_henon_map_has_its_exponents():
    henon = sx.as_map(lambda x: jnp.stack([1 - 1.4 * x[0] ** 2 + x[1], 0.3 * x[0]]))
    series = sx.evolve(henon, jnp.array([0.1, 0.1]), steps=6000).states[1000:]
    cell = sx.recurrent.reservoir(2, 100, key=jax.random.key(0), spectral_radius=0.05, input_gain=1.0, bias_gain=1.0)
    model = sx.recurrent.train_reservoir(cell, series[:2500], washout=50, ridge=1e-12)
    true = sx.lyapunov_spectrum(henon, jnp.array([0.1, 0.1]), steps=4000)
    found = sx.recurrent.reconstruction(model, series[2500:], listen=100, steps=4000, count=2, true=true)
    assert abs(float(found.learned.exponents[0]) - 0.419307) < 4 * float(found.learned.standard_errors[0]) + 5e-3
    assert np.abs(found.deviations[0]) < 4
    assert float(found.divergence.value) < 1.0 and float(found.spectrum.value) < 0.15
