"""The portrait of a flow: its plane with basins, nullclines, orbits and equilibria, and beside it the spectra."""

from typing import Any

import numpy as np

from separatrix.diagnostics.fields.portrait import Portrait
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label

_MARKS = (("saddle", "D"), ("focus", "o"), ("node", "s"), ("centre", "^"))


@plot.register
def plot_portrait(result: Portrait, *, axes: Any = None) -> Any:
    """Plot basins as shades, nullclines dashed, orbits with arrows, stable manifolds black, equilibria with eigenvalues."""
    (plane, spectra) = figure(2, width=5.0, height=4.2)[1] if axes is None else np.ravel(axes)[:2]
    plot(result.basins, axes=plane)
    _curves(result, plane)
    _nullclines(result, plane)
    points, kinds = np.asarray(result.equilibria.coordinates), result.equilibria.kinds
    values = np.asarray(result.equilibria.spectra)
    for name in sorted(set(kinds), key=kinds.index):
        rows = np.array([kind == name for kind in kinds])
        mark = next((mark for word, mark in _MARKS if word in name), "x")
        style = {"marker": mark, "linestyle": "none", "markersize": 7, "markeredgecolor": "black"}
        style |= {"markerfacecolor": "black" if name.startswith("stable") else "white", "label": name}
        plane.plot(points[rows, 0], points[rows, 1], zorder=5, **style)
        spectra.plot(np.real(values[rows]).ravel(), np.imag(values[rows]).ravel(), **style)
    for place, row in zip(points[:6], values[:6], strict=True):
        text = "\n".join(_said(value) for value in row[:2] if value.imag >= 0)
        plane.annotate(text, place[:2], xytext=(7, 7), textcoords="offset points", fontsize=7, zorder=6,
                       bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1})  # fmt: skip
    nodes = np.asarray(result.nodes)
    plane.set_xlim(nodes[0, 0], nodes[0, -1])
    plane.set_ylim(nodes[1, 0], nodes[1, -1])
    spectra.axvline(0.0, color="0.3", linestyle="--", linewidth=1)
    handles, names = plane.get_legend_handles_labels()
    plane.legend(handles, names, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    label(plane, "first coordinate", "second coordinate", "portrait")
    label(spectra, "real part", "imaginary part", "spectra of the equilibria")
    return plane.figure


def _curves(result: Portrait, axes: Any) -> None:
    """Orbits, each with an arrow where it is in the plane, and the stable manifolds."""
    low, high = np.asarray(result.nodes)[:, 0], np.asarray(result.nodes)[:, -1]
    for path in np.asarray(result.orbits)[..., :2]:
        axes.plot(*path.T, color="0.35", linewidth=0.6)
        inside = np.flatnonzero(((path > low) & (path < high)).all(axis=1))
        away = np.linalg.norm(path - path[0], axis=1)
        later = inside[away[inside] > 0.06 * np.linalg.norm(high - low)]
        if len(later) and later[0] + 1 < len(path):
            ends = {"xy": path[later[0] + 1], "xytext": path[later[0]]}
            axes.annotate("", **ends, arrowprops={"arrowstyle": "->", "color": "0.35", "linewidth": 0.8})
    for i, branch in enumerate(np.asarray(result.manifolds).reshape(-1, *np.shape(result.manifolds)[2:])):
        name = {"label": "stable manifold of a saddle"} if i == 0 else {}
        axes.plot(*branch.T, color="black", linewidth=1.6, **name)


def _nullclines(result: Portrait, axes: Any) -> None:
    nodes, field = np.asarray(result.nodes), np.asarray(result.velocities)
    for i, name in enumerate(("x' = 0", "y' = 0")):
        colour = COLOURS[(i + 1) % len(COLOURS)]
        if field[..., i].min() < 0 < field[..., i].max():
            axes.contour(nodes[0], nodes[1], field[..., i].T, levels=[0.0], colors=[colour], linestyles="--")
            axes.plot([], [], color=colour, linestyle="--", label=name)


def _said(value: complex) -> str:
    return f"{value.real:.3g}" if value.imag == 0 else f"{value.real:.3g} ± {abs(value.imag):.3g}i"
