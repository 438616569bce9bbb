"""Recurrent networks: driven maps x[n+1] = F(x[n], u[n]), their gradients through time, and what they learn."""

from separatrix.recurrent import examination as examination
from separatrix.recurrent.antisymmetric import (
    Antisymmetric as Antisymmetric,
    AntisymmetricFlow as AntisymmetricFlow,
    longest_step as longest_step,
)
from separatrix.recurrent.calibration import (
    HeldOutErrors as HeldOutErrors,
    closed_loop_errors as closed_loop_errors,
    held_out_errors as held_out_errors,
)
from separatrix.recurrent.cells import (
    Elman as Elman,
    Orthogonal as Orthogonal,
    spectral_radius as spectral_radius,
    with_recurrent_gain as with_recurrent_gain,
    with_spectral_radius as with_spectral_radius,
)
from separatrix.recurrent.decoding import (
    Beam as Beam,
    EncoderDecoder as EncoderDecoder,
    beam_search as beam_search,
)
from separatrix.recurrent.estimators import (
    ReservoirRegressor as ReservoirRegressor,
    SequenceClassifierEstimator as SequenceClassifierEstimator,
    SequenceForecaster as SequenceForecaster,
)
from separatrix.recurrent.flossing import (
    FrameMap as FrameMap,
    conditional_exponents as conditional_exponents,
    flossing_penalty as flossing_penalty,
)
from separatrix.recurrent.forcing import (
    ForcedLoop as ForcedLoop,
    forced_loss as forced_loss,
    forcing_strength as forcing_strength,
)
from separatrix.recurrent.forecasting import (
    Forecaster as Forecaster,
    ForecastLoop as ForecastLoop,
    NoisyForecastLoop as NoisyForecastLoop,
    SeriesForecast as SeriesForecast,
    forecast as forecast,
    forecaster as forecaster,
    next_value_loss as next_value_loss,
    train_reservoir as train_reservoir,
    with_residual as with_residual,
)
from separatrix.recurrent.forecasting_recipe import ForecasterRecipe as ForecasterRecipe
from separatrix.recurrent.initialization import critical_initialization as critical_initialization
from separatrix.recurrent.learned_attractors import (
    OrbitDistance as OrbitDistance,
    Reconstruction as Reconstruction,
    reconstruction as reconstruction,
    spectrum_distance as spectrum_distance,
    state_space_divergence as state_space_divergence,
)
from separatrix.recurrent.linear_recurrence import DiagonalRecurrence as DiagonalRecurrence
from separatrix.recurrent.mean_fields import (
    MeanField as MeanField,
    critical_bias_variance as critical_bias_variance,
    critical_weight_variance as critical_weight_variance,
    mean_field as mean_field,
)
from separatrix.recurrent.memory import (
    MemoryCapacity as MemoryCapacity,
    linear_memory as linear_memory,
    memory_capacity as memory_capacity,
)
from separatrix.recurrent.memory_tasks import (
    PrincipalPortrait as PrincipalPortrait,
    flip_flops as flip_flops,
    principal_portrait as principal_portrait,
)
from separatrix.recurrent.nets import (
    Bidirectional as Bidirectional,
    FiniteTruncatedMap as FiniteTruncatedMap,
    Masked as Masked,
    Stacked as Stacked,
    TruncatedMap as TruncatedMap,
    exposed as exposed,
    mask_of as mask_of,
    rest as rest,
    truncated as truncated,
)
from separatrix.recurrent.network import (
    RandomNetwork as RandomNetwork,
    RandomNetworkFlow as RandomNetworkFlow,
    exponents_at_rest as exponents_at_rest,
    mean_field_exponent as mean_field_exponent,
    random_network as random_network,
    random_network_flow as random_network_flow,
)
from separatrix.recurrent.newton_front import (
    Front as Front,
    front_speed as front_speed,
    rounds_formula as rounds_formula,
)
from separatrix.recurrent.ngrams import kneser_ney_bits as kneser_ney_bits
from separatrix.recurrent.predictability import (
    NewtonRounds as NewtonRounds,
    newton_rounds as newton_rounds,
)
from separatrix.recurrent.processes import (
    HiddenMarkovProcess as HiddenMarkovProcess,
    even_process as even_process,
)
from separatrix.recurrent.recipe import Language as Language
from separatrix.recurrent.reservoirs import (
    EchoState as EchoState,
    Reservoir as Reservoir,
    cycle_reservoir as cycle_reservoir,
    echo_state as echo_state,
    recursive_readout as recursive_readout,
    reservoir as reservoir,
    ridge_readout as ridge_readout,
)
from separatrix.recurrent.sequence import (
    LanguageModel as LanguageModel,
    SequenceClassifier as SequenceClassifier,
    SequenceLabeler as SequenceLabeler,
    Writing as Writing,
    bits_per_symbol as bits_per_symbol,
    generate as generate,
)
from separatrix.recurrent.threshold_networks import (
    ThresholdNetwork as ThresholdNetwork,
    critical_variance as critical_variance,
    damage_gain as damage_gain,
    damage_map as damage_map,
    flip_probability as flip_probability,
    threshold_network as threshold_network,
)
from separatrix.recurrent.valid_times import ValidTime as ValidTime, valid_time as valid_time
