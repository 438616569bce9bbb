"""Separatrix: the dynamical-systems layer for machine learning, on JAX.

Public names are loaded on first use, so that the command line answers without importing JAX.
"""

import importlib
import threading
from typing import Any

__version__ = "0.1.0"

_FLAT = {
    "separatrix.systems": (
        "FiniteMap", "Flow", "InvertibleMap", "Map", "NearIdentityMap", "Objective", "OpenFlow", "OpenMap",
        "OptimizerState", "Outcome", "OutcomeKind", "SDE", "System", "Trajectory", "as_cell", "as_flow",
        "as_map", "as_near_identity", "as_objective", "as_open_flow", "as_open_map", "as_sde", "couple",
        "drive", "from_cell", "from_diffrax", "from_layers", "from_optax", "iterate", "project",
    ),
    "separatrix.calculus": (
        "TangentState", "adjoint", "close_loop", "compose", "diffusion_limit", "discretize", "limit",
        "linearize", "modified", "on_grid", "probability_flow", "reverse", "tangent",
    ),
    "separatrix.calculus.methods": (
        "Euler", "EulerMaruyama", "ExponentialEuler", "Heun", "ImplicitEuler", "ImplicitMidpoint", "Leapfrog",
        "Midpoint", "Milstein", "RK4", "RungeKutta", "SRA1", "StochasticHeun", "SymplecticEuler",
    ),
    "separatrix.evolution": (
        "Parallel", "Save", "ensemble", "evolve",
    ),
    "separatrix.diagnostics": (
        "basins", "bifurcation_diagram", "boundary_dimension", "classifier_two_sample", "continuation",
        "covariant_vectors", "curvature", "diagnose", "distances", "edge_state", "energy_distance",
        "field_split", "fixed_points", "frechet_distance", "gradient_profile", "helmholtz", "invariants",
        "linear_stability", "lyapunov_spectrum", "maximum_mean_discrepancy", "measured_order", "noise_scale",
        "periodic_orbits", "portrait", "recurrence", "rotation_number", "separatrix", "sliced_wasserstein",
        "spectral_density", "switch_branch", "symplecticity", "uncertainty_exponent", "volume_drift",
    ),
    "separatrix.optimization": (
        "StabilityMonitor", "watch",
    ),
    "separatrix.training": (
        "Range", "Run", "fit", "load_model", "read_sweep", "sampled", "save", "supervised", "sweep",
    ),
    "separatrix.data": (
        "from_arrow", "load", "read_csv", "read_idx", "read_images", "read_npy", "read_npz", "read_parquet",
        "read_text",
    ),
}  # fmt: skip

_HOME = {name: module for module, names in _FLAT.items() for name in names}
_SUBMODULES = (
    "calculus", "catalogue", "data", "diagnostics", "diffusion", "evolution", "games", "linear", "optimization", "plotting",
    "recurrent", "residual", "systems", "tour", "training",
)  # fmt: skip

_FAMILIES = ("optimization", "games", "recurrent", "residual", "diffusion")

_ROOMS = (*_FAMILIES, "diagnostics", "training", "data", "calculus", "evolution", "systems")

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
    raise AttributeError(f"module 'separatrix' has no attribute {name!r}{_where(name)}")


def _where(name: str) -> str:
    """Says which family or room holds a name that is not flat."""
    if name.startswith("_"):
        return ""
    for room in _ROOMS:
        if hasattr(importlib.import_module(f"separatrix.{room}"), name):
            return f"; write sx.{room}.{name}"
    return ""


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])
