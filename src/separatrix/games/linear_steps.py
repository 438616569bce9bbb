r"""One step of every scheme on the linear game g = H x: its matrix T, and so its stability in closed form.

With step size h, momentum beta (m' = beta m + slope, x' = x - h m'; beta = 0 without) and state (x, m):

    simultaneous  m' = beta m + H x,                                     x' = x - h m'
    alternating   the same, player by player                             (a product of such steps)
    extragradient m1 = beta m + H x, m' = beta m1 + H (x - h m1),        x' = x - h m'
    past          m' = beta m + H (x - h m),                             x' = x - h m'
    optimistic    m' = beta m + H x,                                     x' = x - 2h m' + h m
    consensus     H + gamma C in the place of H,     C = H^T H
    symplectic    H + gamma (C - E)/2,               E = H H             (sign s = 1)
    competitive   (I + h O)^{-1} H                   O the blocks of H between players
    ridge         H with its second row of blocks less H_22^{-1} H_21 times the first
    proximal      x' = (I + h H)^{-1} x

A scheme is stable where every eigenvalue of T has |mu| < 1. In another metric, x' = x - h D d(x) with a positive
diagonal D (what Adam does, its second moments held), T is that of D^{1/2} H D^{1/2}, with C = D^{1/2} H^T H D^{1/2} and
E = D^{1/2} H H D^{1/2}.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from separatrix._errors import unknown

LINEAR_SCHEMES = (
    "simultaneous", "alternating", "extragradient", "past", "optimistic", "consensus", "symplectic", "competitive",
    "ridge", "proximal",
)  # fmt: skip


class LinearGame(NamedTuple):
    """H of g = H x with the number of coordinates of each player; C = H^T H and E = H H in the metric of the steps."""

    matrix: Any
    sizes: tuple[int, ...]
    drawn: Any
    twice: Any

    @property
    def between(self) -> Any:
        """O: the blocks of H between different players."""
        owner = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return np.where(owner[:, None] == owner[None, :], 0.0, self.matrix)


def linear_game(matrix: Any, sizes: tuple[int, ...]) -> LinearGame:
    """The linear game of a matrix, in the plain metric."""
    matrix = np.asarray(matrix, float)
    return LinearGame(matrix, tuple(sizes), matrix.T @ matrix, matrix @ matrix)


def step_matrix(
    game: LinearGame, scheme: str, step_size: float, *, strength: float = 0.0, momentum: Any = 0.0, order: Any = None
) -> Any:
    r"""Return T, the matrix of one step on the linear game.

    **Arguments:**

    - `game`: of `linear_game`. `scheme`: one of those at the head of the page. `step_size`: h.
    - `strength`: gamma of "consensus" and "symplectic". `momentum`: beta, one or one for each player. `order`: who
      moves in a round of "alternating".

    **Returns:** T, shape (d, d), or (2d, 2d) on (x, m) for what remembers.

    **Raises:** `ValueError` for an unknown scheme.

    **Example:** the bilinear game is left by simultaneous steps, and not by alternating ones.

    >>> import numpy as np
    >>> game = linear_game([[0.0, 1.0], [-1.0, 0.0]], (1, 1))
    >>> [float(max(abs(np.linalg.eigvals(step_matrix(game, s, 0.75))))) for s in ("simultaneous", "alternating")]
    [1.25, 1.0]
    """
    if scheme not in LINEAR_SCHEMES:
        raise ValueError(unknown("step_matrix: scheme", scheme, LINEAR_SCHEMES, "Choose one of these."))
    d, h = len(game.matrix), step_size
    unit, nothing = np.eye(d), np.zeros((d, d))
    if scheme == "proximal":
        return np.linalg.inv(unit + h * game.matrix)
    # Coefficients of x and of m in what is new, as one matrix (d, 2d) each.
    x, m = np.hstack([unit, nothing]), np.hstack([nothing, unit])
    per_player = np.broadcast_to(np.asarray(momentum, float), (len(game.sizes),))
    beta = np.repeat(per_player, game.sizes)[:, None]
    slope = _slope(game, scheme, h, strength)
    match scheme:
        case "alternating":
            x, m = _in_turn(game, h, beta, order, x, m)
        case "extragradient":
            first = beta * m + slope @ x
            m = beta * first + slope @ (x - h * first)
            x = x - h * m
        case "past":
            m = beta * m + slope @ (x - h * m)
            x = x - h * m
        case "optimistic":
            before, m = m, beta * m + slope @ x
            x = x - 2 * h * m + h * before
        case _:
            m = beta * m + slope @ x
            x = x - h * m
    if scheme in ("past", "optimistic") or np.any(per_player != 0):
        return np.vstack([x, m])
    return x[:, :d]


def spectral_radius(matrix: Any) -> float:
    """The largest |mu|."""
    return float(np.max(np.abs(np.linalg.eigvals(matrix))))


def crossing(holds: Callable[[float], bool], low: float, high: float, points: int = 25) -> float:
    """Where a condition that is so at `low` first fails, on a logarithmic grid and then by bisection.

    0 where it fails at `low` already, infinite where it holds at all points.
    """
    grid = np.geomspace(low, high, points)
    last = None
    for value in grid:
        if not holds(float(value)):
            break
        last = float(value)
    else:
        return np.inf
    if last is None:
        return 0.0
    good, bad = last, float(value)
    while bad - good > 1e-10 * bad:
        middle = (good + bad) / 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def largest_step(game: LinearGame, scheme: str, *, slack: float = 0.0, unit: float = 1.0, **options: Any) -> float:
    """The step size up to which a scheme is stable, |mu| <= 1 + slack; 0 where none is, infinite where all are.

    Looked for from a thousandth to a thousand times `unit`.

    >>> round(largest_step(linear_game([[1.0, 1.0], [-1.0, 0.0]], (1, 1)), "alternating"), 7)  # sqrt 5 - 1
    1.236068
    """

    def stable(h: float) -> bool:
        return spectral_radius(step_matrix(game, scheme, h, **options)) <= 1 + slack

    return crossing(stable, 1e-3 * unit, 1e3 * unit)


def _slope(game: LinearGame, scheme: str, h: float, strength: float) -> Any:
    match scheme:
        case "consensus":
            return game.matrix + strength * game.drawn
        case "symplectic":
            return game.matrix + strength * (game.drawn - game.twice) / 2
        case "competitive":
            return np.linalg.solve(np.eye(len(game.matrix)) + h * game.between, game.matrix)
        case "ridge":
            n, slope = game.sizes[0], game.matrix.copy()
            slope[n:] -= np.linalg.solve(game.matrix[n:, n:], game.matrix[n:, :n]) @ game.matrix[:n]
            return slope
    return game.matrix


def _in_turn(game: LinearGame, h: float, beta: Any, order: Any, x: Any, m: Any) -> tuple[Any, Any]:
    ends = np.cumsum((0, *game.sizes))
    x, m = x.copy(), m.copy()
    for i in range(len(game.sizes)) if order is None else order:
        own = slice(ends[i], ends[i + 1])
        m[own] = beta[own] * m[own] + game.matrix[own] @ x
        x[own] = x[own] - h * m[own]
    return x, m
