"""Games: learning systems whose field is no gradient."""

from typing import Any

import jax.numpy as jnp
import optax

from separatrix.catalogue.listing import Entry
from separatrix.games import (
    AlternatingDescent,
    Bilinear,
    DiracGAN,
    Extragradient,
    OptimisticDescent,
    Players,
    SimultaneousDescent,
    field,
)


def _pair() -> Any:
    return jnp.asarray(1.0), jnp.asarray(0.5)


def _optimistic() -> Any:
    return OptimisticDescent(Bilinear(), 0.1)


def _players() -> Any:
    return Players(optax.sgd(0.1, momentum=-0.3), scheme="alternating")(DiracGAN(0.5))


ENTRIES = (
    Entry("bilinear-game", "flow", "the field of min over x, max over y of x y", "x' = -y, y' = x",
          "x^2 + y^2 is constant", lambda: field(Bilinear()), _pair, 1.0, 0.01),
    Entry("dirac-gan", "flow", "the smallest GAN, with R1 penalty 0.5", "t' = -f'(tp) p, p' = f'(tp) t - g p",
          "eigenvalues -g/2 +- sqrt(g^2/4 - 1/4) at 0; without penalty t^2 + p^2 is constant",
          lambda: field(DiracGAN(0.5)), _pair, 1.0, 0.01),
    Entry("simultaneous-descent", "map", "simultaneous descent on the bilinear game", "x' = x - h y, y' = y + h x",
          "the norm grows by sqrt(1 + h^2) a step", lambda: SimultaneousDescent(Bilinear(), 0.1), _pair, 20),
    Entry("alternating-descent", "map", "alternating descent on the bilinear game", "x' = x - h y, y' = y + h x'",
          "x^2 + y^2 - h x y is constant; bounded for h < 2", lambda: AlternatingDescent(Bilinear(), 0.1), _pair, 20),
    Entry("extragradient", "map", "extragradient on the bilinear game", "x' = x + h v(x + h v(x))",
          "the norm shrinks by sqrt((1 - h^2)^2 + h^2) a step", lambda: Extragradient(Bilinear(), 0.1), _pair, 20),
    Entry("optimistic-descent", "map", "optimistic descent on the bilinear game", "x' = x + 2h v(x) - h v(x_before)",
          "multipliers are the roots of z^2 - (1 + 2ih) z + ih", _optimistic, lambda: _optimistic().init(_pair()), 20),
    Entry("dirac-gan-players", "map", "the Dirac-GAN with optax's momentum, negative, for each player", "x_i' = x_i + u_i(dL_i/dx_i)",
          "the only equilibrium is 0 (Gidel et al. 2019, Negative momentum)", _players, lambda: _players().init(_pair()), 20),
)  # fmt: skip
