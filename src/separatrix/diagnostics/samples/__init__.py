"""Distances of two samples, each with a standard error and a permutation p-value; one file for each distance."""

from separatrix.diagnostics.samples.all import KINDS as KINDS, distances as distances
from separatrix.diagnostics.samples.energy import energy_distance as energy_distance
from separatrix.diagnostics.samples.features import (
    PrincipalFeatures as PrincipalFeatures,
    principal_features as principal_features,
)
from separatrix.diagnostics.samples.frechet import frechet_distance as frechet_distance
from separatrix.diagnostics.samples.mmd import maximum_mean_discrepancy as maximum_mean_discrepancy
from separatrix.diagnostics.samples.result import Distance as Distance, Distances as Distances
from separatrix.diagnostics.samples.sliced import sliced_wasserstein as sliced_wasserstein
from separatrix.diagnostics.samples.two_sample import classifier_two_sample as classifier_two_sample
