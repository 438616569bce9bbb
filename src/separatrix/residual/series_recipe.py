r"""Recipe `series`: a flow for a table as it comes, its forecast with bands, and how long the forecast means anything.

Times may be uneven, values missing, experiments several, quantities never measured (`--hidden`, `--form second`),
columns positive (`--positive`) or between bounds (`--bounds share:0:1`), and others may drive them (`--inputs`): rows at
the end that hold inputs alone are for the forecast. Of each experiment the first part trains an ensemble of fields by
multiple shooting (`series_model`), the next sets the width of the bands (`series_bands`), the last one tests.

An error of the state of size e grows by the largest exponent lambda of the learned field, and is as large as a part
theta of the series at

    t = ln(theta/e)/lambda,     theta = 0.4 spreads of a column,

the horizon that is reported. Where lambda is not above its error there is none of this kind: what limits the forecast then
is the field, and the bands say it.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from separatrix._errors import DataError, explain
from separatrix.data.dataset import digest
from separatrix.residual.series_bands import (
    SeriesWindow,
    bands_of,
    calibrated,
    half_width,
    member_exponents,
    piece_misfits,
)
from separatrix.residual.series_files import require_changing, series_at
from separatrix.residual.series_model import (
    FileFlow,
    InputPath,
    ScaledColumns,
    SeriesFlow,
    ensemble_loss,
    new_fields,
)
from separatrix.residual.series_rows import (
    SeriesRows,
    bounds_of,
    clocks_of,
    first_slopes,
    fitted_columns,
    input_path,
    input_sizes,
    joined,
    last_seen,
    notes_on,
    rate_of_change,
    require_between,
    require_positive,
    require_room,
    room_of,
    rows_of,
    window_before,
)
from separatrix.residual.series_shown import VALID, band_columns, band_pictures, told_of
from separatrix.residual.shooting import Segments, ShootingModel, start_shooting
from separatrix.training.recipes import Task, Training, register_recipe
from separatrix.training.recipes.results import number, rms
from separatrix.training.recipes.training import require_counts, require_same_data, steps_of

_STEP = 0.5  # the longest step of RK4, in scaled time, where it is not said
_RIGHT = {
    "fraction": "0.2 to below 1", "calibration": "0 to below 1 - fraction", "members": "at least 1", "hidden": "0 or more",
    "matching": "0 or more", "penalty": "0 or more", "level": "0.5 to below 1", "substeps": "at least 1",
    "patience": "none: no part of a series validates", "batch_size": "none: all pieces train at once",
}  # fmt: skip


@register_recipe("series")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesRecipe(Training):
    """Fit a flow to a series as it comes, and forecast it with bands."""

    epochs: int = 1000
    """Steps, for each takes all pieces, if `steps` is not given."""
    batch_size: int = 1_000_000
    """All pieces in every step: their starts hang together."""
    learning_rate: float = 1e-2
    """Of Adam at first; it falls to nothing by a cosine."""
    times: str | None = None
    """The column of the times; the one called time, t, year or date, else the first."""
    values: tuple[str, ...] = ()
    """The columns to fit; all others by default."""
    experiment: str | None = None
    """The column that says which experiment a row belongs to."""
    positive: tuple[str, ...] = ()
    """Columns that are positive: they are fitted by their logarithms, and so are their bands."""
    bounds: tuple[str, ...] = ()
    """Columns between two numbers, each as name:low:high: fitted by log((y - low)/(high - y)), and so are their bands."""
    inputs: tuple[str, ...] = ()
    """Columns that drive the others and are not forecast: known at all times, in straight lines between rows."""
    form: Literal["first", "second"] = "first"
    """What the field gives: the rate of the state, or, of a mechanical system, the rate of its rate."""
    hidden: int = 0
    """How many quantities of the state were never measured (form first)."""
    members: int = 8
    """Fields of the ensemble."""
    width: int = 16
    """Units of a layer of the network."""
    depth: int = 2
    """Hidden layers of it."""
    length: int = 10
    """Rows of a piece, over which the flow is followed from a start."""
    matching: float = 10.0
    """Weight of the conditions that a piece begins where the last one ends."""
    penalty: float = 1e-5
    """Weight of the squares of the network's weights."""
    substeps: int | None = None
    """Steps of Runge and Kutta from row to row; as many as the widest gap needs."""
    fraction: float = 0.7
    """The part of each experiment that trains."""
    calibration: float = 0.15
    """The part after it that sets the width of the bands; what comes later tests."""
    level: float = 0.95
    """The share of values that the bands are to hold."""
    mean: tuple[float, ...] = ()
    """Settled: of each column in training, of its logarithm where it is positive."""
    scale: tuple[float, ...] = ()
    """Settled: the standard deviation of each there."""
    rate: float = 1.0
    """Settled: how fast scaled columns change; times are counted in its inverse."""
    input_mean: tuple[float, ...] = ()
    """Settled: of each input in training."""
    input_scale: tuple[float, ...] = ()
    """Settled: the standard deviation of each there."""
    pieces: int = 0
    """Settled: how many pieces the training parts make."""

    def settled(self) -> "SeriesRecipe":
        """The recipe with columns, scales and the number of pieces in its fields."""
        require_counts(self)
        for name, right in (
            ("fraction", 0.2 <= self.fraction < 1), ("calibration", 0 <= self.calibration < 1 - self.fraction),
            ("members", self.members >= 1), ("hidden", self.hidden >= 0), ("matching", self.matching >= 0),
            ("penalty", self.penalty >= 0), ("level", 0.5 <= self.level < 1), ("patience", self.patience is None),
            ("substeps", self.substeps is None or self.substeps >= 1), ("batch_size", self.batch_size >= 1_000_000),
        ):  # fmt: skip
            if not right:
                raise ValueError(explain(f"series: {name}", getattr(self, name), _RIGHT[name], "Repair the value."))
        if self.hidden and self.form == "second":
            do = "Leave out --hidden, or take --form first."
            raise ValueError(explain("series: hidden", self.hidden, "0 for form second, whose rates are hidden", do))
        rows, when, names, code, _ = self._rows()
        logs = tuple(name in self.positive for name in names)
        between = bounds_of(self.bounds, names, self.positive)
        plain = ScaledColumns((0.0,) * len(names), (1.0,) * len(names), logs, between)
        train = [np.asarray(plain.scaled(one.values[: one.trained])) for one in rows]
        known = np.concatenate(train)
        empty = next((name for name, column in zip(names, known.T, strict=True) if np.isnan(column).all()), None)
        if empty is not None:
            do = "Leave the column out: name the others by --values."
            raise DataError(explain(f"{self.data}: column {empty!r}", "no value in a row that trains", "some", do))
        mean, scale = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
        require_changing(self.data, names, scale)
        input_mean, input_scale = input_sizes(self.data, rows, self.inputs)
        settled = dataclasses.replace(
            self, times=when, values=names, input_mean=input_mean, input_scale=input_scale,
            mean=tuple(map(float, mean)), scale=tuple(map(float, scale)),
            rate=rate_of_change([one.times[: one.trained] for one in rows], [x / scale for x in train]), digest=code,
        )  # fmt: skip
        gap = max(float(np.max(np.diff(one.times))) for one in rows) * settled.rate
        steps = self.substeps or int(np.clip(np.ceil(gap / _STEP), 2, 64))
        settled = dataclasses.replace(settled, substeps=steps)
        return dataclasses.replace(settled, pieces=len(settled._pieces(rows).times))

    def task(self) -> Task:
        """The misfits of pieces of the training part, each followed from a start that is trained too."""
        rows, _, names, _, notes = self._rows()
        pieces = self._pieces(rows)
        fields = self._new_fields(jax.random.fold_in(jax.random.key(self.seed), 0))
        starts = start_shooting(None, pieces, width=self._size).starts
        if self.form == "second":
            starts = starts.at[:, len(names) :].set(first_slopes(pieces, (len(starts), len(names))))
        initial = ShootingModel(fields, jnp.broadcast_to(starts, (self.members, *starts.shape)))
        steps = steps_of(self, len(pieces.times))
        loss = ensemble_loss(self.form == "second", len(names), self.matching, self.substeps or 1, self.penalty,
                             self._path(rows))  # fmt: skip
        optimizer = optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(self.learning_rate, steps))
        )
        return Task(loss, initial, pieces, optimizer, {"batch_size": None, "steps": steps}, notes)

    def model(self, key: Any) -> ShootingModel:
        """New fields, with starts of zero."""
        return ShootingModel(self._new_fields(key), jnp.zeros((self.members, self.pieces, self._size)))

    def results(self, model: Any) -> dict[str, Any]:
        """Errors and bands on the last part, the exponent of the field, and the horizon that follows."""
        rows, _, names, _, _ = self._rows()
        sigma, factor = self._noise(model, rows)
        test: dict[str, Any] = {"rms_misfit_of_training": number(float(np.sqrt(np.mean(sigma**2))), None,
                                self.pieces, "of pieces from their trained starts, in spreads of a column")}  # fmt: skip
        judged, room = [one.judged for one in rows], room_of(rows)
        window = self._window(rows, judged, room)
        truth, present = self._ahead(rows, judged, room)
        found = self._bands(model, rows, window, sigma, self.seed)
        if present.any():
            mean, spread = (np.asarray(part)[:, self._back :] for part in (found.mean, found.spread))
            reach = factor * half_width(self.level) * np.sqrt(spread**2 + sigma**2)
            errors = np.where(np.isfinite(mean), mean - truth, np.inf)[present]
            last = np.asarray([last_seen(w, p) for w, p in zip(window.values, window.present, strict=True)])
            still = (np.broadcast_to(last[:, None], truth.shape) - truth)[present]
            inside = (np.abs(mean - truth) <= reach)[present]
            about = "of rows that did not train, forecast from the row before them, in spreads of a column"
            test |= {
                "rms_error": rms(errors**2, about),
                "rms_error_of_no_change": rms(still**2, "the last row, said again"),
                "share_inside_the_band": number(float(inside.mean()), None, inside.size, f"of {self.level:g}"),
            }
        test["widening_of_the_band"] = number(factor, None, 1, "c: how much wider than the ensemble and the noise say")
        horizon, lines = self._horizon(model, float(np.median(np.asarray(found.known))), len(rows))
        test |= horizon
        shown = tuple(part[:, self._back :] for part in self._limits(found, sigma, factor))
        pictures = band_pictures(rows, names, self.times or "time", shown)
        return {"test": test, "text": lines, "pictures": pictures}

    def forecast(
        self, model: Any, steps: int, *, horizon: float | None = None, draws: int = 16, seed: int = 0
    ) -> dict[str, Any]:
        """What comes after the last row of each experiment, with bands; `horizon`: so far in the unit of the times."""
        if horizon is not None and not 0 < horizon < np.inf:
            raise ValueError(explain("forecast: horizon", horizon, "a time above 0", "Leave it out for --steps."))
        rows, when, _, _, _ = self._rows()
        gaps = [float(np.median(np.diff(one.times))) for one in rows]
        if horizon is not None:
            steps = max(1, int(np.ceil(horizon / max(gaps) - 1e-9)))
        if steps < 1 or draws < 2:
            got, do = f"{steps} steps and {draws} draws", "Say how many rows to go on."
            raise ValueError(explain("forecast: steps, draws", got, "at least 1 and 2", do))
        sigma, factor = self._noise(model, rows)
        ahead = [one.times[-1] + gap * np.arange(1, steps + 1) for one, gap in zip(rows, gaps, strict=True)]
        if horizon is not None:
            ahead = [one.times[-1] + np.linspace(0, horizon, steps + 1)[1:] for one in rows]
        require_room(rows, ahead)
        window = self._window(rows, [len(one.times) for one in rows], steps, ahead)
        found = self._bands(model, rows, window, sigma, seed, draws)
        kept = [slice(self._back, self._back + steps)] * len(rows)
        limits = self._limits(found, sigma, factor)
        columns = band_columns(rows, self.experiment, when, self.values, ahead, kept, limits)
        return {"columns": columns, "notes": told_of(rows, found.spread[:, self._back :], ahead)}

    def predict(self, model: Any, path: Path) -> dict[str, Any]:
        """The values at all times of a file: its state is found on the first rows, the others are forecast from there."""
        other = dataclasses.replace(self, data=path, digest="")
        rows, when, _, _, notes = other._rows()
        sigma, factor = self._noise(model, self._rows()[0])
        begins = [min(self._back, len(one.times)) for one in rows]
        room = max(1, *(len(one.times) - at for one, at in zip(rows, begins, strict=True)))
        found = self._bands(model, rows, other._window(rows, begins, room), sigma, self.seed)
        kept = [slice(self._back - at, self._back - at + len(one.times)) for one, at in zip(rows, begins, strict=True)]
        limits, times = self._limits(found, sigma, factor), [one.times for one in rows]
        columns = band_columns(rows, self.experiment, when, self.values, times, kept, limits)
        return {"columns": columns, "notes": list(notes)}

    def flow(self, model: Any, member: int = 0) -> FileFlow:
        """The flow of a member, in the units of the file, with inputs held at their means."""
        field = jax.tree.map(lambda leaf: leaf[member] if eqx.is_array(leaf) else leaf, model.model)
        return FileFlow(SeriesFlow(field, self.form == "second", self._held), self._columns, self.rate)

    def diagnose(self, model: Any) -> tuple[Any, Any]:
        """The flow of the first member, and where its last piece begins: a system to ask questions of."""
        flow, start, count = self.flow(model), model.starts[0, -1], len(self.values)
        if self.form == "second":
            values, slope = jax.jvp(self._columns.unscaled, (start[:count],), (jnp.ones(count),))
            return flow, jnp.concatenate([values, self.rate * slope * start[count:]])
        return flow, jnp.concatenate([self._columns.unscaled(start[:count]), start[count:]])

    def program(self, model: Any) -> tuple[Any, tuple[int, ...], Any]:
        """The velocity for a batch of states, and what one state is."""
        flow = self.flow(model)
        return lambda states: jax.vmap(lambda x: flow.velocity(0.0, x))(states), (self._size,), "float32"

    @property
    def _size(self) -> int:
        return 2 * len(self.values) if self.form == "second" else len(self.values) + self.hidden

    @property
    def _back(self) -> int:
        """Rows that a state is found from."""
        return 2 * self.length

    @property
    def _columns(self) -> ScaledColumns:
        logs = tuple(name in self.positive for name in self.values)
        return ScaledColumns(self.mean, self.scale, logs, bounds_of(self.bounds, self.values, self.positive))

    @property
    def _held(self) -> InputPath | None:
        """Inputs at their means for ever."""
        return InputPath(jnp.arange(2.0), jnp.zeros((2, len(self.inputs)))) if self.inputs else None

    def _new_fields(self, key: Any) -> Any:
        size = self._size + len(self.inputs)
        return new_fields(size, len(self.values) + self.hidden, self.width, self.depth, self.members, key)

    def _path(self, rows: list[SeriesRows]) -> InputPath | None:
        plain = (False,) * len(self.inputs)
        return input_path(rows, self.rate, ScaledColumns(self.input_mean, self.input_scale, plain))

    def _rows(self) -> tuple[list[SeriesRows], str, tuple[str, ...], str, tuple[str, ...]]:
        """Experiments, the column of times, those of values, the digest of all, and what must be reported."""
        wanted = (*self.values, *self.inputs) if self.values else ()
        found, when = series_at(self.data, self.times, wanted, self.experiment)
        names = fitted_columns(found.names, self.values, self.inputs, self.positive)
        rows = [rows_of(self.data, one, self.fraction, self.calibration, found.names, self.inputs) for one in found]
        between = bounds_of(self.bounds, names, self.positive)
        require_positive(self.data, rows, names, self.positive)
        require_between(self.data, rows, names, between)
        parts = {}
        for i, one in enumerate(rows):
            parts |= {f"t{i}": one.times, f"x{i}": np.nan_to_num(one.values, nan=1e300)}
            parts |= {} if one.inputs is None else {f"u{i}": one.inputs[1], f"v{i}": one.inputs[0]}
        code = digest(parts)
        require_same_data(self, code)
        return rows, when, names, code, notes_on(rows, found, names)

    def _pieces(self, rows: list[SeriesRows]) -> Segments:
        """The training parts in pieces that follow each other, scaled."""
        parts = []
        for one, clock in zip(rows, clocks_of(rows, self.rate), strict=True):
            times = (one.times[: one.trained] - one.times[0]) * self.rate + clock
            values = np.asarray(self._columns.scaled(one.values[: one.trained]))
            parts.append((times, values))
        return joined(parts, self.length)

    def _window(self, rows: list[SeriesRows], ends: list[int], room: int, ahead: Any = None) -> SeriesWindow:
        """The rows before `ends`, and `room` instants after them: those of the rows, or others."""
        later = [one.times[end:] for one, end in zip(rows, ends, strict=True)] if ahead is None else ahead
        return window_before(rows, ends, later, room, self._back, self.rate, self._columns)

    def _ahead(self, rows: list[SeriesRows], begins: list[int], room: int, ends: Any = None) -> tuple[Any, Any]:
        """Scaled values (E, room, columns) from `begins` on, and which there are."""
        values = np.full((len(rows), room, len(self.values)), np.nan)
        for i, (one, begin) in enumerate(zip(rows, begins, strict=True)):
            part = np.asarray(self._columns.scaled(one.values[begin : None if ends is None else ends[i]]))
            values[i, : len(part)] = part
        return np.nan_to_num(values), ~np.isnan(values)

    def _bands(
        self, model: Any, rows: list[SeriesRows], window: SeriesWindow, sigma: Any, seed: int, draws: int = 16
    ) -> Any:
        second, steps, key = self.form == "second", self.substeps or 1, jax.random.key(seed)
        return bands_of(model.model, second, window, jnp.asarray(sigma), steps, draws, key, self._path(rows))

    def _noise(self, model: Any, rows: list[SeriesRows]) -> tuple[Any, float]:
        """What is left of each column on the part that trained, and the factor of the bands from the part after it."""
        pieces = self._pieces(rows)
        path = self._path(rows)
        sigma = np.asarray(piece_misfits(model, self.form == "second", pieces, self.substeps or 1, path))
        borders, ends = [one.trained for one in rows], [one.judged for one in rows]
        room = room_of(rows)
        later = [one.times[border:end] for one, border, end in zip(rows, borders, ends, strict=True)]
        found = self._bands(model, rows, self._window(rows, borders, room, later), sigma, self.seed)
        truth, present = self._ahead(rows, borders, room, ends)
        return sigma, calibrated(found, truth, present, sigma, self.level, self._back)

    def _limits(self, found: Any, sigma: Any, factor: float) -> tuple[Any, Any, Any]:
        """Low, middle and high of the bands in the units of the file."""
        reach = factor * half_width(self.level) * np.sqrt(np.asarray(found.spread) ** 2 + sigma**2)
        mean = np.asarray(found.mean)
        low, middle, high = (
            np.asarray(self._columns.unscaled(jnp.asarray(part))) for part in (mean - reach, mean, mean + reach)
        )
        return low, middle, high

    def _horizon(self, model: Any, known: float, experiments: int) -> tuple[dict[str, Any], list[str]]:
        """The exponent of the learned field, and how long a forecast from a state so well known means anything."""
        exponents, errors = member_exponents(model, self.form == "second", self._held)
        middle = float(np.median(exponents)) if np.isfinite(exponents).all() else np.nan
        spread = float(np.sqrt(np.std(exponents) ** 2 + np.mean(errors**2)))
        found = {
            "spread_of_the_state": number(known, None, experiments, "where a forecast begins, in spreads of a column"),
            "largest_exponent": number(middle * self.rate, spread * self.rate, len(exponents),
                                       "of the learned field, a unit of time; over members"),
        }  # fmt: skip
        if not np.isfinite(middle):
            return found, ["A member leaves all bounds: the learned field has no exponent, trust no long forecast."]
        if middle <= 2 * spread:
            said = "errors of the state do not grow by it: what limits a forecast is the field, see the bands"
            return found, [f"Largest exponent {middle * self.rate:.3g} +- {spread * self.rate:.1g}: {said}."]
        horizon = max(0.0, np.log(VALID / known) / (middle * self.rate)) if known > 0 else np.inf
        found["horizon"] = number(horizon, None, 1, f"time until an error of the state is {VALID:g} spreads")
        return found, [f"A forecast means something for about {horizon:.3g} units of time."]
