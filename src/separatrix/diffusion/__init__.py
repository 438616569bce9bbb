"""Diffusion models: noising as an SDE, its reversal as SDE and as flow, scores learned, densities followed."""

from separatrix.diffusion import examination as examination
from separatrix.diffusion.budget import ErrorBudget as ErrorBudget, error_budget as error_budget
from separatrix.diffusion.cosine import CosineVP as CosineVP
from separatrix.diffusion.ddpm import DDPM as DDPM, NoisingChain as NoisingChain
from separatrix.diffusion.densities import (
    Bits as Bits,
    LevelBits as LevelBits,
    LogDensities as LogDensities,
    bits_per_dimension as bits_per_dimension,
    level_bits as level_bits,
    local_dimension as local_dimension,
    log_density as log_density,
)
from separatrix.diffusion.diffusion_model import DiffusionModel as DiffusionModel
from separatrix.diffusion.edm import EDM as EDM
from separatrix.diffusion.floors import (
    EmpiricalLaw as EmpiricalLaw,
    ExactModel as ExactModel,
    LossGap as LossGap,
    loss_floor as loss_floor,
    loss_gap as loss_gap,
)
from separatrix.diffusion.flow_matching import (
    FlowMatching as FlowMatching,
    MeanFlow as MeanFlow,
    MeanFlowMap as MeanFlowMap,
    transport_cost as transport_cost,
)
from separatrix.diffusion.given_path import GivenPath as GivenPath
from separatrix.diffusion.guidance import (
    class_guided as class_guided,
    classifier_guided as classifier_guided,
    guided as guided,
    measured as measured,
)
from separatrix.diffusion.likelihood import log_likelihood as log_likelihood
from separatrix.diffusion.linear_law import final_variance as final_variance
from separatrix.diffusion.matching import (
    DenoisingScoreMatching as DenoisingScoreMatching,
    LearnedScore as LearnedScore,
    score_of as score_of,
)
from separatrix.diffusion.mixture import GaussianMixture as GaussianMixture
from separatrix.diffusion.near_data import ScoreGrowth as ScoreGrowth, score_growth as score_growth
from separatrix.diffusion.networks import ScoreMLP as ScoreMLP
from separatrix.diffusion.noise_matching import EDMMatching as EDMMatching, Preconditioned as Preconditioned
from separatrix.diffusion.predictions import (
    PredictedFlow as PredictedFlow,
    Prediction as Prediction,
    convert as convert,
    network_prediction as network_prediction,
)
from separatrix.diffusion.priors import PriorMismatch as PriorMismatch, prior_mismatch as prior_mismatch
from separatrix.diffusion.processes import (
    VE as VE,
    VP as VP,
    Brownian as Brownian,
    LinearRate as LinearRate,
    NoisingProcess as NoisingProcess,
    alpha_bar as alpha_bar,
)
from separatrix.diffusion.recipe import DiffusionRecipe as DiffusionRecipe
from separatrix.diffusion.sampler_examination import JudgedSampler as JudgedSampler
from separatrix.diffusion.samplers import (
    DDIM as DDIM,
    Ancestral as Ancestral,
    ChurnedHeun as ChurnedHeun,
    DPMSolver as DPMSolver,
    DPMSolverSDE as DPMSolverSDE,
    PredictorCorrector as PredictorCorrector,
    Sampler as Sampler,
    SamplingMap as SamplingMap,
    sampling_map as sampling_map,
)
from separatrix.diffusion.sampling import (
    DenoisingFlow as DenoisingFlow,
    ddim_inversion as ddim_inversion,
    denoised as denoised,
    sample as sample,
)
from separatrix.diffusion.sampling_path import PathRates as PathRates, path_rates as path_rates
from separatrix.diffusion.schedules import (
    GivenTimes as GivenTimes,
    KarrasLevels as KarrasLevels,
    Schedule as Schedule,
    UniformLogSNR as UniformLogSNR,
    UniformTimes as UniformTimes,
    WholeTimes as WholeTimes,
)
from separatrix.diffusion.straight import StraightPath as StraightPath
from separatrix.diffusion.sub_vp import SubVP as SubVP
from separatrix.diffusion.symmetry_breaking import (
    Speciation as Speciation,
    path_exponents as path_exponents,
    separation_rates as separation_rates,
    speciation as speciation,
)
from separatrix.diffusion.tilting import GuidanceGap as GuidanceGap, guidance_gap as guidance_gap
from separatrix.diffusion.unet import SmallUNet as SmallUNet
from separatrix.diffusion.words import (
    NOUNS as NOUNS,
    AttendingNet as AttendingNet,
    Autoencoder as Autoencoder,
    CaptionJudge as CaptionJudge,
    CaptionReader as CaptionReader,
    CaptionTowers as CaptionTowers,
    Composed as Composed,
    EncodedMatching as EncodedMatching,
    EvidenceBound as EvidenceBound,
    LatentDiffusion as LatentDiffusion,
    LatentMatching as LatentMatching,
    LatentPair as LatentPair,
    TwoTowers as TwoTowers,
    Unclip as Unclip,
    UnclipMatching as UnclipMatching,
    UnclipParts as UnclipParts,
    VectorReader as VectorReader,
    Vocabulary as Vocabulary,
    WordsRecipe as WordsRecipe,
    best_drawn as best_drawn,
    caption_of as caption_of,
    compose_pictures as compose_pictures,
    composed_vocabulary as composed_vocabulary,
    pretrained as pretrained,
    train_autoencoder as train_autoencoder,
    withheld as withheld,
)
