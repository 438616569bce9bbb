"""The questions that any system can be asked; each answer is a `Result` with numbers, uncertainty and cautions."""

from separatrix.diagnostics.along.covariant_vectors import (
    CovariantVectors as CovariantVectors,
    covariant_vectors as covariant_vectors,
)
from separatrix.diagnostics.along.forensics import Forensics as Forensics, forensics as forensics
from separatrix.diagnostics.along.gradient_profile import (
    GradientProfile as GradientProfile,
    gradient_profile as gradient_profile,
)
from separatrix.diagnostics.along.invariants import Invariants as Invariants, invariants as invariants
from separatrix.diagnostics.along.lyapunov_spectrum import (
    LyapunovSpectrum as LyapunovSpectrum,
    lyapunov_spectrum as lyapunov_spectrum,
)
from separatrix.diagnostics.along.recurrence import Recurrence as Recurrence, recurrence as recurrence
from separatrix.diagnostics.along.rotation_number import (
    RotationNumber as RotationNumber,
    rotation_number as rotation_number,
)
from separatrix.diagnostics.along.survival import Survival as Survival, survival as survival
from separatrix.diagnostics.along.volume import (
    Symplecticity as Symplecticity,
    VolumeDrift as VolumeDrift,
    symplecticity as symplecticity,
    volume_drift as volume_drift,
)
from separatrix.diagnostics.cycles.continuation import (
    Branch as Branch,
    SpecialPoint as SpecialPoint,
    continuation as continuation,
)
from separatrix.diagnostics.cycles.periodic_orbits import (
    PeriodicOrbits as PeriodicOrbits,
    periodic_orbits as periodic_orbits,
)
from separatrix.diagnostics.cycles.switch_branch import BranchStart as BranchStart, switch_branch as switch_branch
from separatrix.diagnostics.diagnosis import Diagnosis as Diagnosis, diagnose as diagnose
from separatrix.diagnostics.equilibria.fixed_points import FixedPoints as FixedPoints, fixed_points as fixed_points
from separatrix.diagnostics.equilibria.linear_stability import (
    LinearStability as LinearStability,
    linear_stability as linear_stability,
)
from separatrix.diagnostics.equilibria.separatrix import Separatrix as Separatrix, separatrix as separatrix
from separatrix.diagnostics.examination import examine as examine
from separatrix.diagnostics.fields.field_split import FieldSplit as FieldSplit, field_split as field_split
from separatrix.diagnostics.fields.helmholtz import Helmholtz as Helmholtz, helmholtz as helmholtz
from separatrix.diagnostics.fields.portrait import Portrait as Portrait, portrait as portrait
from separatrix.diagnostics.finding import Finding as Finding
from separatrix.diagnostics.hessian.curvature import Curvature as Curvature, curvature as curvature
from separatrix.diagnostics.hessian.noise_scale import NoiseScale as NoiseScale, noise_scale as noise_scale
from separatrix.diagnostics.hessian.spectral_density import (
    SpectralDensity as SpectralDensity,
    spectral_density as spectral_density,
)
from separatrix.diagnostics.hessian.trace import Trace as Trace, trace as trace
from separatrix.diagnostics.many.basins import Basins as Basins, basins as basins
from separatrix.diagnostics.many.bifurcation_diagram import (
    BifurcationDiagram as BifurcationDiagram,
    bifurcation_diagram as bifurcation_diagram,
)
from separatrix.diagnostics.many.boundary import (
    BoundaryDimension as BoundaryDimension,
    boundary_dimension as boundary_dimension,
    uncertainty_exponent as uncertainty_exponent,
)
from separatrix.diagnostics.many.edge import EdgeState as EdgeState, edge_state as edge_state
from separatrix.diagnostics.orders.measured_order import (
    MeasuredOrder as MeasuredOrder,
    fit_order as fit_order,
    measured_order as measured_order,
)
from separatrix.diagnostics.parameter import at_parameter as at_parameter
from separatrix.diagnostics.questions import (
    QUESTIONS as QUESTIONS,
    Question as Question,
    by_name as by_name,
    no_claim as no_claim,
    question as question,
    register as register,
)
from separatrix.diagnostics.result import Result as Result, Row as Row
from separatrix.diagnostics.samples import (
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
