r"""Recipe `forecaster`: what comes next in a series of numbers?

    x[n+1] = F(x[n], u[n]),    u^[n+1] = m + s R (1, x[n+1]),    loss = mean of ((u^[n+1] - u[n+1])/s)^2

The first part of the series trains, in pieces of `length` steps; the next one, which is kept from training, says how
wrong forecasts are; the last one tests. A forecast closes the loop from the last row on. Its bands are quantiles of the
errors of closed loops on rows that were not trained on, lead by lead (`held_out_errors`), and the test counts how many
rows they hold.

Rows at uneven times are brought to even ones, and values that are missing are filled, by straight lines between their
neighbours; both are reported, with how many.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from separatrix._errors import DataError, explain, unknown
from separatrix.data import Table, series
from separatrix.data.dataset import digest
from separatrix.recurrent.calibration import closed_loop_errors, held_out_errors
from separatrix.recurrent.forecasting import (
    Forecaster,
    forecast,
    next_value_loss,
    train_reservoir,
    unlearned,
)
from separatrix.recurrent.recipe import CELLS
from separatrix.recurrent.reservoirs import reservoir
from separatrix.training.recipes import Task, Training, register_recipe
from separatrix.training.recipes.columns import read_table
from separatrix.training.recipes.results import curve, curves, number, rms
from separatrix.training.recipes.training import length_of, require_counts, require_same_data, validated_by

_CALLED = ("time", "times", "t", "date", "year")
_EVEN = 0.01  # times whose spacing varies by less are even
_COMPARED = 200  # units of the reservoir beside which a net is judged
_PROBED, _KEPT = 64, 8


@register_recipe("forecaster")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ForecasterRecipe(Training):
    """Forecast a series of numbers, with bands."""

    batch_size: int = 32
    """Pieces a step; all, where there are fewer."""
    learning_rate: float = 5e-3
    """Of Adam, after clipping the gradient to norm 1."""
    times: str | None = None
    """The column of the times; one called time, t, year or date, else the rows are taken as even."""
    values: tuple[str, ...] = ()
    """The columns to forecast; all columns of numbers by default."""
    cell: Literal["gru", "lstm", "elman"] = "gru"
    """The recurrent cell."""
    width: int = 48
    """Units of the cell."""
    length: int = 50
    """Steps of a piece: how far back a gradient goes."""
    horizon: int = 50
    """Rows that are forecast on the part for testing."""
    fraction: float = 0.8
    """The part of the series that trains and calibrates; what comes later tests."""
    calibration: float = 0.25
    """The last part of those rows, which is kept from training and makes the bands."""
    mean: tuple[float, ...] = ()
    """Settled: of each column on the part for training."""
    scale: tuple[float, ...] = ()
    """Settled: the standard deviation of each column there."""

    def settled(self) -> "ForecasterRecipe":
        """The recipe with columns and scales in its fields."""
        require_counts(self)
        if not 0.2 <= self.fraction < 1:
            raise ValueError(explain("forecaster: fraction", self.fraction, "0.2 to below 1", "Take 0.8."))
        if not 0 < self.calibration < 0.9:
            got, do = self.calibration, "Take 0.25: bands are made of rows that were not trained on."
            raise ValueError(explain("forecaster: calibration", got, "above 0, below 0.9", do))
        if self.horizon < 1:
            raise ValueError(explain("forecaster: horizon", self.horizon, "at least 1", "Take 50."))
        called, _, rows, names, _ = self._series()
        train, _, _ = self._parts(rows)
        spread = train.std(axis=0)
        flat = next((name for name, size in zip(names, spread, strict=True) if not size > 0), None)
        if flat is not None:
            do = "Leave it out: name the others by --values."
            raise DataError(
                explain(f"{self.data}: column {flat!r}", "one value in every row", "values that change", do)
            )
        return dataclasses.replace(
            self, times=called, values=names, mean=tuple(map(float, train.mean(axis=0))), scale=tuple(map(float, spread)),
            digest=digest({"inputs": rows}),
        )  # fmt: skip

    def task(self) -> Task:
        """Squared errors of the next value on pieces of the part for training."""
        _, _, rows, _, notes = self._series()
        train, _, _ = self._parts(rows)
        count = len(train) - self.length
        # Pieces overlap by half, so that each row is heard with a past.
        starts = np.arange(0, count, max(1, self.length // 2))
        pieces = train[starts[:, None] + np.arange(self.length + 1)].astype(np.float32)
        size = min(self.batch_size, len(pieces))
        tested = len(rows) - round(len(rows) * self.fraction)
        if self.horizon > tested:
            notes = (
                *notes,
                f"the horizon of {self.horizon} rows is longer than the {tested} that test: it ends with these",
            )
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(self.learning_rate))
        options = {"batch_size": size} | length_of(self) | validated_by(self, None)
        initial = self.model(jax.random.fold_in(jax.random.key(self.seed), 0))
        return Task(next_value_loss, initial, pieces, optimizer, options, notes)

    def model(self, key: Any) -> Forecaster:
        """A new model."""
        of_cell, of_readout = jax.random.split(key)
        cell = CELLS[self.cell](len(self.values), self.width, dtype=jnp.float32, key=of_cell)
        return unlearned(cell, self.mean, self.scale, key=of_readout)

    def results(self, model: Any) -> dict[str, Any]:
        """Errors on the last part, of the next row and over the horizon, beside those of a reservoir and of no
        change; and the share of its rows that the bands hold, over all forecasts that begin there and lead by lead."""
        _, times, rows, names, _ = self._series()
        train, calibration, test = self._parts(rows)
        border, scale = len(train) + len(calibration), np.asarray(self.scale)
        ahead = min(self.horizon, len(test))
        about = "of rows that were not trained on, in spreads of a column"
        said = np.asarray(model.one_step(jnp.asarray(rows, jnp.float32)))[border - 1 : -1]
        last = rows[border - 1 : -1]
        found = {
            "rms_error_of_next_row": rms((((said - test) / scale) ** 2).ravel(), about),
            "rms_error_of_no_change": rms((((last - test) / scale) ** 2).ravel(), "the last row, said again"),
        }
        bands = held_out_errors(model, _heard(rows[:border]), ahead, first=len(train))
        forecasts = bands.around(forecast(model, _heard(rows[:border]), ahead))
        whole = float(np.mean(((np.asarray(forecasts.mean) - test[:ahead]) / scale) ** 2)) ** 0.5
        found[f"rms_error_of_{ahead}_rows"] = number(whole, None, ahead, "one forecast from the end of training")
        found |= _coverage(closed_loop_errors(model, _heard(rows), ahead, first=border), bands.quantiles)
        found |= self._beside(train, rows, border)
        return {"test": found, "pictures": self._pictures(times, rows, border, forecasts, names)}

    def forecast(self, model: Any, steps: int) -> dict[str, Any]:
        """The next rows after the last, with bands that hold nine tenths, made of all rows that were not trained on."""
        if steps < 1:
            raise ValueError(explain("forecast: steps", steps, "at least 1", "Say how many rows to go on."))
        _, times, rows, names, notes = self._series()
        train, _, _ = self._parts(rows)
        bands = held_out_errors(model, _heard(rows), steps, first=len(train))
        found = bands.around(forecast(model, _heard(rows), steps))
        spacing = times[-1] - times[-2]
        columns: dict[str, list[Any]] = {self._called(): (times[-1] + spacing * np.arange(1, steps + 1)).tolist()}
        for number_of, name in enumerate(names):
            columns[name] = _plain(found.mean[:, number_of])
            columns[f"{name} low"] = _plain(found.quantiles[0, :, number_of])
            columns[f"{name} high"] = _plain(found.quantiles[-1, :, number_of])
        return {"columns": columns, "notes": [*notes, *found.cautions, *bands.cautions]}

    def diagnose(self, model: Any) -> tuple[Any, Any]:
        """The net that hears itself, from the end of the series on: a system to ask questions of."""
        _, _, rows, _, _ = self._series()
        return model.loop(), model.listen(jnp.asarray(rows[-_PROBED:], jnp.float32))

    def program(self, model: Any) -> tuple[Any, tuple[int, ...], Any]:
        """The next row after each of a piece, for a batch of pieces, and what one piece is."""
        return lambda pieces: jax.vmap(model.one_step)(pieces), (self.length, len(self.values)), "float32"

    def _beside(self, train: Any, rows: Any, border: int) -> dict[str, Any]:
        """What a reservoir that was solved for, not trained, does on the same rows."""
        size = min(_COMPARED, len(train) // 4)
        net = reservoir(train.shape[1], size, key=jax.random.key(self.seed), dtype=jnp.float32)
        solved = train_reservoir(net, _heard(train), washout=min(100, len(train) // 4), ridge=1e-5)
        said = np.asarray(solved.one_step(_heard(rows)))[border - 1 : -1]
        about = f"a reservoir of {size} units on the same rows"
        return {
            "rms_error_of_a_reservoir": rms((((said - rows[border:]) / np.asarray(self.scale)) ** 2).ravel(), about)
        }

    def _pictures(self, times: Any, rows: Any, border: int, found: Any, names: tuple[str, ...]) -> list[dict[str, Any]]:
        ahead = len(found.mean)
        shown, after = slice(max(0, border - 2 * ahead), border + ahead), times[border : border + ahead]
        drawn = []
        for i, name in enumerate(names[:4]):
            parts = (found.mean, found.quantiles[0], found.quantiles[-1])
            mean, low, high = (np.asarray(part, float) for part in parts)
            lines = [
                curve("series", times[shown], rows[shown, i], dots=True),
                curve("forecast", after, mean[:, i], low=low[:, i], high=high[:, i]),
            ]
            drawn.append(curves(lines, f"{name}: forecast from the end of training", (self._called(), name)))
        return drawn

    def _called(self) -> str:
        return self.times or "row"

    def _parts(self, rows: Any) -> tuple[Any, Any, Any]:
        """Rows that train, that calibrate, that test."""
        end = round(len(rows) * self.fraction)
        kept = round(end * self.calibration)
        if end - kept < self.length + 2 or kept < _KEPT or len(rows) - end < 2:
            got, do = f"{len(rows)} rows", "Take a longer series, a smaller --length, or another --fraction."
            expected = f"more than {self.length + 1} that train, {_KEPT} that calibrate and 2 that test"
            raise DataError(explain(f"forecaster: {self.data}", got, expected, do))
        return rows[: end - kept], rows[end - kept : end], rows[end:]

    def _series(self) -> tuple[str | None, Any, Any, tuple[str, ...], tuple[str, ...]]:
        """The column of the times; even times, rows without gaps, the names of the columns, what must be reported."""
        table = read_table(Path(self.data))
        when = self.times or next((name for name in table.columns if name.lower() in _CALLED), None)
        names = self.values or tuple(n for n in table.columns if n != when and table.kind(n) == "number")
        for name in (*names, *([when] if when else [])):
            if name not in table.columns:
                do = "Name columns of the file."
                raise DataError(unknown(f"{self.data}: column", name, table.columns, do))
        wrong = next((name for name in names if table.kind(name) != "number"), None)
        if wrong is not None or not names:
            got = "no column of numbers" if wrong is None else f"column {wrong!r} of words or dates"
            raise DataError(explain(str(self.data), got, "columns of numbers", "Name others by --values."))
        times, rows, dates = _read(table, when, names)
        filled, gaps = _without_gaps(rows, names)
        times, filled, uneven = _evened(times, filled)
        require_same_data(self, digest({"inputs": filled}))
        return when, times, filled, names, (*dates, *gaps, *uneven)


def _read(table: Table, when: str | None, names: tuple[str, ...]) -> tuple[Any, Any, list[str]]:
    """Times, values with NaN where there are none, and what the times mean if they were dates."""
    if when is None:
        rows = [np.where(table.present(name), table.matrix(name)[:, 0], np.nan) for name in names]
        return np.arange(len(table), dtype=float), np.stack(rows, axis=1), []
    found = series(table, when, values=names)
    dates = [f"times are in {found.unit} since {found.origin}"] if found.unit else []
    return found[0].times, np.where(found[0].present, found[0].values, np.nan), dates


def _without_gaps(rows: Any, names: tuple[str, ...]) -> tuple[Any, list[str]]:
    """Values that are missing, on the line between their neighbours; at the ends the nearest."""
    filled, notes, place = rows.copy(), [], np.arange(len(rows))
    for column, name in enumerate(names):
        there = np.isfinite(rows[:, column])
        if not there.any():
            do = "Leave the column out: name the others by --values."
            raise DataError(explain(f"column {name!r}", "no value in any row", "some", do))
        filled[:, column] = np.interp(place, place[there], rows[there, column])
        gaps = int(np.sum(~there))
        if gaps:
            first = int(np.flatnonzero(~there)[0]) + 1
            where = f"column {name!r}: {gaps} missing, the first in row {first}"
            notes.append(f"{where}, filled by lines between neighbours")
    return filled, notes


def _evened(times: Any, rows: Any) -> tuple[Any, Any, list[str]]:
    """The same series at even times, where they are not."""
    if len(times) < 3:
        return times, rows, []
    gaps = np.diff(times)
    usual = float(np.median(gaps))
    uneven = np.abs(gaps / usual - 1) > _EVEN
    if not uneven.any():
        return times, rows, []
    grid = times[0] + usual * np.arange(int((times[-1] - times[0]) / usual + 1e-9) + 1)
    evened = np.stack([np.interp(grid, times, column) for column in rows.T], axis=1)
    first = int(np.flatnonzero(uneven)[0]) + 2
    return grid, evened, [f"times are uneven, first at row {first}: brought to steps of {usual:g} by straight lines"]


def _coverage(errors: Any, quantiles: Any) -> dict[str, Any]:
    """The share of rows inside the bands, over all starts, and at the first, middle and last lead."""
    inside = np.where(np.isnan(errors), np.nan, (errors >= quantiles[0]) & (errors <= quantiles[-1]))
    leads, found = inside.shape[1], {}
    by_lead = np.nanmean(inside, axis=(0, 2))
    seen = int(np.isfinite(inside).sum())
    found["share_inside_the_band"] = number(float(np.nanmean(inside)), None, seen, "of 0.9, over all starts and leads")
    for lead in sorted({1, (leads + 1) // 2, leads}):
        about = f"of 0.9, {lead} rows ahead"
        known = int(np.isfinite(inside[:, lead - 1]).sum())
        found[f"share_inside_at_{lead}"] = number(float(by_lead[lead - 1]), None, known, about)
    return found


def _heard(rows: Any) -> Any:
    return jnp.asarray(rows, jnp.float32)


def _plain(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in np.asarray(values)]
