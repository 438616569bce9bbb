"""Where a system settles, against a parameter."""

from typing import Any

import numpy as np

from separatrix.diagnostics.many.bifurcation_diagram import BifurcationDiagram
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_bifurcation_diagram(result: BifurcationDiagram, *, axes: Any = None) -> Any:
    """Plot every point kept over its value of the parameter; a rug below where orbits diverged."""
    axes = axes if axes is not None else figure(width=4.6)[1][0]
    values, points = np.asarray(result.values), np.asarray(result.points)
    # The more points to a column, the fainter each: a cycle stays dark, chaos shows its density.
    across = np.repeat(values, points.shape[-1])
    axes.plot(across, points.ravel(), ",", color=COLOURS[0], alpha=0.5, rasterized=True)
    gone = values[np.asarray(result.diverged)]
    if len(gone):
        axes.plot(
            gone, np.zeros_like(gone), "|", color=COLOURS[1], transform=axes.get_xaxis_transform(), label="diverged"
        )
        axes.legend(fontsize=8)
    label(axes, result.parameter, result.observed.partition(" at ")[0])
    return axes.figure
