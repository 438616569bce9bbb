"""What a trained model does, from plain values: predicted against true, a law over its data, points, lines with bands."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from separatrix.plotting.style import COLOURS, figure, label


def plot_scatter(picture: Mapping[str, Any]) -> Figure:
    """Plot predicted against true values; a perfect model is on the line.

    **Arguments:**

    - `picture`: lists `true` and `predicted` of equal length, and the `name` of the quantity.
    """
    fig, (axes,) = figure(1, width=4.2, height=3.8)
    true, predicted = np.asarray(picture["true"], float), np.asarray(picture["predicted"], float)
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    axes.plot(ends, ends, color=COLOURS[1], linewidth=1, linestyle="--")
    axes.plot(true, predicted, "o", color=COLOURS[0], markersize=3, alpha=0.7)
    label(axes, f"true {picture['name']}", f"predicted {picture['name']}")
    return fig


def plot_orbit(picture: Mapping[str, Any]) -> Figure:
    """Plot a law over the data that it was fitted to.

    **Arguments:**

    - `picture`: `times`; `observed` and `law`, a list of values a column (None where the law broke); `names`; and the
      `border`, the last time that trained.
    """
    fig, (axes,) = figure(1, width=7.2, height=3.2)
    times = np.asarray(picture["times"], float)
    for number, name in enumerate(picture["names"]):
        colour = COLOURS[number % 6]
        law = _floats(picture["law"][number])
        axes.plot(times, picture["observed"][number], "o", color=colour, markersize=4, label=f"{name}, observed")
        axes.plot(times, law, color=colour, label=f"{name}, the law")
    if picture["border"] < times[-1]:
        axes.axvline(picture["border"], color=COLOURS[3], linestyle=":", linewidth=1.2, label="end of training")
    label(axes, "time", "")
    axes.legend(fontsize=7, ncols=2)
    return fig


def plot_cloud(picture: Mapping[str, Any]) -> Figure:
    """Plot sets of points of the plane.

    **Arguments:**

    - `picture`: `sets`, each with a `name` and lists `x` and `y`; and the `names` of the axes.
    """
    fig, (axes,) = figure(1, width=4.6, height=4.2)
    for number, one in enumerate(picture["sets"]):
        colour = COLOURS[number % 6]
        axes.plot(_floats(one["x"]), _floats(one["y"]), "o", color=colour, markersize=2.5, alpha=0.6, label=one["name"])
    label(axes, *picture["names"])
    axes.legend(fontsize=8)
    return fig


def plot_bands(picture: Mapping[str, Any]) -> Figure:
    """Plot lines, each with a band around it where it has one.

    **Arguments:**

    - `picture`: `curves`, each with a `name`, lists `x` and `y`, whether it is of `dots`, and maybe `low` and `high`; and
      the `names` of the axes.
    """
    fig, (axes,) = figure(1, width=7.2, height=3.2)
    for number, one in enumerate(picture["curves"]):
        colour, x = COLOURS[number % 6], _floats(one["x"])
        style = {"linestyle": "", "marker": "o", "markersize": 3.5} if one["dots"] else {}
        axes.plot(x, _floats(one["y"]), color=colour, label=one["name"], **style)
        if "low" in one and "high" in one:
            axes.fill_between(x, _floats(one["low"]), _floats(one["high"]), color=colour, alpha=0.2, linewidth=0)
    label(axes, *picture["names"])
    axes.legend(fontsize=7, ncols=2)
    return fig


def _floats(values: Any) -> Any:
    return np.array([np.nan if value is None else value for value in values], float)
