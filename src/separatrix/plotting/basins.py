"""Basins by colour, the power law of their boundary, and the separatrix as a curve."""

from typing import Any

import numpy as np

from separatrix.diagnostics.equilibria.separatrix import Separatrix
from separatrix.diagnostics.many.basins import Basins
from separatrix.diagnostics.many.boundary import BoundaryDimension
from separatrix.diagnostics.many.edge import EdgeState
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label

# Escaped and unsettled starts.
_OTHER = {-1: "0.85", -2: "0.5"}


def _colour(fate: int) -> str:
    return _OTHER.get(fate) or COLOURS[fate % len(COLOURS)]


@plot.register
def plot_basins(result: Basins, *, axes: Any = None) -> Any:
    """Plot fates over the region, with the attractors where both are planes; shares where there are more dimensions."""
    axes = axes if axes is not None else figure(width=4.2, height=3.6)[1][0]
    points, fates = np.asarray(result.points), np.asarray(result.fates)
    if points.shape[1] > 2:
        return _shares(result, axes)
    heights = points[:, 1] if points.shape[1] == 2 else np.zeros(len(points))
    if len(result.shape) == 2:
        _image(result, axes)
    else:
        for fate in np.unique(fates):
            chosen = fates == fate
            axes.plot(points[chosen, 0], heights[chosen], ".", color=_colour(int(fate)), markersize=3)
    if points.shape[1] == 2 == result.states.shape[1]:
        for i, cloud in enumerate(np.asarray(result.clouds)):
            axes.plot(*cloud.T, ".", color="white", markersize=5)
            axes.plot(*cloud.T, ".", color="black" if result.attracting[i] else "0.5", markersize=3)
        axes.set_xlim(points[:, 0].min(), points[:, 0].max())
        axes.set_ylim(heights.min(), heights.max())
    axes.grid(visible=False)
    label(axes, "first coordinate", "second coordinate", f"{len(result.attractors)} attractors")
    return axes.figure


def _image(result: Basins, axes: Any) -> None:
    points = np.asarray(result.points).reshape(*result.shape, 2)
    fates = np.asarray(result.grid)
    import matplotlib.colors

    rgb = np.zeros((*fates.shape, 3))
    for fate in np.unique(fates):
        rgb[fates == fate] = matplotlib.colors.to_rgb(_colour(int(fate)))
    # Washed out, so that curves and attractors stand out on it.
    rgb = 0.45 + 0.55 * rgb
    (left, low), (right, high) = points[0, 0], points[-1, -1]
    axes.imshow(np.swapaxes(rgb, 0, 1), origin="lower", extent=(left, right, low, high), aspect="auto",
                interpolation="nearest")  # fmt: skip


def _shares(result: Basins, axes: Any) -> Any:
    fates, shares = np.unique(np.asarray(result.fates), return_counts=True)
    shares = shares / len(result.fates)
    errors = np.sqrt(shares * (1 - shares) / len(result.fates))
    names = [{-1: "escaped", -2: "moving"}.get(int(fate), str(fate)) for fate in fates]
    axes.bar(names, shares, yerr=errors, color=[_colour(int(fate)) for fate in fates], capsize=3)
    label(axes, "attractor", "share of the starts", f"{len(result.fates)} starts")
    return axes.figure


@plot.register
def plot_boundary_dimension(result: BoundaryDimension, *, axes: Any = None) -> Any:
    """Plot uncertain shares or numbers of boxes against the scale, with the fitted law."""
    axes = axes if axes is not None else figure()[1][0]
    scales, values, used = (np.asarray(part) for part in (result.scales, result.values, result.used))
    errors = np.nan_to_num(np.asarray(result.value_errors))
    for chosen, colour in ((used, COLOURS[0]), (~used, "0.6")):
        axes.errorbar(scales[chosen], values[chosen], yerr=errors[chosen], fmt="o", color=colour, markersize=4)
    if used.any():
        slope = float(result.exponent) if result.method == "uncertain starts" else -float(result.dimension)
        middle = np.exp(np.mean(np.log(scales[used]))), np.exp(np.mean(np.log(values[used])))
        axes.plot(scales[used], middle[1] * (scales[used] / middle[0]) ** slope, color=COLOURS[1])
    axes.set_xscale("log")
    axes.set_yscale("log")
    title = f"dimension {float(result.dimension):.3f} +- {float(result.error):.1g}"
    label(axes, "scale", "uncertain share" if result.method == "uncertain starts" else "boxes", title)
    return axes.figure


@plot.register
def plot_separatrix(result: Separatrix, *, axes: Any = None) -> Any:
    """Plot both branches in the first two coordinates, over whatever the axes hold already."""
    axes = axes if axes is not None else figure()[1][0]
    limits = (axes.get_xlim(), axes.get_ylim()) if axes.has_data() else None
    for branch in np.asarray(result.points):
        axes.plot(branch[:, 0], branch[:, 1], color="black", linewidth=1.5)
    axes.plot(*np.asarray(result.saddle)[:2], "x", color="black")
    if limits is not None:
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
    label(axes, "first coordinate", "second coordinate", "stable manifold of the saddle")
    return axes.figure


@plot.register
def plot_edge_state(result: EdgeState, *, axes: Any = None) -> Any:
    """Plot how the edge state settled, round by round."""
    axes = axes if axes is not None else figure()[1][0]
    path = np.asarray(result.path)
    away = np.linalg.norm(path[:-1] - path[-1], axis=1)
    axes.semilogy(np.arange(1, len(path)), np.maximum(away, 1e-16), "o-", color=COLOURS[0])
    label(axes, "round", "distance from the last", "edge state")
    return axes.figure
