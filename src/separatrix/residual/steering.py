r"""Steering points by a flow of one neuron with piecewise constant weights, in closed form.

    dx/dt = w(t) relu(a(t) . x + b(t)),     w . a = 0

Where w is at right angles to a the argument of relu is constant along an orbit, so that over a piece of length s

    x -> x + s w relu(a . x + b),           exactly.

A sum of such shears in one coordinate adds a piecewise linear function of it, with a knot for each piece, to the others:
N points with different x_1 can be given any other coordinates by N pieces. Two sweeps lead N points to N targets at once,
with 2 N pieces, whatever the dimension (2 and more). On the line orbits cannot pass each other: there the order of points
stays.

Without w . a = 0 a piece is exact too, since the argument of relu then grows or shrinks as an exponential:

    x -> x + (e^(s w . a) - 1)/(w . a) w relu(a . x + b)

With w along a it stretches or shrinks a half space. Two such knots a cell gather the mass of each cell of a grid in its
middle (`gather`), all but a share that is left between the cells, and what is gathered can be steered: so a density is
taken to any other one, and a function is approximated, with pieces linear in the number of cells. Weights that are trained
(`steering_loss`) are the counterpart of weights that are written down.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from separatrix._errors import explain
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.systems import ranges
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap


class NeuronFlow(Flow):
    """dx/dt = w_k relu(a_k . x + b_k) for t in [k, k + 1): the weights switch at whole times, and are 0 after the last.

    **Arguments:**

    - `out`: w, shape (M, d). `into`: a, shape (M, d). `bias`: b, shape (M,).

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.residual.NeuronFlow(jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]]), jnp.array([-1.0]))
    >>> flow.velocity(0.5, jnp.array([3.0, 0.0])).tolist(), flow.velocity(1.5, jnp.array([3.0, 0.0])).tolist()
    ([0.0, 2.0], [0.0, 0.0])

    **Reference:** Ruiz-Balet & Zuazua, *Neural ODE control for classification, approximation, and transport* (2023),
    equation 1.1.
    """

    out: Inexact[Array, "M d"]
    into: Inexact[Array, "M d"]
    bias: Inexact[Array, " M"]

    @property
    def pieces(self) -> int:
        """M, how many pieces of constant weights there are: the time to evolve over."""
        return int(self.bias.shape[0])

    def exact(self) -> "NeuronPieces":
        """Return the map that takes one piece a step, without error."""
        return NeuronPieces(self.out, self.into, self.bias, self.pieces)

    def then(self, other: "NeuronFlow") -> "NeuronFlow":
        """Return the flow of these pieces, then of the others."""
        pairs = ((self.out, other.out), (self.into, other.into), (self.bias, other.bias))
        return NeuronFlow(*(jnp.concatenate(pair) for pair in pairs))

    def velocity(self, t: Scalar, state: State) -> State:
        piece = jnp.floor(jnp.asarray(t, state.dtype)).astype(int)
        inside = (piece >= 0) & (piece < self.pieces)
        k = jnp.clip(piece, 0, self.pieces - 1)
        push = jax.nn.relu(self.into[k].astype(state.dtype) @ state + self.bias[k].astype(state.dtype))
        return jnp.where(inside, push, 0) * self.out[k].astype(state.dtype)


class NeuronPieces(FiniteMap):
    """x -> x + w (e^(w . a) - 1)/(w . a) relu(a . x + b): what a `NeuronFlow` does in a piece."""

    out: Any
    into: Any
    bias: Any
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        out, into, bias = (weights[n].astype(state.dtype) for weights in (self.out, self.into, self.bias))
        rate = out @ into
        small = jnp.abs(rate) < 1e-4
        safe = jnp.where(small, 1, rate)
        # Where the rate is small its series, right to rate^3/24.
        grown = jnp.where(small, 1 + rate / 2 + rate**2 / 6, jnp.expm1(safe) / safe)
        return state + grown * jax.nn.relu(into @ state + bias) * out


def steer(points: Any, targets: Any) -> NeuronFlow:
    """Return the flow of one neuron with piecewise constant weights that takes all points to their targets at once.

    **Arguments:**

    - `points`, `targets`: shape (N, d), d >= 2; no two points and no two targets the same.

    **Returns:** a `NeuronFlow` of 2 N pieces. Each piece is a shear, so that Euler's method with one step a piece,
    `evolve(flow, x, times=(0, flow.pieces), steps=flow.pieces, method=Euler())`, follows it exactly.

    **Raises:** `ValueError` for shapes that do not fit, values that are not finite, or points or targets that coincide.

    **Example:** two points that change places.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> points = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    >>> flow = sx.residual.steer(points, points[::-1])
    >>> end = sx.evolve(flow, points[0], times=(0, flow.pieces), steps=flow.pieces, method=sx.Euler()).final
    >>> bool(jnp.allclose(end, points[1]))
    True

    **Reference:** Ruiz-Balet & Zuazua, *Neural ODE control for classification, approximation, and transport* (2023),
    theorem 2, for simultaneous control by piecewise constant weights; the sweeps by shears are ours.
    """
    first, last = np.asarray(points, float), np.asarray(targets, float)
    if first.ndim != 2 or first.shape != last.shape or first.shape[1] < 2:
        got = f"points {first.shape} and targets {last.shape}"
        raise ValueError(explain("steer", got, "two arrays (N, d) with d >= 2", "On the line points keep their order."))
    for name, values in (("points", first), ("targets", last)):
        ranges.finite(f"steer: {name}", values, "Pass finite places.")
        if len(np.unique(values, axis=0)) < len(values):
            raise ValueError(explain(f"steer: {name}", "the same place twice", "different places", "Drop one of them."))
    # No two points lie level along `seen`, no two targets along `met`: the first sweep, by the places along `seen`, gives
    # every point its target's place along `met`; by that place the second gives it all the rest.
    seen = _apart(first, None)
    met = _apart(last, seen)
    across = met - (met @ seen) * seen
    along = across / (across @ met)
    shears = _sweep(first @ seen, seen, ((last - first) @ met)[:, None] * along)
    now = _sheared(first, shears)  # as it comes out, rounding and all: the next sweep makes it good
    moves = last - now
    shears += _sweep(now @ met, met, moves - (moves @ met)[:, None] * met)
    out, into, bias = (np.array(part) for part in zip(*shears, strict=True))
    return NeuronFlow(jnp.asarray(out), jnp.asarray(into), jnp.asarray(bias))


def _apart(places: Any, other_than: Any) -> Any:
    """A unit vector along which no two places lie level, the best of some, and not along another vector."""
    width = places.shape[1]
    tried = np.concatenate([np.eye(width), np.random.default_rng(0).normal(size=(2048, width))])
    tried /= np.linalg.norm(tried, axis=1, keepdims=True)
    gaps = np.min(np.diff(np.sort(places @ tried.T, axis=0), axis=0), axis=0, initial=np.inf)
    if other_than is not None:
        gaps = np.where(np.abs(tried @ other_than) < 0.9, gaps, -1.0)
    return tried[int(np.argmax(gaps))]


def _sheared(places: Any, shears: list[tuple[Any, Any, float]]) -> Any:
    for out, into, bias in shears:
        places = places + np.maximum(places @ into + bias, 0.0)[:, None] * out
    return places


def _sweep(levels: Any, into: Any, moves: Any) -> list[tuple[Any, Any, float]]:
    """Shears (w, a, b) that move the point at each level by its move: a piecewise linear function with knots there."""
    order = np.argsort(levels)
    levels, moves = levels[order], moves[order]
    slopes = np.diff(moves, axis=0) / np.diff(levels)[:, None]
    turns = np.diff(slopes, axis=0, prepend=np.zeros((1, moves.shape[1])))
    shears = [(moves[0], np.zeros_like(into), 1.0)]
    return shears + [(turn, into, -level) for turn, level in zip(turns, levels[:-1], strict=True)]
