r"""Which way players go, where it is not down their own slopes: slopes g = (dL_1/dx_1, ..., dL_n/dx_n), adjusted.

With H = dg/dx, its antisymmetric part A, and its diagonal blocks H_ii (what a player does to its own slope) taken out,
O,

    consensus     d = g + gamma H^T g                          = g + gamma grad |g|^2/2
    symplectic    d = g + s gamma A^T g                        s = +-1 so that d draws to what is stable (alignment)
    shaping       d_i = d/dx_i L_i(x_i, x_j - a g_j(x))        with g_j as a function of x_i, or as a number (stopped)
    competitive   d = (I + h O)^{-1} g                         the answer to the answer to ..., in a step of h
    ridge         d_1 = g_1,  d_2 = g_2 - H_22^{-1} H_21 g_1   the second stays on its ridge as the first moves

Each is 0 where g is. Products with H and H^T are one differentiation each; competitive and ridge solve with a matrix,
which is formed (at most 2,000 parameters).

**Reference:** Mescheder, Nowozin & Geiger, *The numerics of GANs* (2017), section 4; Balduzzi et al., *The mechanics of
n-player differentiable games* (2018), section 3 and algorithm 1; Foerster et al., *Learning with opponent-learning
awareness* (2018), section 4; Letcher et al., *Stable opponent shaping* (2019), section 2; Schafer & Anandkumar,
*Competitive gradient descent* (2019), equation 4; Wang, Zhang & Ba, *On solving minimax optimization locally* (2020),
algorithm 1.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import axpy, dot, scale, subtract
from separatrix._types import Key, Scalar, State
from separatrix.games.game import Game, slopes
from separatrix.games.points import MOST_FORMED
from separatrix.linear.coordinates import as_vector, dimension_of, from_vector

# Balduzzi et al., appendix: what alignment adds, so that it decides where both products vanish.
_ALIGNED = 0.1


def symplectic_slopes(game: Game, players: State, strength: Any, key: Key | None, align: bool) -> State:
    """g + s gamma A^T g; with alignment s = sign((g . H^T g)(A^T g . H^T g)/d + 1/10), else 1."""
    own, turned, drawn = _products(game, players, key)
    turning = scale(0.5, subtract(drawn, turned))
    gamma = jnp.asarray(strength, dot(own, own).dtype)
    if align:
        product = dot(own, drawn) * dot(turning, drawn) / dimension_of(players)
        gamma = jnp.where(product + _ALIGNED >= 0, gamma, -gamma)
    return axpy(gamma, turning, own)


def shaped_slopes(game: Game, players: State, rate: Any, key: Key | None, stopped: bool) -> State:
    """d/dx_i of L_i(x_i, x_j - a g_j(x)), the others' step taken whole; with `stopped`, g_j does not depend on x_i."""

    # A number is a slope at the players as they stand, and no `stop_gradient`: the field has derivatives of its own.
    numbers = slopes(game, players, key)

    def foreseen(i: int, own: State) -> Scalar:
        mine = (*players[:i], own, *players[i + 1 :])
        steps = numbers if stopped else slopes(game, mine, key)
        moved = axpy(-jnp.asarray(rate), steps, mine)
        return game((*moved[:i], own, *moved[i + 1 :]), key=key)[i]

    return tuple(jax.grad(lambda own, i=i: foreseen(i, own))(players[i]) for i in range(len(players)))


def competitive_slopes(game: Game, players: State, step_size: Any, key: Key | None) -> State:
    """(I + h O)^{-1} g, with O the blocks of H between different players."""
    own, matrix, sizes = _formed("competitive slopes", game, players, key)
    owner = jnp.repeat(jnp.arange(len(sizes)), jnp.asarray(sizes), total_repeat_length=sum(sizes))
    between = jnp.where(owner[:, None] == owner[None, :], 0, matrix)
    system = jnp.eye(len(own), dtype=own.dtype) + jnp.asarray(step_size, own.dtype) * between
    return from_vector(jnp.linalg.solve(system, own), players)


def ridge_slopes(game: Game, players: State, key: Key | None) -> State:
    """(g_1, g_2 - H_22^{-1} H_21 g_1) of two players."""
    if len(players) != 2:
        do = "Name a leader and a follower; for more players take consensus or symplectic."
        raise ValueError(explain("ridge: players", len(players), "2", do))
    own, matrix, (n, _) = _formed("ridge slopes", game, players, key)
    follower = own[n:] - jnp.linalg.solve(matrix[n:, n:], matrix[n:, :n] @ own[:n])
    return from_vector(jnp.concatenate([own[:n], follower]), players)


def _products(game: Game, players: State, key: Key | None) -> tuple[State, State, State]:
    """g, H g and H^T g."""

    def all_slopes(x: State) -> State:
        return slopes(game, x, key)

    own, pull = jax.vjp(all_slopes, players)
    return own, jax.jvp(all_slopes, (players,), (own,))[1], pull(own)[0]


def _formed(what: str, game: Game, players: State, key: Key | None) -> tuple[Any, Any, tuple[int, ...]]:
    """g and H in real coordinates, and how many of them each player has."""
    sizes = tuple(dimension_of(player) for player in players)
    if sum(sizes) > MOST_FORMED:
        do = "Take consensus or symplectic, which need products alone."
        raise ValueError(explain(what, f"{sum(sizes)} parameters", f"at most {MOST_FORMED}, whose H is formed", do))
    vector = as_vector(players)

    def all_slopes(x: Any) -> Any:
        return as_vector(slopes(game, from_vector(x, players), key))

    return all_slopes(vector), jax.jacfwd(all_slopes)(vector), sizes
