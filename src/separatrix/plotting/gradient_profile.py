"""Gradients back through time: their norm, and the singular values of the products of Jacobians."""

from typing import Any

import numpy as np

from separatrix.diagnostics.along.gradient_profile import GradientProfile
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_gradient_profile(result: GradientProfile, *, axes: Any = None) -> Any:
    """Plot natural logarithms of the gradient's norm and of singular values against the way back from the loss."""
    axes = axes if axes is not None else figure()[1][0]
    times = np.asarray(result.times)
    back = times[-1] - times
    values = np.asarray(result.log_singular_values)
    for i, column in enumerate(values.T):
        axes.plot(back, column, color=COLOURS[0], linewidth=1, alpha=0.6, label="singular values" if i == 0 else None)
    if result.whole and result.size > values.shape[1]:
        axes.plot(back, result.log_smallest, color=COLOURS[0], linewidth=1, linestyle=":", label="the smallest")
    axes.plot(back, result.log_norms, color=COLOURS[1], label="gradient")
    axes.axhline(0.0, color="0.3", linestyle="--", linewidth=1)
    axes.legend(fontsize=8, frameon=False)
    label(axes, "back from the loss", "natural logarithm", f"{result.verdict}: {result.size} coordinates")
    return axes.figure
