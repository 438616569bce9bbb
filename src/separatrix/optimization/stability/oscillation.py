r"""Oscillation along one direction, from its coordinate c at successive steps.

    flip = - sum_k d_k d_{k+1} / sum_k (d_k^2 + d_{k+1}^2)/2,      d_k = c_{k+1} - c_k,

1 for an alternation, 0 for a walk of independent steps, -1 for a drift;
and the growth of |d_k| a step, by the slope of its logarithm. An alternation that grows by rho a step from a loss of
lambda c^2/2 along the direction reaches the loss L after ln(L/(lambda c^2/2))/(2 ln rho) steps.
"""

from typing import Any, NamedTuple

import numpy as np

# Fewer differences than this say nothing about their signs.
_LEAST = 5


class Oscillation(NamedTuple):
    """Flip index in [-1, 1], growth a step, amplitude (half a swing) at the end."""

    flip: float
    growth: float
    amplitude: float


def oscillation(coordinates: Any) -> Oscillation:
    """Measure the oscillation in a short series of coordinates, shape (k,); NaN where it is too short.

    **Example:** an alternation that grows by a tenth a step.

    >>> import numpy as np
    >>> found = oscillation((-1.1) ** np.arange(8.0))
    >>> round(found.growth, 6), found.flip > 0.9
    (1.1, True)
    """
    swings = np.diff(np.asarray(coordinates, float))
    if len(swings) < _LEAST or not np.isfinite(swings).all() or not np.any(swings):
        return Oscillation(np.nan, np.nan, np.nan)
    # Of a run that is lost the squares overflow; the index has no scale.
    d = swings / np.max(np.abs(swings))
    flip = -float(np.sum(d[1:] * d[:-1]) / np.sum((d[1:] ** 2 + d[:-1] ** 2) / 2))
    sizes = np.log(np.maximum(np.abs(swings), 1e-300))
    growth = float(np.exp(np.polyfit(np.arange(len(swings)), sizes, 1)[0]))
    return Oscillation(flip, growth, float(np.abs(swings[-1])) / 2)


def steps_until(level: float, now: float, growth: float) -> float:
    """Steps until what grows by rho^2 a step from `now` reaches `level`; infinite where it shrinks."""
    if not growth > 1 or not now > 0:
        return np.inf
    return max(0.0, float(np.log(level / now) / (2 * np.log(growth)))) if level > 0 else 0.0
