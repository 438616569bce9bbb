"""Bands from held-out rows: quantiles that are known of an autoregression, and what they hold of rows to come."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix.recurrent.calibration import _band, _correlation_time

PHI, SIGMA, HORIZON = 0.8, 0.5, 12


def autoregression(length, seed):
    noise = SIGMA * np.random.default_rng(seed).standard_normal(length)
    rows = [noise[0] / (1 - PHI**2) ** 0.5]
    for shock in noise[1:]:
        rows.append(PHI * rows[-1] + shock)
    return np.array(rows)[:, None]


def exact_model(series):
    """The forecaster that says phi times the last value, as a net: x' = u, R = phi."""
    cell = sx.recurrent.Elman(1, 1, key=jax.random.key(0), activation="identity")
    cell = eqx.tree_at(lambda c: (c.weight_hh, c.weight_ih), cell, (jnp.zeros((1, 1)), jnp.ones((1, 1))))
    model = sx.recurrent.forecaster(cell, jnp.asarray(series), key=jax.random.key(1))
    parts = lambda m: (m.readout, m.mean, m.scale)
    return eqx.tree_at(parts, model, (jnp.array([[0.0, PHI]]), jnp.zeros(1), jnp.ones(1)))


def test_bands_of_an_autoregression_are_those_of_its_law_and_hold_nine_tenths_lead_by_lead():
    series = autoregression(6000, 1)
    model = exact_model(series)
    # 500 starts of 4000 rows, some apart: the standard error of a 5 % quantile is 2.1 sigma/sqrt(n).
    found = sx.recurrent.held_out_errors(model, series[:4100], HORIZON, first=100)
    leads = np.arange(1, HORIZON + 1)
    spread = SIGMA * np.sqrt((1 - PHI ** (2 * leads)) / (1 - PHI**2))
    for level, normal in ((0, -1.6449), (1, -0.6745), (2, 0.0), (3, 0.6745), (4, 1.6449)):
        slack = 4 * 2.1 * spread / np.sqrt(found.counts[:, 0])
        assert np.all(np.abs(found.quantiles[level, :, 0] - normal * spread) < slack), level
    errors = sx.recurrent.closed_loop_errors(model, series, HORIZON, first=4100)
    inside = (errors >= found.quantiles[0]) & (errors <= found.quantiles[-1])
    share = np.array([inside[: 450 - h, h - 1].mean() for h in leads])
    # 450 starts that are 4 rows apart have at least 100 independent ones: 3 sqrt(0.9 0.1/100).
    assert np.all(np.abs(share - 0.9) < 0.09)
    assert abs(share.mean() - 0.9) < 0.05


@pytest.mark.parametrize("count", [4, 8, 15, 60])
def test_the_band_of_few_gaussian_errors_holds_as_much_as_it_says(count):
    rng, held = np.random.default_rng(count), []
    for _ in range(1500):
        *seen, following = rng.standard_normal(count + 1)
        low, *_, high = _band(np.array(seen))[0]
        held.append(low <= following <= high)
    # Three standard errors of 1500 draws are 0.023; the correlation time of few rows is at least 1, which only widens.
    assert 0.87 < np.mean(held) < 0.985


def test_the_correlation_time_of_an_autoregression():
    found = [_correlation_time(autoregression(4000, seed)[:, 0]) for seed in range(4)]
    assert np.mean(found) == pytest.approx((1 + PHI) / (1 - PHI), rel=0.25)


def test_leads_without_rows_take_the_last_band_and_say_so():
    series = autoregression(60, 3)
    found = sx.recurrent.held_out_errors(exact_model(series), series, 40, first=30)
    assert found.measured == 23  # of 30 starts, eight have 23 rows after them
    np.testing.assert_array_equal(found.quantiles[:, 22:], np.repeat(found.quantiles[:, 22:23], 18, axis=1))
    assert "too few held-out rows for leads past 23" in found.cautions[0]


def test_a_loop_that_runs_away_has_no_finite_band_and_too_few_rows_are_refused():
    series = autoregression(200, 4)
    wild = eqx.tree_at(lambda m: m.readout, exact_model(series), jnp.array([[0.0, 1e200]]))
    found = sx.recurrent.held_out_errors(wild, series, 3, first=100)
    assert np.isinf(found.quantiles[[0, -1], 2]).all()
    with pytest.raises(ValueError, match="got 5 rows from 195 on"):
        sx.recurrent.held_out_errors(wild, series, 3, first=195)
    forecast = sx.recurrent.forecast(exact_model(series), jnp.asarray(series), 5)
    with pytest.raises(ValueError, match="got 5 rows of 1 columns"):
        found.around(forecast)
