"""Games: several players, each descending on a loss of its own, along a field that is no gradient."""

from separatrix.games import examination as examination, recipe as recipe
from separatrix.games.adjusted import (
    CompetitiveDescent as CompetitiveDescent,
    Lookahead as Lookahead,
    OpponentShaping as OpponentShaping,
    PastExtragradient as PastExtragradient,
    RidgeDescent as RidgeDescent,
    SymplecticDescent as SymplecticDescent,
    proximal_point as proximal_point,
)
from separatrix.games.advice import Advice as Advice, advise as advise
from separatrix.games.classical import (
    Bilinear as Bilinear,
    DiracGAN as DiracGAN,
    LearnedVarianceGAN as LearnedVarianceGAN,
    QuadraticGame as QuadraticGame,
    minimax_pair as minimax_pair,
    rotating_quadratic as rotating_quadratic,
)
from separatrix.games.disturbance import Disturbance as Disturbance, disturbed as disturbed
from separatrix.games.dynamics import (
    AlternatingDescent as AlternatingDescent,
    ConsensusDescent as ConsensusDescent,
    Extragradient as Extragradient,
    OptimisticDescent as OptimisticDescent,
    SimultaneousDescent as SimultaneousDescent,
)
from separatrix.games.game import (
    ConsensusField as ConsensusField,
    Game as Game,
    GameField as GameField,
    as_game as as_game,
    field as field,
)
from separatrix.games.gan import GAN as GAN
from separatrix.games.instruments import (
    Collapse as Collapse,
    CollapseInRun as CollapseInRun,
    ModeCoverage as ModeCoverage,
    SampleQuality as SampleQuality,
    collapse as collapse,
    collapse_in as collapse_in,
    mode_coverage as mode_coverage,
    sample_quality as sample_quality,
)
from separatrix.games.lagrangian import (
    ConstraintMultipliers as ConstraintMultipliers,
    Lagrangian as Lagrangian,
    Optimality as Optimality,
    nonnegative as nonnegative,
    pi_control as pi_control,
)
from separatrix.games.linear_steps import (
    LinearGame as LinearGame,
    largest_step as largest_step,
    linear_game as linear_game,
    step_matrix as step_matrix,
)
from separatrix.games.matrix_games import (
    Exploitability as Exploitability,
    MatrixGame as MatrixGame,
    Replicator as Replicator,
    exploitability as exploitability,
    matching_pennies as matching_pennies,
    rock_paper_scissors as rock_paper_scissors,
)
from separatrix.games.networks import (
    Discriminator as Discriminator,
    Generator as Generator,
    SpectralLinear as SpectralLinear,
    spectral_normalised as spectral_normalised,
)
from separatrix.games.players import Players as Players, gathered as gathered
from separatrix.games.points import (
    JointJacobian as JointJacobian,
    PointOfGame as PointOfGame,
    classify as classify,
    joint_jacobian as joint_jacobian,
)
from separatrix.games.turning import CycleInRun as CycleInRun, cycle_in as cycle_in
