"""Fixed points on the plane of the first two coordinates, and their spectra."""

from typing import Any

import numpy as np

from separatrix.diagnostics.equilibria.fixed_points import FixedPoints
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_fixed_points(result: FixedPoints, *, axes: Any = None) -> Any:
    """Plot points, a mark for each kind, and beside them all eigenvalues with the border of stability."""
    (places, spectra) = figure(2)[1] if axes is None else np.ravel(axes)[:2]
    points, kinds, values = (np.asarray(result.coordinates), result.kinds, np.asarray(result.spectra))
    heights = points[:, 1] if result.size > 1 else np.zeros(len(points))
    names = sorted(set(kinds), key=kinds.index)
    for number, name in enumerate(names):
        rows = np.array([kind == name for kind in kinds])
        colour = COLOURS[number % len(COLOURS)]
        style = {"color": colour, "marker": _mark(name), "linestyle": "none", "markersize": 6}
        style |= {"fillstyle": "full" if name.startswith("stable") else "none"}
        places.plot(points[rows, 0], heights[rows], label=name, **style)
        spectra.plot(np.real(values[rows]).ravel(), np.imag(values[rows]).ravel(), **style)
    if names:
        places.legend(fontsize=8, loc="upper center", frameon=False, bbox_to_anchor=(0.5, -0.28), ncols=2)
    if result.kind == "map":
        angles = np.linspace(0, 2 * np.pi, 200)
        spectra.plot(np.cos(angles), np.sin(angles), color="0.3", linestyle="--", linewidth=1)
        spectra.set_aspect("equal", adjustable="datalim")
    else:
        spectra.axvline(0.0, color="0.3", linestyle="--", linewidth=1)
    label(places, "first coordinate", "second coordinate" if result.size > 1 else "", f"{len(kinds)} points")
    label(spectra, "real part", "imaginary part", "spectra")
    return places.figure


def _mark(name: str) -> str:
    for word, mark in (("slow", "*"), ("saddle", "D"), ("focus", "o"), ("node", "s"), ("centre", "^")):
        if word in name:
            return mark
    return "x"
