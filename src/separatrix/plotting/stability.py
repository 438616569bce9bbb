"""A training run against its optimiser's own edge."""

from typing import Any

import numpy as np

from separatrix.plotting.style import COLOURS, figure, label


def plot_stability(report: Any, *, axes: Any = None) -> Any:
    """Plot sharpness over the edge along a run, with the loss behind it and what was noticed.

    **Arguments:**

    - `report`: a `StabilityReport`. `axes`: where to draw; a new figure by default.

    **Returns:** the figure: the dashed line is the edge, past which the linearised run grows; triangles are events.
    """
    axes = axes if axes is not None else figure(1, width=5.2, height=3.0)[1][0]
    steps, ratios = np.asarray(report.steps), np.asarray(report.ratios)
    axes.plot(steps, ratios, color=COLOURS[0], label="sharpness / edge", zorder=3)
    axes.axhline(1.0, color="0.3", linestyle="--", linewidth=1, label="the optimiser's edge")
    kinds = list(dict.fromkeys(event.kind for event in report.events))
    for number, kind in enumerate(kinds):
        at = [event.step for event in report.events if event.kind == kind]
        heights = np.interp(at, steps, np.nan_to_num(ratios))
        axes.plot(at, heights, "v", color=COLOURS[(number + 1) % len(COLOURS)], markersize=6, label=kind, zorder=4)
    label(axes, "step", "sharpness over the edge", report.state)
    behind = axes.twinx()
    behind.plot(steps, np.asarray(report.losses), color="0.6", linewidth=1, zorder=1)
    behind.set_yscale("log")
    behind.set_ylabel("loss", fontsize=9, color="0.5")
    behind.grid(False)
    axes.set_ylim(0, 1.12 * float(np.max(ratios[np.isfinite(ratios)], initial=1.0)))
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    return axes.figure
