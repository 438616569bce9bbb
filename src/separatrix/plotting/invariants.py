"""What a trajectory keeps: values with their trend, and volume against what Liouville says."""

from typing import Any

import numpy as np

from separatrix.diagnostics.along.invariants import Invariants
from separatrix.diagnostics.along.volume import VolumeDrift
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_invariants(result: Invariants, *, axes: Any = None) -> Any:
    """Plot each function's change since the start, and its fitted drift."""
    axes = axes if axes is not None else figure()[1][0]
    times, values = np.asarray(result.times), np.asarray(result.values)
    middle = times[: int(result.kept)]
    for i, name in enumerate(result.names):
        colour = COLOURS[i % len(COLOURS)]
        changed = values[:, i] - values[0, i]
        axes.plot(times, changed, color=colour, linewidth=1, label=name)
        trend = np.nanmean(changed) + float(result.rates[i]) * (middle - middle.mean())
        axes.plot(middle, trend, color=colour, linestyle="--", linewidth=1)
    axes.legend(fontsize=8)
    label(axes, "time", "change since the start", "dashed: fitted drift")
    return axes.figure


@plot.register
def plot_volume_drift(result: VolumeDrift, *, axes: Any = None) -> Any:
    """Plot the logarithm of a carried volume, and the integral of the divergence."""
    axes = axes if axes is not None else figure()[1][0]
    axes.plot(result.times, result.log_volume, color=COLOURS[0], label="log volume")
    if np.isfinite(np.asarray(result.divergence)).all():
        axes.plot(result.times, result.divergence, color=COLOURS[1], linestyle="--", label="integral of the divergence")
    axes.legend(fontsize=8)
    label(axes, "time", "log volume", f"rate {float(result.rate):.6g}")
    return axes.figure
