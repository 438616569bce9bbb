"""Paths of several methods over the contours of a landscape, still and moving."""

from typing import Any

import numpy as np

from separatrix.plotting.style import COLOURS, figure, label

_LEVELS = 18
_MARKS = {0: "*", 1: "x", 2: "^"}


def plot_race(race: Any, *, axes: Any = None, until: int | None = None) -> Any:
    """Plot the paths of a race over the contours of its landscape.

    **Arguments:**

    - `race`: a `separatrix.optimization.Race`. `until`: steps to show; all by default.
    - `axes`: where to draw; a new figure by default.

    **Returns:** the figure. Stars are minima, crosses saddles, triangles maxima.
    """
    axes = axes if axes is not None else figure(1, width=4.8, height=4.0)[1][0]
    _ground(race, axes)
    for number, name in enumerate(race.names):
        path = np.asarray(race.paths[number])[: None if until is None else until + 1]
        axes.plot(path[:, 0], path[:, 1], color=COLOURS[number % len(COLOURS)], label=name, zorder=3)
        axes.plot(path[-1:, 0], path[-1:, 1], "o", color=COLOURS[number % len(COLOURS)], markersize=4, zorder=4)
    axes.legend(fontsize=7, frameon=True, framealpha=0.85, loc="upper right")
    label(axes, "x", "y")
    return axes.figure


def animate_race(race: Any, *, frames: int = 60) -> Any:
    """Return an animation of a race, of matplotlib's kind.

    **Arguments:** a `Race`, and the number of frames over its steps.

    **Returns:** a `matplotlib.animation.FuncAnimation`: `.save("race.gif", writer="pillow")`, or `.to_jshtml()`.
    """
    from matplotlib.animation import FuncAnimation

    fig = plot_race(race, until=0)
    axes = fig.axes[0]
    steps = np.linspace(0, race.paths.shape[1] - 1, frames).astype(int)
    lines = axes.lines[-2 * len(race.names) :]

    def draw(frame: int) -> list[Any]:
        for number in range(len(race.names)):
            path = np.asarray(race.paths[number])[: steps[frame] + 1]
            lines[2 * number].set_data(path[:, 0], path[:, 1])
            lines[2 * number + 1].set_data(path[-1:, 0], path[-1:, 1])
        return list(lines)

    return FuncAnimation(fig, draw, frames=frames, blit=False, interval=50)


def _ground(race: Any, axes: Any) -> None:
    """Contours, evenly spaced in rank so that valleys show, and critical points."""
    x, y, heights = np.asarray(race.grid[..., 0]), np.asarray(race.grid[..., 1]), np.asarray(race.heights)
    levels = np.unique(np.quantile(heights, np.linspace(0, 1, _LEVELS)))
    axes.contour(x, y, heights, levels=levels, cmap="Greys_r", linewidths=0.6, alpha=0.35)
    for (a, b), index in zip(np.asarray(race.points), np.asarray(race.indices), strict=True):
        axes.plot([a], [b], _MARKS[int(index)], color="0.15", markersize=8, zorder=5)
    axes.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    axes.grid(False)
