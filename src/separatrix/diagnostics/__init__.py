"""The questions that any system can be asked; each answer is a `Result` with numbers, uncertainty and cautions."""

from separatrix.diagnostics.basins.basins import Basins as Basins, basins as basins
from separatrix.diagnostics.basins.boundary import (
    BoundaryDimension as BoundaryDimension,
    boundary_dimension as boundary_dimension,
    uncertainty_exponent as uncertainty_exponent,
)
from separatrix.diagnostics.basins.edge import EdgeState as EdgeState, edge_state as edge_state
from separatrix.diagnostics.basins.separatrix import Separatrix as Separatrix, separatrix as separatrix
from separatrix.diagnostics.branches._parameter import at_parameter as at_parameter
from separatrix.diagnostics.branches.bifurcation_diagram import (
    BifurcationDiagram as BifurcationDiagram,
    bifurcation_diagram as bifurcation_diagram,
)
from separatrix.diagnostics.branches.continuation import (
    Branch as Branch,
    SpecialPoint as SpecialPoint,
    continuation as continuation,
)
from separatrix.diagnostics.branches.switch_branch import BranchStart as BranchStart, switch_branch as switch_branch
from separatrix.diagnostics.curvature.curvature import Curvature as Curvature, curvature as curvature
from separatrix.diagnostics.curvature.noise_scale import NoiseScale as NoiseScale, noise_scale as noise_scale
from separatrix.diagnostics.curvature.spectral_density import (
    SpectralDensity as SpectralDensity,
    spectral_density as spectral_density,
)
from separatrix.diagnostics.curvature.trace import Trace as Trace, trace as trace
from separatrix.diagnostics.diagnose import Diagnosis as Diagnosis, diagnose as diagnose
from separatrix.diagnostics.distances import (
    Distance as Distance,
    Distances as Distances,
    PrincipalFeatures as PrincipalFeatures,
    classifier_two_sample as classifier_two_sample,
    distances as distances,
    energy_distance as energy_distance,
    frechet_distance as frechet_distance,
    maximum_mean_discrepancy as maximum_mean_discrepancy,
    principal_features as principal_features,
    sliced_wasserstein as sliced_wasserstein,
)
from separatrix.diagnostics.examine import examine as examine
from separatrix.diagnostics.fields.field_split import FieldSplit as FieldSplit, field_split as field_split
from separatrix.diagnostics.fields.helmholtz import Helmholtz as Helmholtz, helmholtz as helmholtz
from separatrix.diagnostics.fields.invariants import Invariants as Invariants, invariants as invariants
from separatrix.diagnostics.fields.volume import (
    Symplecticity as Symplecticity,
    VolumeDrift as VolumeDrift,
    symplecticity as symplecticity,
    volume_drift as volume_drift,
)
from separatrix.diagnostics.finding import Finding as Finding
from separatrix.diagnostics.gradients.gradient_profile import (
    GradientProfile as GradientProfile,
    gradient_profile as gradient_profile,
)
from separatrix.diagnostics.linear_stability import (
    LinearStability as LinearStability,
    linear_stability as linear_stability,
)
from separatrix.diagnostics.lyapunov.covariant_vectors import (
    CovariantVectors as CovariantVectors,
    covariant_vectors as covariant_vectors,
)
from separatrix.diagnostics.lyapunov.lyapunov_spectrum import (
    LyapunovSpectrum as LyapunovSpectrum,
    lyapunov_spectrum as lyapunov_spectrum,
)
from separatrix.diagnostics.orbits.fixed_points import FixedPoints as FixedPoints, fixed_points as fixed_points
from separatrix.diagnostics.orbits.periodic_orbits import (
    PeriodicOrbits as PeriodicOrbits,
    periodic_orbits as periodic_orbits,
)
from separatrix.diagnostics.orbits.recurrence import Recurrence as Recurrence, recurrence as recurrence
from separatrix.diagnostics.orbits.rotation_number import (
    RotationNumber as RotationNumber,
    rotation_number as rotation_number,
)
from separatrix.diagnostics.orders.measured_order import (
    MeasuredOrder as MeasuredOrder,
    fit_order as fit_order,
    measured_order as measured_order,
)
from separatrix.diagnostics.questions import QUESTIONS as QUESTIONS, Question as Question, question as question
from separatrix.diagnostics.result import Result as Result, Row as Row
from separatrix.diagnostics.survival import Survival as Survival, survival as survival
