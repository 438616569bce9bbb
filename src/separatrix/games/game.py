r"""Differentiable games: n players, each with parameters x_i and a loss L_i of everybody's.

Each player descends on its own loss in its own parameters, so together they follow the field

    v(x) = -(dL_1/dx_1, ..., dL_n/dx_n),

which is the negative gradient of one function only where dv is symmetric. Its antisymmetric part turns: at an
equilibrium it gives the eigenvalues of dv imaginary parts, and what is stable for the flow may not be for its steps.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import axpy, dot, scale
from separatrix._types import Function, Key, Scalar, State
from separatrix.linear.coordinates import dimension_of
from separatrix.systems.base import as_parameter
from separatrix.systems.flow import Flow
from separatrix.systems.objective import Objective
from separatrix.systems.signature import accepts_key, as_pytree


class Game(eqx.Module):
    """(L_1(x), ..., L_n(x)), random where a key is given."""

    @abstractmethod
    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Scalar, ...]:
        """Return each player's loss, on a random sample where a key is given."""


class FunctionGame(Game):
    """A plain function of the players as a game."""

    function: Function
    takes_key: bool = eqx.field(static=True)

    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Any, ...]:
        losses = self.function(players, key=key) if self.takes_key else self.function(players)
        return tuple(losses) if isinstance(losses, tuple | list) else (losses,)


class GameField(Flow):
    """dx_i/dt = -dL_i/dx_i."""

    game: Game

    def velocity(self, t: Scalar, state: State, *, key: Key | None = None) -> State:
        return scale(-1, slopes(self.game, state, key))


class ConsensusField(Flow):
    """dx/dt = v(x) - gamma grad |v|^2/2: the game's field, drawn towards where it is slow."""

    game: Game
    strength: Scalar

    def velocity(self, t: Scalar, state: State, *, key: Key | None = None) -> State:
        return scale(-1, consensus_slopes(self.game, state, self.strength, key))


def as_game(function: Function) -> Game:
    r"""Make a `Game` of a function of the players.

    **Arguments:**

    - `function`: takes a tuple of n pytrees (and a keyword `key`, for random losses) and returns n scalars; a `Game` is
      returned as it is.

    **Returns:** a `Game`.

    **Example:** min over x, max over y of x y.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> bilinear = sx.games.as_game(lambda players: (players[0] * players[1], -players[0] * players[1]))
    >>> [float(v) for v in sx.games.field(bilinear).velocity(0.0, (jnp.array(1.0), jnp.array(2.0)))]
    [-2.0, 1.0]
    """
    if isinstance(function, Game):
        return function
    return FunctionGame(as_pytree(function), isinstance(function, Objective) or accepts_key(function))


def field(game: Game | Function) -> GameField:
    """Return the flow of a game: every player descends on its own loss, all at once.

        dx_i/dt = -dL_i/dx_i

    **Arguments:** a `Game`, or a function of the players as in `as_game`.

    **Returns:** a `Flow` on the tuple of players. A random game is taken without its key; its `velocity` takes one,
    for the field on one sample, and so do the questions that are asked of it.

    **Raises:** where it is evaluated, `TypeError` for players that are no tuple, `ValueError` for losses that are not
    one scalar a player.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> [float(v) for v in sx.games.field(sx.games.Bilinear(1.0)).velocity(0.0, (jnp.array(1.0), jnp.array(0.0)))]
    [-0.0, 1.0]

    **Reference:** Balduzzi et al., *The mechanics of n-player differentiable games* (2018), section 2.
    """
    return GameField(as_game(game))


def slope_of(game: Game, players: State, i: int, key: Key | None) -> State:
    """dL_i/dx_i."""

    def own_loss(own: State) -> Scalar:
        return game((*players[:i], own, *players[i + 1 :]), key=key)[i]

    return jax.grad(own_loss)(players[i])


def slopes(game: Game, players: State, key: Key | None) -> State:
    """(dL_1/dx_1, ..., dL_n/dx_n), all at the same players and on the same sample."""
    require_losses(game, players, key)
    return tuple(slope_of(game, players, i, key) for i in range(len(players)))


def consensus_slopes(game: Game, players: State, strength: Any, key: Key | None) -> State:
    """The slopes g, and the gradient of gamma |g|^2/2 added."""

    def half_square(players: State) -> tuple[Scalar, State]:
        own = slopes(game, players, key)
        return dot(own, own) / 2, own

    drawn, own = jax.grad(half_square, has_aux=True)(players)
    return axpy(as_parameter(strength), drawn, own)


def require_players(players: Any) -> State:
    """Refuse what is no tuple of players."""
    if not isinstance(players, tuple) or len(players) < 2:
        got = f"{type(players).__name__} of {len(players)}" if isinstance(players, tuple) else type(players).__name__
        do = "Pass (x_1, ..., x_n), a pytree for each player."
        raise TypeError(explain("game: players", got, "a tuple of at least two", do))
    for i, player in enumerate(players):
        if dimension_of(player) == 0:
            do = "Give it at least one floating-point array, or leave it out of the game."
            raise ValueError(explain(f"game: players[{i}]", "no parameters", "at least one", do))
    return players


def require_losses(game: Game, players: State, key: Key | None) -> None:
    """Refuse losses that are not one scalar for each player."""
    losses = jax.eval_shape(lambda x: _numbers(game(x, key=key)), require_players(players))
    kinds = [str(loss.dtype) for loss in losses]
    if any(not jnp.issubdtype(loss.dtype, jnp.floating) for loss in losses):
        do = "Return a real number of floating point for each player."
        raise TypeError(explain("game: losses", f"numbers of {', '.join(kinds)}", "real ones of floating point", do))
    if len(losses) != len(players) or any(jnp.shape(loss) != () for loss in losses):
        got = f"{len(losses)} of shapes {[jnp.shape(loss) for loss in losses]}"
        do = "Return one scalar loss for each player."
        raise ValueError(explain("game: losses", got, f"{len(players)} scalars", do))


def _numbers(losses: Any) -> tuple[Any, ...]:
    """The losses as arrays; refused where one is none."""
    for i, loss in enumerate(losses):
        if not isinstance(loss, jax.Array | np.ndarray | np.generic | float | int | complex):
            do = "Return one scalar loss for each player."
            raise TypeError(explain(f"game: losses[{i}]", f"a {type(loss).__name__}", "a number", do))
    return tuple(jnp.asarray(loss) for loss in losses)
