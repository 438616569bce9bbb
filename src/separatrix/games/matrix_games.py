r"""Games of finitely many moves, and how far a point is from one that nobody would leave.

    mixed moves   L_1 = -x^T A y,  L_2 = -x^T B y         x, y on the simplex
    replicator    x_i' = x_i ((A y)_i - x^T A y),  y_j' = y_j ((B^T x)_j - x^T B y)
    gaps          e_i(x) = L_i(x) - min_{x_i'} L_i(x_1, ..., x_i', ..., x_n)

The sum of the gaps is the exploitability: 0 exactly at a Nash equilibrium, and the duality gap of two players with
L_1 + L_2 = 0. On simplices a best answer is a pure move, so the gaps are exact; elsewhere they are what descent finds.
The replicator of a game of sum zero conserves the divergence of its equilibrium from the state, and cycles.

**Reference:** Hofbauer & Sigmund, *Evolutionary Games and Population Dynamics* (1998), chapters 7, 10 and 11.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Checked, Function, Key, Scalar, State
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.games.game import Game, as_game, require_losses, require_players, slope_of
from separatrix.linear.coordinates import as_vector
from separatrix.systems import ranges
from separatrix.systems.flow import Flow
from separatrix.systems.objective import as_objective
from separatrix.systems.optax_maps import from_optax, require_trainable

_STILL = 1e-3


class MatrixGame(Game):
    """L_1 = -x^T A y, L_2 = -x^T B y, on mixed moves x and y.

    **Arguments:**

    - `payoff`: A, shape (n, m): what the first player wins. `other`: B, of the same shape: what the second wins; -A by
      default.

    **Raises:** `ValueError` for payoffs that are no matrix, of unequal shapes, or not finite.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> pennies = sx.games.MatrixGame([[1.0, -1.0], [-1.0, 1.0]])
    >>> [float(loss) for loss in pennies((jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])))]
    [-0.0, -0.0]
    """

    payoff: Any
    other: Any

    def __init__(self, payoff: Any, other: Any = None):
        self.payoff = jnp.asarray(payoff)
        self.other = -self.payoff if other is None else jnp.asarray(other)
        for name, matrix in (("payoff", self.payoff), ("other", self.other)):
            if matrix.ndim != 2 or matrix.shape != self.payoff.shape:
                do = "A row for each move of the first player, a column for each of the second."
                raise ValueError(explain(f"MatrixGame: {name}", f"shape {matrix.shape}", "(n, m), both alike", do))
            ranges.finite(f"MatrixGame: {name}", matrix, "Repair the entry.")

    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Scalar, ...]:
        x, y = players
        return -(x @ (self.payoff.astype(x.dtype) @ y)), -(x @ (self.other.astype(x.dtype) @ y))

    def gaps(self, players: tuple[State, ...]) -> Any:
        """(e_1, e_2): what each player would win more by its best pure move."""
        x, y = players
        first, second = self.payoff.astype(x.dtype) @ y, x @ self.other.astype(x.dtype)
        return jnp.stack([jnp.max(first) - x @ first, jnp.max(second) - second @ y])


class Replicator(Flow):
    r"""Shares of moves grow by what the moves win more than the average.

        x_i' = x_i ((A y)_i - x^T A y),  y_j' = y_j ((B^T x)_j - x^T B y);    one population: y = x

    **Arguments:**

    - `game`: a `MatrixGame`. `populations`: 2, with the state (x, y); or 1, with the state x and a square A.

    **Raises:** `ValueError` for another number of populations, or one with moves that are not as many.

    **Example:** rock, paper, scissors in one population: the product of the shares is constant.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.games.Replicator(sx.games.rock_paper_scissors(), populations=1)
    >>> end = sx.evolve(flow, jnp.array([0.5, 0.25, 0.25]), times=(0.0, 5.0), rtol=1e-10, atol=1e-12).final
    >>> round(float(jnp.prod(end)), 8)
    0.03125

    **Reference:** Hofbauer & Sigmund (1998), equations 7.3 and 10.1.
    """

    game: MatrixGame
    populations: int = eqx.field(static=True)

    def __init__(self, game: MatrixGame, populations: Checked[int] = 2):
        self.game = game
        self.populations = ranges.whole("Replicator: populations", populations, "Pass 1 or 2.", least=1, most=2)
        shape = game.payoff.shape
        if self.populations == 1 and shape[0] != shape[1]:
            do = "One population plays against itself: as many moves as answers."
            raise ValueError(explain("Replicator: game", f"a payoff of shape {shape}", "a square one", do))

    def velocity(self, t: Scalar, state: State) -> State:
        if self.populations == 1:
            x = jnp.asarray(state)
            return _replicated(x, self.game.payoff.astype(x.dtype) @ x)
        x, y = state
        return _replicated(x, self.game.payoff.astype(x.dtype) @ y), _replicated(y, x @ self.game.other.astype(x.dtype))


def _replicated(shares: Any, wins: Any) -> Any:
    return shares * (wins - shares @ wins)


def matching_pennies() -> MatrixGame:
    """Two moves each: the first wins 1 where both are alike, the second where they are not. Both rest at 1/2.

    >>> matching_pennies().payoff.tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    return MatrixGame([[1.0, -1.0], [-1.0, 1.0]])


def rock_paper_scissors(loss: Any = 1.0) -> MatrixGame:
    """Three moves that win 1 against one other and lose b against the third; between alike players, B = A^T.

    **Arguments:** `loss`: b > 0. At 1 the sum is zero and the replicator cycles; below, it nears (1/3, 1/3, 1/3);
    above, the border.

    >>> rock_paper_scissors(2.0).payoff.tolist()
    [[0.0, -2.0, 1.0], [1.0, 0.0, -2.0], [-2.0, 1.0, 0.0]]
    """
    ranges.positive("rock_paper_scissors: loss", loss, "Leave it out for 1.")
    b = jnp.asarray(loss, jnp.zeros(()).dtype)
    zero, one = jnp.zeros_like(b), jnp.ones_like(b)
    payoff = jnp.stack([jnp.stack(row) for row in ([zero, -b, one], [one, zero, -b], [-b, one, zero])])
    return MatrixGame(payoff, payoff.T)


class Exploitability(Result):
    """What each player would win by moving alone.

    - `gaps`, shape (n,): L_i(x) - min L_i over x_i. `slopes`: of each player at its best answer, 0 where it is one.
    - `exact`: whether the best answers are known in closed form.
    """

    gaps: Float[Array, " n"]
    slopes: Float[Array, " n"]
    exact: bool = eqx.field(static=True)

    @property
    def total(self) -> float:
        """The exploitability, the sum of the gaps; of two players with L_1 + L_2 = 0 the duality gap."""
        return float(jnp.sum(self.gaps))

    def rows(self) -> list[Row]:
        return [Row("exploitability", self.total), Row("gap of each player", self.gaps)]

    @property
    def cautions(self) -> tuple[str, ...]:
        if not np.isfinite(self.total):
            return ("a best answer was not found: a loss may have no lower end",)
        if self.exact:
            return ()
        found = ["best answers were sought by descent from where the player stands: a lower bound"]
        moving = [i + 1 for i, slope in enumerate(np.asarray(self.slopes)) if not slope <= _STILL]
        if moving:
            players = " and ".join(str(i) for i in moving)
            found.append(f"player {players} was still falling: take more steps, or the loss has no lower end")
        return tuple(found)


def exploitability(
    game: Checked[Game | Function], players: State, *, steps: Checked[int] = 100, optimizer: Any = None,
    key: Key | None = None,
) -> Exploitability:  # fmt: skip
    r"""Return how much the players could win by moving alone: 0 at a Nash equilibrium.

        sum_i L_i(x) - min_{x_i'} L_i(x_1, ..., x_i', ..., x_n)

    **Arguments:**

    - `game`: a `MatrixGame`, whose gaps are exact, or any other; `players`: where.
    - `steps`, `optimizer`: of the descent of each player against the others at rest; 100 steps of `optax.lbfgs()`.
    - `key`: of a random game, held fixed: the gap on that sample.

    **Returns:** an `Exploitability`.

    **Raises:** as `classify`, for players or losses of another form; `ValueError` for fewer than one step.

    **Example:** x^2/2 + x y - y^2/2 from (1, 0): the first player would win 1/2 by going to 0, the second 1/2 by going
    to 1.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> game = sx.games.QuadraticGame([[1.0, 1.0], [-1.0, 1.0]])
    >>> found = sx.games.exploitability(game, (jnp.array([1.0]), jnp.array([0.0])))
    >>> [round(float(gap), 6) for gap in found.gaps]
    [0.5, 0.5]

    **Reference:** Grnarova et al., *A domain agnostic measure for monitoring and evaluating GANs* (2019), definition 1.
    """
    ranges.whole("exploitability: steps", steps, "Leave it out for 100.")
    if isinstance(game, MatrixGame):
        gaps = game.gaps(players)
        return Exploitability(gaps, jnp.zeros_like(gaps), exact=True)
    game, players = as_game(game), require_trainable(require_players(players))
    require_losses(game, players, key)
    gaps, slopes = [], []
    for i, own in enumerate(players):
        alone = as_objective(Alone(game, players, key, i))
        descent = from_optax(alone, optax.lbfgs() if optimizer is None else optimizer)
        best = evolve(descent, descent.init(own), steps=steps, save="last").final.parameters
        gaps.append(alone(own) - alone(best))
        slopes.append(jnp.linalg.norm(as_vector(slope_of(game, (*players[:i], best, *players[i + 1 :]), i, key))))
    return Exploitability(jnp.stack(gaps), jnp.stack(slopes), exact=False)


class Alone(eqx.Module):
    """L_i as a function of x_i alone."""

    game: Game
    players: Any
    sample: Any
    player: int = eqx.field(static=True)

    def __call__(self, parameters: State) -> Scalar:
        i = self.player
        return self.game((*self.players[:i], parameters, *self.players[i + 1 :]), key=self.sample)[i]
