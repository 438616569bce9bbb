"""The spectrum of a linearisation, with the border of stability."""

from typing import Any

import numpy as np

from separatrix.diagnostics.equilibria.linear_stability import LinearStability
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_linear_stability(result: LinearStability, *, axes: Any = None) -> Any:
    """Plot eigenvalues in the complex plane; those past the border in another colour."""
    axes = axes if axes is not None else figure()[1][0]
    values = np.asarray(result.spectrum)
    if result.kind == "map":
        angles = np.linspace(0, 2 * np.pi, 200)
        axes.plot(np.cos(angles), np.sin(angles), color="0.3", linestyle="--", linewidth=1)
        unstable = np.abs(values) > 1
        axes.set_aspect("equal")
    else:
        axes.axvline(0.0, color="0.3", linestyle="--", linewidth=1)
        unstable = np.real(values) > 0
    for chosen, colour in ((~unstable, COLOURS[0]), (unstable, COLOURS[1])):
        axes.plot(np.real(values[chosen]), np.imag(values[chosen]), "o", color=colour, markersize=4)
    label(axes, "real part", "imaginary part", f"{result.verdict}: {result.size} coordinates")
    return axes.figure
