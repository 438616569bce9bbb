"""Curves: values along time, errors over step size, fates over a parameter."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from separatrix.plotting.style import FATES, figure, label


def plot_curves(
    curves: Mapping[str, tuple[Any, Any]],
    *,
    x: str,
    y: str,
    title: str = "",
    log: str = "",
    levels: Mapping[str, float] | None = None,
    axes: Any = None,
) -> Any:
    """Plot named curves in one picture.

    **Arguments:**

    - `curves`: name to (abscissae, ordinates). A name that starts with "." is drawn as points.
    - `x`, `y`, `title`: labels. `log`: "x", "y" or "xy" for logarithmic axes.
    - `levels`: name to height of dashed horizontal lines.
    - `axes`: where to draw; a new figure by default.

    **Returns:** the figure.
    """
    axes = axes if axes is not None else figure()[1][0]
    for number, (name, (abscissae, ordinates)) in enumerate(curves.items()):
        points = name.startswith(".")
        form = {"marker": "o", "markersize": 3, "linestyle": ""} if points else {}
        axes.plot(np.asarray(abscissae), np.asarray(ordinates), label=name.lstrip("."), zorder=2 + number, **form)
    for number, (name, height) in enumerate((levels or {}).items()):
        axes.axhline(height, color="0.3", linestyle=("--", ":", "-.")[number % 3], linewidth=1, label=name, zorder=1)
    label(axes, x, y, title)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.legend(fontsize=8, frameon=False)
    return axes.figure


def plot_orders(
    step_sizes: Any, errors: Mapping[str, Any], slopes: Mapping[str, float], *, title: str = "", axes: Any = None
) -> Any:
    """Plot errors over step size on logarithmic axes, with the measured slope in the legend.

    **Arguments:**

    - `step_sizes`: shape (S,). `errors`: name to errors, shape (S,). `slopes`: name to measured slope.

    **Returns:** the figure.
    """
    axes = axes if axes is not None else figure()[1][0]
    for name, values in errors.items():
        axes.loglog(step_sizes, np.asarray(values), marker="o", markersize=4, label=f"{name}: slope {slopes[name]:.2f}")
    label(axes, "step size", "distance from the orbit", title)
    axes.set_xticks(np.asarray(step_sizes), [f"{float(h):.3g}" for h in step_sizes])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, frameon=False)
    return axes.figure


def plot_fates(
    parameter: Any, values: Any, fates: Any, *, x: str, y: str, edge: float | None = None, axes: Any = None
) -> Any:
    """Plot a value over a swept parameter, coloured by fate ("converges", "oscillates", "diverges").

    **Arguments:**

    - `parameter`, `values`: shape (P,); a value that is not finite is drawn at the top.
    - `fates`: shape (P,), names. `edge`: where theory sees the boundary of stability.

    **Returns:** the figure.
    """
    axes = axes if axes is not None else figure()[1][0]
    values, fates = np.asarray(values, float), np.asarray(fates)
    finite = values[np.isfinite(values)]
    top = 3 * finite.max() if finite.size else 1.0
    heights = np.where(np.isfinite(values), values, top)
    for name, colour in FATES.items():
        chosen = fates == name
        axes.plot(np.asarray(parameter)[chosen], heights[chosen], "o", color=colour, markersize=4, label=name)
    if edge is not None:
        axes.axvline(edge, color="0.3", linestyle="--", linewidth=1, label="2 / sharpness at the start")
    axes.set(xscale="log", yscale="log")
    label(axes, x, y)
    axes.legend(fontsize=8, frameon=False)
    return axes.figure
