"""What a trained model does, from plain values: predicted against true, a law over its data."""

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
        law = np.array([np.nan if value is None else value for value in picture["law"][number]], float)
        axes.plot(times, picture["observed"][number], "o", color=colour, markersize=4, label=f"{name}, observed")
        axes.plot(times, law, color=colour, label=f"{name}, the law")
    if picture["border"] < times[-1]:
        axes.axvline(picture["border"], color=COLOURS[3], linestyle=":", linewidth=1.2, label="end of training")
    label(axes, "time", "")
    axes.legend(fontsize=7, ncols=2)
    return fig
