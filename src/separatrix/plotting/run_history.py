"""The history of a training run: losses over the ratio of the sharpness to the optimiser's edge, on one axis of steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from separatrix.plotting.style import COLOURS, label, styled

_LOSSES = ("loss", "validation")


def plot_run_history(
    steps: Any,
    metrics: Mapping[str, Any],
    events: Sequence[tuple[int, str]] = (),
    *,
    ratio: str = "sharpness_over_edge",
) -> Figure:
    """Plot loss and validation loss above, other numbers and the ratio to the edge below, events as lines through all.

    **Arguments:**

    - `steps`: shape (R,). `metrics`: name to shape (R,), NaN where a number was not taken.
    - `events`: (step, what) of what happened.
    - `ratio`: the name of the ratio of the sharpness to the edge.

    **Returns:** the figure.
    """
    steps = np.asarray(steps)
    series = {name: np.asarray(values, float) for name, values in metrics.items() if np.ndim(values) == 1}
    others = [name for name in series if name not in (*_LOSSES, ratio, "sharpness") and np.isfinite(series[name]).any()]
    watched = ratio in series and np.isfinite(series[ratio]).any()
    rows = [("losses", 2.0), *([("others", 1.1)] if others else []), *([("ratio", 1.6)] if watched else [])]
    with styled():
        fig = Figure(figsize=(7.4, 0.6 + 1.15 * sum(height for _, height in rows)), layout="constrained")
        heights = [height for _, height in rows]
        panels = fig.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    axes = {name: panel for (name, _), panel in zip(rows, panels, strict=True)}
    _losses(axes["losses"], steps, series)
    if others:
        for number, name in enumerate(others[:4]):
            _line(axes["others"], steps, series[name], COLOURS[2 + number], name)
        axes["others"].legend(fontsize=8, frameon=False, loc="best")
        axes["others"].yaxis.set_major_locator(MaxNLocator(4))
    if watched:
        _ratio(axes["ratio"], steps, series[ratio])
    _events(panels, events)
    panels[-1].set_xlabel("step", fontsize=9)
    return fig


def _losses(axes: Any, steps: Any, series: Mapping[str, Any]) -> None:
    for number, name in enumerate(name for name in _LOSSES if name in series):
        _line(axes, steps, series[name], COLOURS[number], name)
    known = np.concatenate([series[name][np.isfinite(series[name])] for name in _LOSSES if name in series] or [[]])
    if len(known) and (known > 0).all():
        axes.set_yscale("log")
        wide = known.max() > 30 * known.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    label(axes, "", "loss")
    if axes.lines:  # the losses of a game, one a player, are not among them
        axes.legend(fontsize=8, frameon=False, loc="best")


def _ratio(axes: Any, steps: Any, values: Any) -> None:
    _line(axes, steps, values, COLOURS[0], "sharpness / edge")
    axes.axhline(1.0, color=COLOURS[1], linestyle="--", linewidth=1.2, label="the optimiser's edge")
    top = float(np.nanmax(values[np.isfinite(values)], initial=1.0))
    axes.set_ylim(0, 1.12 * max(top, 1.0))
    label(axes, "", "sharpness / edge")
    axes.legend(fontsize=8, frameon=False, loc="best")


def _line(axes: Any, steps: Any, values: Any, colour: str, name: str) -> None:
    good = np.isfinite(values)
    mark = "o" if good.sum() < 3 else None
    axes.plot(steps[good], values[good], color=colour, label=name.replace("_", " "), marker=mark, markersize=3)


def _events(panels: Any, events: Sequence[tuple[int, str]]) -> None:
    for axes in panels:
        for step, _ in events:
            axes.axvline(step, color=COLOURS[3], linewidth=1, linestyle=":", zorder=1)
    last = -np.inf
    low, high = panels[0].get_xlim()
    said: dict[int, list[str]] = {}
    for step, what in events:
        said.setdefault(step, []).append(what)
    for step, what in sorted((step, ", ".join(dict.fromkeys(words))) for step, words in said.items()):
        if step - last > 0.04 * (high - low):
            panels[0].annotate(
                what, (step, 1.0), xycoords=("data", "axes fraction"), xytext=(2, -2), textcoords="offset points",
                rotation=90, va="top", ha="left", fontsize=7,
            )  # fmt: skip
            last = step
