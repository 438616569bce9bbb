r"""The linear game that stands at the players of a map: what its optimisers make of slopes, and H by products alone.

Near a state a step of the optimiser of player i is, with its second moments held,

    m' = beta_i m + g,   x' = x - D m',         D = -du/dg,   beta_i = (du[n+1]/dg[n])/(du[n]/dg[n]),

both measured from the update itself. In coordinates z = D^{-1/2} x the slopes have the matrix A = D^{1/2} H D^{1/2}.
Of a small game A is formed. Of a large one Arnoldi's vectors of A are split player by player, V = V_1 + V_2 + ...,
which holds their Krylov space, keeps who owns what, and gives V^T A V with the outer eigenvalues of A. With those of A^T
beside them it gives the left eigenvectors as well.
"""

import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._types import Key, State
from separatrix.games._secants import linearised
from separatrix.games.game import Game, slopes
from separatrix.games.linear_steps import LinearGame
from separatrix.games.players import PlayersMap
from separatrix.linear.coordinates import as_vector, dimension_of
from separatrix.linear.derivatives import require_derivatives
from separatrix.linear.krylov import arnoldi

# Up to here the matrix is formed.
FORMED = 64
# Arnoldi vectors of a larger one. The reduced game has as many for each player.
ROOM = 20
# A response to a slope below this share of the update over the slope is none.
_RESPONSE = 1e-5


class Rates(NamedTuple):
    """D as a vector over all players, beta of each, and how far a third step is from beta^2."""

    metric: Any
    momentum: tuple[float, ...]
    misfit: float


class Reduced(NamedTuple):
    """The linear game on the columns of `basis` (in z), H D^{1/2} V, D^{1/2}, and the leading residual."""

    game: LinearGame
    basis: Any
    pushed: Any
    root: Any
    sizes: tuple[int, ...]
    residual: float


def rates_of(map: PlayersMap, state: Any, key: Key | None) -> Rates:
    """What the optimisers make of slopes here.

    **Raises:** `ValueError` for an optimiser that climbs, or one that has no rate yet.
    """
    players, (states, _) = state
    # A parameter that never had a slope has second moments of 0, and a response that is not finite: it does not move.
    found, slope, update = _responses(map, players, states, key)
    responses = [np.nan_to_num(np.asarray(part, float), posinf=0.0, neginf=0.0) for part in found]
    first = -responses[0]
    # Adam's first step is the sign of the slope, whatever its size: next to nothing is left of a change of it.
    least = _RESPONSE * float(np.abs(update).sum()) / max(float(np.abs(slope).sum()), 1e-300)
    if not first.sum() > least:
        got = "an update that grows with the slope" if first.sum() < 0 else "no response to a slope"
        do = "Let it take some steps first; and check the sign of the learning rate."
        raise ValueError(explain("advise: optimisers", got, "updates against the slope", do))
    ends = np.cumsum([0, *(dimension_of(player) for player in players)])
    momentum, misfit = [], 0.0
    for start, end in itertools.pairwise(ends):
        now, second, third = (-float(response[start:end].sum()) for response in responses)
        beta = second / now if now > 0 else 0.0
        momentum.append(beta)
        misfit = max(misfit, abs(third / now - beta**2) if now > 0 else 0.0)
    return Rates(np.maximum(first, 0.0), tuple(momentum), misfit)


@eqx.filter_jit
def _responses(map: PlayersMap, players: State, states: Any, key: Key | None) -> Any:
    """(du[n]/dg[n], du[n+1]/dg[n], du[n+2]/dg[n]) along ones, diagonals of what acts by entry; g and u themselves."""
    own = slopes(map.game, players, key)

    def three(first: State) -> Any:
        found, inner = [], states
        for slope in (first, own, own):
            update, inner = map.updates(slope, inner, players)
            found.append(as_vector(update))
        return tuple(found)

    updates, responses = jax.jvp(three, (own,), (jax.tree.map(jnp.ones_like, own),))
    return responses, as_vector(own), updates[0]


def reduced(
    game: Game, players: State, key: Key | None, metric: Any, *, distance: float = 0.0, both: bool = False,
    twice: bool = True,
) -> Reduced:  # fmt: skip
    """The linear game at these players, in the metric: by derivatives or over a distance, of one Krylov space or both.

    Without `twice` H H is left out, which symplectic steps alone need.
    """
    sizes, root = tuple(dimension_of(player) for player in players), np.sqrt(metric)
    if sum(sizes) <= FORMED:
        basis, split = np.eye(sum(sizes)), sizes
    else:
        basis, split = _split(_krylov(linearised(game, players, key, distance), root, both), sizes)
    pushed = products(game, players, key, root[:, None] * basis, distance)
    again = products(game, players, key, pushed, distance) if twice else np.full_like(pushed, np.nan)
    matrix, square = (basis.T @ (root[:, None] * part) for part in (pushed, again))
    model = LinearGame(matrix, split, pushed.T @ pushed, square)
    values, vectors = np.linalg.eig(matrix)
    lead = int(np.argmax(np.abs(values)))
    ritz = vectors[:, lead]
    left_over = root[:, None] * pushed @ ritz - values[lead] * (basis @ ritz)
    residual = float(np.linalg.norm(left_over) / max(abs(values[lead]), 1e-300)) if abs(values[lead]) > 0 else 0.0
    return Reduced(model, basis, pushed, root, sizes, residual)


def products(game: Game, players: State, key: Key | None, columns: Any, distance: float = 0.0) -> Any:
    """H times each column."""
    jacobian = linearised(game, players, key, distance)
    return np.stack([_times(jacobian.mv, column, jacobian) for column in columns.T], axis=1)


def _times(multiply: Any, vector: Any, jacobian: Any) -> Any:
    # The field is -g.
    found = multiply(jnp.asarray(vector, jacobian.point.dtype))
    return -require_derivatives("advise", jacobian, found).astype(float)


def _krylov(jacobian: Any, root: Any, both: bool) -> Any:
    """An orthonormal basis of the Krylov space of A from a random vector, shape (d, ROOM), and of A^T beside it."""
    start = np.random.default_rng(0).standard_normal(jacobian.size) * (root > 0)
    spaces = [
        arnoldi(lambda vector, way=way: root * _times(way, root * vector, jacobian), start, ROOM).basis
        for way in ((jacobian.mv, jacobian.rmv) if both else (jacobian.mv,))
    ]
    return np.hstack(spaces)


def _split(space: Any, sizes: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """An orthonormal basis of the parts of these vectors that belong to each player."""
    ends, parts, counts = np.cumsum((0, *sizes)), [], []
    for start, end in itertools.pairwise(ends):
        left, values, _ = np.linalg.svd(space[start:end], full_matrices=False)
        kept = left[:, values > 1e-6 * max(values[0], 1e-300)]
        part = np.zeros((len(space), kept.shape[1]))
        part[start:end] = kept
        parts.append(part)
        counts.append(kept.shape[1])
    return np.hstack(parts), tuple(counts)
