"""Distances of two samples beside what permuted labels show, each in units of their spread."""

from typing import Any

import numpy as np

from separatrix.diagnostics.samples.result import Distance, Distances
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_distance(result: Distance, *, axes: Any = None) -> Any:
    """Plot the values under permutations as a histogram, and the value with two standard errors."""
    axes = axes if axes is not None else figure()[1][0]
    value, error = float(result.value), float(result.error)
    if result.null.size:
        axes.hist(np.asarray(result.null), bins=30, color="0.75", label="labels permuted")
    axes.axvspan(value - 2 * error, value + 2 * error, color=COLOURS[1], alpha=0.2, linewidth=0)
    axes.axvline(value, color=COLOURS[1], label=f"measured, p = {float(result.p_value):.3g}")
    label(axes, result.name, "permutations", result.statement)
    axes.legend(fontsize=8, frameon=False)
    return axes.figure


@plot.register
def plot_distances(result: Distances, *, axes: Any = None) -> Any:
    """Plot each value in standard deviations above its mean under permutations, with the range those span."""
    found = list(result.kinds.values())
    axes = axes if axes is not None else figure(width=4.6, height=0.7 + 0.35 * len(found))[1][0]
    for row, distance in enumerate(reversed(found)):
        null = np.asarray(distance.null)
        if null.size == 0 or null.std() == 0:
            continue
        centre, spread = null.mean(), null.std()
        low, high = ((np.quantile(null, q) - centre) / spread for q in (0.025, 0.975))
        axes.plot([low, high], [row, row], color="0.7", linewidth=6, solid_capstyle="butt")
        axes.errorbar((float(distance.value) - centre) / spread, row, xerr=2 * float(distance.error) / spread,
                      fmt="o", color=COLOURS[1], markersize=4, elinewidth=1)  # fmt: skip
    axes.set_yticks(range(len(found)), [distance.name for distance in reversed(found)], fontsize=8)
    if axes.get_xlim()[1] > 50:
        axes.set_xscale("symlog", linthresh=10)
    label(axes, "standard deviations above permuted labels", "", "grey: 95 % of the permutations")
    return axes.figure
