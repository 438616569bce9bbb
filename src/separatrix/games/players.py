r"""Players with optimisers of their own: the schemes of `dynamics`, over any optax transformation.

With u_i(g; s) the update that player i's optimiser makes of a slope g in its state s,

    simultaneous   x_i' = x_i + u_i(g_i(x))
    alternating    the same, one player after the other
    extragradient  x~ = x + u(g(x)),   x' = x + u(g(x~)), moments carried through both
    optimistic     x' = x + 2u(g(x)) - u_before
    consensus      x' = x + u(g(x) + gamma grad |g|^2/2)

and with plain gradient descent as optimiser each is its namesake.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from separatrix._errors import explain
from separatrix._tree import add, combine, scale
from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.games.game import Game, as_game, consensus_slopes, require_losses, require_players, slope_of, slopes
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.map import Map
from separatrix.systems.optax_maps import OptimizerState, require_trainable

SCHEMES = ("simultaneous", "alternating", "extragradient", "optimistic", "consensus")


class Players(eqx.Module):
    r"""Optimisers for the players of a game, and the scheme by which they move: an optimiser for `fit`.

    **Arguments:**

    - `optimizers`: an optax transformation for each player; one alone serves all.
    - `scheme`: "simultaneous", "alternating", "extragradient", "optimistic" or "consensus".
    - `strength`: gamma >= 0 of "consensus"; the other schemes have none.

    Called on a game it gives a `Map` with `init(players)`, whose state is `OptimizerState(parameters, ...)` with the tuple
    of players as its parameters.

    **Raises:** `ValueError` for an unknown scheme, optimisers that are neither one nor as many as players, or a negative
    strength; `TypeError` for anything but optax transformations.

    **Example:**

    >>> import jax.numpy as jnp, optax, separatrix as sx
    >>> play = sx.games.Players(optax.sgd(0.5), scheme="alternating")(sx.games.Bilinear(1.0))
    >>> state = play.step(0, play.init((jnp.array(1.0), jnp.array(1.0))))
    >>> [float(x) for x in state.parameters]
    [0.5, 1.25]

    **Reference:** Gidel et al., *A variational inequality perspective on GANs* (2019), algorithm 4, for extragradient
    with Adam; Daskalakis et al., *Training GANs with optimism* (2018), algorithm 1, for optimistic Adam.
    """

    optimizers: tuple[Any, ...] = eqx.field(static=True)
    scheme: str = eqx.field(static=True)
    strength: Scalar

    def __init__(self, *optimizers: Any, scheme: Any = "simultaneous", strength: Any = 0.1):
        if scheme not in SCHEMES:
            do = 'Leave it out for "simultaneous".'
            raise ValueError(explain("Players: scheme", repr(scheme), f"one of {', '.join(SCHEMES)}", do))
        for optimizer in optimizers or (None,):
            if not hasattr(optimizer, "update"):
                got = type(optimizer).__name__
                do = "Pass for example optax.adam(1e-3)."
                raise TypeError(explain("Players: optimizers", got, "optax transformations", do))
        self.optimizers = tuple(optax.with_extra_args_support(optimizer) for optimizer in optimizers)
        ranges.nonnegative("Players: strength", strength, "Leave it out for 0.1.")
        self.scheme, self.strength = scheme, as_parameter(strength)

    def __call__(self, game: Game | Function) -> "PlayersMap":
        """Return the map on the players of a game."""
        return PlayersMap(as_game(game), self)


class PlayersMap(Map):
    """The players of a game, moved by their optimisers."""

    game: Game
    rule: Players

    def init(self, players: State) -> OptimizerState:
        """Return the state at which play starts."""
        require_players(require_trainable(players))
        optimizers = self._optimizers(len(players))
        states = tuple(optimizer.init(x) for optimizer, x in zip(optimizers, players, strict=True))
        memory = scale(0, jax.tree.map(jnp.asarray, players)) if self.rule.scheme == "optimistic" else ()
        return OptimizerState(players, (states, memory))

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        players, (states, memory) = state
        match self.rule.scheme:
            case "simultaneous":
                updates, states = self._updates(slopes(self.game, players, key), states, players)
                return OptimizerState(add(players, updates), (states, memory))
            case "consensus":
                drawn = consensus_slopes(self.game, players, self.rule.strength, key)
                updates, states = self._updates(drawn, states, players)
                return OptimizerState(add(players, updates), (states, memory))
            case "extragradient":
                updates, states = self._updates(slopes(self.game, players, key), states, players)
                seen = slopes(self.game, add(players, updates), key)
                updates, states = self._updates(seen, states, players)
                return OptimizerState(add(players, updates), (states, memory))
            case "optimistic":
                updates, states = self._updates(slopes(self.game, players, key), states, players)
                return OptimizerState(combine([2.0, -1.0], [updates, memory], players), (states, updates))
        require_losses(self.game, players, key)
        for i in range(len(players)):
            own = slope_of(self.game, players, i, key)
            update, inner = _update(self._optimizers(len(players))[i], own, states[i], players[i])
            players = (*players[:i], add(players[i], update), *players[i + 1 :])
            states = (*states[:i], inner, *states[i + 1 :])
        return OptimizerState(players, (states, memory))

    def parameters(self, state: State) -> State:
        """Return the players."""
        return state.parameters

    def _optimizers(self, count: int) -> tuple[Any, ...]:
        given = self.rule.optimizers
        if len(given) not in (1, count):
            do = "Pass one for each player, or one for all."
            raise ValueError(explain("Players: optimizers", len(given), f"{count}, as many as players, or 1", do))
        return given * count if len(given) == 1 else given

    def _updates(self, slopes: State, states: Any, players: State) -> tuple[State, Any]:
        each = zip(self._optimizers(len(players)), slopes, states, players, strict=True)
        pairs = [_update(*one) for one in each]
        return tuple(update for update, _ in pairs), tuple(inner for _, inner in pairs)


def _update(optimizer: Any, slope: State, inner: Any, parameters: State) -> tuple[State, Any]:
    # Some transformations mix integer widths: they run under the promotion rules they were written for.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return optimizer.update(slope, inner, parameters)
