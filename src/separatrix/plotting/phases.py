"""A phase diagram: which fate lies where in the plane of two parameters, and the separatrix between fates."""

from collections.abc import Sequence
from typing import Any

import matplotlib.colors
import numpy as np

from separatrix.plotting.style import COLOURS, figure, label

_GOOD, _BROKEN = COLOURS[0], COLOURS[1]


def plot_phase_diagram(
    x: Any,
    y: Any,
    fates: Any,
    *,
    names: Sequence[str],
    log: str = "",
    shape: tuple[int, ...] | None = None,
    title: str = "",
    axes: Any = None,
) -> Any:
    """Plot the fates of trials over two parameters, with the separatrix between them as a black line.

    **Arguments:**

    - `x`, `y`: shape (P,), the parameters of each trial. `fates`: shape (P,), texts.
    - `names`: of both parameters. `log`: "x", "y" or "xy" for logarithmic axes.
    - `shape`: (n, m), if the trials are a grid with x along its first axis and y along its second; they are cells then, and
      points otherwise.

    **Returns:** the figure.
    """
    axes = axes if axes is not None else figure(width=5.0, height=3.8)[1][0]
    x, y, fates = np.asarray(x, float), np.asarray(y, float), np.asarray(fates).astype(str)
    kinds, counts = np.unique(fates, return_counts=True)
    order = sorted(kinds, key=lambda kind: (kind != "completed", kind))
    colours = {kind: _colour(kind, number) for number, kind in enumerate(order)}
    u, v = (np.log10(p) if sign in log else p for p, sign in ((x, "x"), (y, "y")))
    if shape is not None:
        paper = np.ones((*shape, 3))
        for kind in order:
            paper[(fates == kind).reshape(shape)] = 0.35 + 0.65 * np.array(matplotlib.colors.to_rgb(colours[kind]))
        edges = [_edges(values) for values in (u.reshape(shape)[:, 0], v.reshape(shape)[0])]
        edges = [10**e if sign in log else e for e, sign in zip(edges, "xy", strict=True)]
        axes.pcolormesh(*edges, np.swapaxes(paper, 0, 1), shading="flat", rasterized=True)
    else:
        for kind in order:
            chosen = fates == kind
            axes.plot(x[chosen], y[chosen], "o", color=colours[kind], markersize=3)
    for line in _separatrix(u, v, fates, order, shape):
        across = [10**p if sign in log else p for p, sign in zip(line.T, "xy", strict=True)]
        axes.plot(*across, color="black", linewidth=1.4)
    for kind, count in zip(kinds, counts, strict=True):
        axes.plot([], [], "s", color=colours[kind], label=f"{kind.replace('_', ' ')}: {count}")
    if len(kinds) > 1:
        axes.plot([], [], color="black", label="separatrix")
    axes.set(xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
    axes.grid(visible=False)
    label(axes, names[0].replace("_", " "), names[1].replace("_", " "), title)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
    return axes.figure


def _colour(kind: str, number: int) -> str:
    if kind == "failed":
        return "#808080"
    if kind == "completed":
        return _GOOD
    return _BROKEN if kind == "non_finite" else COLOURS[(number + 2) % len(COLOURS)]


def _edges(centres: np.ndarray) -> np.ndarray:
    """The edges of cells around sorted centres."""
    middles = (centres[1:] + centres[:-1]) / 2
    first, last = (
        (2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1])
        if len(middles)
        else (centres[0] - 0.5, centres[0] + 0.5)
    )
    return np.concatenate([[first], middles, [last]])


def _separatrix(u: Any, v: Any, fates: Any, kinds: list[str], shape: Any) -> list[np.ndarray]:
    """The lines half-way between neighbours of different fates."""
    import contourpy

    found = []
    for kind in kinds[1:]:
        inside = (fates == kind).astype(float)
        if shape is not None and min(shape) > 1:
            grid = contourpy.contour_generator(u.reshape(shape), v.reshape(shape), inside.reshape(shape))
            found += grid.lines(0.5)
        elif shape is None and len(u) > 3:
            from matplotlib.figure import Figure

            lines = Figure().subplots().tricontour(u, v, inside, levels=[0.5])
            parts = [np.asarray(part) for part in lines.get_paths()[0].to_polygons(closed_only=False)]
            found += [part for part in parts if len(part) > 1]
    return [np.asarray(line) for line in found]
