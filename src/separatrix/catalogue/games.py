"""Games: learning systems whose field is no gradient."""

from typing import Any

import jax.numpy as jnp
import optax

from separatrix.catalogue.listing import Entry
from separatrix.games import (
    AlternatingDescent,
    Bilinear,
    CompetitiveDescent,
    ConstraintMultipliers,
    DiracGAN,
    Extragradient,
    Lagrangian,
    LearnedVarianceGAN,
    Lookahead,
    OptimisticDescent,
    PastExtragradient,
    Players,
    Replicator,
    SimultaneousDescent,
    SymplecticDescent,
    field,
    rock_paper_scissors,
)


def _pair() -> Any:
    return jnp.asarray(1.0), jnp.asarray(0.5)


def _optimistic() -> Any:
    return OptimisticDescent(Bilinear(), 0.1)


def _past() -> Any:
    return PastExtragradient(Bilinear(), 0.1)


def _shares() -> Any:
    return jnp.asarray([0.5, 0.25, 0.25])


def _parabola() -> Any:
    return Lagrangian(lambda x: x**2 / 2, equal=lambda x: x - 1.0, augmented=1.0)


def _constrained() -> Any:
    return jnp.asarray(0.5), ConstraintMultipliers(jnp.asarray([0.2]))


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
    Entry("variance-gan", "flow", "a generator of a variance against a quadratic critic", "t' = 2 t p, p' = s^2 - t^2",
          "p^2 + t^2/2 - s^2 ln t is constant; at s = 2 from (1, 1/2) the period is 1.671717912",
          lambda: field(LearnedVarianceGAN(2.0)), _pair, 1.0, 0.01),
    Entry("rock-paper-scissors", "flow", "shares of three moves that beat each other in turn", "x_i' = x_i ((A x)_i - x.A x)",
          "x_1 x_2 x_3 is constant; from (1/2, 1/4, 1/4) the period is 11.29750057",
          lambda: Replicator(rock_paper_scissors(), 1), _shares, 1.0, 0.01),
    Entry("symplectic-descent", "map", "symplectic gradient adjustment on the bilinear game", "x' = x - h (g + s c A^T g)",
          "the norm changes by sqrt((1 - c h)^2 + h^2) a step", lambda: SymplecticDescent(Bilinear(), 0.1, 0.5), _pair, 20),
    Entry("competitive-descent", "map", "competitive gradient descent on the bilinear game", "x' = x - h (I + h O)^{-1} g",
          "the norm shrinks by sqrt(1 + h^2) a step", lambda: CompetitiveDescent(Bilinear(), 0.1), _pair, 20),
    Entry("past-extragradient", "map", "extragradient with the slope of the step before", "x' = x + h v(x + h v_before)",
          "bounded for h < 1/sqrt 3", _past,
          lambda: _past().init(_pair()), 20),
    Entry("lookahead", "map", "half the way of five simultaneous steps on the bilinear game", "x' = x + (F^5(x) - x)/2",
          "the norm changes by |1/2 + (1 + ih)^5/2| a step",
          lambda: Lookahead(SimultaneousDescent(Bilinear(), 0.1), 5, 0.5), _pair, 20),
    Entry("constrained-parabola", "map", "min x^2/2 subject to x = 1, augmented by 1, by alternating steps",
          "x' = x - h (2x - 1 + l), l' = l + h (x' - 1)", "rests at (1, -1); stable for h < sqrt 8 - 2",
          lambda: AlternatingDescent(_parabola(), 0.1), _constrained, 20),
    Entry("dirac-gan-players", "map", "the Dirac-GAN with optax's momentum, negative, for each player", "x_i' = x_i + u_i(dL_i/dx_i)",
          "the only equilibrium is 0 (Gidel et al. 2019, Negative momentum)", _players, lambda: _players().init(_pair()), 20),
)  # fmt: skip
