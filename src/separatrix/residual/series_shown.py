"""What recipe `series` shows: columns of a forecast with its bands, notes on how far it means anything, and pictures."""

from typing import Any

import numpy as np

from separatrix.residual.series_rows import SeriesRows, plain_values
from separatrix.training.recipes.results import curve, curves

VALID = 0.4  # spreads of a column at which a forecast is worth nothing


def band_columns(
    rows: list[SeriesRows],
    experiment: str | None,
    when: str,
    names: tuple[str, ...],
    times: list[Any],
    kept: list[slice],
    limits: Any,
) -> dict[str, Any]:
    """Columns of all experiments, one after the other: times, and of each column the middle, low and high."""
    columns: dict[str, list[Any]] = {} if experiment is None else {experiment: []}
    columns |= {when: []} | {f"{name}{part}": [] for name in names for part in ("", " low", " high")}
    for i, one in enumerate(rows):
        if experiment is not None:
            columns[experiment] += [one.name] * len(times[i])
        columns[when] += times[i].tolist()
        for k, name in enumerate(names):
            for part, values in zip((" low", "", " high"), limits, strict=True):
                columns[f"{name}{part}"] += plain_values(values[i, kept[i], k])
    return columns


def told_of(rows: list[SeriesRows], spread: Any, ahead: list[Any]) -> list[str]:
    """How far forecasts with these spreads, (E, T, columns), mean anything, and from when their inputs are guesses."""
    sizes_of = np.sqrt(np.mean(np.asarray(spread) ** 2, axis=2))
    notes = []
    for one, times, sizes in zip(rows, ahead, sizes_of, strict=True):
        past = np.flatnonzero(~(sizes <= VALID))
        of = f"{one.name}: " if len(rows) > 1 else ""
        if len(past):
            notes.append(f"{of}members are {VALID:g} spreads apart from {times[past[0]]:.6g} on: no forecast after it")
        if one.inputs is not None and times[-1] > one.inputs[0][-1]:
            last = one.inputs[0][-1]
            notes.append(f"{of}inputs are known up to {last:.6g} and held after it: add rows with inputs alone")
    return notes


def band_pictures(rows: list[SeriesRows], names: tuple[str, ...], when: str, limits: Any) -> list[Any]:
    """The part for testing of the first experiments and columns, with its forecast."""
    low, middle, high = limits
    drawn = []
    for i, one in enumerate(rows[:4]):
        later = one.times[one.judged :]
        for k, name in enumerate(names[:4]):
            there = ~np.isnan(one.values[:, k])
            bands = (part[i, : len(later), k] for part in (middle, low, high))
            lines = [
                curve("series", one.times[there], one.values[there, k], dots=True),
                curve("forecast", later, *bands),
            ]
            of = f"{one.name}: " if len(rows) > 1 else ""
            drawn.append(curves(lines, f"{of}{name}, forecast of the part for testing", (when, name)))
    return drawn
