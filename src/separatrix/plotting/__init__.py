"""Figures: a result in, a matplotlib figure out. Nothing is computed here but positions on paper."""

from separatrix.plotting import linear_stability as linear_stability
from separatrix.plotting.curves import (
    plot_curves as plot_curves,
    plot_fates as plot_fates,
    plot_orders as plot_orders,
    plot_trajectory as plot_trajectory,
)
from separatrix.plotting.images import plot_images as plot_images
from separatrix.plotting.plot import plot as plot
from separatrix.plotting.style import as_svg as as_svg, figure as figure
