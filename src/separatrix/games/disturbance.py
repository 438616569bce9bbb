r"""What a small disturbance of a game under way does: the turn that `advise` predicts, and the turn that is seen.

With T the matrix of one step at a state and T v = mu v its leading pair, two runs from x and from x + e Re v, on the
same batches and the same noise, differ by

    d_n = Re(c_n v),    c_{n+1} = mu c_n    where the step is linear, and T the same at each

c_n are coordinates in the plane of Re v and Im v. So arg mu is predicted, and the mean of arg(c_{n+1}/c_n) is measured:
on the running update itself, with all that `advise` leaves out (other batches, other noise, second moments that move, a
state that moves on). Where the two agree, what `advise` says of the state holds for the run.

**Reference:** Mescheder, Nowozin & Geiger, *The numerics of GANs* (2017), section 3, for the eigenvalues of an update.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from separatrix._errors import explain
from separatrix._types import Checked, Key, State
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.games._running import running, turns
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.systems import ranges
from separatrix.systems.map import Map

# Runs go on until the disturbance went round so often, or changed by this factor.
_ROUNDS, _CHANGE, _MOST = 2.0, 30.0, 2_000
# All of the players is recorded at each step: at most so many numbers.
_NUMBERS = 20_000_000
# A pair is known where what leaves the Krylov space is below this share.
_KNOWN = 0.05


class Disturbance(Result):
    """The multiplier of the leading pair of a game's update, as it is predicted and as it is seen.

    - `predicted`: mu, by the linearisation at the state. `measured`: of the runs, exp(mean of log(c_{n+1}/c_n)) without the
      first quarter, in which the optimisers' moments take up the disturbance.
    - `path`, shape (n + 1,): c_n over its start. `share`, shape (n + 1,): of d_n that lies in the plane.
      `residual`: how far v is from an eigenvector, relative; of large games it is a vector of Arnoldi's.
    """

    predicted: Complex[Array, ""]
    measured: Complex[Array, ""]
    path: Complex[Array, " n"]
    share: Float[Array, " n"]
    residual: Float[Array, ""]

    @property
    def rotation(self) -> tuple[float, float]:
        """Radians a step, predicted and measured."""
        return float(abs(np.angle(complex(self.predicted)))), float(abs(np.angle(complex(self.measured))))

    @property
    def error(self) -> float:
        """How far the measured rotation is from the predicted one, over that."""
        first, second = self.rotation
        return abs(second - first) / first if first > 0 else np.inf

    def rows(self) -> list[Row]:
        (first, second), factors = self.rotation, (abs(complex(self.predicted)), abs(complex(self.measured)))
        return [
            Row("steps", len(self.path) - 1),
            Row("radians a step", f"{first:.5g} predicted, {second:.5g} measured"),
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
            found.append("most of the difference has left the plane: another direction grows, or the state moved on")
        return tuple(found)


def disturbed(
    map: Checked[Map], state: State, *, key: Key | None = None, steps: Checked[int | None] = None,
    size: Checked[float] = 1e-3,
) -> Disturbance:  # fmt: skip
    r"""Return how a small disturbance along the leading pair of a game's update turns: predicted, and measured.

        T v = mu v;    x -> x + e Re v;    d_n = Re(c_n v);    arg mu beside the mean of arg(c_{n+1}/c_n)

    **Arguments:**

    - `map`, `state`: as of `advise`. Of the pairs that are known the one that turns and does not decay is taken, the
      largest; if all decay, the one that turns most while it decays.
    - `key`: of a random game: predicted is at one batch of it, and both runs go on with batches of it.
    - `steps`: how many are watched; by default two rounds, or until |mu|^n changed thirtyfold, 8 to 2,000
      (fewer of more than 10,000 parameters, which are all recorded).
    - `size`: e, the length of the disturbance over that of the players, or over 1 where they are smaller.

    **Returns:** a `Disturbance`.

    **Raises:** as `advise`; `ValueError` for a size that is not positive, fewer than one step, or a state at which no
    multiplier turns.

    **Example:** simultaneous steps on the Dirac-GAN turn by atan(h/2).

    >>> import jax.numpy as jnp, math, separatrix as sx
    >>> descent = sx.games.SimultaneousDescent(sx.games.DiracGAN(), 0.1)
    >>> found = sx.games.disturbed(descent, (jnp.array(0.0), jnp.array(0.0)))
    >>> [round(value, 5) for value in (*found.rotation, math.atan(0.05))]
    [0.04996, 0.04996, 0.04996]

    **Reference:** see the module.
    """
    ranges.positive("disturbed: size", size, "Leave it out for a thousandth.")
    state = getattr(state, "inner", state)
    multiplier, direction, residual = leading_pair(map, state, key)
    wanted = _steps(multiplier, len(direction)) if steps is None else steps
    count = ranges.whole("disturbed: steps", wanted, "Leave it out.")
    plane = np.stack([direction.real, -direction.imag], axis=1)
    between = _difference(map, state, plane[:, 0], count, size, key)
    coordinates = between @ np.linalg.pinv(plane).T
    path, inside = coordinates @ np.array([1, 1j]), np.linalg.norm(coordinates @ plane.T, axis=1)
    late = path[count // 4 :]
    ratio = late[1:] / late[:-1]
    measured = np.exp(np.mean(np.log(np.abs(ratio))) + 1j * np.mean(np.angle(ratio)))
    shares = np.minimum(inside / np.maximum(np.linalg.norm(between, axis=1), 1e-300), 1.0)
    return Disturbance(*(jnp.asarray(v) for v in (multiplier, complex(measured), path / path[0], shares, residual)))


def _difference(map: Any, state: Any, along: Any, count: int, size: Any, key: Any) -> Any:
    """d_n, shape (count + 1, d): of two runs on the same keys, one of them disturbed at its start."""
    start = as_vector(_players(state))
    shift = along * size * max(1.0, float(jnp.linalg.norm(start))) / np.linalg.norm(along)
    moved = _with_players(state, start + jnp.asarray(shift, start.dtype))
    runs = [evolve(map, one, steps=count, key=key, save=_vector_of) for one in (state, moved)]
    if any(run.outcome != "completed" for run in runs):
        do = "Ask for fewer steps, or a smaller size."
        raise ValueError(explain("disturbed: run", f"outcome {runs[1].outcome}", "a run that stays finite", do))
    # Differences of neighbours are exact to the last digits of the players; only then are they projected.
    return np.asarray(runs[1].states, float) - np.asarray(runs[0].states, float)


def leading_pair(map: Any, state: Any, key: Any) -> tuple[complex, Any, float]:
    """mu above the axis, v in the players' coordinates, complex, of unit length, and how far v is from an eigenvector."""
    step, near, _ = running(map, state, key, None)
    values, vectors = np.linalg.eig(step.matrix(near.game))
    pairs = np.flatnonzero((np.imag(values) > 0) & (np.abs(values - 1) > step.slack))
    if not len(pairs):
        do = "Read sx.games.advise: nothing turns here."
        raise ValueError(explain("disturbed: state", "real multipliers only", "a pair that turns", do))
    parts = vectors[: near.basis.shape[1]]
    inside = near.basis @ (near.game.matrix @ parts)
    left_over = near.root[:, None] * (near.pushed @ parts) - inside
    residuals = np.linalg.norm(left_over, axis=0) / np.maximum(np.linalg.norm(inside, axis=0), 1e-300)
    known = pairs[residuals[pairs] <= max(_KNOWN, residuals[pairs].min())]
    growing = [place for place in known if turns(values[place : place + 1])[0] and abs(values[place]) > 1 - step.slack]
    if growing:
        lead = max(growing, key=lambda place: abs(values[place]))
    else:
        lead = max(known, key=lambda place: abs(np.angle(values[place])) / max(abs(np.log(abs(values[place]))), 1e-12))
    direction = near.root * (near.basis @ parts[:, lead])
    return complex(values[lead]), direction / np.linalg.norm(direction), float(residuals[lead])


def _vector_of(state: Any) -> Any:
    return as_vector(_players(state))


def _steps(multiplier: complex, size: int) -> int:
    turn, change = abs(np.angle(multiplier)), abs(np.log(abs(multiplier)))
    both = (_ROUNDS * 2 * np.pi / max(turn, 1e-12), np.log(_CHANGE) / max(change, 1e-12))
    return int(np.clip(min(both), 8, max(8, min(_MOST, _NUMBERS // size))))


def _players(state: Any) -> Any:
    for name in ("parameters", "players"):
        if hasattr(state, name):
            return getattr(state, name)
    return state


def _with_players(state: Any, vector: Any) -> Any:
    """The same state with other players."""
    players = _players(state)
    moved = from_vector(vector, players)
    return moved if players is state else eqx.tree_at(_players, state, moved)
