"""A branch of solutions against a parameter, with its stability and special points."""

import itertools
from typing import Any

import numpy as np

from separatrix.diagnostics.cycles.continuation import Branch
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label

_MARKERS = {
    "fold": "s", "branch point": "D", "hopf": "o", "period doubling": "^", "neimark-sacker": "v",
}  # fmt: skip


@plot.register
def plot_branch(result: Branch, *, axes: Any = None) -> Any:
    """Plot the first coordinate: solid where stable, dashed where not; of cycles its extremes."""
    axes = axes if axes is not None else figure(width=4.6)[1][0]
    values, stable = np.asarray(result.parameters), np.asarray(result.stable)
    extremes = np.asarray(result.extremes)
    for side in (0, 1) if "cycle" in result.kind else (0,):
        for run in _runs(stable):
            good = bool(stable[run.start])
            style = {"color": COLOURS[0], "linestyle": "-"} if good else {"color": COLOURS[1], "linestyle": "--"}
            # A run goes on to the first point of the next, so that no gap is left.
            axes.plot(values[run.start : run.stop + 1], extremes[run.start : run.stop + 1, side], **style)
    for kind, marker in _MARKERS.items():
        found = [point for point in result.special if point.kind == kind]
        if found:
            heights = [float(point.extremes[1]) for point in found]
            axes.plot(
                [float(point.parameter) for point in found], heights, marker, color="0.1", label=kind, markersize=5
            )
    # Several branches on the same axes name each kind once.
    named = {line.get_label(): line for line in axes.lines if line.get_label() in _MARKERS}
    if named:
        axes.legend(named.values(), named.keys(), fontsize=8)
    label(axes, result.parameter, "first coordinate")
    return axes.figure


def _runs(stable: Any) -> list[slice]:
    """Stretches of one stability."""
    borders = [0, *(np.flatnonzero(np.diff(stable)) + 1).tolist(), len(stable)]
    return [slice(start, stop) for start, stop in itertools.pairwise(borders)]
