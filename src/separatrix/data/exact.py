"""Numbers that stay what they are.

A float64 has 53 binary digits: above 2^53 = 9,007,199,254,740,992 neighbouring whole numbers become one. So a whole
number turns into a float only where that float is the same number, and what would not fit is refused with its place.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from separatrix._errors import DataError

EXACT = 2**53


def first_inexact(values: Shaped[np.ndarray, " rows"]) -> int | None:
    """The first row whose whole number is not a float64, or None.

    **Example:**

    >>> first_inexact(np.array([2**53, 2**53 + 1, 2**53 + 2]))
    1
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8:
        return None
    beyond = np.flatnonzero((values > EXACT) | (values < -EXACT))
    return next((int(row) for row in beyond if int(float(values[row])) != int(values[row])), None)


def to_float(
    values: Shaped[np.ndarray, " rows"], refuse: Callable[[int, str], DataError]
) -> Float[np.ndarray, " rows"]:
    """A column as float64, every number the same; dates as counts of their unit since 1970-01-01, NaT as NaN.

    **Arguments:**

    - `values`: booleans, whole numbers, floats, or dates.
    - `refuse`: makes the error for a row and what is wrong with it.
    """
    counts = values.astype(np.int64) if values.dtype.kind == "M" else values
    there = ~np.isnat(values) if values.dtype.kind == "M" else np.ones(len(values), bool)
    row = first_inexact(np.where(there, counts, 0)) if counts.dtype.kind in "iu" else None
    if row is not None:
        raise refuse(row, f"{counts[row]}, which no float64 is")
    return np.where(there, counts.astype(np.float64), np.nan)
