"""What falls and what turns: shares as bars, parts of a field as arrows."""

from typing import Any

import numpy as np

from separatrix._errors import explain
from separatrix.diagnostics.fields.field_split import FieldSplit
from separatrix.diagnostics.fields.helmholtz import Helmholtz
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label

_ARROWS = 16


@plot.register
def plot_field_split(result: FieldSplit, *, axes: Any = None) -> Any:
    """Plot both shares of the Jacobian, with their error, and the turning round circles."""
    axes = axes if axes is not None else figure()[1][0]
    index, error = float(result.index), float(result.index_error)
    names, values = ["falls", "turns"], [1 - index, index]
    values += [float(turning) for turning in result.turning]
    names += [f"turns, r = {float(radius):.2g}" for radius in result.radii]
    errors = [error, error, *[0.0] * len(result.radii)]
    colours = [COLOURS[0], COLOURS[1], *[COLOURS[4]] * len(result.radii)]
    axes.bar(names, values, yerr=errors, color=colours, capsize=3)
    axes.set_ylim(0, 1.05)
    label(axes, "", "share", f"rotation index {index:.4g}")
    return axes.figure


@plot.register
def plot_helmholtz(result: Helmholtz, *, axes: Any = None) -> Any:
    """Plot a plane field's gradient, rotation and harmonic rest side by side; `axes` are three."""
    if result.points.shape[-1] != 2:
        do = "Draw a slice of its arrays."
        raise ValueError(explain("plot: Helmholtz", f"{result.points.shape[-1]} dimensions", "two", do))
    axes = axes if axes is not None else figure(3, width=3.2, height=3.2)[1]
    stride = max(1, result.points.shape[0] // _ARROWS)
    points = np.asarray(result.points)[::stride, ::stride].reshape(-1, 2)
    largest = float(np.max(np.linalg.norm(np.asarray(result.field), axis=-1))) or 1.0
    spacing = float(np.ptp(points[:, 0])) / _ARROWS
    names = ("gradient", "rotation", "harmonic")
    for place, name, share, colour in zip(axes, names, result.shares, COLOURS, strict=False):
        arrows = np.asarray(getattr(result, name))[::stride, ::stride].reshape(-1, 2)
        if name == "gradient":
            nodes = np.moveaxis(np.asarray(result.points), -1, 0)
            place.contour(*nodes, np.asarray(result.potential), colors="0.8", linewidths=0.7)
        place.quiver(*points.T, *arrows.T, color=colour, angles="xy", scale_units="xy", scale=largest / (1.5 * spacing))
        place.set_aspect("equal")
        label(place, "first coordinate", "second coordinate", f"{name}: {float(share):.3g}")
    return axes[0].figure
