"""Curvature: eigenvalues with their bounds, the density of a spectrum with its band, traces and noise with their errors."""

from typing import Any

import numpy as np

from separatrix.diagnostics.hessian.curvature import Curvature
from separatrix.diagnostics.hessian.noise_scale import NoiseScale
from separatrix.diagnostics.hessian.spectral_density import SpectralDensity
from separatrix.diagnostics.hessian.trace import Trace
from separatrix.plotting.plots import plot
from separatrix.plotting.style import COLOURS, figure, label


@plot.register
def plot_curvature(result: Curvature, *, axes: Any = None) -> Any:
    """Plot eigenvalues by rank, with the bounds on their errors."""
    axes = axes if axes is not None else figure()[1][0]
    values, errors = np.asarray(result.eigenvalues), np.asarray(result.errors)
    axes.errorbar(np.arange(1, values.size + 1), values, errors, fmt="o", color=COLOURS[0], capsize=3)
    axes.axhline(0.0, color="0.3", linestyle="--", linewidth=1)
    axes.set_xticks(np.arange(1, values.size + 1))
    label(
        axes, "rank", f"{result.end} eigenvalues", f"{result.matrix.replace('_', '-')}, {int(result.products)} products"
    )
    return axes.figure


@plot.register
def plot_spectral_density(result: SpectralDensity, *, axes: Any = None) -> Any:
    """Plot the smoothed density on a logarithmic scale, with two standard errors."""
    axes = axes if axes is not None else figure()[1][0]
    grid, density, error = (np.asarray(part) for part in (result.grid, result.density, result.density_error))
    floor = 1e-6 * density.max()
    axes.semilogy(grid, np.maximum(density, floor), color=COLOURS[0])
    if np.isfinite(error).all():
        low, high = np.maximum(density - 2 * error, floor), np.maximum(density + 2 * error, floor)
        axes.fill_between(grid, low, high, color=COLOURS[0], alpha=0.25, linewidth=0)
    label(axes, "eigenvalue", "density", f"{result.size} parameters, {result.products} products")
    return axes.figure


@plot.register
def plot_trace(result: Trace, *, axes: Any = None) -> Any:
    """Plot the trace with two standard errors beside the part of it that was found exactly."""
    axes = axes if axes is not None else figure()[1][0]
    heights = [float(result.captured), float(result.value)]
    axes.bar(["captured", "trace"], heights, yerr=[0, 2 * float(result.standard_error)], color=COLOURS[:2], capsize=4)
    label(axes, "", "trace", f"{result.products} products")
    return axes.figure


@plot.register
def plot_noise_scale(result: NoiseScale, *, axes: Any = None) -> Any:
    """Plot the variance of a batch's gradient over the squared gradient, against the batch size."""
    axes = axes if axes is not None else figure()[1][0]
    value, error = float(result.value), float(result.standard_error)
    sizes = np.geomspace(1, max(10 * value, 10 * result.batch_size), 50)
    axes.loglog(sizes, value / sizes, color=COLOURS[0])
    axes.axhline(1.0, color="0.3", linestyle="--", linewidth=1)
    axes.axvspan(max(value - 2 * error, 1e-12), value + 2 * error, color=COLOURS[1], alpha=0.25, linewidth=0)
    label(axes, "batch size", "variance over squared gradient", f"noise scale {value:.3g}")
    return axes.figure
