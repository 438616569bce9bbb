"""Reservoirs, readouts, memory and forecasts against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import separatrix as sx
from separatrix import recurrent

KEY = jax.random.key(0)


def test_a_reservoir_is_its_equation():
    cell = recurrent.reservoir(2, 12, key=KEY, spectral_radius=0.7, leak=0.3, connections=4, bias_gain=0.5)
    matrix = np.asarray(cell.matrix)
    assert (np.count_nonzero(matrix, axis=1) == 4).all()
    assert np.max(np.abs(np.linalg.eigvals(matrix))) == pytest.approx(0.7, rel=1e-10)
    u, x = np.array([0.5, -1.0]), np.linspace(-1, 1, 12)
    fields = matrix @ x + np.asarray(cell.weight_ih) @ u + np.asarray(cell.bias)
    np.testing.assert_allclose(cell(u, x), 0.7 * x + 0.3 * np.tanh(fields), rtol=1e-12)


class TestReadouts:
    x = np.asarray(jax.random.normal(KEY, (60, 4)))
    y = np.asarray(jax.random.normal(jax.random.key(1), (60, 2)))

    def test_ridge_is_the_solution_of_its_normal_equations(self):
        ridge = 0.3
        found = np.asarray(recurrent.ridge_readout(self.x, self.y, ridge))
        z = np.concatenate([np.ones((60, 1)), self.x], axis=1)
        held = 60 * ridge * np.diag([0.0, 1, 1, 1, 1])
        np.testing.assert_allclose(found, np.linalg.solve(z.T @ z + held, z.T @ self.y).T, rtol=1e-11, atol=1e-13)

    @pytest.mark.parametrize("forgetting", [1.0, 0.9])
    def test_recursive_least_squares_is_weighted_least_squares(self, forgetting):
        prior = 7.0
        found, errors = recurrent.recursive_readout(self.x, self.y, forgetting=forgetting, prior=prior)
        z = np.concatenate([np.ones((60, 1)), self.x], axis=1)
        weights = forgetting ** np.arange(59, -1, -1.0)
        normal = (weights[:, None] * z).T @ z + forgetting**60 / prior * np.eye(5)
        truth = np.linalg.solve(normal, (weights[:, None] * z).T @ self.y).T
        np.testing.assert_allclose(found, truth, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(errors[0], self.y[0], rtol=1e-14)


class TestMemory:
    def test_a_cycle_holds_what_its_closed_form_says(self):
        size, r = 10, 0.9
        cell = recurrent.cycle_reservoir(1, size, r, key=KEY, activation="identity")
        found = recurrent.linear_memory(cell.matrix, jnp.eye(size)[3], delays=2500)
        k = np.arange(2501)
        np.testing.assert_allclose(found.capacities, (1 - r ** (2 * size)) * r ** (2 * size * (k // size)), atol=1e-12)
        assert float(found.jaeger) == pytest.approx(9.1215767, abs=5e-8)
        assert float(found.total) == pytest.approx(10.0, abs=1e-9)

    def test_any_linear_net_holds_as_much_as_it_has_units(self):
        weight = recurrent.with_spectral_radius(jax.random.normal(KEY, (5, 5)), 0.8)
        found = recurrent.linear_memory(weight, jnp.arange(1.0, 6.0), delays=400)
        assert float(found.total) == pytest.approx(5.0, abs=1e-6)

    def test_what_is_measured_is_what_is_there(self):
        size, r = 6, 0.8
        cell = recurrent.cycle_reservoir(1, size, r, key=KEY, activation="identity")
        truth = recurrent.linear_memory(cell.matrix, cell.weight_ih[:, 0], delays=30)
        found = recurrent.memory_capacity(cell, delays=30, key=jax.random.key(2), ridge=1e-14)
        # The bias of a readout trained on T/2 rows is 2 N/T a delay.
        bias = 2 * size / 8000
        assert np.all(np.abs(found.capacities - truth.capacities) < 4 * found.errors + 2 * bias)
        assert float(found.total) == pytest.approx(float(truth.total), abs=4 * float(found.total_error) + 31 * bias)
        assert float(found.total - found.jaeger) == pytest.approx(float(truth.capacities[0]), abs=0.01)


def test_echo_state_is_told_by_the_exponent_and_not_by_the_radius():
    inputs = jax.random.normal(jax.random.key(1), (3000, 1))
    linear = recurrent.reservoir(1, 20, key=KEY, spectral_radius=0.9, activation="identity")
    found = recurrent.echo_state(linear, inputs)
    # Of a linear net the exponent is ln of the radius, within the condition of the eigenvectors over the steps.
    slack = np.log(np.linalg.cond(np.linalg.eig(np.asarray(linear.matrix))[1])) / 2600
    assert float(found.exponent) == pytest.approx(np.log(0.9), abs=slack)
    assert float(found.radius) == pytest.approx(0.9, rel=1e-10) and found.verdict == "forgets"
    # A radius of 3: alone it is active for ever, quieted by strong inputs it forgets.
    weak, strong = (recurrent.reservoir(1, 60, key=KEY, spectral_radius=3.0, input_gain=gain) for gain in (1e-3, 40.0))
    assert recurrent.echo_state(weak, inputs, initial=jnp.ones(60)).verdict == "does not forget"
    assert recurrent.echo_state(strong, inputs).verdict == "forgets"


class TestForecast:
    def model(self, slope=0.8, residual=0.3):
        """u^ = slope u by a cell that holds its input: an autoregression of order 1."""
        cell = recurrent.Elman(1, 1, key=KEY, activation="identity")
        cell = eqx.tree_at(lambda c: (c.weight_hh, c.weight_ih), cell, (jnp.zeros((1, 1)), jnp.ones((1, 1))))
        blank = recurrent.forecaster(cell, jnp.array([[0.0], [4.0]]), key=KEY)
        parts = lambda m: (m.readout, m.residual)
        return eqx.tree_at(parts, blank, (jnp.array([[0.0, slope]]), jnp.array([residual])))

    def test_bands_of_an_autoregression_are_its_closed_form(self):
        """Var = s^2 e^2 sum over k < h of slope^2k; quantiles of a normal."""
        model, series = self.model(), jnp.array([[1.0], [6.0]])
        assert (float(model.mean[0]), float(model.scale[0])) == (2.0, 2.0)
        found = recurrent.forecast(model, series, 6, key=jax.random.key(4), members=4000)
        h = np.arange(1, 7)
        np.testing.assert_allclose(found.mean[:, 0], 2 + 4 * 0.8**h, rtol=1e-12)
        spread = 2 * 0.3 * np.sqrt(np.cumsum(0.8 ** (2.0 * (h - 1))))
        width = np.asarray(found.quantiles[4, :, 0] - found.quantiles[0, :, 0])
        # A quantile at 5 % of 4,000 draws is right to 3.3 % of sigma, of a width of 3.29: four errors of the difference.
        np.testing.assert_allclose(width, 3.2897 * spread, rtol=4 * 2**0.5 * 0.033 / 3.29)
        np.testing.assert_allclose(found.quantiles[2, :, 0], found.mean[:, 0], atol=4 * 1.25 * 0.6 * 1.7 / 4000**0.5)

    def test_a_loop_that_runs_away_is_an_outcome_and_no_forecast(self):
        model = self.model(slope=1e3)
        found = recurrent.forecast(model, jnp.array([[1.0], [6.0]]), 8)
        assert bool(found.outcome.completed) and int(found.outside) == 8 and "no forecast" in found.cautions[0]
        broken = recurrent.forecast(model, jnp.array([[1.0], [6.0]]), 120)
        assert not bool(broken.outcome.completed) and np.isnan(broken.mean[-1]).all()
        assert any("stopped being finite" in said for said in broken.cautions)

    def test_valid_time_counts_rows_until_the_error_is_too_large(self):
        """Truth and model from the same value, at rates 1.1 and 1.0: |1.1^h - 1| > 0.4 first at h = 4."""
        model = self.model(slope=1.0)
        series = jnp.concatenate([2 + 2 * jnp.ones((3, 1)), 2 + 2 * 1.1 ** jnp.arange(1.0, 8.0)[:, None]])
        found = recurrent.valid_time(model, series, [3], 7, listen=2, exponent=0.5)
        assert found.times.tolist() == [1.5] and found.unit == "Lyapunov times" and int(found.censored) == 0

    def test_the_loop_of_a_net_has_the_exponents_of_what_it_learned(self):
        found = sx.lyapunov_spectrum(self.model(slope=0.8).loop(), jnp.array([0.3]), steps=100)
        assert float(found.exponents[0]) == pytest.approx(np.log(0.8), abs=1e-12)


SERIES = jnp.sin(jnp.arange(40.0))[:, None]
CELL = recurrent.reservoir(1, 5, key=KEY)
REFUSED = {
    "constant": (lambda: recurrent.train_reservoir(CELL, jnp.ones((40, 1)), washout=2), "column 0 is 1 in every row"),
    "missing": (lambda: recurrent.train_reservoir(CELL, SERIES.at[7].set(jnp.nan), washout=2), r"nan at index \[7, 0\]"),
    "short": (lambda: recurrent.train_reservoir(CELL, SERIES, washout=40), "got 40 rows, expected more than washout"),
    "columns": (lambda: recurrent.train_reservoir(CELL, jnp.tile(SERIES, (1, 2)), washout=2), "2 columns, expected 1"),
    "starts": (
        lambda: recurrent.valid_time(recurrent.train_reservoir(CELL, SERIES, washout=5), SERIES, [39], 5, listen=3),
        "got 39, expected 3 to 35",
    ),
    "horizon": (lambda: recurrent.forecast(recurrent.train_reservoir(CELL, SERIES, washout=5), SERIES, 0), "got 0"),
    "errors": (
        lambda: recurrent.forecast(recurrent.forecaster(CELL, SERIES, key=KEY), SERIES, 3, key=KEY), "its errors"
    ),
    "leak": (lambda: recurrent.reservoir(1, 5, key=KEY, leak=0.0), "leak\n  got 0.0"),
    "connections": (lambda: recurrent.reservoir(1, 5, key=KEY, connections=6), "connections\n  got 6, expected 1 to 5"),
    "radius": (lambda: recurrent.linear_memory(jnp.eye(2), jnp.ones(2), delays=3), "got 1, expected below 1"),
    "rows": (lambda: recurrent.ridge_readout(SERIES, SERIES[1:]), "39 rows, expected 40"),
    "inputs": (
        lambda: recurrent.memory_capacity(recurrent.reservoir(2, 5, key=KEY), delays=3, key=KEY), "2 inputs, expected one"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_words(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as told:
        call()
    assert len(str(told.value).splitlines()) <= 3
