"""Errors over step size on logarithmic axes, and the line through the asymptotic window."""

from typing import Any

import numpy as np

from separatrix.diagnostics.orders.measured_order import MeasuredOrder
from separatrix.diagnostics.result import number
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_measured_order(result: MeasuredOrder, *, axes: Any = None) -> Any:
    """Plot errors with two standard errors: filled inside the window, hollow outside; the floor dotted."""
    axes = axes if axes is not None else figure()[1][0]
    sizes, errors, window = (np.asarray(part) for part in (result.step_sizes, result.errors, result.window))
    shown = np.isfinite(errors) & (errors > 0)
    if result.samples:
        spread = 2 * np.asarray(result.errors_error)[shown]
        # A bar that reaches zero has no lower end on a logarithmic axis.
        lower = np.minimum(spread, 0.999 * errors[shown])
        axes.errorbar(sizes[shown], errors[shown], [lower, spread], fmt="none", ecolor="0.6", elinewidth=1)
    for chosen, face, name in ((window, COLOURS[0], "in the window"), (shown & ~window, "white", "left out")):
        if chosen.any():
            axes.plot(
                sizes[chosen], errors[chosen], "o", color=COLOURS[0], markerfacecolor=face, markersize=4, label=name
            )
    floor = np.asarray(result.floor)
    if np.any(floor > 0):
        axes.plot(sizes, floor, color="0.4", linestyle=":", linewidth=1, label="floor")
    if window.sum() > 1:
        x, middle = sizes[window], np.exp(np.mean(np.log(errors[window])))
        line = middle * (x / np.exp(np.mean(np.log(x)))) ** float(result.order)
        told = number(float(result.order), float(result.order_error))
        axes.plot(x, line, color=COLOURS[1], linewidth=1, label=f"slope {told}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    label(axes, "step size", "error", result.kind if result.kind != "flow" else "")
    axes.legend(fontsize=8, frameon=False)
    return axes.figure
