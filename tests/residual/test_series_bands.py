"""The cloud of a linear field is a Gaussian whose mean and covariance are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from separatrix.residual.series_bands import Bands, SeriesWindow, bands_of, calibrated, half_width
from separatrix.residual.series_model import SeriesField


def test_bands_of_a_linear_field_are_those_of_its_gaussian():
    """z' = a z, y_j = z(t_j) + s e_j, z_0 ~ N(0, 9): its precision is sum exp(2 a t_j)/s^2 + 1/9 over what was seen."""
    rate, sigma, draws = -0.4, 0.5, 4_000
    times, ahead = jnp.array([[0.0, 0.5, 1.5]]), jnp.array([[2.0, 4.0]])
    values = jnp.array([[[1.0], [0.0], [0.9]]])
    present = jnp.array([[[True], [False], [True]]])
    field = SeriesField(jnp.full((1, 1, 1), rate), lambda state: 0 * state)
    window = SeriesWindow(times, values, present, ahead)
    found = bands_of(field, False, window, jnp.array([sigma]), 8, draws, jax.random.key(0))
    growth = np.exp(rate * np.array([0.0, 1.5]))
    precision = np.sum(growth**2) / sigma**2 + 1 / 9
    mean, spread = np.sum(growth * np.array([1.0, 0.9])) / sigma**2 / precision, precision**-0.5
    flow = np.exp(rate * np.array([0.0, 0.5, 1.5, 2.0, 4.0]))
    # Four standard errors of a mean, and of a standard deviation, over the draws.
    error = 4 / draws**0.5
    np.testing.assert_allclose(found.mean[0, :, 0], mean * flow, atol=error * spread)
    np.testing.assert_allclose(found.spread[0, :, 0], spread * flow, rtol=error / 2**0.5)
    assert float(found.known[0]) == pytest.approx(spread * flow[2], rel=error / 2**0.5)


def test_the_factor_is_the_conformal_quantile_of_what_was_seen():
    scores = np.arange(1.0, 40.0)  # 39: the rank of 0.95 is ceil(40 x 0.95) = 38
    found = Bands(np.zeros((1, 40, 1)), np.full((1, 40, 1), 3.0), np.zeros(1))
    values, present = 5 * scores[None, :, None], np.ones((1, 39, 1), bool)  # sqrt(3^2 + 4^2) = 5
    assert calibrated(found, values, present, np.array([4.0]), 0.95, 1) == pytest.approx(38 / half_width(0.95))
    present[0, 10:] = False  # of 10 it is the largest
    assert calibrated(found, values, present, np.array([4.0]), 0.95, 1) == pytest.approx(10 / half_width(0.95))
    assert half_width(0.95) == pytest.approx(1.959963984540054)
