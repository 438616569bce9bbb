"""Return times and the lengths of diagonal lines of an orbit."""

from typing import Any

import numpy as np

from separatrix.diagnostics.along.recurrence import Recurrence
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_recurrence(result: Recurrence, *, axes: Any = None) -> Any:
    """Plot how often each return time occurs, and how many diagonal lines are at least so long."""
    (returns, lines) = figure(2)[1] if axes is None else np.ravel(axes)[:2]
    if len(result.return_times):
        returns.hist(np.asarray(result.return_times), bins=40, color=COLOURS[0])
        returns.axvline(float(result.mean_return), color=COLOURS[1], linewidth=1.5)
    longer = np.cumsum(np.asarray(result.lengths)[::-1])[::-1]
    lines.plot(np.arange(1, len(longer) + 1), longer, drawstyle="steps-mid", color=COLOURS[0])
    lines.axvline(result.least_length, color="0.3", linestyle="--", linewidth=1)
    lines.set_xscale("log")
    lines.set_yscale("log")
    label(returns, "return time", "returns", f"mean {float(result.mean_return):.4g}")
    label(lines, "length", "diagonals at least so long", f"determinism {float(result.determinism):.4g}")
    return returns.figure
