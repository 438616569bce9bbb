"""Periodic orbits on the plane of the first two coordinates, and their multipliers."""

from typing import Any

import numpy as np

from separatrix.diagnostics.cycles.periodic_orbits import PeriodicOrbits
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label

_NAMED = 8


@plot.register
def plot_periodic_orbits(result: PeriodicOrbits, *, axes: Any = None) -> Any:
    """Plot each orbit, stable ones drawn through, and beside them all multipliers with the unit circle."""
    (places, circle) = figure(2)[1] if axes is None else np.ravel(axes)[:2]
    orbits, kinds = np.asarray(result.coordinates), result.kinds
    for number, (orbit, kind) in enumerate(zip(orbits, kinds, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        name = f"{float(result.periods[number]):.6g}: {kind}" if number < _NAMED else None
        _draw(places, orbit, result.kind == "map", color=colour, label=name, stable=kind.startswith("stable"))
        values = np.asarray(result.multipliers[number])
        circle.plot(np.real(values), np.imag(values), "o", color=colour, markersize=4)
    angles = np.linspace(0, 2 * np.pi, 200)
    circle.plot(np.cos(angles), np.sin(angles), color="0.3", linestyle="--", linewidth=1)
    circle.set_aspect("equal", adjustable="datalim")
    if len(kinds):
        places.legend(
            fontsize=8,
            loc="upper center",
            frameon=False,
            bbox_to_anchor=(0.5, -0.28),
            ncols=2,
            title="period",
            title_fontsize=8,
        )
    across = "next point" if result.kind == "map" and orbits.shape[2] == 1 else "second coordinate"
    label(places, "first coordinate", across, f"{len(kinds)} orbits")
    label(circle, "real part", "imaginary part", "multipliers")
    return places.figure


def _draw(axes: Any, orbit: np.ndarray, discrete: bool, *, stable: bool, **style: Any) -> None:
    closed = np.concatenate([orbit, orbit[:1]])
    heights = closed[:, 1] if closed.shape[1] > 1 else np.roll(closed[:, 0], -1)
    if closed.shape[1] == 1:
        closed, heights = closed[:-1], np.roll(orbit[:, 0], -1)
    if discrete:
        axes.plot(closed[:, 0], heights, "o", markersize=5, fillstyle="full" if stable else "none", **style)
    else:
        axes.plot(closed[:, 0], heights, linestyle="-" if stable else "--", **style)
