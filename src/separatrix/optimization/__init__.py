"""Optimisation: objectives, and descent methods as near-identity maps with limits."""

from separatrix.optimization.adagrad import Adagrad as Adagrad
from separatrix.optimization.adam import (
    Adam as Adam,
    AdamW as AdamW,
    Moments as Moments,
    Nadam as Nadam,
)
from separatrix.optimization.aggregated import (
    QHM as QHM,
    AggMo as AggMo,
    Averaged as Averaged,
    QHAdam as QHAdam,
    Velocities as Velocities,
)
from separatrix.optimization.bregman import (
    BregmanFlow as BregmanFlow,
    MirrorPoint as MirrorPoint,
    StronglyConvexFlow as StronglyConvexFlow,
    dilate as dilate,
)
from separatrix.optimization.central_flow import CentralFlow as CentralFlow, CentralPoint as CentralPoint
from separatrix.optimization.cubic import CubicNewton as CubicNewton
from separatrix.optimization.deep_linear import (
    DeepLinear as DeepLinear,
    imbalance as imbalance,
    mode_strength as mode_strength,
)
from separatrix.optimization.delayed import (
    DelayCompensatedDescent as DelayCompensatedDescent,
    DelayedDescent as DelayedDescent,
    DelayedFlow as DelayedFlow,
    StaleDescent as StaleDescent,
    delay_edge as delay_edge,
)
from separatrix.optimization.descent import GradientDescent as GradientDescent
from separatrix.optimization.edges import (
    preconditioner as preconditioner,
    stability_edge as stability_edge,
)
from separatrix.optimization.escape import (
    EscapeTimes as EscapeTimes,
    escape_times as escape_times,
)
from separatrix.optimization.examination import against_the_edge as against_the_edge
from separatrix.optimization.hamiltonian import (
    CanonicalPoint as CanonicalPoint,
    ConformalHamiltonian as ConformalHamiltonian,
    ConformalLeapfrog as ConformalLeapfrog,
    ConformalSymplecticEuler as ConformalSymplecticEuler,
    HamiltonianDescent as HamiltonianDescent,
    RelativisticDescent as RelativisticDescent,
)
from separatrix.optimization.high_resolution import (
    HighResolutionHeavyBall as HighResolutionHeavyBall,
    HighResolutionNesterov as HighResolutionNesterov,
)
from separatrix.optimization.kinetic import (
    PowerKinetic as PowerKinetic,
    QuadraticKinetic as QuadraticKinetic,
    RelativisticKinetic as RelativisticKinetic,
)
from separatrix.optimization.kramers import (
    KramersTime as KramersTime,
    kramers_time as kramers_time,
)
from separatrix.optimization.landscapes import (
    CriticalPoint as CriticalPoint,
    Landscape as Landscape,
    MonkeySaddle as MonkeySaddle,
    MuellerBrown as MuellerBrown,
    Saddle as Saddle,
    SixHumpCamel as SixHumpCamel,
    StyblinskiTang as StyblinskiTang,
    ThreeHumpCamel as ThreeHumpCamel,
    landscape as landscape,
    landscapes as landscapes,
)
from separatrix.optimization.langevin import (
    BAOAB as BAOAB,
    SGLD as SGLD,
    Langevin as Langevin,
    UnderdampedLangevin as UnderdampedLangevin,
)
from separatrix.optimization.momentum import (
    HeavyBall as HeavyBall,
    Nesterov as Nesterov,
    PhasePoint as PhasePoint,
    energy as energy,
)
from separatrix.optimization.objectives import (
    Beale as Beale,
    DoubleWell as DoubleWell,
    Himmelblau as Himmelblau,
    Quadratic as Quadratic,
    Rosenbrock as Rosenbrock,
)
from separatrix.optimization.parallel import (
    Downpour as Downpour,
    DownpourState as DownpourState,
    ElasticAveraging as ElasticAveraging,
    ElasticState as ElasticState,
    LocalDescent as LocalDescent,
    elastic_edge as elastic_edge,
)
from separatrix.optimization.race import Race as Race, classical_methods as classical_methods, race as race
from separatrix.optimization.rmsprop import (
    Adadelta as Adadelta,
    RMSprop as RMSprop,
    Squares as Squares,
    SquaresAndSteps as SquaresAndSteps,
)
from separatrix.optimization.second_order import (
    GaussNewton as GaussNewton,
    NaturalGradient as NaturalGradient,
    Newton as Newton,
    fisher as fisher,
)
from separatrix.optimization.sign import (
    Lion as Lion,
    SignDescent as SignDescent,
)
from separatrix.optimization.stability import (
    Event as Event,
    StabilityMonitor as StabilityMonitor,
    StabilityReport as StabilityReport,
    edge_ratio as edge_ratio,
)
from separatrix.optimization.stationary import (
    StationaryCovariance as StationaryCovariance,
    stationary_covariance as stationary_covariance,
)
from separatrix.optimization.trainability import (
    LayerwiseDescent as LayerwiseDescent,
    Trainability as Trainability,
    trainability as trainability,
)
from separatrix.optimization.wrappers import (
    RestartedNesterov as RestartedNesterov,
    Restarting as Restarting,
    clipped as clipped,
    noisy as noisy,
)
