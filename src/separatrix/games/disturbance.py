r"""What a small disturbance of a game under way does: the turn that `advise` predicts, and the turn that is seen.

With T the matrix of one step, T v = mu v its leading pair and w the left eigenvector, w^H T = mu w^H, two runs from
x + e Re v and x - e Re v, on the same batches and the same noise, are apart by 2 d_n. In what T acts on, s_n = (d_n, m_n)
with m_n the moments that optimisers have gathered of it (m_0 = 0, and d_{n+1} = d_n - m_{n+1} gives the others),

    c_n = w^H s_n/(w^H s_0),    c_{n+1} = mu c_n    where the step is linear, and T the same at each

whatever else s_n has: all other eigenvectors of T are orthogonal to w, and to v only where T is normal. A projection onto
the plane of v counts them in; what is left of the start and of moments is the other eigenvectors, and the slowest of them
is soon all of d_n. On fresh batches T_n is random, and E d_n = (E T)^n d_0: the mean of d_n over draws is taken.

So arg mu is predicted, of the mean over batches, and the mean of arg(c_{n+1}/c_n) is measured: on the running update
itself, with all that `advise` leaves out (other batches, other noise, second moments that move, a state that moves on).
How far the state moves on is measured as well: c_1/c_0 of the same direction at the end of the run (`later`), which is
w^H T_n v/(w^H v), the multiplier of the pair there to first order. Where the three agree, what `advise` says holds for the
run. Both are over the same distance e: of networks with kinks (ReLU) no derivative says what a run does (`_secants`). With
e = 0 derivatives are taken all along, d_{n+1} = DF_n(x_n) d_n: what is then seen holds for a disturbance that stays
within the pieces that the run goes through.

**Reference:** Mescheder, Nowozin & Geiger, *The numerics of GANs* (2017), section 3, for the eigenvalues of an update;
Trefethen & Embree, *Spectra and pseudospectra* (2005), section 52, for left eigenvectors of what is not normal.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from scipy.linalg import eig

from separatrix._errors import explain
from separatrix._types import Checked, Key, State, StepIndex
from separatrix.calculus.tangents import TangentState
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.games._reduction import FORMED
from separatrix.games._running import residuals_of, running, turns
from separatrix.games._secants import length_of, players_of, size_of_step, vector_of
from separatrix.linear.coordinates import as_vector, dimension_of, from_vector
from separatrix.systems import ranges
from separatrix.systems.map import Map

# Runs go on until the disturbance went round so often, or changed by a factor: over a distance in a network by less, for
# what falls further is within single pieces, and what grows bends.
_ROUNDS, _CHANGE, _CHANGE_OF_KINKS, _MOST = 2.0, 30.0, 5.0, 2_000
# All of the players is recorded at each step: at most so many numbers.
_NUMBERS = 20_000_000
# A pair is known where what leaves the Krylov space is below this share; a state moved on where its turn did by that.
_KNOWN, _MOVED = 0.05, 0.1
# Of a game small enough for derivatives.
_SIZE = 1e-3


class Disturbance(Result):
    """The multiplier of the leading pair of a game's update, as it is predicted and as it is seen.

    - `predicted`: mu, by the linearisation at the state. `measured`: of the runs, exp(mean of log(c_{n+1}/c_n)) without the
      first quarter. `scatter`: standard error of its turn over the draws; NaN of one draw.
    - `later`: c_1/c_0 of the same direction from the end of the run: mu there, to first order.
    - `path`, shape (n + 1,): c_n over its start. `share`, shape (n + 1,): of d_n that lies in the plane of v.
      `residual`: how far v is from an eigenvector, relative; of large games it is a vector of Arnoldi's.
    - `size`: e over the length of the players, or over 1.
    """

    predicted: Complex[Array, ""]
    measured: Complex[Array, ""]
    scatter: Float[Array, ""]
    later: Complex[Array, ""]
    path: Complex[Array, " n"]
    share: Float[Array, " n"]
    residual: Float[Array, ""]
    size: Float[Array, ""]

    @property
    def rotation(self) -> tuple[float, float]:
        """Radians a step, predicted and measured."""
        return float(abs(np.angle(complex(self.predicted)))), float(abs(np.angle(complex(self.measured))))

    @property
    def error(self) -> float:
        """How far the measured rotation is from the predicted one, over that."""
        first, second = self.rotation
        return abs(second - first) / first if first > 0 else np.inf

    @property
    def drift(self) -> float:
        """How far the rotation at the end of the run is from the predicted one, over that."""
        first = self.rotation[0]
        return abs(abs(float(np.angle(complex(self.later)))) - first) / first if first > 0 else np.inf

    def rows(self) -> list[Row]:
        (first, second), factors = self.rotation, (abs(complex(self.predicted)), abs(complex(self.measured)))
        last = abs(np.angle(complex(self.later)))
        return [
            Row("steps", len(self.path) - 1),
            Row("radians a step", f"{first:.5g} predicted, {second:.5g} measured, {last:.5g} at the end"),
            Row("standard error of the measured one", self.scatter),
            Row("factor a step", f"{factors[0]:.6g} predicted, {factors[1]:.6g} measured"),
            Row("share of the difference in the plane, at the end", self.share[-1]),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if self.rotation[0] <= 0:
            found.append("the leading direction does not turn")
        if float(self.residual) > _KNOWN:
            found.append(f"the pair is known to {float(self.residual):.1g} of itself")
        if float(self.share[-1]) < 0.5:
            found.append("most of the difference has left the plane: other directions are in it")
        if self.drift > _MOVED:
            found.append(
                f"the state moved on: at the end of the run the same direction turns by {self.drift:.0%} other"
            )
        return tuple(found)


class Pair(NamedTuple):
    """mu above the axis; v in the players' coordinates, of unit length; w of T, in z and moments on a basis.

    `residual`: how far v is from an eigenvector. `root`, `basis`: of `_reduction`. `twice`: of the optimistic scheme.
    """

    multiplier: complex
    direction: Any
    left: Any
    root: Any
    basis: Any
    twice: bool
    residual: float

    def coordinate(self, between: Any) -> Any:
        """w^H s_n of differences d_n, shape (n + 1, d), whose moments start at rest."""
        inside = (between / np.where(self.root > 0, self.root, np.inf)) @ self.basis
        if len(self.left) > inside.shape[1]:
            moments = np.zeros_like(inside)
            for n in range(1, len(inside)):
                gone = inside[n - 1] - inside[n]
                moments[n] = (gone + moments[n - 1]) / 2 if self.twice else gone
            inside = np.hstack([inside, moments])
        return inside @ np.conj(self.left)


def disturbed(
    map: Checked[Map], state: State, *, key: Key | None = None, steps: Checked[int | None] = None,
    size: Checked[float | None] = None, draws: Checked[int] = 8,
) -> Disturbance:  # fmt: skip
    r"""Return how a small disturbance along the leading pair of a game's update turns: predicted, and measured.

        T v = mu v, w^H T = mu w^H;  runs from x +- e Re v, apart by 2 d_n;  c_n = w^H s_n;  arg mu beside the mean of
        arg(c_{n+1}/c_n)

    **Arguments:**

    - `map`, `state`: as of `advise`. Of the pairs that are known the one that turns and does not decay is taken, the
      largest; if all decay, the one that turns most while it decays, of those that turn by less than a quarter round.
    - `key`: of a random game: predicted is of the mean over `draws` batches of it, at least 1, and measured is the mean
      of as many pairs of runs, each pair with batches of its own.
    - `steps`: how many are watched, at least 1; by default two rounds, or until |mu|^n changed thirtyfold (fivefold
      over a distance of more than 64 parameters), 8 to 2,000 (fewer of more than 10,000 parameters, all recorded).
    - `size`: e >= 0, the length of the disturbance over that of the players, or over 1 where they are smaller. By default
      0.001; of more than 64 parameters twice the length of a step if that is more. There the prediction is over e, too.
      0 follows an infinitesimal disturbance by derivatives.

    **Returns:** a `Disturbance`.

    **Raises:** as `advise`; `ValueError` for a negative size, fewer than one step or draw, or a state at which no
    multiplier turns.

    **Example:** simultaneous steps on the Dirac-GAN turn by atan(h/2).

    >>> import jax.numpy as jnp, math, separatrix as sx
    >>> descent = sx.games.SimultaneousDescent(sx.games.DiracGAN(), 0.1)
    >>> found = sx.games.disturbed(descent, (jnp.array(0.0), jnp.array(0.0)))
    >>> [round(value, 5) for value in (*found.rotation, math.atan(0.05))]
    [0.04996, 0.04996, 0.04996]

    **Reference:** see the module.
    """
    if size is not None:
        ranges.nonnegative("disturbed: size", size, "Leave it out, or pass 0 for derivatives.")
    ranges.whole("disturbed: draws", draws, "Leave it out for 8.")
    state = getattr(state, "inner", state)
    small = dimension_of(players_of(state)) <= FORMED
    if size is None:
        size = _SIZE if small else size_of_step(map, state, key)
    pair = leading_pair(map, state, key, 0.0 if small else float(size), draws)
    mu, v = pair.multiplier, pair.direction
    count = ranges.whole(
        "disturbed: steps",
        _steps(mu, len(v), _CHANGE if small or size == 0 else _CHANGE_OF_KINKS) if steps is None else steps,
        "Leave it out.",
    )
    keys = [None] if key is None else list(jax.random.split(jax.random.fold_in(key, 1), draws))
    between, ends = zip(*(_difference(map, state, v.real, count, size, one) for one in keys), strict=True)
    ahead = [_difference(map, ends[0], v.real, 1, size, one)[0] for one in keys]
    later = pair.coordinate(np.mean(ahead, axis=0))
    mean = np.mean(between, axis=0)
    path = pair.coordinate(mean)
    flat = np.linalg.qr(np.stack([v.real, v.imag], axis=1))[0]
    shares = np.linalg.norm(mean @ flat, axis=1) / np.maximum(np.linalg.norm(mean, axis=1), 1e-300)
    numbers = (
        mu, _multiplier(path), _scatter(np.stack([pair.coordinate(one) for one in between])), later[1] / later[0],
        path / path[0], np.minimum(shares, 1.0), pair.residual, float(size),
    )  # fmt: skip
    return Disturbance(*(jnp.asarray(value) for value in numbers))


def _multiplier(path: Any) -> complex:
    """exp(mean of log(c_{n+1}/c_n)) without the first quarter."""
    late = path[len(path) // 4 :]
    ratio = late[1:] / late[:-1]
    return complex(np.exp(np.mean(np.log(np.abs(ratio))) + 1j * np.mean(np.angle(ratio))))


def _scatter(paths: Any) -> float:
    """Standard error of the turn over draws, shape (draws, n + 1): the jackknife."""
    count = len(paths)
    if count == 1:
        return np.nan
    turned = [np.angle(_multiplier(np.delete(paths, k, axis=0).mean(axis=0))) for k in range(count)]
    return float(np.sqrt((count - 1) * np.var(turned)))


def _difference(map: Any, state: Any, along: Any, count: int, size: Any, key: Any) -> tuple[Any, Any]:
    """d_n, shape (count + 1, d), and the state at the end of one of the runs.

    d_n is half of what lies between two runs on the same keys, disturbed either way at the start.
    """
    start = as_vector(players_of(state))
    if size == 0:
        return _followed(map, state, jnp.asarray(along, start.dtype), count, key)
    shift = jnp.asarray(along * size * length_of(players_of(state)) / np.linalg.norm(along), start.dtype)
    moved = [_with_players(state, start + sign * shift) for sign in (1, -1)]
    runs = [evolve(map, one, steps=count, key=key, save=vector_of) for one in moved]
    for run in runs:
        if run.outcome != "completed":
            do = "Ask for fewer steps, or a smaller size."
            raise ValueError(explain("disturbed: run", f"outcome {run.outcome}", "a run that stays finite", do))
    # Differences of neighbours are exact to the last digits of the players; only then are they projected.
    return (np.asarray(runs[0].states, float) - np.asarray(runs[1].states, float)) / 2, runs[0].final


class FollowedMap(Map):
    """(x, V) -> (F(x), DF(x) V), V of the floating-point leaves of x alone: counters of optimisers have no tangent."""

    map: Map

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return TangentState(*eqx.filter_jvp(lambda x: self.map.step(n, x, key=key), (state[0],), (state[1],)))


def _followed(map: Any, state: Any, along: Any, count: int, key: Any) -> tuple[Any, Any]:
    """d_n by derivatives, and the state at the end."""
    # The root of a second moment of 0, of a parameter without slopes, has no derivative: it is taken beside 0.
    tiny = jax.tree.map(
        lambda leaf: jnp.where(leaf == 0, jnp.asarray(1e-30, leaf.dtype), leaf) if eqx.is_inexact_array(leaf) else leaf,
        state,
    )
    start = state if players_of(state) is state else _with_players(tiny, as_vector(players_of(state)))
    still = jax.tree.map(jnp.zeros_like, eqx.filter(start, eqx.is_inexact_array))
    run = evolve(FollowedMap(map), TangentState(start, _with_players(still, along)), steps=count, key=key, save=_aside)
    if run.outcome != "completed":
        do = "Ask for fewer steps."
        raise ValueError(explain("disturbed: run", f"outcome {run.outcome}", "derivatives that stay finite", do))
    return np.asarray(run.states, float), run.final[0]


def _aside(state: Any) -> Any:
    return vector_of(state[1])


def leading_pair(map: Any, state: Any, key: Any, size: float | None, draws: int) -> Pair:
    """The pair that decides, with its left eigenvector: over a distance, or of size 0 by derivatives."""
    step, near, told = running(map, state, key, None, size=size, draws=draws, both=True)
    found: Any = eig(step.matrix(near.game), left=True, right=True)
    values, left, vectors = found
    pairs = np.flatnonzero((np.imag(values) > 0) & (np.abs(values - 1) > step.slack))
    if not len(pairs):
        do = "Read sx.games.advise: nothing turns here."
        raise ValueError(explain("disturbed: state", "real multipliers only", "a pair that turns", do))
    # A real multiplier that many directions share is a pair to rounding: of pairs that turn there is the choice, if any do.
    turning = turns(values[pairs])
    pairs = pairs[turning] if np.any(turning) else pairs
    residuals = residuals_of(near, vectors)
    known = pairs[residuals[pairs] <= max(_KNOWN, residuals[pairs].min())]
    growing = known[turns(values[known]) & (np.abs(values[known]) > 1 - step.slack)]
    # Beyond a quarter round a step overshoots, rather than that players go round.
    ahead = known[np.real(values[known]) > 0]
    if len(growing):
        lead = growing[np.argmax(np.abs(values[growing]))]
    else:
        among = ahead if len(ahead) else known
        lead = among[
            np.argmax(np.abs(np.angle(values[among])) / np.maximum(np.abs(np.log(np.abs(values[among]))), 1e-12))
        ]
    direction = near.root * (near.basis @ vectors[: near.basis.shape[1], lead])
    direction = direction / np.linalg.norm(direction)
    twice = told.scheme == "optimistic"
    return Pair(complex(values[lead]), direction, left[:, lead], near.root, near.basis, twice, float(residuals[lead]))


def _steps(multiplier: complex, size: int, factor: float) -> int:
    turn, change = abs(np.angle(multiplier)), abs(np.log(abs(multiplier)))
    both = (_ROUNDS * 2 * np.pi / max(turn, 1e-12), np.log(factor) / max(change, 1e-12))
    return int(np.clip(min(both), 8, max(8, min(_MOST, _NUMBERS // size))))


def _with_players(state: Any, vector: Any) -> Any:
    """The same state with other players."""
    players = players_of(state)
    moved = from_vector(vector, players)
    return moved if players is state else eqx.tree_at(players_of, state, moved)
