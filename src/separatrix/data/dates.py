"""Dates and times of ISO 8601 into counts of a unit since 1970-01-01, exactly.

    2024-03-01    2024-03-01T12:30    2024-03-01 12:30:05.25    2024-03-01T12:30:05Z    2024-03-01T12:30:05+01:00

A time with a zone is taken to UTC. The unit is the coarsest of days, seconds, milliseconds, microseconds and nanoseconds
in which every value of the column is whole. Other ways to write a date (31/12/2024) can be read in two ways, and are
refused.

**Reference:** ISO 8601:2004, calendar dates.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import DataError

UNITS = {"D": "days", "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_FRACTIONS = ((0, "s"), (3, "ms"), (6, "us"), (9, "ns"))  # digits after the second, and the unit that holds them
_ISO = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<time>\d\d:\d\d(?::\d\d(?:\.(?P<fraction>\d{1,9}))?)?)(?P<zone>Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)


def parse_dates(cells: Sequence[str | None], refuse: Callable[[int, str], DataError]) -> Shaped[np.ndarray, " rows"]:
    """A column of dates; None becomes NaT.

    **Arguments:**

    - `cells`: the text of each row, or None where it is missing.
    - `refuse`: makes the error for a row and what is wrong with it.
    """
    found = [None if cell is None else _ISO.fullmatch(cell.strip()) for cell in cells]
    for row, (cell, match) in enumerate(zip(cells, found, strict=True)):
        if cell is not None and match is None:
            raise refuse(row, repr(cell))
    zoned = {bool(match["zone"]) for match in found if match is not None and match["time"]}
    if len(zoned) > 1:
        row = next(i for i, match in enumerate(found) if match is not None and match["time"] and match["zone"])
        raise refuse(row, f"{cells[row]!r}, with a zone where others have none")
    digits = max((len(match["fraction"] or "") for match in found if match is not None), default=0)
    unit = next(unit for most, unit in _FRACTIONS if digits <= most)
    texts = ["NaT" if match is None else f"{match['day']}T{match['time'] or '00:00'}" for match in found]
    zones = np.array([0 if match is None else _minutes(match["zone"]) for match in found], "m8[m]")
    return coarsest(_instants(texts, unit, refuse) - zones)


def coarsest(dates: Shaped[np.ndarray, " rows"]) -> Shaped[np.ndarray, " rows"]:
    """The same dates in the coarsest unit that holds them all.

    **Example:**

    >>> coarsest(np.array(["2024-03-01T00:00", "2024-03-02T00:00"], "M8[ns]")).dtype
    dtype('<M8[D]')
    """
    given = np.datetime_data(dates.dtype)[0]
    for unit in UNITS:
        if unit == given:
            break
        coarse = dates.astype(f"M8[{unit}]")
        if np.array_equal(coarse.astype(dates.dtype).view(np.int64), dates.view(np.int64)):
            return coarse
    return dates


def unit_of(dates: Shaped[np.ndarray, " rows"]) -> str:
    """What the counts of a column of dates are.

    **Example:**

    >>> unit_of(np.array(["2024-03-01"], "M8[D]"))
    'days since 1970-01-01'
    """
    return f"{UNITS[np.datetime_data(dates.dtype)[0]]} since 1970-01-01"


def _instants(texts: list[str], unit: str, refuse: Callable[[int, str], DataError]) -> Shaped[np.ndarray, " rows"]:
    try:
        whole, instants = np.array(texts, "M8[s]"), np.array(texts, f"M8[{unit}]")
    except ValueError as error:
        for row, text in enumerate(texts):
            if not _is_date(text):
                raise refuse(row, f"{text!r}, which is no date") from error
        raise
    lost = np.flatnonzero((instants.astype("M8[s]") != whole) & ~np.isnat(whole))
    if len(lost):
        raise refuse(int(lost[0]), f"{texts[lost[0]]!r}, which 64 bits of {UNITS[unit]} do not reach")
    return instants


def _is_date(text: str) -> bool:
    try:
        np.datetime64(text)
    except ValueError:
        return False
    return True


def _minutes(zone: str | None) -> int:
    """How far a zone is ahead of UTC."""
    if zone is None or zone == "Z":
        return 0
    return (int(zone[1:3]) * 60 + int(zone[-2:])) * (-1 if zone[0] == "-" else 1)
