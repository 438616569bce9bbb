r"""Steps along adjusted slopes, and steps that look ahead further: the rest of the zoo of `dynamics`.

    symplectic    x' = x - h (g + s gamma A^T g)(x)            limit: the field, adjusted
    shaping       x' = x - h d(x), d_i = d/dx_i L_i(x_i, x_j - a g_j(x))
    competitive   x' = x - h (I + h O(x))^{-1} g(x)            limit: the game's field
    ridge         x' = x - h (g_1, g_2 - H_22^{-1} H_21 g_1)
    proximal      x' = x + h v(x')                             the implicit Euler step; limit: the game's field
    past          x~ = x + h v(x~_before),  x' = x + h v(x~)   one slope a step; no limit, for it remembers
    lookahead     x' = x + alpha (F^k(x) - x)                  around any map F

On the bilinear game, with z = x + i y: symplectic 1 + ih - h gamma (align off), shaping 1 + ih - h a (stopped; 2 a if
not), competitive (1 + ih)/(1 + h^2), proximal 1/(1 - ih), lookahead 1 - alpha + alpha (1 + ih)^k around simultaneous
play.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import asarrays, axpy, scale, subtract
from separatrix._types import Checked, Function, Key, Scalar, State, StepIndex
from separatrix.calculus import discretize
from separatrix.calculus.methods import ImplicitEuler
from separatrix.games.directions import competitive_slopes, ridge_slopes, shaped_slopes, symplectic_slopes
from separatrix.games.dynamics import Remembering
from separatrix.games.game import Game, as_game, field, require_losses, require_players, slopes
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.iteration import iterate
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.memory import Remembered
from separatrix.systems.optax_maps import OptimizerState, require_trainable


class SymplecticDescent(NearIdentityMap):
    r"""x' = x - h (g + s gamma A^T g)(x), A the antisymmetric part of dg/dx: symplectic gradient adjustment.

    **Arguments:**

    - `game`: a `Game`, or a function of the players. `step_size`: h > 0.
    - `strength`: gamma >= 0, a traced leaf. `align`: whether the sign s follows from where the point is stable;
      without, s = 1.

    **Raises:** `ValueError` for a step size that is not positive, or a negative strength.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.SymplecticDescent(sx.games.Bilinear(1.0), 0.5, strength=1.0)
    >>> [float(x) for x in descent.step(0, (jnp.array(1.0), jnp.array(1.0)))]
    [0.0, 1.0]

    **Reference:** Balduzzi et al., *The mechanics of n-player differentiable games* (2018), algorithm 1.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)
    strength: Scalar = eqx.field(converter=as_parameter)
    align: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        ranges.positive("SymplecticDescent: step_size", self.step_size, "Pass for example 0.1.")
        ranges.nonnegative("SymplecticDescent: strength", self.strength, "Take 0 for simultaneous descent.")

    def init(self, players: State) -> State:
        """Return the state at which play starts: the players."""
        return require_players(require_trainable(players))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return axpy(-step_size, symplectic_slopes(self.game, state, self.strength, key, self.align), state)


class OpponentShaping(NearIdentityMap):
    r"""x_i' = x_i - h d/dx_i L_i(x_i, x_j - a g_j(x)): each descends on what its loss will be after the others' step.

    **Arguments:**

    - `game`: a `Game`, or a function of the players. `step_size`: h > 0. `rate`: a >= 0, the step that others are
      thought to take, a traced leaf.
    - `stopped`: whether the others' step is taken as a number (they look ahead at each other) or as a function of x_i,
      which is shaped (LOLA). The loss after their step is taken whole, not to first order in a.

    **Raises:** `ValueError` for a step size that is not positive, or a negative rate.

    **Example:** on x y the field's eigenvalues become -2a +- i; with `stopped`, -a +- i.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> shaping = sx.games.OpponentShaping(sx.games.Bilinear(1.0), 0.5, rate=0.25)
    >>> [float(x) for x in shaping.step(0, (jnp.array(1.0), jnp.array(1.0)))]
    [0.25, 1.25]

    **Reference:** Foerster et al., *Learning with opponent-learning awareness* (2018), section 4; Zhang & Lesser,
    *Multi-agent learning with policy prediction* (2010), for the stopped one.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)
    rate: Scalar = eqx.field(converter=as_parameter)
    stopped: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        ranges.positive("OpponentShaping: step_size", self.step_size, "Pass for example 0.1.")
        ranges.nonnegative("OpponentShaping: rate", self.rate, "Take 0 for simultaneous descent.")

    def init(self, players: State) -> State:
        """Return the state at which play starts: the players."""
        return require_players(require_trainable(players))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return axpy(-step_size, shaped_slopes(self.game, state, self.rate, key, self.stopped), state)


class CompetitiveDescent(NearIdentityMap):
    r"""x' = x - h (I + h O)^{-1} g, O the second derivatives between players.

    **Arguments:** `game`: a `Game`, or a function of the players, of at most 2,000 parameters (its matrix is formed).
    `step_size`: h > 0. On the bilinear game each step shortens the state by sqrt(1 + h^2), whatever h.

    **Raises:** `ValueError` for a step size that is not positive.

    **Example:** of x^2/2 + x y - y^2/2 a step of 1 reaches the equilibrium.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.CompetitiveDescent(sx.games.QuadraticGame([[1.0, 1.0], [-1.0, 1.0]]), 1.0)
    >>> [round(float(x[0]), 12) + 0.0 for x in descent.step(0, (jnp.array([1.0]), jnp.array([2.0])))]
    [0.0, 0.0]

    **Reference:** Schafer & Anandkumar, *Competitive gradient descent* (2019), equation 4.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("CompetitiveDescent: step_size", self.step_size, "Pass for example 0.1.")

    def init(self, players: State) -> State:
        """Return the state at which play starts: the players."""
        return require_players(require_trainable(players))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return axpy(-step_size, competitive_slopes(self.game, state, step_size, key), state)


class RidgeDescent(NearIdentityMap):
    r"""x_1' = x_1 - h g_1,  x_2' = x_2 - h (g_2 - H_22^{-1} H_21 g_1): follow the ridge.

    Of two players with L_1 + L_2 = 0 its only stable points are local minimax points.

    **Arguments:** `game`: a `Game` of two players, or a function of them, of at most 2,000 parameters (its matrix is
    formed). `step_size`: h > 0.

    **Raises:** `ValueError` for a step size that is not positive, or more than two players.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.RidgeDescent(sx.games.minimax_pair()[0], 0.5)
    >>> [x.tolist() for x in descent.step(0, (jnp.array([1.0]), jnp.array([2.0])))]
    [[0.0], [0.0]]

    **Reference:** Wang, Zhang & Ba, *On solving minimax optimization locally: a follow-the-ridge approach* (2020),
    algorithm 1 and theorem 1.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("RidgeDescent: step_size", self.step_size, "Pass for example 0.1.")

    def init(self, players: State) -> State:
        """Return the state at which play starts: the players."""
        return require_players(require_trainable(players))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return axpy(-step_size, ridge_slopes(self.game, state, key), state)


def proximal_point(game: Checked[Game | Function], step_size: Checked[float]) -> NearIdentityMap:
    """Return x' = x + h v(x'), the proximal point method: the implicit Euler step on the game's field.

    It is what extragradient and optimistic steps approach. On the bilinear game each step shortens the state by
    sqrt(1 + h^2), whatever h.

    **Arguments:** `game`: a `Game`, or a function of the players. `step_size`: h > 0.

    **Raises:** `ValueError` for a step size that is not positive.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> step = sx.games.proximal_point(sx.games.Bilinear(1.0), 1.0)
    >>> [round(float(x), 12) for x in step.step(0, (jnp.array(2.0), jnp.array(0.0)))]
    [1.0, 1.0]

    **Reference:** Rockafellar, *Monotone operators and the proximal point algorithm* (1976); Mokhtari, Ozdaglar &
    Pattathil, *A unified analysis of extra-gradient and optimistic gradient methods for saddle point problems* (2020).
    """
    ranges.positive("proximal_point: step_size", step_size, "Pass for example 0.1.")
    return discretize(field(game), ImplicitEuler(), step_size)


class PastExtragradient(Map):
    r"""x~ = x + h v(x~_before),  x' = x + h v(x~): extragradient that looks ahead with the slope of the step before.

    It starts from v_before = 0. Its points x~ are those of optimistic descent.

    **Arguments:** `game`: a `Game`, or a function of the players. `step_size`: h > 0. On the bilinear game it
    contracts for h < 1/sqrt 3.

    **Raises:** `ValueError` for a step size that is not positive.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.games.PastExtragradient(sx.games.Bilinear(1.0), 0.5)
    >>> state = descent.step(0, descent.init((jnp.array(1.0), jnp.array(1.0))))
    >>> [float(x) for x in state.players]
    [0.5, 1.5]

    **Reference:** Popov (1980); Gidel et al., *A variational inequality perspective on GANs* (2019), section 3.2.
    """

    game: Game = eqx.field(converter=as_game)
    step_size: Scalar = eqx.field(converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("PastExtragradient: step_size", self.step_size, "Pass for example 0.1.")

    def init(self, players: State) -> Remembered:
        """Return the state at which play starts: the players, and no slopes before."""
        require_players(require_trainable(players))
        return Remembering(players, scale(0, jax.tree.map(jnp.asarray, players)))

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        players, before = state
        require_losses(self.game, players, key)
        seen = slopes(self.game, axpy(-jnp.asarray(self.step_size), before, players), key)
        return Remembering(axpy(-jnp.asarray(self.step_size), seen, players), seen)


class Lookahead(Map):
    r"""x' = x + alpha (F^k(x) - x): k steps of any map ahead, and a part of the way there.

    What an optimiser remembers beside the players is that of the last step ahead.

    **Arguments:**

    - `map`: F, any `Map` of players: one of `dynamics`, or `Players(...)(game)`. `count`: k >= 1.
    - `share`: alpha in (0, 1], a traced leaf.

    **Raises:** `ValueError` for a count below 1 or a share outside its range; `TypeError` for anything but a map.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> ahead = sx.games.Lookahead(sx.games.SimultaneousDescent(sx.games.Bilinear(1.0), 0.5), count=2, share=0.5)
    >>> [float(x) for x in ahead.step(0, (jnp.array(1.0), jnp.array(0.0)))]
    [0.875, 0.5]

    **Reference:** Chavdarova et al., *Taming GANs with Lookahead-Minmax* (2021), algorithm 1.
    """

    map: Map
    count: int = eqx.field(static=True)
    share: Scalar

    def __init__(self, map: Any, count: Checked[int] = 5, share: Checked[float] = 0.5):
        if not isinstance(map, Map):
            do = "Pass for example SimultaneousDescent(game, 0.1), or Players(optimiser)(game)."
            raise TypeError(explain("Lookahead: map", type(map).__name__, "a Map of players", do))
        self.map, self.count = map, ranges.whole("Lookahead: count", count, "Leave it out for 5.")
        ranges.share("Lookahead: share", share, "Leave it out for 0.5.")
        ranges.positive("Lookahead: share", share, "Leave it out for 0.5.")
        self.share = as_parameter(share)

    def init(self, players: State) -> State:
        """Return the state at which play starts: that of the map."""
        return self.map.init(players) if hasattr(self.map, "init") else players  # pyright: ignore[reportAttributeAccessIssue]

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        ahead = iterate(self.map, self.count).step(n, asarrays(state), key=key)
        if isinstance(state, OptimizerState):
            return OptimizerState(self._part_way(state.parameters, ahead.parameters), ahead.optimizer_state)
        if isinstance(state, Remembered):
            return Remembering(self._part_way(state.players, ahead.players), ahead.slopes)
        return self._part_way(state, ahead)

    def _part_way(self, players: State, ahead: State) -> State:
        players = asarrays(players)
        return axpy(self.share, subtract(ahead, players), players)
