"""Orbits in the plane of two principal axes, with fixed points and their unstable directions."""

from typing import Any

import numpy as np

from separatrix.plotting.style import COLOURS, figure, label


def plot_principal_portrait(
    orbits: Any,
    points: Any,
    stable: Any,
    *,
    directions: Any = None,
    owners: Any = None,
    title: str = "",
    axes: Any = None,
) -> Any:
    """Plot orbits, stable points (full) and others (open), and lines along the unstable directions of these.

    **Arguments:**

    - `orbits`: shape (runs, T, 2). `points`: shape (P, 2). `stable`: shape (P,).
    - `directions`: shape (D, 2), each from the point of number `owners`, shape (D,).

    **Returns:** the figure.

    **Example:**

    >>> import numpy as np
    >>> fig = plot_principal_portrait(np.zeros((1, 5, 2)), np.eye(2), [True, False], directions=[[1, 1]], owners=[1])
    >>> len(fig.axes[0].get_lines())
    4
    """
    axes = axes if axes is not None else figure(1, width=4.8)[1][0]
    orbits, points, stable = np.asarray(orbits, float), np.asarray(points, float), np.asarray(stable, bool)
    for path in orbits:
        axes.plot(path[:, 0], path[:, 1], color="0.75", linewidth=0.6, zorder=1)
    length = 0.08 * float(np.ptp(np.concatenate([orbits.reshape(-1, 2), points.reshape(-1, 2)]), axis=0).max() or 1.0)
    none = np.zeros((0, 2))
    for at, along in zip(() if owners is None else owners, none if directions is None else directions, strict=True):
        ends = points[at] + length * np.outer([-1, 1], along)
        axes.plot(ends[:, 0], ends[:, 1], color=COLOURS[1], linewidth=1.2, zorder=2)
    for mask, fill, name in ((stable, "full", "stable"), (~stable, "none", "unstable")):
        form = {"marker": "o", "linestyle": "none", "color": COLOURS[0], "fillstyle": fill, "zorder": 3}
        axes.plot(points[mask, 0], points[mask, 1], label=f"{name}: {int(mask.sum())}", **form)
    axes.legend(fontsize=8, frameon=False)
    label(axes, "first principal axis", "second principal axis", title)
    return axes.figure
