"""The root of a function of one number between two places where its signs differ, by Brent's method."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize


def bracketed_root(function: Callable[[float], float], low: float, high: float, *, atol: float, rtol: float) -> float:
    """x in [low, high] with f(x) = 0, known to atol + rtol |x|; f(low) and f(high) have different signs."""
    found: Any = scipy.optimize.brentq(function, low, high, xtol=atol, rtol=np.float64(rtol))
    return float(found)
