r"""Players with optimisers of their own: the schemes of `dynamics`, over any optax transformation.

With u_i(d; s) the update that player i's optimiser makes of a slope d in its state s,

    simultaneous   x_i' = x_i + u_i(g_i(x))
    alternating    the same, one player after the other, in any order
    extragradient  x~ = x + u(g(x)),          x' = x + u(g(x~)), moments carried through both
    past           x~ = x + u_before,         x' = x + u(g(x~))
    optimistic     x' = x + 2u(g(x)) - u_before
    consensus, symplectic, shaping, ridge     x' = x + u(d(x)), with d of `directions`

and with plain gradient descent as optimiser each is its namesake. Two time scales are two learning rates.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from separatrix._errors import explain, unknown
from separatrix._tree import add, combine, scale
from separatrix._types import Checked, Function, Key, Scalar, State, StepIndex
from separatrix.evolution import evolve
from separatrix.games.directions import ridge_slopes, shaped_slopes, symplectic_slopes
from separatrix.games.dynamics import moves
from separatrix.games.game import Game, as_game, consensus_slopes, require_losses, require_players, slope_of, slopes
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.content import by_content
from separatrix.systems.map import Map
from separatrix.systems.optax_maps import OptimizerState, require_trainable

_ADJUSTED = {
    "simultaneous": lambda game, x, strength, key: slopes(game, x, key),
    "consensus": lambda game, x, strength, key: consensus_slopes(game, x, strength, key),
    "symplectic": lambda game, x, strength, key: symplectic_slopes(game, x, strength, key, True),
    "shaping": lambda game, x, strength, key: shaped_slopes(game, x, strength, key, False),
    "ridge": lambda game, x, strength, key: ridge_slopes(game, x, key),
}
SCHEMES = (*_ADJUSTED, "alternating", "extragradient", "past", "optimistic")
NOISE = ("shared", "fresh")


class Players(eqx.Module):
    r"""Optimisers for the players of a game, and the scheme by which they move: an optimiser for `fit`.

    **Arguments:**

    - `optimizers`: an optax transformation for each player; one alone serves all.
    - `scheme`: "simultaneous", "alternating", "extragradient", "past", "optimistic", "consensus", "symplectic",
      "shaping" or "ridge".
    - `strength`: gamma >= 0 of "consensus" and "symplectic", the rate a of "shaping"; the other schemes have none.
    - `order`: who moves in a round of "alternating", counted from 0: (1, 1, 0) is two moves of the second to one of the
      first. Every player once by default.
    - `noise`: in one step, whether all evaluations see the noise of one key ("shared"), or each its own ("fresh"). The
      batch is always shared. Extragradient converges on noise that is shared, and need not on fresh noise.

    Called on a game it gives a `Map` with `init(players)`, whose state is `OptimizerState(parameters, ...)` with the
    tuple of players as its parameters.

    **Raises:** `ValueError` for an unknown scheme or noise, an order of another scheme, optimisers that are neither
    one nor as many as players, or a negative strength; `TypeError` for anything but optax transformations.

    **Example:**

    >>> import jax.numpy as jnp, optax, separatrix as sx
    >>> play = sx.games.Players(optax.sgd(0.5), scheme="alternating")(sx.games.Bilinear(1.0))
    >>> state = play.step(0, play.init((jnp.array(1.0), jnp.array(1.0))))
    >>> [float(x) for x in state.parameters]
    [0.5, 1.25]

    **Reference:** Gidel et al., *A variational inequality perspective on GANs* (2019), algorithms 2 to 4; Daskalakis
    et al., *Training GANs with optimism* (2018), algorithm 1, for optimistic Adam; Chavdarova et al., *Reducing noise
    in GAN training with variance reduced extragradient* (2019), section 2, for the noise.
    """

    optimizers: tuple[Any, ...] = eqx.field(static=True)
    scheme: str = eqx.field(static=True)
    order: tuple[int, ...] | None = eqx.field(static=True)
    noise: str = eqx.field(static=True)
    strength: Scalar

    def __init__(
        self, *optimizers: Any, scheme: Any = "simultaneous", strength: Any = 0.1, order: Any = None,
        noise: Any = "shared",
    ):  # fmt: skip
        do = 'Leave it out for "simultaneous".'
        if scheme not in SCHEMES:
            raise ValueError(unknown("Players: scheme", scheme, SCHEMES, do))
        if noise not in NOISE:
            raise ValueError(unknown("Players: noise", noise, NOISE, 'Leave it out for "shared".'))
        if order is not None and scheme != "alternating":
            raise ValueError(explain("Players: order", f"{order} with scheme {scheme!r}", "none", "Leave it out."))
        for optimizer in optimizers or (None,):
            if not hasattr(optimizer, "update"):
                got = type(optimizer).__name__
                do = "Pass for example optax.adam(1e-3)."
                raise TypeError(explain("Players: optimizers", got, "optax transformations", do))
        self.optimizers = tuple(by_parts(optimizer) for optimizer in optimizers)
        ranges.nonnegative("Players: strength", strength, "Leave it out for 0.1.")
        self.scheme, self.noise, self.strength = scheme, noise, as_parameter(strength)
        self.order = None if order is None else tuple(order)

    def __call__(self, game: Game | Function) -> "PlayersMap":
        """Return the map on the players of a game."""
        return PlayersMap(as_game(game), self)

    def of(self, count: int) -> tuple[Any, ...]:
        """The optimiser of each of so many players."""
        given = self.optimizers
        if len(given) not in (1, count):
            do = "Pass one for each player, or one for all."
            raise ValueError(explain("Players: optimizers", len(given), f"{count}, as many as players, or 1", do))
        return given * count if len(given) == 1 else given


class PlayersMap(Map):
    """The players of a game, moved by their optimisers."""

    game: Game
    rule: Players

    def init(self, players: State) -> OptimizerState:
        """Return the state at which play starts."""
        require_players(require_trainable(players))
        optimizers = self.rule.of(len(players))
        states = tuple(optimizer.init(x) for optimizer, x in zip(optimizers, players, strict=True))
        remembers = self.rule.scheme in ("optimistic", "past")
        memory = scale(0, jax.tree.map(jnp.asarray, players)) if remembers else ()
        return OptimizerState(players, (states, memory))

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        players, (states, memory) = state
        rule = self.rule
        match rule.scheme:
            case "extragradient":
                updates, states = self.updates(slopes(self.game, players, self._noise(key, 0)), states, players)
                seen = slopes(self.game, add(players, updates), self._noise(key, 1))
                updates, states = self.updates(seen, states, players)
                return OptimizerState(add(players, updates), (states, memory))
            case "past":
                seen = slopes(self.game, add(players, memory), key)
                updates, states = self.updates(seen, states, players)
                return OptimizerState(add(players, updates), (states, updates))
            case "optimistic":
                updates, states = self.updates(slopes(self.game, players, key), states, players)
                return OptimizerState(combine([2.0, -1.0], [updates, memory], players), (states, updates))
            case "alternating":
                return self._in_turn(players, states, memory, key)
        adjusted = _ADJUSTED[rule.scheme](self.game, players, rule.strength, key)
        updates, states = self.updates(adjusted, states, players)
        return OptimizerState(add(players, updates), (states, memory))

    def updates(self, slopes: State, states: Any, players: State) -> tuple[State, Any]:
        """What the optimisers make of slopes: an update and the next state of each."""
        each = zip(self.rule.of(len(players)), slopes, states, players, strict=True)
        pairs = [_update(*one) for one in each]
        return tuple(update for update, _ in pairs), tuple(inner for _, inner in pairs)

    def _in_turn(self, players: State, states: Any, memory: Any, key: Key | None) -> OptimizerState:
        require_losses(self.game, players, key)
        optimizers = self.rule.of(len(players))
        for place, i in enumerate(moves("Players: order", self.rule.order, len(players))):
            own = slope_of(self.game, players, i, self._noise(key, place))
            update, inner = _update(optimizers[i], own, states[i], players[i])
            players = (*players[:i], add(players[i], update), *players[i + 1 :])
            states = (*states[:i], inner, *states[i + 1 :])
        return OptimizerState(players, (states, memory))

    def parameters(self, state: State) -> State:
        """Return the players."""
        return state.parameters

    def _noise(self, key: Key | None, place: int) -> Key | None:
        """The key of an evaluation within a step."""
        return key if key is None or self.rule.noise == "shared" else jax.random.fold_in(key, place)


class Gathering(Map):
    """The players stay, and their optimisers see the slopes there: moments as they are in a training at rest."""

    play: PlayersMap

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        players, (states, memory) = state
        return OptimizerState(
            players, (self.play.updates(slopes(self.play.game, players, key), states, players)[1], memory)
        )


def gathered(map: PlayersMap, players: State, key: Key | None = None, *, steps: Checked[int] = 200) -> OptimizerState:
    """Return the state of a map at these players with the moments that its optimisers gather there.

    It makes trained networks, whose optimiser was not kept, a state to ask `advise` or `diagnose` of.

    **Arguments:** `map`: of `Players(...)(game)`. `key`: of a random game, another sample each step. `steps`: how long.

    **Raises:** `ValueError` for fewer than one step.

    **Example:** Adam's second moment is that of the slope, here 1/2.

    >>> import jax.numpy as jnp, optax, separatrix as sx
    >>> play = sx.games.Players(optax.adam(0.1, b2=0.9))(sx.games.DiracGAN())
    >>> state = sx.games.gathered(play, (jnp.array(0.0), jnp.array(1.0)))
    >>> round(float(state.optimizer_state[0][0][0].nu), 6)
    0.25
    """
    ranges.whole("gathered: steps", steps, "Leave it out for 200.")
    return evolve(Gathering(map), map.init(players), steps=steps, key=key, save="last").final


def by_parts(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    """A transformation whose two functions compare by content, so that an equal one does not compile again."""
    init, update = optax.with_extra_args_support(optimizer)
    return optax.GradientTransformationExtraArgs(by_content(init), by_content(update))


def _update(optimizer: Any, slope: State, inner: Any, parameters: State) -> tuple[State, Any]:
    # Some transformations mix integer widths: they run under the promotion rules they were written for.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return optimizer.update(slope, inner, parameters)
