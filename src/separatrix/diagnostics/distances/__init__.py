"""Distances of two samples, each with a standard error and a permutation p-value; one file for each distance."""

from separatrix.diagnostics.distances.all import KINDS as KINDS, distances as distances
from separatrix.diagnostics.distances.energy import energy_distance as energy_distance
from separatrix.diagnostics.distances.features import (
    PrincipalFeatures as PrincipalFeatures,
    principal_features as principal_features,
)
from separatrix.diagnostics.distances.frechet import frechet_distance as frechet_distance
from separatrix.diagnostics.distances.mmd import maximum_mean_discrepancy as maximum_mean_discrepancy
from separatrix.diagnostics.distances.result import Distance as Distance, Distances as Distances
from separatrix.diagnostics.distances.sliced_wasserstein import sliced_wasserstein as sliced_wasserstein
from separatrix.diagnostics.distances.two_sample import classifier_two_sample as classifier_two_sample
