r"""Recurrent cells, and the size of their recurrent weights.

    Elman        x[n+1] = phi(W x[n] + V u[n] + b),     phi = tanh, ReLU or the identity
    Orthogonal   the same with W = g (1 - A)^-1 (1 + A), A = S - S^T: a rotation times a gain, whatever S is trained to

GRU and LSTM are equinox's own; `from_cell` makes a driven map of any of them. Under the names of equinox W is
`weight_hh`, with one block of size x size for each gate, and V is `weight_ih`.

With W = g Q, Q orthogonal, every direction is stretched by g before the nonlinearity: g is the recurrent gain. The
spectral radius max |eigenvalue| is the rate of growth of W^n as n -> infinity, and no bound on any finite power.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from separatrix._errors import explain, unknown
from separatrix._tree import is_inexact
from separatrix._types import Checked, Key, Scalar
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"tanh": jnp.tanh, "relu": jax.nn.relu, "identity": lambda x: x}


class Elman(eqx.Module):
    r"""x' = phi(W x + V u + b).

    **Arguments:**

    - `input_size`, `hidden_size`: lengths of u and x, at least 1.
    - `key`: the entries of W and V are drawn uniformly from (-1, 1)/sqrt(hidden_size), as those of equinox's cells; b
      starts at zero.
    - `activation`: phi: "tanh", "relu" or "identity".
    - `dtype`: of the weights; JAX's default float if None.

    **Raises:** `ValueError` for sizes that are not whole numbers of at least 1, or another activation.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.Elman(2, 3, key=jax.random.key(0))
    >>> sx.evolve(sx.from_cell(cell, jnp.zeros((5, 2))), jnp.zeros(3)).final.tolist()
    [0.0, 0.0, 0.0]

    **Reference:** Elman, *Finding structure in time*, Cognitive Science 14 (1990).
    """

    weight_ih: Array
    weight_hh: Array
    bias: Array
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)

    def __init__(
        self,
        input_size: Checked[int],
        hidden_size: Checked[int],
        *,
        key: Key,
        activation: Checked[str] = "tanh",
        dtype: Any = None,
    ):
        check_cell("Elman", input_size, hidden_size, activation)
        of_input, of_state = jax.random.split(key)
        dtype = jnp.zeros(()).dtype if dtype is None else dtype
        bound = hidden_size**-0.5
        self.weight_ih = jax.random.uniform(of_input, (hidden_size, input_size), dtype, -bound, bound)
        self.weight_hh = jax.random.uniform(of_state, (hidden_size, hidden_size), dtype, -bound, bound)
        self.bias = jnp.zeros(hidden_size, dtype)
        self.input_size, self.hidden_size, self.activation = input_size, hidden_size, activation

    def __call__(self, inputs: Float[ArrayLike, " inputs"], state: Float[ArrayLike, " hidden"]) -> Array:
        """Return x' from u and x: equinox's order of arguments."""
        return ACTIVATIONS[self.activation](self.weight_hh @ state + self.weight_ih @ inputs + self.bias)


class Orthogonal(eqx.Module):
    r"""x' = phi(g Q x + V u + b) with Q = (1 - A)^-1 (1 + A) and A = S - S^T: Q is a rotation for every S (Cayley).

    **Arguments:**

    - `input_size`, `hidden_size`, `key`, `activation`, `dtype`: as of `Elman`; S is drawn from N(0, 1).
    - `gain`: g, a leaf; 1 keeps lengths where phi does.

    Each step solves for Q: for many steps over one weight take `frozen()`, the `Elman` cell of the same map.

    **Raises:** as `Elman`; `ValueError` for a negative gain.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.Orthogonal(2, 4, key=jax.random.key(0), gain=0.5, activation="identity")
    >>> bool(jnp.allclose(cell.matrix @ cell.matrix.T, 0.25 * jnp.eye(4), atol=1e-6))
    True

    **Reference:** Helfrich, Willmott & Ye, *Orthogonal recurrent neural networks with scaled Cayley transform* (2018),
    section 3, without the scaling by signs: determinant 1.
    """

    generator: Array
    gain: Scalar
    weight_ih: Array
    bias: Array
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)

    def __init__(
        self,
        input_size: Checked[int],
        hidden_size: Checked[int],
        *,
        key: Key,
        gain: Any = 1.0,
        activation: Checked[str] = "tanh",
        dtype: Any = None,
    ):
        check_cell("Orthogonal", input_size, hidden_size, activation)
        ranges.nonnegative("Orthogonal: gain", gain, "Take 1 to keep lengths.")
        of_state, of_rest = jax.random.split(key)
        like = Elman(input_size, hidden_size, key=of_rest, dtype=dtype)
        self.generator = jax.random.normal(of_state, (hidden_size, hidden_size), like.bias.dtype)
        self.gain = as_parameter(gain)
        self.weight_ih, self.bias = like.weight_ih, like.bias
        self.input_size, self.hidden_size, self.activation = input_size, hidden_size, activation

    @property
    def matrix(self) -> Float[Array, "hidden hidden"]:
        """W = g (1 - A)^-1 (1 + A)."""
        skew, one = self.generator - self.generator.T, jnp.eye(self.hidden_size, dtype=self.generator.dtype)
        return jnp.asarray(self.gain, skew.dtype) * jnp.linalg.solve(one - skew, one + skew)

    def frozen(self) -> Elman:
        """The `Elman` cell of the same map, its matrix worked out once."""
        blank = Elman(
            self.input_size, self.hidden_size, key=jax.random.key(0), activation=self.activation, dtype=self.bias.dtype
        )
        parts = lambda cell: (cell.weight_hh, cell.weight_ih, cell.bias)  # noqa: E731
        return eqx.tree_at(parts, blank, (self.matrix, self.weight_ih, self.bias))

    def __call__(self, inputs: Float[ArrayLike, " inputs"], state: Float[ArrayLike, " hidden"]) -> Array:
        """Return x' from u and x: equinox's order of arguments."""
        return ACTIVATIONS[self.activation](self.matrix @ state + self.weight_ih @ inputs + self.bias)


def check_cell(what: str, input_size: Any, hidden_size: Any, activation: Any) -> None:
    """Refuse sizes that are no counts, and an activation that is not known."""
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        ranges.whole(f"{what}: {name}", size, "Pass how many.")
    if activation not in ACTIVATIONS:
        raise ValueError(unknown(f"{what}: activation", activation, ACTIVATIONS, "Choose one of them."))


def with_recurrent_gain(cell: Any, gain: Any, *, key: Key) -> Any:
    r"""Return a cell whose recurrent weights are new: W = g Q for each gate, Q orthogonal and uniformly distributed.

    **Arguments:**

    - `cell`: an `Elman`, `eqx.nn.GRUCell` or `eqx.nn.LSTMCell`, or any module with a matrix `weight_hh` of one block
      (size, size) for each gate, one below another.
    - `gain`: g >= 0; all singular values of each block.
    - `key`: Q, one for each gate.

    **Returns:** the cell, with all else as it was.

    **Raises:** `TypeError` for a cell without such a matrix; `ValueError` for a negative gain.

    **Example:**

    >>> import jax, jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> cell = sx.recurrent.with_recurrent_gain(eqx.nn.GRUCell(2, 3, key=jax.random.key(0)), 0.5, key=jax.random.key(1))
    >>> block = cell.weight_hh[:3]
    >>> bool(jnp.allclose(block @ block.T, 0.25 * jnp.eye(3), atol=1e-6))
    True

    **Reference:** Saxe, McClelland & Ganguli, *Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks* (2014), section 3; Mezzadri (2007) for the uniform distribution on the orthogonal group.
    """
    weight: Any = getattr(cell, "weight_hh", None)
    if not eqx.is_array(weight) or weight.ndim != 2 or weight.shape[0] % weight.shape[1]:
        got = type(cell).__name__ if weight is None else f"weight_hh of shape {jnp.shape(weight)}"
        expected = "a cell with weight_hh of shape (gates x size, size)"
        raise TypeError(explain("with_recurrent_gain: cell", got, expected, "Pass Elman, eqx.nn.GRUCell or LSTMCell."))
    ranges.nonnegative("with_recurrent_gain: gain", gain, "Take 1 to keep lengths.")
    gates, size = weight.shape[0] // weight.shape[1], weight.shape[1]
    blocks = [jax.random.orthogonal(part, size, dtype=weight.dtype) for part in jax.random.split(key, gates)]
    scaled = jnp.asarray(gain, weight.dtype) * jnp.concatenate(blocks)
    return eqx.tree_at(lambda cell: cell.weight_hh, cell, scaled)


def spectral_radius(matrix: Any) -> Scalar:
    """Return max |eigenvalue| of a square matrix.

    **Arguments:** the matrix, shape (N, N); of any kind, on the CPU, where JAX has the nonsymmetric eigenvalue problem.

    **Returns:** a real scalar.

    **Raises:** `ValueError` for a matrix that is not square.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.recurrent.spectral_radius(jnp.array([[0.5, 9.0], [0.0, -0.25]])).item()
    0.5
    """
    shape = jnp.shape(matrix)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(explain("spectral_radius: matrix", f"shape {shape}", "(N, N)", "Pass one square matrix."))
    return jnp.max(jnp.abs(jnp.linalg.eigvals(jnp.asarray(matrix))))


def with_spectral_radius(matrix: Any, radius: Any) -> Array:
    """Return the multiple of a matrix whose spectral radius is `radius`.

    **Arguments:** the matrix, shape (N, N), not nilpotent; the radius, >= 0.

    **Returns:** radius / max |eigenvalue| times the matrix.

    **Raises:** `ValueError` for a negative radius, or a matrix of spectral radius 0, none of whose multiples has
    another.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.recurrent.with_spectral_radius(jnp.array([[0.5, 9.0], [0.0, -0.25]]), 0.9)[0].tolist()
    [0.9, 16.2]

    **Reference:** Jaeger, *The "echo state" approach to analysing and training recurrent neural networks* (2001).
    """
    ranges.nonnegative("with_spectral_radius: radius", radius, "Take a radius near 1.")
    before = jnp.asarray(spectral_radius(matrix))
    ranges.positive("with_spectral_radius: spectral radius of the matrix", before, "Draw another matrix.")
    factor = jnp.asarray(radius, before.dtype) / before
    matrix = jnp.asarray(matrix)
    return factor.astype(matrix.dtype) * matrix if is_inexact(matrix) else factor * matrix.astype(factor.dtype)
