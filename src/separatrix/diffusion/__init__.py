"""Diffusion models: noising as an SDE, its reversal as SDE and as flow, scores learned, densities followed."""

from separatrix.diffusion import examination as examination
from separatrix.diffusion.likelihood import log_likelihood as log_likelihood
from separatrix.diffusion.matching import (
    DenoisingScoreMatching as DenoisingScoreMatching,
    LearnedScore as LearnedScore,
    score_of as score_of,
)
from separatrix.diffusion.mixture import GaussianMixture as GaussianMixture
from separatrix.diffusion.networks import ScoreMixer as ScoreMixer, ScoreMLP as ScoreMLP
from separatrix.diffusion.processes import (
    VE as VE,
    VP as VP,
    Brownian as Brownian,
    NoisingProcess as NoisingProcess,
    alpha_bar as alpha_bar,
)
from separatrix.diffusion.sampling import (
    DenoisingFlow as DenoisingFlow,
    denoised as denoised,
    sample as sample,
)
