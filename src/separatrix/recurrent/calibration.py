r"""Bands of a forecast from rows that were kept from training: split conformal prediction, lead by lead.

The loop is closed after each held-out row s, and its error h rows later is

    e[s, h] = u[s + h] - u^[s + h],        h = 1, ..., H.

If the next error is as likely to stand at any place among n that were seen, then the p(n + 1)-th of them is its
p-quantile. Errors of starts that lie close together are not independent: n is the number of starts over their
integrated autocorrelation time,

    tau = 1 + 2 sum_k rho[k],     the sum up to the first pair of terms that is not positive.

Below n = 19 the outer quantiles would lie beyond every error that was seen. There the band is no narrower than that of
Student's t for Gaussian errors, m +- t s sqrt(1 + 1/n), which holds as much as it says for any n of at least 2.

No chaotic series keeps a band narrow: it widens with the lead until it is as wide as the series.

**Reference:** Vovk, Gammerman & Shafer, *Algorithmic learning in a random world* (2005), section 4.1; Chernozhukov,
Wuethrich & Zhu, *Exact and robust conformal inference methods for predictive machine learning with dependent data*
(2018); Geyer, *Practical Markov chain Monte Carlo* (1992), section 3.3, for the sum.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from separatrix._errors import explain
from separatrix._types import Checked
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.recurrent.forecasting import QUANTILES, Forecaster, SeriesForecast, checked_columns
from separatrix.systems import ranges
from separatrix.systems.cells import from_cell

_STARTS, _FEWEST, _CONFORMAL = 500, 8, 19


class HeldOutErrors(Result):
    """Errors of a closed loop on rows that were not trained on.

    - `quantiles`, shape (5, horizon, columns): of truth minus forecast, at 5, 25, 50, 75 and 95 %.
    - `counts`, shape (horizon, columns): how many independent errors each is of.
    - `measured`: leads for which there were enough rows; later ones have the quantiles of the last of these.
    """

    quantiles: Float[np.ndarray, "5 horizon columns"]
    counts: Float[np.ndarray, "horizon columns"]
    measured: int = eqx.field(static=True)

    def rows(self) -> list[Row]:
        width = self.quantiles[-1] - self.quantiles[0]
        return [
            Row("leads, columns", f"{width.shape[0]}, {width.shape[1]}"),
            Row("width of the 90 % band at the first lead", width[0]),
            Row("at the last lead", width[-1]),
            Row("independent errors, first and last lead", f"{self.counts[0].min():.0f}, {self.counts[-1].min():.0f}"),
        ]  # fmt: skip

    @property
    def cautions(self) -> tuple[str, ...]:
        found, horizon = [], self.counts.shape[0]
        if self.measured < horizon:
            found.append(f"too few held-out rows for leads past {self.measured}: their bands are those of that lead")
        few = np.flatnonzero((self.counts < _CONFORMAL).any(axis=1))
        if few.size:
            which = f"fewer than {_CONFORMAL} independent errors at {few.size} leads, the first {few[0] + 1}"
            found.append(f"{which}: their bands assume a Gaussian")
        return tuple(found)

    def around(self, forecast: SeriesForecast) -> SeriesForecast:
        """The forecast with these bands.

        **Raises:** `ValueError` for a forecast of more rows or other columns.
        """
        horizon, columns = forecast.mean.shape
        most, known = self.counts.shape
        if horizon > most or columns != known:
            got, do = f"{horizon} rows of {columns} columns", "Measure errors up to that horizon."
            raise ValueError(explain("around: forecast", got, f"at most {most} rows of {known}", do))
        bands = np.asarray(forecast.mean)[None] + self.quantiles[:, :horizon]
        return eqx.tree_at(lambda found: found.quantiles, forecast, jnp.asarray(bands, forecast.mean.dtype))


def closed_loop_errors(
    model: Forecaster, series: Any, horizon: Checked[int], *, first: Checked[int]
) -> Float[np.ndarray, "starts horizon columns"]:
    r"""Return truth minus forecast of a loop that is closed after each held-out row, NaN past the end of the series.

    **Arguments:**

    - `model`: a `Forecaster`. `series`: shape (T, columns).
    - `horizon`: H >= 1. `first`: number of the first row that was not trained on; the first loop is closed before it.

    **Returns:** shape (starts, H, columns): at most 500 starts, evenly spread. Infinite where the loop is not finite.

    **Raises:** `ValueError` for a series that does not fit the model, or no row from `first` on.

    **Example:** a model that says the last value again is wrong by the steps of a series.

    >>> import equinox as eqx, jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.Elman(1, 1, key=jax.random.key(0), activation="identity")
    >>> cell = eqx.tree_at(lambda c: (c.weight_hh, c.weight_ih), cell, (jnp.zeros((1, 1)), jnp.ones((1, 1))))
    >>> series = jnp.array([[0.0], [1.0], [3.0], [6.0]])
    >>> model = sx.recurrent.forecaster(cell, series, key=jax.random.key(1))
    >>> model = eqx.tree_at(lambda m: m.readout, model, jnp.array([[0.0, 1.0]]))
    >>> sx.recurrent.closed_loop_errors(model, series, 2, first=2).round(5).tolist()
    [[[2.0], [5.0]], [[3.0], [nan]]]
    """
    series = checked_columns("closed_loop_errors: series", series, model.cell, constant=True)
    horizon = ranges.whole("closed_loop_errors: horizon", horizon, "Say how many rows to forecast.")
    first = ranges.whole("closed_loop_errors: first", first, "Number the first held-out row.", most=len(series) - 1)
    stride = -(-(len(series) - first) // _STARTS)
    starts = np.arange(first, len(series), stride)
    said = np.asarray(_said(model, series, jnp.asarray(starts - 1), horizon), float)
    places = starts[:, None] + np.arange(horizon)
    truth = np.append(np.asarray(series, float), np.full((horizon, series.shape[1]), np.nan), axis=0)[places]
    return np.where(np.isnan(truth), np.nan, np.where(np.isfinite(said), truth - said, np.inf))


@eqx.filter_jit
def _said(model: Forecaster, series: Any, after: Any, horizon: int) -> Any:
    """Closed loops from the states after these rows."""
    path = evolve(from_cell(model.cell, model.heard(series)), model.initial).states
    states = jax.tree.map(lambda leaf: leaf[after + 1], path)
    loop = lambda state: evolve(model.loop(), state, steps=horizon - 1, save=model.said).states  # noqa: E731
    return model.unscaled(jax.vmap(loop)(states))


def held_out_errors(model: Forecaster, series: Any, horizon: Checked[int], *, first: Checked[int]) -> HeldOutErrors:
    r"""Measure what a forecast is wrong by, lead by lead, on rows that were not trained on.

    **Arguments:** as of `closed_loop_errors`.

    **Returns:** a `HeldOutErrors`; its `around(forecast)` gives a forecast bands that hold nine tenths.

    **Raises:** as `closed_loop_errors`, and for fewer than eight rows from `first` on.

    **Example:** bands of a sine wave with noise of standard deviation 0.1 are 0.33 wide at least.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> noise = 0.1 * jax.random.normal(jax.random.key(0), (900, 1))
    >>> series = jnp.sin(0.3 * jnp.arange(900.0))[:, None] + noise
    >>> cell = sx.recurrent.reservoir(1, 40, key=jax.random.key(1), input_gain=0.3)
    >>> model = sx.recurrent.train_reservoir(cell, series[:400], washout=50, ridge=1e-3)
    >>> errors = sx.recurrent.held_out_errors(model, series, 10, first=400)
    >>> found = errors.around(sx.recurrent.forecast(model, series, 10))
    >>> bool(jnp.all(found.quantiles[-1] - found.quantiles[0] > 0.3))
    True

    **Reference:** Vovk, Gammerman & Shafer (2005), section 4.1; see the head of the module.
    """
    errors = closed_loop_errors(model, series, horizon, first=first)
    there = np.isfinite(errors) | np.isinf(errors)
    seen = there.all(axis=2).sum(axis=0)
    if seen[0] < _FEWEST:
        got, do = f"{seen[0]} rows from {first} on", "Keep more rows from training."
        raise ValueError(explain("held_out_errors: series", got, f"at least {_FEWEST}", do))
    measured = int(np.sum(seen >= max(_FEWEST, seen[0] // 4)))
    bands = [[_band(errors[: seen[h], h, c]) for c in range(errors.shape[2])] for h in range(measured)]
    quantiles = np.array([[band[0] for band in row] for row in bands]).transpose(2, 0, 1)
    counts = np.array([[band[1] for band in row] for row in bands])
    last = np.minimum(np.arange(errors.shape[1]), measured - 1)
    return HeldOutErrors(quantiles[:, last], counts[last], measured)


def _band(errors: Any) -> tuple[Any, float]:
    """The quantiles of the next error, and how many independent ones they are of."""
    levels = np.asarray(QUANTILES)
    if not np.isfinite(errors).all():
        return np.where(levels < 0.5, -np.inf, np.inf), float(np.isfinite(errors).sum())
    count = max(len(errors) / _correlation_time(errors), 2.0)
    # The p(n + 1)-th of n, and for those below the median the same from the other end.
    upper = np.clip(np.maximum(levels, 1 - levels) * (count + 1) / count, 0, 1)
    found = np.quantile(errors, np.where(levels < 0.5, 1 - upper, np.where(levels > 0.5, upper, 0.5)))
    if count >= _CONFORMAL:
        return found, count
    largest = float(np.max(np.abs(errors))) or 1.0
    spread = largest * np.std(errors / largest) * np.sqrt(count / (count - 1)) * np.sqrt(1 + 1 / count)
    gaussian = errors.mean() + spread * student.ppf(levels, count - 1)
    return np.where(levels < 0.5, np.minimum(found, gaussian), np.maximum(found, gaussian)), count


def _correlation_time(values: Any) -> float:
    """1 + 2 sum rho[k], by pairs of terms while they are positive."""
    largest = float(np.max(np.abs(values)))
    centred = np.asarray(values) / (largest or 1.0)  # of a size whose square is a number
    centred = centred - np.mean(centred)
    variance = float(centred @ centred)
    if not variance > 0:
        return 1.0
    rho = np.correlate(centred, centred, "full")[len(centred) - 1 :] / variance
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    return max(float(2 * pairs[: ends[0] if ends.size else len(pairs)].sum() - 1), 1.0)
