r"""Forecasts: a driven net whose output is its next input, closed upon itself.

    open     x[n+1] = F(x[n], u[n]),      u^[n+1] = m + s * R (1, x[n+1])            (taught by the series)
    closed   x[n+1] = F(x[n], R (1, x[n]) + e[n])                                    (on its own)

The closed loop is a map like any other: its fixed points, exponents and dimension can be asked for. With e = 0 it
gives the forecast; with e drawn from the errors of one step that were seen in training, members of an ensemble part as
the model thinks they do, and their quantiles are the bands.

Of a chaotic series no forecast stays good: an error of size e grows as e exp(lambda t), so that it reaches a part
theta of the spread of the series at about t = ln(theta/e)/lambda: the valid prediction time, counted in Lyapunov times
1/lambda.

**Reference:** Jaeger & Haas, *Harnessing nonlinearity* (Science, 2004); Pathak et al., *Model-free prediction of large
spatiotemporally chaotic systems* (PRL, 2018), for the valid time; Vlachas et al. (2020), equation 10, for its
definition.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from separatrix._errors import Diverged, explain
from separatrix._types import Checked, Key, Scalar, State, StepIndex
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.recurrent.nets import cell_size, exposed, rest
from separatrix.recurrent.reservoirs import checked_series, collected, ridge_readout
from separatrix.systems import ranges
from separatrix.systems.base import require_key
from separatrix.systems.cells import from_cell
from separatrix.systems.map import Map
from separatrix.systems.trajectory import Outcome

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Forecaster(eqx.Module):
    r"""A cell, a readout of the next value, and the scale of the series: u^[n+1] = m + s * R (1, x[n+1]).

    `cell` hears (u - m)/s; `readout`, shape (columns, 1 + hidden): R, the constant first; `mean` m and `scale` s, one a
    column; `residual`: root mean square error of one step in training, scaled, a column each, 0 if it is not
    known; `initial`: state before the first value. No gradient comes to mean, scale and residual.

    Made by `train_reservoir`, or by `forecaster` and trained by `fit`.
    """

    cell: Any
    readout: Float[Array, "columns features"]
    mean: Float[Array, " columns"]
    scale: Float[Array, " columns"]
    residual: Float[Array, " columns"]
    initial: Any

    def heard(self, series: Any) -> Array:
        """(u - m)/s."""
        series = jnp.asarray(series, self.readout.dtype)
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        return (series - along(mean, series)) / along(scale, series)

    def said(self, hidden: Any) -> Array:
        """R (1, x) of a state, scaled."""
        return self.said_of(exposed(hidden))

    def said_of(self, read: Any) -> Array:
        """R (1, x) of what is read of a state, scaled."""
        return self.readout[:, 0] + self.readout[:, 1:] @ read

    def unscaled(self, said: Any) -> Array:
        """m + s y."""
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        return along(mean, said) + along(scale, said) * said

    def loop(self) -> "ForecastLoop":
        """The net on its own: a map on its hidden state."""
        return ForecastLoop(self)

    def listen(self, series: Any) -> State:
        """The hidden state after hearing a series, shape (T, columns)."""
        return evolve(from_cell(self.cell, self.heard(series)), self.initial, save="last").final

    def one_step(self, series: Float[Array, "time columns"]) -> Float[Array, "time columns"]:
        """The forecast of each next value, from those up to it: row n is for n + 1."""
        hidden, _ = collected(self.cell, self.heard(series), self.initial)
        return self.unscaled(jax.vmap(self.said_of)(hidden))


class ForecastLoop(Map):
    """x' = F(x, R (1, x)): a net that hears itself."""

    model: Forecaster

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.model.cell(self.model.said(state), state)


class NoisyForecastLoop(Map):
    """(x, u) -> (x', R (1, x') + e) with x' = F(x, u), e ~ N(0, residual^2) in each column: one member of an
    ensemble."""

    model: Forecaster

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        hidden, said = state
        hidden = self.model.cell(said, hidden)
        return hidden, self.drawn(hidden, require_key(key, "NoisyForecastLoop"))

    def drawn(self, hidden: Any, key: Key) -> Array:
        """R (1, x) + e."""
        said = self.model.said(hidden)
        return said + self.model.residual * jax.random.normal(key, said.shape, said.dtype)


class SeriesForecast(Result):
    r"""What comes after a series, row h after h + 1 steps.

    - `mean`, shape (horizon, columns): of a single model the forecast without noise; of several their mean.
    - `quantiles`, shape (5, horizon, columns): at 5, 25, 50, 75 and 95 %; NaN without a key or several models.
    - `outcome`: how the loop ended. Rows past a break are NaN, and `outside` counts rows that lie further than ten
      times the spread of the series from its mean: a net that has left what it knows.
    """

    mean: Float[Array, "horizon columns"]
    quantiles: Float[Array, "5 horizon columns"]
    outside: Array
    outcome: Outcome

    def rows(self) -> list[Row]:
        horizon, columns = self.mean.shape
        return [
            Row("rows, columns", f"{horizon}, {columns}"),
            Row("first row", self.mean[0]),
            Row("last row", self.mean[-1]),
            Row("width of the last 90 % band", self.quantiles[-1, -1] - self.quantiles[0, -1]),
            Row("outcome", str(self.outcome)),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = [] if bool(self.outcome.completed) else ["the loop stopped being finite: rows past that are none"]
        if int(self.outside):
            found.append(f"{int(self.outside)} rows lie beyond ten times the spread of the series: no forecast")
        return tuple(found)


def forecaster(cell: Any, series: Any, *, key: Key) -> Forecaster:
    r"""Make a forecaster to be trained by `fit`: a cell with a readout drawn at random, scaled to a series.

    **Arguments:**

    - `cell`: with as many inputs as the series has columns. `series`: shape (T, columns), T >= 2.
    - `key`: the readout.

    **Returns:** a `Forecaster` that has learned nothing yet.

    **Raises:** `ValueError` for a series that is not finite, has a constant column, or does not fit the cell.

    **Example:**

    >>> import jax, jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> series = jnp.sin(jnp.arange(50.0))[:, None]
    >>> model = sx.recurrent.forecaster(eqx.nn.GRUCell(1, 8, key=jax.random.key(0)), series, key=jax.random.key(1))
    >>> model.one_step(series).shape
    (50, 1)
    """
    series = checked_columns("forecaster: series", series, cell)
    return unlearned(cell, jnp.mean(series, axis=0), jnp.std(series, axis=0), key=key)


def unlearned(cell: Any, mean: Any, scale: Any, *, key: Key) -> Forecaster:
    """A forecaster whose readout is drawn at random, for a series of this mean and scale."""
    hidden = rest(cell)
    size, dtype = exposed(hidden).shape[0], exposed(hidden).dtype
    mean, scale = jnp.asarray(mean, dtype), jnp.asarray(scale, dtype)
    readout = jax.random.normal(key, (mean.shape[0], 1 + size), dtype) * size**-0.5
    return Forecaster(cell, readout.at[:, 0].set(0), mean, scale, jnp.zeros_like(mean), hidden)


def train_reservoir(cell: Any, series: Any, *, washout: Checked[int], ridge: Any = 1e-8) -> Forecaster:
    r"""Train the readout of a cell to say what comes next: one linear solve.

    **Arguments:**

    - `cell`: a `Reservoir`, or any other cell, whose weights stay. `series`: shape (T, columns), one row a step.
    - `washout`: rows at first from which it does not learn: until it has forgotten how it began.
    - `ridge`: as of `ridge_readout`; larger where the closed loop runs away.

    **Returns:** a `Forecaster`, with the errors of one step that were left.

    **Raises:** `ValueError` for a series that is not finite, has a constant column, does not fit the cell, or is no
    longer than the washout; `Diverged` where the cell's state stops being finite on it.

    **Example:** a sine wave goes on.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> times = jnp.arange(400.0)
    >>> series = jnp.sin(0.3 * times)[:, None]
    >>> cell = sx.recurrent.reservoir(1, 40, key=jax.random.key(0), input_gain=0.3)
    >>> model = sx.recurrent.train_reservoir(cell, series[:300], washout=50)
    >>> found = sx.recurrent.forecast(model, series[:300], 100)
    >>> bool(jnp.max(jnp.abs(found.mean - series[300:])) < 0.01)
    True

    **Reference:** Jaeger & Haas (2004); Lukosevicius (2012), section 4.
    """
    series = checked_columns("train_reservoir: series", series, cell)
    washout = ranges.whole("train_reservoir: washout", washout, "Take 100.", least=0)
    if len(series) < washout + 3:
        got, do = f"{len(series)} rows", "Pass a longer series, or a shorter washout."
        raise ValueError(explain("train_reservoir: series", got, f"more than washout + 2 = {washout + 2}", do))
    blank = forecaster(cell, series, key=jax.random.key(0))
    scaled = blank.heard(series)
    path = evolve(from_cell(cell, scaled[:-1]), blank.initial, save=exposed)
    if not bool(path.outcome.completed):
        do = "Lower the spectral radius or the gains, or take tanh units."
        raise Diverged(explain("train_reservoir: cell", f"a run that ended so: {path.outcome}", "finite states", do))
    states, targets = path.states[1:][washout:], scaled[1:][washout:]
    weights = ridge_readout(states, targets, ridge)
    left = targets - (states @ weights[:, 1:].T + weights[None, :, 0])
    parts = lambda model: (model.readout, model.residual)  # noqa: E731
    return eqx.tree_at(parts, blank, (weights, jnp.sqrt(jnp.mean(left**2, axis=0))))


def next_value_loss(model: Forecaster, batch: Any) -> Scalar:
    r"""Return the mean squared error of the next value, scaled, over a batch of pieces of a series: a loss for `fit`.

        mean over rows and columns of ((u^[n+1] - u[n+1])/s)^2

    **Arguments:** `model`, a `Forecaster`; `batch`, shape (B, T + 1, columns), T >= 1. The state starts anew in each
    piece, and hears what is true, not what it said (teacher forcing).

    **Returns:** a scalar; 1 for a model that says the mean.

    **Raises:** `ValueError` for a batch of another shape.

    **Example:** to learn a sine wave.

    >>> import jax, jax.numpy as jnp, equinox as eqx, optax, separatrix as sx
    >>> series = jnp.sin(0.5 * jnp.arange(200.0))[:, None]
    >>> pieces = series[:200].reshape(10, 20, 1)
    >>> model = sx.recurrent.forecaster(eqx.nn.GRUCell(1, 8, key=jax.random.key(0)), series, key=jax.random.key(1))
    >>> found = sx.fit(sx.recurrent.next_value_loss, optax.adam(0.02), pieces, initial=model, steps=60)
    >>> bool(found.losses[-1] < 0.1 * found.losses[0])
    True

    **Reference:** Williams & Zipser, *A learning algorithm for continually running fully recurrent neural networks*
    (1989).
    """
    batch = jnp.asarray(batch)
    if batch.ndim != 3 or batch.shape[1] < 2:
        do = "Cut the series into pieces of at least two rows."
        raise ValueError(explain("next_value_loss: batch", f"shape {batch.shape}", "(B, T + 1, columns), T >= 1", do))
    scaled = jax.vmap(model.heard)(batch)

    def said(piece: Any) -> Any:
        hidden = evolve(from_cell(model.cell, piece[:-1]), model.initial, save=exposed).states[1:]
        return jax.vmap(model.said_of)(hidden)

    return jnp.mean((jax.vmap(said)(scaled) - scaled[:, 1:]) ** 2)


def with_residual(model: Forecaster, series: Any, washout: Checked[int] = 0) -> Forecaster:
    """Return the model with the root mean square error of one step on a series: what bands are made of."""
    series = checked_columns("with_residual: series", series, model.cell)
    washout = ranges.whole("with_residual: washout", washout, "Take fewer rows.", least=0, most=len(series) - 2)
    left = model.heard(series[1:]) - model.heard(model.one_step(series)[:-1])
    return eqx.tree_at(lambda model: model.residual, model, jnp.sqrt(jnp.mean(left[washout:] ** 2, axis=0)))


def forecast(
    model: Any, series: Any, horizon: Checked[int], *, members: Checked[int] = 100, key: Key | None = None
) -> SeriesForecast:
    r"""Let a net go on with a series that it has heard.

    **Arguments:**

    - `model`: a `Forecaster`, or a list of several: then bands show how far they differ as well.
    - `series`: shape (T, columns), what it hears first. `horizon`: H >= 1, rows to forecast.
    - `key`: draws of an ensemble of `members` orbits, each with its own errors of one step. None: no errors are drawn.

    **Returns:** a `SeriesForecast`. One that stops being finite, or runs away, says so: it is an outcome and no forecast.

    **Raises:** `ValueError` for a series that is not finite or does not fit the model, no horizon, or a key and a
    model that does not know its errors (see `with_residual`).

    **Example:** a sine wave, with a band as wide as the errors of one step make it.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> series = jnp.sin(0.3 * jnp.arange(300.0))[:, None]
    >>> cell = sx.recurrent.reservoir(1, 40, key=jax.random.key(0), input_gain=0.3)
    >>> model = sx.recurrent.train_reservoir(cell, series, washout=50)
    >>> found = sx.recurrent.forecast(model, series, 5, key=jax.random.key(1))
    >>> band = found.quantiles[-1, 0, 0] - found.quantiles[0, 0, 0]
    >>> bool(jnp.abs(band / (3.29 * model.residual[0] * model.scale[0]) - 1) < 0.3)
    True

    **Reference:** Jaeger & Haas (2004); Pathak et al. (2018).
    """
    models = list(model) if isinstance(model, Sequence) else [model]
    if not models or not all(isinstance(one, Forecaster) for one in models):
        do = "Make one by train_reservoir, or by forecaster and fit."
        raise TypeError(explain("forecast: model", type(model).__name__, "a Forecaster or a list of them", do))
    series = checked_series("forecast: series", series, 1)
    for one in models:
        _require_columns("forecast: series", series, one.cell)
    horizon = ranges.whole("forecast: horizon", horizon, "Say how many rows to forecast.")
    members = ranges.whole("forecast: members", members, "Take 100.")
    if key is not None and any(bool(jnp.all(one.residual == 0)) for one in models):
        do = "Call with_residual(model, series) after training."
        raise ValueError(explain("forecast: model", "one that does not know its errors", "one that does", do))
    runs = [_one_forecast(one, series, horizon, members, key) for one in models]
    means = jnp.stack([run[0] for run in runs])
    parts = jnp.concatenate([run[1] for run in runs]) if key is not None else means
    first = models[0]
    spread = len(models) > 1 or key is not None
    none = jnp.full((len(QUANTILES), *means.shape[1:]), jnp.nan, means.dtype)
    levels = jnp.asarray(QUANTILES, means.dtype)
    quantiles = jnp.quantile(parts, levels, axis=0) if spread else none
    mean = jnp.mean(means, axis=0)
    outcomes = [run[2] for run in runs]
    broken = next((ended for ended in outcomes if not bool(ended.completed)), outcomes[0])
    outside = jnp.sum(jnp.any(~(jnp.abs(first.heard(mean)) <= 10), axis=1))
    return SeriesForecast(mean, quantiles, outside, broken)


def _one_forecast(model: Forecaster, series: Any, horizon: int, members: int, key: Any) -> tuple[Any, Any, Outcome]:
    """The forecast without errors; orbits with them; how the first ended."""
    heard = evolve(from_cell(model.cell, model.heard(series)), model.initial, save="last")
    if not bool(heard.outcome.completed):
        none = jnp.full((horizon, series.shape[1]), jnp.nan, model.mean.dtype)
        return none, None if key is None else jnp.broadcast_to(none, (members, *none.shape)), heard.outcome
    hidden = heard.final
    path = evolve(model.loop(), hidden, steps=horizon - 1, save=model.said)
    if key is None:
        return model.unscaled(path.states), None, path.outcome
    noisy = NoisyForecastLoop(model)

    def member(key: Any) -> Any:
        of_first, of_path = jax.random.split(key)
        start = (hidden, noisy.drawn(hidden, of_first))
        return evolve(noisy, start, steps=horizon - 1, save=lambda state: state[1], key=of_path).states

    drawn = jax.vmap(member)(jax.random.split(key, members))
    return model.unscaled(path.states), model.unscaled(drawn), path.outcome


def along(row: Any, like: Any) -> Array:
    """A row for each of those of `like`."""
    return jnp.broadcast_to(row, jnp.shape(like))


def checked_columns(what: str, series: Any, cell: Any, *, constant: bool = False) -> Any:
    """A series that fits a cell, with at least two rows and columns that change."""
    series = checked_series(what, series, 2)
    _require_columns(what, series, cell)
    still: Bool[np.ndarray, " columns"] = np.ptp(np.asarray(series), axis=0) == 0
    if still.any() and not constant:
        column = int(np.flatnonzero(still)[0])
        got, do = f"column {column} is {float(series[0, column]):g} in every row", "Leave that column out."
        raise ValueError(explain(what, got, "columns that change", do))
    return series


def _require_columns(what: str, series: Any, cell: Any) -> None:
    heard = cell_size(cell, "input_size")
    if series.shape[1] != heard:
        got, do = f"{series.shape[1]} columns", "Make the cell for the columns of the series."
        raise ValueError(explain(what, got, f"{heard}, which the cell hears", do))
