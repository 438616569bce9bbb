"""A rotation number with its error, and what the two halves of the orbit say."""

from typing import Any

import numpy as np

from separatrix.diagnostics.along.rotation_number import RotationNumber
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_rotation_number(result: RotationNumber, *, axes: Any = None) -> Any:
    """Plot the means of both halves and of the whole, with its error bar."""
    axes = axes if axes is not None else figure()[1][0]
    axes.plot([0, 1], np.asarray(result.halves), "o", color=COLOURS[1], markersize=5)
    axes.errorbar([2], [float(result.value)], [float(result.error)], fmt="s", color=COLOURS[0], capsize=4)
    axes.set_xticks([0, 1, 2], ["first half", "second half", "whole"])
    axes.ticklabel_format(axis="y", useOffset=False)
    label(axes, "", "turns", f"{float(result.value):.9g} +- {float(result.error):.1g}")
    return axes.figure
