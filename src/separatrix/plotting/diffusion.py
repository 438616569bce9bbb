"""Clouds of points with arrows on them, and paths of points over time."""

from typing import Any

import numpy as np

from separatrix.plotting.style import COLOURS, figure, label


def plot_score(points: Any, cloud: Any, arrows: Any, *, title: str = "", axes: Any = None) -> Any:
    """Plot a cloud in the plane and a field of arrows over it, each as long as the square root of its norm.

    **Arguments:**

    - `points`, `arrows`: shape (A, 2), where the arrows start and what they are. `cloud`: shape (N, 2).

    **Returns:** the figure.
    """
    axes = axes if axes is not None else figure()[1][0]
    points, cloud, arrows = (np.asarray(values, float) for values in (points, cloud, arrows))
    lengths = np.sqrt(np.linalg.norm(arrows, axis=1, keepdims=True))
    arrows = arrows / np.maximum(lengths, 1e-12)
    axes.plot(cloud[:, 0], cloud[:, 1], ".", color=COLOURS[5], markersize=2, alpha=0.5, rasterized=True)
    axes.quiver(points[:, 0], points[:, 1], arrows[:, 0], arrows[:, 1], color="0.2", width=0.005)
    return _square(axes, title)


def plot_cloud(cloud: Any, *, title: str = "", axes: Any = None) -> Any:
    """Plot a cloud in the plane, shape (N, 2).

    **Returns:** the figure.
    """
    axes = axes if axes is not None else figure()[1][0]
    cloud = np.asarray(cloud, float)
    axes.plot(cloud[:, 0], cloud[:, 1], ".", color=COLOURS[0], markersize=2, alpha=0.5, rasterized=True)
    return _square(axes, title)


def plot_paths(times: Any, paths: Any, *, y: str, title: str = "", axes: Any = None) -> Any:
    """Plot one component of many paths over time, on an axis of time that runs backwards.

    **Arguments:**

    - `times`: shape (T,). `paths`: shape (T, N).

    **Returns:** the figure.
    """
    axes = axes if axes is not None else figure()[1][0]
    times, paths = np.asarray(times, float), np.asarray(paths, float)
    axes.plot(times, paths, linewidth=0.8, alpha=0.8)
    axes.set_xlim(times.max(), times.min())
    label(axes, "time t, from noise to data", y, title)
    return axes.figure


def _square(axes: Any, title: str) -> Any:
    axes.set_aspect("equal")
    axes.set(xlim=(-3.4, 3.4), ylim=(-3.4, 3.4))
    label(axes, "first component", "second component", title)
    return axes.figure
