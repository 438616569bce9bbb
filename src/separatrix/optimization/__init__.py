"""Optimisation: objectives, and descent methods as near-identity maps with limits."""

from separatrix.optimization.examination import against_the_edge as against_the_edge
from separatrix.optimization.hamiltonian.bregman import (
    BregmanFlow as BregmanFlow,
    MirrorPoint as MirrorPoint,
    StronglyConvexFlow as StronglyConvexFlow,
    dilate as dilate,
)
from separatrix.optimization.hamiltonian.hamiltonian import (
    CanonicalPoint as CanonicalPoint,
    ConformalHamiltonian as ConformalHamiltonian,
    ConformalLeapfrog as ConformalLeapfrog,
    ConformalSymplecticEuler as ConformalSymplecticEuler,
    HamiltonianDescent as HamiltonianDescent,
    RelativisticDescent as RelativisticDescent,
)
from separatrix.optimization.hamiltonian.high_resolution import (
    HighResolutionHeavyBall as HighResolutionHeavyBall,
    HighResolutionNesterov as HighResolutionNesterov,
)
from separatrix.optimization.hamiltonian.kinetic import (
    PowerKinetic as PowerKinetic,
    QuadraticKinetic as QuadraticKinetic,
    RelativisticKinetic as RelativisticKinetic,
)
from separatrix.optimization.methods.adagrad import Adagrad as Adagrad
from separatrix.optimization.methods.adam import (
    Adam as Adam,
    AdamW as AdamW,
    Moments as Moments,
    Nadam as Nadam,
)
from separatrix.optimization.methods.aggregated import (
    QHM as QHM,
    AggMo as AggMo,
    Averaged as Averaged,
    QHAdam as QHAdam,
    Velocities as Velocities,
)
from separatrix.optimization.methods.cubic import CubicNewton as CubicNewton
from separatrix.optimization.methods.delayed import (
    DelayCompensatedDescent as DelayCompensatedDescent,
    DelayedDescent as DelayedDescent,
    DelayedFlow as DelayedFlow,
    StaleDescent as StaleDescent,
    delay_edge as delay_edge,
)
from separatrix.optimization.methods.descent import GradientDescent as GradientDescent
from separatrix.optimization.methods.momentum import (
    HeavyBall as HeavyBall,
    Nesterov as Nesterov,
    PhasePoint as PhasePoint,
    energy as energy,
)
from separatrix.optimization.methods.parallel import (
    Downpour as Downpour,
    DownpourState as DownpourState,
    ElasticAveraging as ElasticAveraging,
    ElasticState as ElasticState,
    LocalDescent as LocalDescent,
    elastic_edge as elastic_edge,
)
from separatrix.optimization.methods.rmsprop import (
    Adadelta as Adadelta,
    RMSprop as RMSprop,
    Squares as Squares,
    SquaresAndSteps as SquaresAndSteps,
)
from separatrix.optimization.methods.second_order import (
    GaussNewton as GaussNewton,
    NaturalGradient as NaturalGradient,
    Newton as Newton,
    fisher as fisher,
)
from separatrix.optimization.methods.sign import (
    Lion as Lion,
    SignDescent as SignDescent,
)
from separatrix.optimization.methods.wrappers import (
    RestartedNesterov as RestartedNesterov,
    Restarting as Restarting,
    clipped as clipped,
    noisy as noisy,
)
from separatrix.optimization.objectives import (
    Beale as Beale,
    DoubleWell as DoubleWell,
    Himmelblau as Himmelblau,
    Quadratic as Quadratic,
    Rosenbrock as Rosenbrock,
)
from separatrix.optimization.stability import (
    Event as Event,
    StabilityMonitor as StabilityMonitor,
    StabilityReport as StabilityReport,
    edge_ratio as edge_ratio,
    stability_edge as stability_edge,
    watch as watch,
)
from separatrix.optimization.stochastic.escape import (
    EscapeTimes as EscapeTimes,
    escape_times as escape_times,
)
from separatrix.optimization.stochastic.kramers import (
    KramersTime as KramersTime,
    kramers_time as kramers_time,
)
from separatrix.optimization.stochastic.langevin import (
    BAOAB as BAOAB,
    SGLD as SGLD,
    Langevin as Langevin,
    UnderdampedLangevin as UnderdampedLangevin,
)
from separatrix.optimization.stochastic.stationary import (
    StationaryCovariance as StationaryCovariance,
    stationary_covariance as stationary_covariance,
)
from separatrix.optimization.studies.central_flow import CentralFlow as CentralFlow, CentralPoint as CentralPoint
from separatrix.optimization.studies.deep_linear import (
    DeepLinear as DeepLinear,
    imbalance as imbalance,
    mode_strength as mode_strength,
)
from separatrix.optimization.studies.landscapes import (
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
from separatrix.optimization.studies.race import Race as Race, classical_methods as classical_methods, race as race
from separatrix.optimization.studies.trainability import (
    LayerwiseDescent as LayerwiseDescent,
    Trainability as Trainability,
    trainability as trainability,
)
