"""Separatrix: the dynamical-systems layer for machine learning, on JAX.

Public names are loaded on first use, so that the command line answers without importing JAX.
"""

import importlib
import threading
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "separatrix.systems": (
        "FiniteMap", "Flow", "InvertibleMap", "Map", "NearIdentityMap", "Objective", "OpenFlow", "OpenMap",
        "OptimizerState", "Outcome", "OutcomeKind", "SDE", "System", "Trajectory", "as_cell", "as_flow", "as_map",
        "as_near_identity", "as_objective", "as_open_flow", "as_open_map", "as_sde", "couple", "drive", "from_cell",
        "from_diffrax", "from_layers", "from_optax", "iterate", "project",
    ),
    "separatrix.calculus": (
        "TangentState", "adjoint", "close_loop", "compose", "diffusion_limit", "discretize", "limit", "linearize",
        "modified", "on_grid", "probability_flow", "reverse", "tangent",
    ),
    "separatrix.calculus.methods": (
        "Euler", "EulerMaruyama", "ExponentialEuler", "Heun", "ImplicitEuler", "ImplicitMidpoint", "Leapfrog",
        "Midpoint", "Milstein", "RK4", "RungeKutta", "SRA1", "StochasticHeun", "SymplecticEuler",
    ),
    "separatrix.evolution": ("Parallel", "Save", "ensemble", "evolve"),
    "separatrix.diagnostics": (
        "Basins", "BifurcationDiagram", "BoundaryDimension", "Branch", "BranchStart", "CovariantVectors", "Curvature",
        "Diagnosis", "Distance", "Distances", "EdgeState", "FieldSplit", "Finding", "FixedPoints", "GradientProfile",
        "Helmholtz", "Invariants", "LinearStability", "LyapunovSpectrum", "MeasuredOrder", "NoiseScale",
        "PeriodicOrbits", "PrincipalFeatures", "Recurrence", "Result", "RotationNumber", "Separatrix", "SpecialPoint",
        "SpectralDensity", "Symplecticity", "Trace", "VolumeDrift", "at_parameter", "basins", "bifurcation_diagram",
        "boundary_dimension", "classifier_two_sample", "continuation", "covariant_vectors", "curvature", "diagnose",
        "distances", "edge_state", "energy_distance", "field_split", "fit_order", "fixed_points", "frechet_distance",
        "gradient_profile", "helmholtz", "invariants", "linear_stability", "lyapunov_spectrum",
        "maximum_mean_discrepancy", "measured_order", "noise_scale", "periodic_orbits", "principal_features",
        "recurrence", "rotation_number", "separatrix", "sliced_wasserstein", "spectral_density", "switch_branch",
        "symplecticity", "trace", "uncertainty_exponent", "volume_drift",
    ),
    "separatrix.optimization": (
        "Adadelta", "Adagrad", "Adam", "AdamW", "AggMo", "BAOAB", "Beale", "BregmanFlow", "CanonicalPoint",
        "CentralFlow", "ConformalHamiltonian", "ConformalLeapfrog", "ConformalSymplecticEuler", "CubicNewton",
        "DeepLinear", "DelayCompensatedDescent", "DelayedDescent", "DelayedFlow", "DoubleWell", "Downpour",
        "DownpourState", "ElasticAveraging", "ElasticState", "EscapeTimes", "GaussNewton", "GradientDescent",
        "HamiltonianDescent", "HeavyBall", "HighResolutionHeavyBall", "HighResolutionNesterov", "Himmelblau",
        "KramersTime", "Landscape", "Langevin", "Lion", "LocalDescent", "MirrorPoint", "MonkeySaddle",
        "MuellerBrown", "Nadam", "NaturalGradient", "Nesterov", "Newton", "PhasePoint", "PowerKinetic", "QHAdam",
        "QHM", "Quadratic", "QuadraticKinetic", "RMSprop", "Race", "RelativisticDescent", "RelativisticKinetic",
        "RestartedNesterov", "Rosenbrock", "SGLD", "Saddle", "SignDescent", "SixHumpCamel", "StabilityMonitor",
        "StabilityReport", "StaleDescent", "StationaryCovariance", "StronglyConvexFlow", "StyblinskiTang",
        "ThreeHumpCamel", "Trainability", "UnderdampedLangevin", "clipped", "delay_edge", "dilate", "elastic_edge",
        "escape_times", "fisher", "imbalance", "kramers_time", "landscape", "landscapes", "noisy", "preconditioner",
        "race", "stability_edge", "stationary_covariance", "trainability",
    ),
    "separatrix.games": (
        "AlternatingDescent", "Bilinear", "ConsensusDescent", "ConsensusField", "DiracGAN", "Extragradient", "GAN", "Game",
        "GameField", "OptimisticDescent", "Players", "SimultaneousDescent", "as_game", "field",
    ),
    "separatrix.recurrent": (
        "Elman", "LanguageModel", "RandomNetwork", "SequenceClassifier", "Writing", "bits_per_symbol",
        "generate", "random_network", "spectral_radius", "with_recurrent_gain",
        "with_spectral_radius",
    ),
    "separatrix.residual": (
        "AlongDepth", "BoundedPolicy", "Discovery", "FlowModel", "Monomials", "NeuralODE", "PendulumPlant",
        "ResNet", "Segments", "augment", "discover", "lqr", "policy_loss", "segments", "trajectory_loss",
        "universal", "with_depth",
    ),
    "separatrix.diffusion": (
        "Brownian", "DenoisingFlow", "DenoisingScoreMatching", "GaussianMixture", "LearnedScore", "NoisingProcess",
        "ScoreMLP", "ScoreMixer", "VE", "VP", "alpha_bar", "denoised", "log_likelihood", "sample", "score_of",
    ),
    "separatrix.training": (
        "Fit", "Run", "Sampled", "Supervised", "fit", "load_model", "sampled", "save", "supervised",
    ),
    "separatrix.data": (
        "DataSet", "Table", "from_arrow", "load", "read_csv", "read_idx", "read_images", "read_npy", "read_npz",
        "read_parquet", "read_text",
    ),
}  # fmt: skip

_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
_SUBMODULES = (
    "calculus", "catalogue", "data", "diagnostics", "diffusion", "evolution", "games", "linear", "optimization", "plotting",
    "recurrent", "residual", "systems", "tour", "training",
)  # fmt: skip

_FAMILIES = ("optimization", "games", "recurrent", "residual", "diffusion")

__all__ = sorted(["__version__", *_HOME])


def load_families() -> None:
    """Import all families: each registers what it knows of its own systems when it is imported."""
    for family in _FAMILIES:
        importlib.import_module(f"separatrix.{family}")


# Two threads that import two of our packages at once could wait for each other.
_LOCK = threading.RLock()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        with _LOCK:
            value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        with _LOCK:
            return importlib.import_module(f"separatrix.{name}")
    raise AttributeError(f"module 'separatrix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])
