"""The rows of a series as recipe `series` has them: which train, which judge, and windows of one shape for all."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from separatrix._errors import DataError, explain
from separatrix.data import Experiment, Series
from separatrix.residual.series_bands import SeriesWindow
from separatrix.residual.series_files import require_changing
from separatrix.residual.series_model import InputPath, ScaledColumns
from separatrix.residual.shooting import Segments

_FEWEST = 4
_APART = 1e3  # sizes of columns that differ by more are reported
CLOCK = 20  # so many times the longest experiment may be forecast with inputs, if there are several


class SeriesRows(eqx.Module):
    """One experiment: `times` (n,), `values` (n, columns) with NaN for gaps, and the ends of training and calibration.

    `inputs`: times (m,) and values (m, k) of what drives it, without gaps; rows past the last value are of inputs alone.
    """

    name: str = eqx.field(static=True)
    times: Any
    values: Any
    trained: int = eqx.field(static=True)
    judged: int = eqx.field(static=True)
    inputs: Any = None


def rows_of(
    data: Any, one: Experiment, fraction: float, calibration: float, names: tuple[str, ...], inputs: tuple[str, ...]
) -> SeriesRows:
    """An experiment and its parts, `names` of its columns; the first part has all that can be had where it is short.

    **Raises:** `DataError` for fewer rows than can train, and for an input without a value.
    """
    kept = [i for i, name in enumerate(names) if name not in inputs]
    driven = None
    if inputs:
        driven = one.times, _without_gaps(data, one, names, inputs)
        seen = np.flatnonzero(one.present[:, kept].any(axis=1))
        count = seen[-1] + 1 if len(seen) else 0
        one = Experiment(one.name, one.times[:count], one.values[:count], one.present[:count])
    count = len(one)
    trained = min(count, max(round(count * fraction), _FEWEST))
    if count < _FEWEST:
        do = "Leave this experiment out, or take a longer series."
        raise DataError(explain(f"{data}: {one.name}", f"{count} rows", f"at least {_FEWEST}", do))
    judged = min(count, max(round(count * (fraction + calibration)), trained))
    return SeriesRows(one.name, one.times, one.values[:, kept], trained, judged, driven)


def _without_gaps(data: Any, one: Experiment, names: tuple[str, ...], inputs: tuple[str, ...]) -> Any:
    """Inputs with straight lines where none was seen, (m, k)."""
    columns = []
    for name in inputs:
        column = one.values[:, names.index(name)]
        seen = ~np.isnan(column)
        if not seen.any():
            do = "Leave it out of --inputs, or leave this experiment out."
            raise DataError(explain(f"{data}: input {name!r}", f"no value in {one.name}", "some", do))
        columns.append(np.interp(one.times, one.times[seen], column[seen]))
    return np.stack(columns, axis=1)


def clocks_of(rows: list[SeriesRows], rate: float) -> list[float]:
    """Where each experiment begins on one scaled clock, by which inputs are known: apart by `CLOCK` times the longest."""
    if rows[0].inputs is None:
        return [0.0] * len(rows)
    longest = max(float(one.inputs[0][-1] - one.inputs[0][0]) for one in rows) * rate
    return [i * (1 + CLOCK) * longest for i in range(len(rows))]


def input_path(rows: list[SeriesRows], rate: float, columns: ScaledColumns) -> InputPath | None:
    """The scaled inputs of all experiments on that clock, each held until the next begins."""
    if rows[0].inputs is None:
        return None
    begins = clocks_of(rows, rate)
    times, values = [], []
    for i, (one, begin) in enumerate(zip(rows, begins, strict=True)):
        instants, known = one.inputs
        known = np.asarray(columns.scaled(known))
        times.append((instants - one.times[0]) * rate + begin)
        values.append(known)
        if i + 1 < len(rows):
            times.append(np.nextafter(begins[i + 1 : i + 2], 0.0))
            values.append(known[-1:])
    return InputPath(jnp.asarray(np.concatenate(times)), jnp.asarray(np.concatenate(values)))


def input_sizes(
    data: Any, rows: list[SeriesRows], inputs: tuple[str, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each input over the rows that train."""
    if not inputs:
        return (), ()
    known = np.concatenate([one.inputs[1][: one.trained] for one in rows])
    require_changing(data, inputs, np.std(known, axis=0))
    return tuple(map(float, np.mean(known, axis=0))), tuple(map(float, np.std(known, axis=0)))


def require_room(rows: list[SeriesRows], ahead: list[Any]) -> None:
    """Refuse a forecast past where inputs of one experiment are told from those of the next."""
    if rows[0].inputs is None or len(rows) == 1:
        return
    most = CLOCK * max(float(one.inputs[0][-1] - one.inputs[0][0]) for one in rows)
    longest = max(float(times[-1] - one.times[0]) for one, times in zip(rows, ahead, strict=True))
    if longest > most:
        got, do = f"{longest:.6g} from the first row", "Forecast fewer rows, or train on one experiment."
        raise ValueError(explain("forecast: horizon", got, f"at most {most:.6g} with inputs", do))


def fitted_columns(
    found: tuple[str, ...], values: tuple[str, ...], inputs: tuple[str, ...], positive: tuple[str, ...]
) -> tuple[str, ...]:
    """The columns that are fitted: those found that are no inputs.

    **Raises:** `DataError` for inputs or positive columns that there are not, an input that is fitted too or named twice,
    and if nothing is left.
    """
    names = tuple(name for name in found if name not in inputs)
    for field, chosen, free in (("inputs", inputs, found), ("positive", positive, names)):
        unknown = next((name for name in chosen if name not in free), None)
        if unknown is not None:
            raise DataError(explain(f"series: {field}", repr(unknown), f"of {', '.join(free)}", "Name these."))
    twice = next((name for name in inputs if name in values or inputs.count(name) > 1), None)
    if twice is not None or not names:
        got = "all columns" if twice is None else f"{twice!r} twice"
        raise DataError(explain("series: inputs", got, "columns that are not fitted, each once", "Leave it out."))
    return names


def bounds_of(bounds: tuple[str, ...], names: tuple[str, ...], positive: tuple[str, ...]) -> Any:
    """(a, b) of each column that `bounds` names as name:a:b, None of the others.

    **Raises:** `DataError` for another form, a column that is none or is positive, and a above b.
    """
    found: dict[str, tuple[float, float]] = {}
    for text in bounds:
        name, *ends = text.rsplit(":", 2)
        try:
            low, high = map(float, ends)
        except ValueError:
            low, high = np.nan, np.nan
        if not -np.inf < low < high < np.inf:
            expected, do = "a column and two numbers that increase", "Write for example --bounds share:0:1."
            raise DataError(explain("series: bounds", repr(text), expected, do))
        if name not in names or name in positive:
            free = ", ".join(one for one in names if one not in positive)
            raise DataError(
                explain("series: bounds", repr(name), f"one of {free}", "Name a column that is not positive.")
            )
        found[name] = (low, high)
    return tuple(found.get(name) for name in names)


def require_between(data: Any, rows: list[SeriesRows], names: tuple[str, ...], bounds: Any) -> None:
    """Refuse a value on the bounds of its column or past them, with its row."""
    for one in rows:
        for name, column, between in zip(names, one.values.T, bounds, strict=True):
            if between is None:
                continue
            wrong = np.flatnonzero((column <= between[0]) | (column >= between[1]))
            if len(wrong):
                got = f"{column[wrong[0]]:g} in row {wrong[0] + 1} of {one.name}"
                do = "Repair the value, or widen --bounds."
                expected = f"values between {between[0]:g} and {between[1]:g}"
                raise DataError(explain(f"{data}: column {name!r}", got, expected, do))


def require_positive(data: Any, rows: list[SeriesRows], names: tuple[str, ...], positive: tuple[str, ...]) -> None:
    """Refuse a value of zero or less in a column that is said to be positive, with its row."""
    for one in rows:
        for name in positive:
            wrong = np.flatnonzero(one.values[:, names.index(name)] <= 0)
            if len(wrong):
                got = f"{one.values[wrong[0], names.index(name)]:g} in row {wrong[0] + 1} of {one.name}"
                do = "Repair the value, or leave the column out of --positive."
                raise DataError(explain(f"{data}: column {name!r}", got, "values above 0", do))


def notes_on(rows: list[SeriesRows], found: Series, columns: tuple[str, ...]) -> tuple[str, ...]:
    """What must be reported: gaps, uneven times, dates, and columns of very different size."""
    notes = []
    for k, name in enumerate(columns):
        gaps = sum(int(np.isnan(one.values[:, k]).sum()) for one in rows)
        whole = next((one.name for one in rows if np.isnan(one.values[:, k]).all()), None)
        if gaps:
            notes.append(f"column {name!r}: {gaps} missing, left out of the misfit")
        if whole is not None and len(rows) > 1:
            notes.append(f"column {name!r} was never seen in experiment {whole!r}")
    steps = np.concatenate([np.diff(one.times) for one in rows])
    if steps.max() > 1.01 * steps.min():
        notes.append(f"times are uneven, {steps.min():.4g} to {steps.max():.4g} apart, and are taken as they are")
    if found.unit:
        notes.append(f"times are in {found.unit} since {found.origin}")
    values = np.concatenate([one.values for one in rows])
    sizes = np.array([np.std(column[~np.isnan(column)]) if not np.isnan(column).all() else 0.0 for column in values.T])
    if sizes.min() > 0 and sizes.max() > _APART * sizes.min():
        low, high = columns[int(sizes.argmin())], columns[int(sizes.argmax())]
        said = f"columns differ in size, {low!r} {sizes.min():.2g} to {high!r} {sizes.max():.2g}"
        notes.append(f"{said}: each is scaled by its own spread inside")
    return tuple(notes)


def joined(parts: list[tuple[Any, Any]], length: int) -> Segments:
    """Pieces, one after the other, of several orbits with their own times; NaN where nothing was seen."""
    experiments = [_cut_one(times, values, length) for times, values in parts]
    return Segments(*(jnp.concatenate([jnp.asarray(part[i]) for part in experiments]) for i in range(4)))


def _cut_one(times: Any, values: Any, length: int) -> tuple[Any, Any, Any, Any]:
    last = len(times) - 1
    begins = np.arange(0, last, length)
    places = begins[:, None] + np.arange(length + 1)
    inside = places <= last
    places = np.minimum(places, last)
    present = ~np.isnan(values)[places] & inside[..., None]
    return (
        times[places],
        np.where(present, values[places], 0.0),
        present,
        np.append(np.ones(len(begins) - 1, bool), False),
    )


def window_before(
    rows: list[SeriesRows], ends: list[int], later: list[Any], room: int, back: int, rate: float, columns: ScaledColumns
) -> SeriesWindow:
    """Of each experiment `back` rows before its end, and `room` instants later, in scaled variables."""
    times, values, ahead = [], [], []
    for one, end, instants, clock in zip(rows, ends, later, clocks_of(rows, rate), strict=True):
        first = max(0, end - back)
        seen = one.times[first:end]
        fill = back - len(seen)
        times.append((np.concatenate([np.repeat(seen[:1], fill), seen]) - one.times[0]) * rate + clock)
        scaled = np.asarray(columns.scaled(one.values[first:end]))
        values.append(np.concatenate([np.full((fill, scaled.shape[1]), np.nan), scaled]))
        instants = np.asarray(instants)[:room]
        last = instants[-1:] if len(instants) else seen[-1:]
        instants = np.concatenate([instants, np.repeat(last, room - len(instants))])
        ahead.append((instants - one.times[0]) * rate + clock)
    known = np.asarray(values)
    return SeriesWindow(
        jnp.asarray(np.asarray(times)), jnp.asarray(np.nan_to_num(known)), jnp.asarray(~np.isnan(known)),
        jnp.asarray(np.asarray(ahead)),
    )  # fmt: skip


def first_slopes(pieces: Segments, shape: tuple[int, int]) -> Any:
    """Rates at the starts of pieces, by the first two values that each column has there; 0 where there are not two."""
    times, values, present = (np.asarray(part) for part in pieces[:3])
    slopes = np.zeros(shape)
    for s, k in np.ndindex(shape):
        seen = np.flatnonzero(present[s, :, k])[:2]
        if len(seen) == 2:
            slopes[s, k] = (values[s, seen[1], k] - values[s, seen[0], k]) / (times[s, seen[1]] - times[s, seen[0]])
    return jnp.asarray(slopes)


def rate_of_change(times: list[Any], values: list[Any]) -> float:
    """How fast scaled columns change: sqrt(sum of squared changes over sum of squared gaps), between neighbours."""
    changes, gaps = 0.0, 0.0
    for instants, rows in zip(times, values, strict=True):
        steps = np.diff(rows, axis=0)
        there = ~np.isnan(steps)
        changes += float(np.sum(steps[there] ** 2))
        gaps += float(np.sum(there * np.diff(instants)[:, None] ** 2))
    return float(np.sqrt(changes / gaps)) if changes > 0 else 1.0


def room_of(rows: list[SeriesRows]) -> int:
    """Rows of the longest part that judges or tests: one for both, so that both are one program."""
    return max(1, *(max(len(one.times) - one.judged, one.judged - one.trained) for one in rows))


def last_seen(values: Any, present: Any) -> Any:
    """Of each column the last value of a window that was seen; its mean, 0, where none was."""
    last = len(values) - 1 - np.argmax(np.asarray(present)[::-1], axis=0)
    return np.asarray(values)[last, np.arange(values.shape[1])]


def plain_values(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
