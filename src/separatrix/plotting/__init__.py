"""Figures: a result in, a matplotlib figure out. Nothing is computed here but positions on paper."""

from separatrix.plotting import bifurcation_diagram as bifurcation_diagram, continuation as continuation
from separatrix.plotting import distances as distances, linear_stability as linear_stability, measured_order as measured_order
from separatrix.plotting import basins as basins, field_split as field_split, invariants as invariants
from separatrix.plotting import curvature as curvature, gradient_profile as gradient_profile
from separatrix.plotting import fixed_points as fixed_points, periodic_orbits as periodic_orbits
from separatrix.plotting import recurrence as recurrence, rotation_number as rotation_number
from separatrix.plotting import lyapunov_spectrum as lyapunov_spectrum
from separatrix.plotting.curves import (
    plot_curves as plot_curves,
    plot_fates as plot_fates,
    plot_orders as plot_orders,
    plot_trajectory as plot_trajectory,
)
from separatrix.plotting.images import plot_images as plot_images
from separatrix.plotting.plot import plot as plot
from separatrix.plotting.style import as_svg as as_svg, figure as figure
from separatrix.plotting.race import animate_race as animate_race, plot_race as plot_race
from separatrix.plotting.stability import plot_stability as plot_stability
