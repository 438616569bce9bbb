r"""H of a game as a run sees it: over a distance, and over many batches.

    H_e u   = E [g(x + e r, b) - g(x - e r, b)] |u|/(2e),                           r = u/|u|, b the batch and the noise
    H_e^T u = E sum_i [dL_i/dx (x + e r_i, b) - dL_i/dx (x - e r_i, b)] |u|/(2e),   r_i what r has of player i

The second is the transpose, for (H^T u)_j = sum_i d2L_i/(dx_j dx_i) u_i. Where slopes are smooth both are H up to e^2.
Networks with kinks (ReLU) are linear in pieces: a derivative sees the piece that the state is in, and none of the jumps
of the slope at its border. Of a batch of 512 and two networks of 2 x 32 units a piece ends after a hundred-thousandth
of the length of the players, of which one step goes some thousandths. What a run does over a step is H_e, with e that
long, and not H.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._types import Key, Scalar, State
from separatrix.evolution import evolve
from separatrix.games.game import Game, GameField, slopes
from separatrix.linear.coordinates import Jacobian, as_vector, dimension_of, from_vector

# Of the length of the players, or of 1: over less, single precision is most of a difference.
_LEAST = 1e-3
# A distance in steps: what a run has gone between one step and the next but one.
_STEPS = 2.0


class DrawnGame(Game):
    """The mean of a random game over these keys."""

    game: Game
    keys: Any

    def __call__(self, players: tuple[State, ...], *, key: Key | None = None) -> tuple[Scalar, ...]:
        losses = jax.vmap(lambda one: tuple(map(jnp.asarray, self.game(players, key=one))))(self.keys)
        return tuple(jnp.mean(loss) for loss in losses)


class Secants(eqx.Module):
    """Products with -H_e and its transpose, as `Jacobian` has them of the field."""

    game: Game
    state: State
    key: Key | None
    distance: Any

    @property
    def size(self) -> int:
        """Number of real coordinates."""
        return dimension_of(self.state)

    @property
    def point(self) -> Any:
        """Coordinates of the players."""
        return as_vector(self.state)

    @eqx.filter_jit
    def mv(self, vector: Any) -> Any:
        """-H_e u."""
        return self._over(lambda players: slopes(self.game, players, self.key), vector)

    @eqx.filter_jit
    def rmv(self, vector: Any) -> Any:
        """-H_e^T u."""
        ends = np.cumsum([0, *(dimension_of(player) for player in self.state)])
        place = jnp.arange(self.size)
        found = jnp.zeros_like(vector)
        for i in range(len(self.state)):
            own = jnp.where((place >= ends[i]) & (place < ends[i + 1]), vector, 0)
            found = found + self._over(jax.grad(lambda players, i=i: self.game(players, key=self.key)[i]), own)
        return found

    def _over(self, function: Any, vector: Any) -> Any:
        length = jnp.linalg.norm(vector)
        along = vector / jnp.where(length > 0, length, 1) * self.distance

        def at(sign: float) -> Any:
            return as_vector(function(from_vector(self.point + sign * along, self.state)))

        return (at(-1.0) - at(1.0)) * length / (2 * self.distance)


def linearised(game: Game, players: State, key: Key | None, distance: float) -> Any:
    """Products with the linearisation of a game's field: over a distance, or of 0, by derivatives."""
    if not distance > 0:
        return Jacobian(GameField(game), players, key=key)
    players = jax.tree.map(jnp.asarray, players)
    return Secants(game, players, key, jnp.asarray(distance, as_vector(players).dtype))


def length_of(players: State) -> float:
    """|x|, or 1 where that is less: what sizes are measured in."""
    return max(1.0, float(jnp.linalg.norm(as_vector(players))))


def size_of_step(map: Any, state: Any, key: Key | None) -> float:
    """The distance of a default, over `length_of`: two steps, and no less than a thousandth."""
    path = np.asarray(evolve(map, state, steps=1, key=key, save=vector_of).states, float)
    moved = float(np.linalg.norm(path[-1] - path[0]))
    return max(_LEAST, _STEPS * moved / length_of(players_of(state)) if np.isfinite(moved) else 0.0)


def players_of(state: Any) -> Any:
    """The players in a state of a map of them."""
    for name in ("parameters", "players"):
        if hasattr(state, name):
            return getattr(state, name)
    return state


def vector_of(state: Any) -> Any:
    """Coordinates of the players."""
    return as_vector(players_of(state))
