r"""Densities moved, and functions approximated, by the flow of one neuron with piecewise constant weights.

A density rho follows the transport equation of the field, d rho/dt + div(rho w relu(a . x + b)) = 0, so that a sample of it
is moved as points are. First the mass of each cell of a grid is gathered near one point, by an increasing function of each
coordinate whose slope is `shrink` in the middle of a cell and large between cells,

    x_i -> c + integral of slope,       one half space stretched a knot, from the last knot to the first,

then the points are steered (`steer`). Cells that hold equal shares of rho, led to points that stand for equal shares of
another density, take one to the other up to W_1 = O(N^(-1/d)) and the share that lay between cells. Cells of a cube led to
points whose last coordinate is f there approximate f, with the same order for f that is Lipschitz.

`steering_loss` trains the weights instead.

**Reference:** Ruiz-Balet & Zuazua, *Neural ODE control for classification, approximation, and transport* (2023), theorems
3 and 5, for what is possible; the gathering by knots is ours.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._types import Checked, Function, Key
from separatrix.evolution import evolve
from separatrix.residual.steering import NeuronFlow
from separatrix.systems import ranges


def gather(edges: Sequence[Any], *, core: float = 0.98, shrink: float = 1e-6) -> NeuronFlow:
    """Return the flow that gathers each cell of a grid near one point, and keeps the grid's first and last edges.

    **Arguments:**

    - `edges`: for each coordinate the increasing edges of its cells, two or more.
    - `core`: the share of a cell's length, in (0, 1), that is gathered; the rest is spread between cells.
    - `shrink`: what becomes of a length in it, in (0, 1).

    **Returns:** a `NeuronFlow` of 2 n + 2 pieces for a coordinate of n cells. Where the middle of a cell comes to
    lie is what the flow makes of it. Points outside of the grid are moved rigidly with its edges.

    **Raises:** `ValueError` for edges that do not increase, or shares outside (0, 1).

    **Example:** two cells: what lies in the middle of each comes together, and does not leave the grid.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> flow = sx.residual.gather([[0.0, 1.0, 2.0], [0.0, 1.0]], core=0.8, shrink=1e-3)
    >>> points = jnp.array([[0.2, 0.2], [0.8, 0.8], [1.2, 0.5], [2.0, 1.0]])
    >>> jax.vmap(lambda x: sx.evolve(flow.exact(), x, save="last").final)(points).round(2).tolist()
    [[0.5, 0.5], [0.5, 0.5], [1.5, 0.5], [2.0, 1.0]]
    """
    for name, value in (("core", core), ("shrink", shrink)):
        ranges.require(f"gather: {name}", value, "a number in (0, 1)", lambda known: (known > 0) & (known < 1))
    grid = [np.asarray(one, float) for one in edges]
    for axis, one in enumerate(grid):
        if one.ndim != 1 or len(one) < 2 or not np.all(np.diff(one) > 0):
            got = f"shape {one.shape} in coordinate {axis}"
            raise ValueError(explain("gather: edges", got, "two or more that increase", "Pass the edges of cells."))
    pieces = [piece for axis, one in enumerate(grid) for piece in _knots(one, np.eye(len(grid))[axis], core, shrink)]
    out, into, bias = (np.array(part) for part in zip(*pieces, strict=True))
    return NeuronFlow(jnp.asarray(out), jnp.asarray(into), jnp.asarray(bias))


def _knots(edges: Any, axis: Any, core: float, shrink: float) -> list[tuple[Any, Any, float]]:
    """Half spaces stretched, from the last knot to the first: so each is still where it was when its turn comes."""
    lengths = np.diff(edges)
    knots = np.sort(np.concatenate([edges[:-1] + (1 - core) / 2 * lengths, edges[1:] - (1 - core) / 2 * lengths]))
    # What a core loses the gaps on both sides gain: each cell keeps its length.
    between = (1 - core * shrink) / (1 - core)
    slopes = np.array([between] + [shrink, between] * len(lengths))
    factors = np.log(slopes[1:] / slopes[:-1])
    stretched = [(rate * axis, axis, -knot) for rate, knot in zip(factors, knots, strict=True)]
    first, last = edges[0], edges[-1]
    ends = [(-np.log(between) * axis, axis, -last), (np.log(between) * axis, axis, -first)]
    return [ends[0], *stretched[::-1], ends[1]]


def steering_loss() -> Function:
    r"""Return the loss l(flow, (points, targets)): the mean squared distance of where points come to from their targets.

        l = mean_i |X(M; x_i) - y_i|^2

    **Returns:** l(flow, batch) for `fit`, with a `NeuronFlow`, of which all weights are trained, followed without error.

    **Example:** two points change places.

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> points = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    >>> first = sx.residual.random_neurons(12, 2, key=jax.random.key(0))
    >>> loss = sx.residual.steering_loss()
    >>> found = sx.fit(loss, optax.adam(0.05), (points, points[::-1]), initial=first, steps=300)
    >>> bool(found.losses[-1] < 0.01)
    True

    **Reference:** Ruiz-Balet & Zuazua (2023), section 1; E, *A proposal on machine learning via dynamical systems* (2017).
    """

    def loss(flow: NeuronFlow, batch: Any) -> Any:
        points, targets = batch
        pieces = flow.exact()
        ends = jax.vmap(lambda x: evolve(pieces, x, save="last").final)(points)
        return jnp.mean(jnp.sum((ends - targets) ** 2, axis=-1))

    return loss


def random_neurons(
    pieces: Checked[int], width: Checked[int], *, key: Key, size: float = 1.0, dtype: Any = None
) -> NeuronFlow:
    """Return a flow of random weights to train from: a and b normal, w smaller the more pieces there are.

    **Arguments:**

    - `pieces`: M >= 1. `width`: d >= 1, of the space. `size`: of w, whose entries have variance size^2/(d M).

    **Raises:** `ValueError` for counts below 1 or a size that is not positive.

    **Example:**

    >>> import jax, separatrix as sx
    >>> sx.residual.random_neurons(8, 2, key=jax.random.key(0)).pieces
    8
    """
    pieces = ranges.whole("random_neurons: pieces", pieces, "Say how many switches.")
    width = ranges.whole("random_neurons: width", width, "Say in how many dimensions.")
    ranges.positive("random_neurons: size", size, "Take 1.")
    first, second, third = jax.random.split(key, 3)
    dtype = jnp.result_type(float) if dtype is None else dtype
    return NeuronFlow(
        size * jax.random.normal(first, (pieces, width), dtype) / (width * pieces) ** 0.5,
        jax.random.normal(second, (pieces, width), dtype),
        jax.random.normal(third, (pieces,), dtype),
    )
