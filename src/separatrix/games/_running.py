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
from separatrix.games._secants import DrawnGame, length_of, size_of_step
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
    """What runs: game, players, D of `reduced`, momenta, how far an optimiser is from momentum, and the scheme.

    `key`: of the game as it is linearised; None where it is a mean over batches.
    """

    game: Any
    players: Any
    metric: Any
    momentum: Any
    misfit: float
    scheme: str
    strength: float
    order: Any
    key: Any = None
    distance: float = 0.0


def running(
    map: Any,
    state: Any,
    key: Any,
    slack: float | None,
    *,
    size: float | None = None,
    draws: int = 1,
    both: bool = False,
) -> tuple[LinearStep, Reduced, Running]:
    """The scheme with its numbers, the linear game at a state in the metric of its steps, and what it was read from.

    `size`: over what distance, in `length_of`; 0 for derivatives, None for these of a small game and two steps of a large
    one. `draws`: over how many batches. `both`: with left eigenvectors.
    """
    if any(not np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))):
        do = "Ask at the last finite state: `last` of a trajectory, `state` of a fit."
        raise ValueError(explain("advise: state", "a value that is not finite", "finite numbers", do))
    told = _running(map, state, key)
    if size is None:
        small = dimension_of(told.players) <= FORMED
        size = 0.0 if small else size_of_step(map, getattr(state, "inner", state), key)
    game = told.game if key is None or draws == 1 else DrawnGame(told.game, jax.random.split(key, draws))
    told = told._replace(
        game=game, key=key if game is told.game else None, distance=float(size) * length_of(told.players)
    )
    twice = not both or told.scheme == "symplectic"
    near = reduced(game, told.players, told.key, told.metric, distance=told.distance, both=both, twice=twice)
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


def residuals_of(near: Reduced, vectors: Any) -> Any:
    """|A V p - V (V^T A V) p| over |V (V^T A V) p| of eigenvectors p of a step, columns with their moments below."""
    parts = vectors[: near.basis.shape[1]]
    inside = near.basis @ (near.game.matrix @ parts)
    left_over = near.root[:, None] * (near.pushed @ parts) - inside
    return np.linalg.norm(left_over, axis=0) / np.maximum(np.linalg.norm(inside, axis=0), 1e-300)


def turns(values: Any) -> Any:
    """Which multipliers turn more than they grow or decay."""
    with np.errstate(divide="ignore"):
        return np.abs(np.angle(values)) > np.abs(np.log(np.abs(values)))
