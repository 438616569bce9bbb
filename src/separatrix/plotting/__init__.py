"""Figures: a result in, a matplotlib figure out. Nothing is computed here but positions on paper."""

from separatrix.plotting import (
    basins as basins,
    bifurcation_diagram as bifurcation_diagram,
    continuation as continuation,
    curvature as curvature,
    distances as distances,
    field_split as field_split,
    fixed_points as fixed_points,
    gradient_profile as gradient_profile,
    invariants as invariants,
    linear_stability as linear_stability,
    lyapunov_spectrum as lyapunov_spectrum,
    measured_order as measured_order,
    periodic_orbits as periodic_orbits,
    portrait as portrait,
    recurrence as recurrence,
    rotation_number as rotation_number,
)
from separatrix.plotting.curves import (
    plot_curves as plot_curves,
    plot_fates as plot_fates,
    plot_orders as plot_orders,
)
from separatrix.plotting.images import plot_images as plot_images
from separatrix.plotting.phases import plot_phase_diagram as plot_phase_diagram
from separatrix.plotting.plots import plot as plot
from separatrix.plotting.principal_axes import plot_principal_portrait as plot_principal_portrait
from separatrix.plotting.race import animate_race as animate_race, plot_race as plot_race
from separatrix.plotting.results import (
    plot_bands as plot_bands,
    plot_cloud as plot_cloud,
    plot_orbit as plot_orbit,
    plot_scatter as plot_scatter,
)
from separatrix.plotting.run_history import plot_run_history as plot_run_history
from separatrix.plotting.stability import plot_stability as plot_stability
from separatrix.plotting.style import as_svg as as_svg, as_themed_svg as as_themed_svg, figure as figure
from separatrix.plotting.trajectory import plot_trajectory as plot_trajectory
