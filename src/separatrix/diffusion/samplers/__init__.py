"""Samplers: one step from a noise level to the next."""

from separatrix.diffusion.samplers.base import (
    LevelStep as LevelStep,
    Sampler as Sampler,
    SamplingMap as SamplingMap,
    sampling_map as sampling_map,
)
from separatrix.diffusion.samplers.churned_heun import ChurnedHeun as ChurnedHeun
from separatrix.diffusion.samplers.corrected import PredictorCorrector as PredictorCorrector
from separatrix.diffusion.samplers.ddim import DDIM as DDIM, Ancestral as Ancestral
from separatrix.diffusion.samplers.dpm_solver import DPMSolver as DPMSolver, DPMSolverSDE as DPMSolverSDE
