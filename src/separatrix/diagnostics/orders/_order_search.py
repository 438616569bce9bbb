r"""Step sizes in the asymptotic window, found by measuring.

    h_k = T/(n 2^k),   k = 0, ..., K

A method of high order on a slow field is at the floor of rounding after a few halvings: then larger steps are taken, n/8,
and where one step over T is exact to rounding a longer T, if none was asked for. A stiff field is not resolved by the first
steps: then smaller ones, 8 n. The first ladder with three step sizes in a window is the answer, else the one with most.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from separatrix.diagnostics.orders._order_runs import Clock, common_clock
from separatrix.diagnostics.orders._order_window import ABOVE_FLOOR

_FACTOR = 8
# The finest ladder takes so many steps, the longest interval is so many times the first.
_STEPS, _LONGEST = 1 << 15, 8.0**4
_ENOUGH = 3


def search(measure: Callable[[Clock], Any], first: int, halvings: int, end: float, *, longer: bool) -> Any:
    """Measure on ladders of `halvings` from T/first on until errors have a window; `longer`: whether T may grow."""
    tried, best, limit = set(), None, end * _LONGEST
    while (first, end) not in tried:
        tried.add((first, end))
        found = measure(common_clock(end / (first * 2.0 ** np.arange(halvings + 1)), end))
        if best is None or _inside(found) > _inside(best):
            best = found
        if _inside(found) >= _ENOUGH:
            break
        toward = _direction(found)
        if toward > 0 and first * _FACTOR << halvings <= _STEPS:
            first *= _FACTOR
        elif toward < 0 and first > 1:
            first = max(1, first // _FACTOR)
        elif toward < 0 and longer and end < limit:
            end *= _FACTOR
    return best


def _inside(found: Any) -> int:
    """How many step sizes are in the window, none where it gives no order."""
    return int(np.sum(found.window)) if np.isfinite(found.order) else 0


def _direction(found: Any) -> int:
    """-1 where the errors are at their floor, 1 where they are not resolved: by the smallest step, or between the times.

    A stiff solution may be at rest, and its error at the floor, at every time of too long a first step.
    """
    above = ~(np.asarray(found.errors) <= ABOVE_FLOOR * np.asarray(found.floor))
    return 1 if above[-1] or np.sum(above) > _ENOUGH else -1
