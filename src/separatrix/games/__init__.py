"""Games: several players, each descending on a loss of its own, along a field that is no gradient."""

from separatrix.games import examination as examination
from separatrix.games.classical import Bilinear as Bilinear, DiracGAN as DiracGAN
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
from separatrix.games.players import Players as Players
