"""Recurrent networks: driven maps x[n+1] = F(x[n], u[n]), their gradients through time, and what they learn."""

from separatrix.recurrent import examination as examination
from separatrix.recurrent.cells import (
    Elman as Elman,
    spectral_radius as spectral_radius,
    with_recurrent_gain as with_recurrent_gain,
    with_spectral_radius as with_spectral_radius,
)
from separatrix.recurrent.network import (
    RandomNetwork as RandomNetwork,
    mean_field_exponent as mean_field_exponent,
    random_network as random_network,
)
from separatrix.recurrent.recipe import Language as Language
from separatrix.recurrent.sequence import (
    LanguageModel as LanguageModel,
    SequenceClassifier as SequenceClassifier,
    Writing as Writing,
    bits_per_symbol as bits_per_symbol,
    generate as generate,
)
