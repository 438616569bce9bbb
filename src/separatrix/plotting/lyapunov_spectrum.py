"""Lyapunov exponents with their errors, and how their running means come to rest."""

from typing import Any

import numpy as np

from separatrix.diagnostics.along.lyapunov_spectrum import LyapunovSpectrum
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label

# Lines that an eye can tell apart.
_DRAWN = 7


@plot.register
def plot_lyapunov_spectrum(result: LyapunovSpectrum, *, axes: Any = None) -> Any:
    """Plot exponents over their number with bars of two standard errors; beside it the running means of the first ones.

    With `axes` given, the exponents alone are drawn there.
    """
    drawn = figure(2)[1] if axes is None else [axes]
    values, errors = np.asarray(result.exponents), np.asarray(result.standard_errors)
    numbers = np.arange(1, len(values) + 1)
    first = drawn[0]
    first.errorbar(numbers, values, 2 * errors, fmt="o", markersize=4, capsize=2, color=COLOURS[0])
    first.axhline(0.0, color="0.3", linestyle="--", linewidth=1)
    first.xaxis.get_major_locator().set_params(integer=True)
    label(first, "number", f"exponent, nats per {result.unit}", f"{len(values)} of {result.size} exponents")
    if axes is None:
        _running(drawn[1], result)
    return first.figure


def _running(axes: Any, result: LyapunovSpectrum) -> None:
    running = np.asarray(result.running)[:_DRAWN]
    ends = np.asarray(result.duration) * np.arange(1, running.shape[1] + 1) / running.shape[1]
    for number, (row, colour) in enumerate(zip(running, COLOURS, strict=False), 1):
        axes.plot(ends, row, color=colour, label=str(number))
    axes.axhline(0.0, color="0.3", linestyle="--", linewidth=1)
    axes.legend(fontsize=8, ncols=2)
    label(axes, result.units, "running mean", "convergence")
