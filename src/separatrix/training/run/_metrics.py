"""Lines of measurements as arrays."""

from typing import Any

import numpy as np

_WORDS = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}


def metrics_of(records: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Steps, times, and values by name; NaN where a name was not measured, or in another shape than first.

    Records of one step are one measurement; what was measured twice counts as it was last.
    """
    merged: dict[int, dict[str, Any]] = {}
    for record in records:
        if type(record.get("step")) is int:
            merged.setdefault(record["step"], {}).update(record)
    rows = list(merged.values())
    flat = [dict(_flat("", {n: v for n, v in row.items() if n not in ("step", "time")})) for row in rows]
    first: dict[str, np.ndarray] = {}
    for row in flat:
        for name, value in row.items():
            first.setdefault(name, value)
    steps = np.array([row["step"] for row in rows], np.int64)
    times = np.array([row["time"] if isinstance(row.get("time"), int | float) else np.nan for row in rows], np.float64)
    return steps, times, {name: _column(flat, name, value.shape) for name, value in first.items()}


def _column(rows: list[dict[str, np.ndarray]], name: str, shape: tuple[int, ...]) -> np.ndarray:
    gap = np.full(shape, np.nan)
    found = [row.get(name, gap) for row in rows]
    return np.stack([value if value.shape == shape else gap for value in found])


def _flat(path: str, value: Any) -> Any:
    """Names and arrays of a value; what lies inside of dictionaries and uneven lists adds to the name."""
    if not isinstance(value, dict) and (array := _array(value)) is not None:
        yield path, array
    elif isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(f"{path}.{name}" if path else str(name), inner)


def _array(value: Any) -> np.ndarray | None:
    try:
        return np.array(_numbers(value), np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return _WORDS.get(value, value)
