r"""How players move: steps of size h along a game's field v.

    simultaneous   x' = x + h v(x)                                 Euler
    alternating    x_i' = x_i + h v_i(x_1', ..., x_{i-1}', x_i, ...)  a splitting: Euler, player by player, in any order
    extragradient  x' = x + h v(x + h v(x))
    consensus      x' = x + h (v - gamma grad |v|^2/2)(x)          Euler on another field
    optimistic     x' = x + 2h v(x) - h v(x_before)

The first three have the game's field as their limit and differ in what they add to it: on the bilinear game, where v
only turns, they spiral out, stay on ellipses, and spiral in. The optimistic step needs the slope before, which does
not stay what it was when h goes to zero: as a map on (x, v_before) it is not near the identity and has no limit.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import axpy, combine, scale
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.games.game import Game, as_game, consensus_slopes, require_losses, require_players, slope_of, slopes
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.memory import MemoryForm, Remembered
from separatrix.systems.optax_maps import require_trainable


class SimultaneousDescent(NearIdentityMap):
    """x' = x + h v(x): every player descends at once. Euler's step on the game's field.

    **Arguments:**

    - `game`: a `Game`, or a function of the players.
    - `step_size`: h > 0. On the bilinear game each step lengthens the state by sqrt(1 + h^2), whatever h.

    **Raises:** `ValueError` for a step size that is not positive.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.SimultaneousDescent(sx.games.Bilinear(1.0), 0.5)
    >>> [float(x) for x in descent.step(0, (jnp.array(1.0), jnp.array(1.0)))]
    [0.5, 1.5]

    **Reference:** Mescheder, Nowozin & Geiger, *The numerics of GANs* (2017), section 3.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("SimultaneousDescent: step_size", self.step_size, "Pass for example 0.1.")

    def init(self, players: State) -> State:
        """Return the state at which play starts: the players."""
        return require_players(require_trainable(players))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return axpy(-step_size, slopes(self.game, state, key), state)


class AlternatingDescent(NearIdentityMap):
    """x_i' = x_i + h v_i(x_1', ..., x_{i-1}', x_i, ..., x_n): one player after the other, each seeing who moved before.

    **Arguments:**

    - `game`: a `Game`, or a function of the players. `step_size`: h > 0. On the bilinear game the step conserves
      x^2 + y^2 - h x y and is bounded for h < 2.
    - `order`: who moves, counted from 0, in a round; each once by default. (1, 1, 0): two moves of the second player
      to one of the first.

    **Raises:** `ValueError` for a step size that is not positive, or an order that leaves a player out.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.AlternatingDescent(sx.games.Bilinear(1.0), 0.5)
    >>> [float(x) for x in descent.step(0, (jnp.array(1.0), jnp.array(1.0)))]
    [0.5, 1.25]

    **Reference:** Gidel et al., *Negative momentum for improved game dynamics* (2019), section 4.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)
    order: tuple[int, ...] | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        ranges.positive("AlternatingDescent: step_size", self.step_size, "Pass for example 0.1.")

    def init(self, players: State) -> State:
        """Return the state at which play starts: the players."""
        return require_players(require_trainable(players))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        require_losses(self.game, state, key)
        players = state
        for i in moves("AlternatingDescent: order", self.order, len(players)):
            moved = axpy(-step_size, slope_of(self.game, players, i, key), players[i])
            players = (*players[:i], moved, *players[i + 1 :])
        return players


def moves(what: str, order: Any, count: int) -> tuple[int, ...]:
    """Who moves in a round, one after the other: every player once, or as the order says."""
    if order is None:
        return tuple(range(count))
    said = tuple(order)
    whole = all(isinstance(i, int) and not isinstance(i, bool) for i in said)
    if not whole or set(said) != set(range(count)):
        do = "Give each player's number at least once, counted from 0: (1, 1, 0)."
        raise ValueError(explain(what, said, f"the numbers 0 to {count - 1}, each once or more", do))
    return said


class Extragradient(NearIdentityMap):
    """x' = x + h v(x + h v(x)): look ahead, then step with what was seen there.

    **Arguments:**

    - `game`: a `Game`, or a function of the players. `step_size`: h > 0. On the bilinear game each step shortens the
      state by sqrt((1 - h^2)^2 + h^2), below one for h < 1.

    **Raises:** `ValueError` for a step size that is not positive.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.Extragradient(sx.games.Bilinear(1.0), 0.5)
    >>> [float(x) for x in descent.step(0, (jnp.array(1.0), jnp.array(1.0)))]
    [0.25, 1.25]

    **Reference:** Korpelevich, *The extragradient method* (1976);
    Gidel et al., *A variational inequality perspective on GANs* (2019), section 3.2.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("Extragradient: step_size", self.step_size, "Pass for example 0.1.")

    def init(self, players: State) -> State:
        """Return the state at which play starts: the players."""
        return require_players(require_trainable(players))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        ahead = axpy(-step_size, slopes(self.game, state, key), state)
        return axpy(-step_size, slopes(self.game, ahead, key), state)


class ConsensusDescent(NearIdentityMap):
    """x' = x + h (v - gamma grad |v|^2/2)(x): simultaneous descent, drawn towards where the field is slow.

    **Arguments:**

    - `game`: a `Game`, or a function of the players. `step_size`: h > 0. `strength`: gamma >= 0, a traced leaf.

    On the bilinear game the field's eigenvalues -gamma +- i are those of a damped turn.

    **Raises:** `ValueError` for a step size that is not positive, or a negative strength.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.ConsensusDescent(sx.games.Bilinear(1.0), 0.5, strength=1.0)
    >>> [float(x) for x in descent.step(0, (jnp.array(1.0), jnp.array(1.0)))]
    [0.0, 1.0]

    **Reference:** Mescheder, Nowozin & Geiger, *The numerics of GANs* (2017), section 4.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)
    strength: Scalar = eqx.field(converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("ConsensusDescent: step_size", self.step_size, "Pass for example 0.1.")
        ranges.nonnegative("ConsensusDescent: strength", self.strength, "Take 0 for simultaneous descent.")

    def init(self, players: State) -> State:
        """Return the state at which play starts: the players."""
        return require_players(require_trainable(players))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return axpy(-step_size, consensus_slopes(self.game, state, self.strength, key), state)


# Players, and the slopes of the step before.
Remembering = MemoryForm("Remembering", ("players", "slopes"))


class OptimisticDescent(Map):
    """x' = x + 2h v(x) - h v(x_before): descent on the slope expected next. It starts from v_before = 0.

    **Arguments:**

    - `game`: a `Game`, or a function of the players. `step_size`: h > 0. On the bilinear game it contracts for
      h < 1/sqrt 3.

    **Raises:** `ValueError` for a step size that is not positive.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.OptimisticDescent(sx.games.Bilinear(1.0), 0.5)
    >>> state = descent.step(0, descent.init((jnp.array(1.0), jnp.array(1.0))))
    >>> [float(x) for x in state.players]
    [0.0, 2.0]

    **Reference:** Popov (1980); Daskalakis et al., *Training GANs with optimism* (2018), equation 5.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("OptimisticDescent: step_size", self.step_size, "Pass for example 0.1.")

    def init(self, players: State) -> Remembered:
        """Return the state at which play starts: the players, and no slopes before."""
        require_players(require_trainable(players))
        return Remembering(players, scale(0, jax.tree.map(jnp.asarray, players)))

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        players, before = state
        now = slopes(self.game, players, key)
        return Remembering(combine([-2 * self.step_size, self.step_size], [now, before], players), now)
