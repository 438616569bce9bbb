"""The rows of a series as recipe `series` has them: which train, which judge, and windows of one shape for all."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from separatrix._errors import DataError, explain
from separatrix.data import Experiment, Series
from separatrix.residual.series_bands import SeriesWindow
from separatrix.residual.series_model import ScaledColumns
from separatrix.residual.shooting import Segments

_FEWEST = 4
_APART = 1e3  # sizes of columns that differ by more are reported


class SeriesRows(eqx.Module):
    """One experiment: `times` (n,), `values` (n, columns) with NaN for gaps, and the ends of training and calibration."""

    name: str = eqx.field(static=True)
    times: Any
    values: Any
    trained: int = eqx.field(static=True)
    judged: int = eqx.field(static=True)


def rows_of(data: Any, one: Experiment, fraction: float, calibration: float) -> SeriesRows:
    """An experiment and its parts; the first has all that can be had where it is short.

    **Raises:** `DataError` for fewer rows than can train.
    """
    count = len(one)
    trained = min(count, max(round(count * fraction), _FEWEST))
    if count < _FEWEST:
        do = "Leave this experiment out, or take a longer series."
        raise DataError(explain(f"{data}: {one.name}", f"{count} rows", f"at least {_FEWEST}", do))
    return SeriesRows(
        one.name, one.times, one.values, trained, min(count, max(round(count * (fraction + calibration)), trained))
    )


def require_positive(data: Any, rows: list[SeriesRows], names: tuple[str, ...], positive: tuple[str, ...]) -> None:
    """Refuse a value of zero or less in a column that is said to be positive, with its row."""
    for one in rows:
        for name in positive:
            wrong = np.flatnonzero(one.values[:, names.index(name)] <= 0)
            if len(wrong):
                got = f"{one.values[wrong[0], names.index(name)]:g} in row {wrong[0] + 1} of {one.name}"
                do = "Repair the value, or leave the column out of --positive."
                raise DataError(explain(f"{data}: column {name!r}", got, "values above 0", do))


def notes_on(rows: list[SeriesRows], found: Series) -> tuple[str, ...]:
    """What must be reported: gaps, uneven times, dates, and columns of very different size."""
    notes = []
    for k, name in enumerate(found.names):
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
        low, high = found.names[int(sizes.argmin())], found.names[int(sizes.argmax())]
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
    """Of each experiment `back` rows before its end, and `room` instants later, in scaled variables from the first on."""
    times, values, ahead = [], [], []
    for one, end, instants in zip(rows, ends, later, strict=True):
        first = max(0, end - back)
        seen = one.times[first:end]
        fill = back - len(seen)
        times.append(np.concatenate([np.repeat(seen[:1], fill), seen]))
        scaled = np.asarray(columns.scaled(one.values[first:end]))
        values.append(np.concatenate([np.full((fill, scaled.shape[1]), np.nan), scaled]))
        instants = np.asarray(instants)[:room]
        last = instants[-1:] if len(instants) else seen[-1:]
        ahead.append(np.concatenate([instants, np.repeat(last, room - len(instants))]))
    begin = np.asarray(times)[:, :1]
    known = np.asarray(values)
    return SeriesWindow(
        jnp.asarray((np.asarray(times) - begin) * rate), jnp.asarray(np.nan_to_num(known)), jnp.asarray(~np.isnan(known)),
        jnp.asarray((np.asarray(ahead) - begin) * rate),
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
