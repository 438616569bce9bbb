r"""The linear step that a running map of players takes near a state: scheme and numbers, game, metric.

T = T(A, scheme, gamma, beta, order),   A = D^{1/2} H D^{1/2}   (`linear_steps`, `_reduction`)
"""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from separatrix._errors import explain
from separatrix.games._reduction import FORMED, Reduced, rates_of, reduced
from separatrix.games.adjusted import CompetitiveDescent, PastExtragradient, RidgeDescent, SymplecticDescent
from separatrix.games.dynamics import (
    AlternatingDescent,
    ConsensusDescent,
    Extragradient,
    OptimisticDescent,
    SimultaneousDescent,
)
from separatrix.games.linear_steps import LinearGame, crossing, spectral_radius, step_matrix
from separatrix.games.players import PlayersMap
from separatrix.linear.coordinates import dimension_of

_SCHEME_OF = {
    SimultaneousDescent: "simultaneous", AlternatingDescent: "alternating", Extragradient: "extragradient",
    OptimisticDescent: "optimistic", PastExtragradient: "past", ConsensusDescent: "consensus",
    SymplecticDescent: "symplectic", CompetitiveDescent: "competitive", RidgeDescent: "ridge",
}  # fmt: skip
# What counts as at rest: rounding where H is formed; a network has many directions that hardly move.
_SLACK = (1e-9, 1e-4)


@dataclasses.dataclass(frozen=True)
class LinearStep:
    """A scheme with its numbers, in units of the present step."""

    scheme: str
    strength: float
    momentum: tuple[float, ...]
    order: Any
    slack: float

    def other(self, scheme: str, strength: float | None = None) -> "LinearStep":
        if scheme == self.scheme and strength is None:
            return self
        return dataclasses.replace(self, scheme=scheme, strength=strength or 0.0, order=None)

    def matrix(self, game: LinearGame, factor: float = 1.0) -> Any:
        return step_matrix(game, self.scheme, factor, strength=self.strength, momentum=self.momentum, order=self.order)

    def radius(self, game: LinearGame, factor: float = 1.0) -> float:
        return spectral_radius(self.matrix(game, factor))

    def spin(self, game: LinearGame, factor: float = 1.0) -> float:
        """The largest |mu| of what turns; 0 for none."""
        values = np.linalg.eigvals(self.matrix(game, factor))
        return float(np.max(np.abs(values[turns(values)]), initial=0.0))

    def stable(self, game: LinearGame, factor: float = 1.0) -> bool:
        return self.spin(game, factor) <= 1 + self.slack

    def edge(self, game: LinearGame) -> float:
        return crossing(lambda factor: self.stable(game, factor), 1e-3, 1e3)


class Running(NamedTuple):
    """What runs: game, players, D of `reduced`, momenta, how far an optimiser is from momentum, and the scheme."""

    game: Any
    players: Any
    metric: Any
    momentum: Any
    misfit: float
    scheme: str
    strength: float
    order: Any


def running(map: Any, state: Any, key: Any, slack: float | None) -> tuple[LinearStep, Reduced, Running]:
    """The scheme with its numbers, the linear game at a state in the metric of its steps, and what it was read from."""
    if any(not np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))):
        do = "Ask at the last finite state: `last` of a trajectory, `state` of a fit."
        raise ValueError(explain("advise: state", "a value that is not finite", "finite numbers", do))
    told = _running(map, state, key)
    near = reduced(told.game, told.players, key, told.metric)
    slack = float(_SLACK[len(near.basis) > FORMED] if slack is None else slack)
    return LinearStep(told.scheme, told.strength, tuple(told.momentum), told.order, slack), near, told


def _running(map: Any, state: Any, key: Any) -> Running:
    order, strength = getattr(map, "order", None), float(getattr(map, "strength", 0.0))
    if isinstance(map, PlayersMap):
        rule = map.rule
        if rule.scheme == "shaping":
            do = "Ask linear_stability of the map itself."
            raise ValueError(explain("advise: map", "players by scheme 'shaping'", "a scheme of the linear game", do))
        inner = getattr(state, "inner", state)
        found = rates_of(map, inner, key)
        return Running(map.game, inner.parameters, *found, rule.scheme, float(rule.strength), rule.order)
    scheme = _SCHEME_OF.get(type(map))
    if scheme is None:
        do = "Pass Players(...)(game), the map of a Fit on a game, or a descent of sx.games."
        raise TypeError(explain("advise: map", type(map).__name__, "a map of the players of a game", do))
    players = getattr(state, "players", state)
    metric = np.full(dimension_of(players), float(map.step_size))
    return Running(map.game, players, metric, (0.0,) * len(players), 0.0, scheme, strength, order)


def turns(values: Any) -> Any:
    """Which multipliers turn more than they grow or decay."""
    with np.errstate(divide="ignore"):
        return np.abs(np.angle(values)) > np.abs(np.log(np.abs(values)))
