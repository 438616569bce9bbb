r"""Reservoirs: random recurrent nets of which only the readout is trained.

    x[n+1] = (1 - d) x[n] + d phi(W x[n] + V u[n] + b),        y[n] = R (1, x[n+1])

The readout minimises sum |y[n] - R (1, x)|^2 + ridge |R|^2: one linear solve. A reservoir is of use where it forgets
how it began (the echo state property): two states under the same inputs come together. Whether they do is told by the
largest Lyapunov exponent conditional on those inputs, and not by the spectral radius of W: an input can quiet a
reservoir whose radius is above 1, and a large one below may still grow for a while.

Online, recursive least squares with forgetting f keeps P, the inverse of sum f^(n-m) z[m] z[m]^T + f^n/p 1:

    k = P z/(f + z^T P z),     R <- R + (y - R z) k^T,     P <- (P - k z^T P)/f.

**Reference:** Jaeger, *The "echo state" approach* (2001); Lukosevicius, *A practical guide to applying echo state
networks* (2012), equations 1 to 3; Wainrib & Galtier (2016), for exponents and echo states; Haykin, *Adaptive filter
theory*, table 10.1, for recursive least squares.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from separatrix._errors import explain
from separatrix._types import Checked, Key, Scalar, State
from separatrix.diagnostics.along.lyapunov_spectrum import lyapunov_spectrum
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.recurrent._wiring import distinct
from separatrix.recurrent.cells import ACTIVATIONS, check_cell, spectral_radius as radius_of
from separatrix.recurrent.nets import exposed, require_kept, rest
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.cells import from_cell


class Reservoir(eqx.Module):
    r"""x' = (1 - d) x + d phi(W x + V u + b), W by rows of k entries: `weight` (N, k) at the places `columns` (N, k).

    Made by `reservoir` or `cycle_reservoir`; a cell like any other.
    """

    columns: Int[Array, "hidden k"]
    weight: Float[Array, "hidden k"]
    weight_ih: Array
    bias: Array
    leak: Scalar
    activation: str = eqx.field(static=True)

    @property
    def input_size(self) -> int:
        """The length of u."""
        return self.weight_ih.shape[1]

    @property
    def hidden_size(self) -> int:
        """The length of x."""
        return self.weight_ih.shape[0]

    @property
    def matrix(self) -> Float[Array, "hidden hidden"]:
        """W."""
        rows = jnp.arange(self.hidden_size)[:, None]
        return jnp.zeros((self.hidden_size,) * 2, self.weight.dtype).at[rows, self.columns].add(self.weight)

    def __call__(self, inputs: Float[ArrayLike, " inputs"], state: Float[ArrayLike, " hidden"]) -> Array:
        """Return x' from u and x: equinox's order of arguments."""
        state = jnp.asarray(state)
        fields = jnp.sum(self.weight * state[self.columns], axis=1) + self.weight_ih @ inputs + self.bias
        return state + jnp.asarray(self.leak, state.dtype) * (ACTIVATIONS[self.activation](fields) - state)


def reservoir(
    input_size: Checked[int],
    size: Checked[int],
    *,
    key: Key,
    spectral_radius: Any = 0.9,
    leak: Any = 1.0,
    connections: Checked[int | None] = None,
    input_gain: Any = 1.0,
    bias_gain: Any = 0.0,
    activation: Checked[str] = "tanh",
    dtype: Any = None,
) -> Reservoir:
    r"""Make a random reservoir.

    **Arguments:**

    - `input_size`, `size`: lengths of u and x. `key`: all weights.
    - `spectral_radius`: of W, above 0; whether states are forgotten is for `echo_state` to say.
    - `leak`: d, above 0 up to 1. `connections`: entries in a row of W, at most 10 by default.
    - `input_gain`, `bias_gain`: V and b are drawn evenly from +- these.
    - `activation`: "tanh", "relu" or "identity". `dtype`: of the weights.

    **Returns:** a `Reservoir`.

    **Raises:** `ValueError` for numbers outside their range.

    **Example:**

    >>> import jax, separatrix as sx
    >>> cell = sx.recurrent.reservoir(1, 50, key=jax.random.key(0), spectral_radius=0.8)
    >>> round(sx.recurrent.spectral_radius(cell.matrix).item(), 5)
    0.8

    **Reference:** Lukosevicius (2012), sections 3.2.1 to 3.2.6.
    """
    check_cell("reservoir", input_size, size, activation)
    count = ranges.whole("reservoir: connections", min(10, size) if connections is None else connections,
                         "Take 10.", most=size)  # fmt: skip
    ranges.positive("reservoir: spectral_radius", spectral_radius, "Take 0.9.")
    parts = jax.random.split(key, 4)
    columns = distinct(parts[0], size, size, count)
    weight = jax.random.normal(parts[1], (size, count), dtype)
    like = Reservoir(columns, weight, jnp.zeros((size, 0), weight.dtype), weight[:, 0], 1.0, activation)
    before = float(radius_of(like.matrix))
    ranges.positive("reservoir: spectral radius of what was drawn", before, "Take more connections, or another key.")
    return _with_inputs(like, jnp.asarray(spectral_radius, weight.dtype) / before * weight, input_size, parts[2:], leak,
                        input_gain, bias_gain)  # fmt: skip


def cycle_reservoir(
    input_size: Checked[int],
    size: Checked[int],
    weight: Any,
    *,
    key: Key,
    leak: Any = 1.0,
    input_gain: Any = 1.0,
    bias_gain: Any = 0.0,
    activation: Checked[str] = "tanh",
    dtype: Any = None,
) -> Reservoir:
    r"""Make the reservoir of one cycle: unit i hears unit i - 1, with weight r; V has entries of one size.

    **Arguments:** as of `reservoir`; `weight`: r > 0; V is +- `input_gain` with random signs.

    **Returns:** a `Reservoir`: W is r times a cyclic shift, all of whose singular values are r.

    **Raises:** as `reservoir`.

    **Example:**

    >>> import jax, separatrix as sx
    >>> cell = sx.recurrent.cycle_reservoir(1, 4, 0.9, key=jax.random.key(0))
    >>> [round(value, 6) for value in cell.matrix[1].tolist()]
    [0.9, 0.0, 0.0, 0.0]

    **Reference:** Rodan & Tino, *Minimum complexity echo state network* (2011), section III.
    """
    check_cell("cycle_reservoir", input_size, size, activation)
    ranges.positive("cycle_reservoir: weight", weight, "Take 0.9.")
    dtype = jnp.zeros(()).dtype if dtype is None else dtype
    columns = (jnp.arange(size) - 1)[:, None] % size
    values = jnp.full((size, 1), jnp.asarray(weight, dtype))
    like = Reservoir(columns, values, jnp.zeros((size, 0), dtype), values[:, 0], 1.0, activation)
    parts = jax.random.split(key)
    found = _with_inputs(like, values, input_size, parts, leak, input_gain, bias_gain)
    signs = jnp.asarray(input_gain, dtype) * jax.random.rademacher(parts[0], (size, input_size), dtype)
    return eqx.tree_at(lambda cell: cell.weight_ih, found, signs)


def _with_inputs(like: Reservoir, weight: Any, inputs: int, keys: Any, leak: Any, gain: Any, bias: Any) -> Reservoir:
    ranges.positive("reservoir: leak", leak, "Take 1 for none.")
    ranges.share("reservoir: leak", leak, "Take 1 for none.")
    ranges.nonnegative("reservoir: input_gain", gain, "Take 1.")
    ranges.nonnegative("reservoir: bias_gain", bias, "Take 0.")
    size, dtype = weight.shape[0], weight.dtype
    even = lambda key, shape, most: jnp.asarray(most, dtype) * jax.random.uniform(key, shape, dtype, -1, 1)  # noqa: E731
    return Reservoir(like.columns, weight, even(keys[0], (size, inputs), gain), even(keys[1], (size,), bias),
                     as_parameter(leak), like.activation)  # fmt: skip


class EchoState(Result):
    """Whether a driven net forgets how it began: `exponent`, the largest conditional on the inputs, nats a step, with
    its `error`; `radius`, spectral radius of W for comparison (NaN where a cell has none)."""

    exponent: Float[Array, ""]
    error: Float[Array, ""]
    radius: Float[Array, ""]

    @property
    def verdict(self) -> str:
        """ "forgets" or "does not forget" at three standard errors, else "undecided"; "broke" where the run did."""
        value, bar = float(self.exponent), 3 * float(self.error)
        if np.isnan(value) or np.isnan(bar):
            return "broke"
        return "forgets" if value < -bar else "does not forget" if value > bar else "undecided"

    def rows(self) -> list[Row]:
        return [
            Row("verdict", self.verdict),
            Row("largest exponent given the inputs, nats a step", self.exponent, self.error),
            Row("spectral radius of the weights", self.radius if np.isfinite(self.radius) else "none"),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        if self.verdict == "undecided":
            return ("the exponent is within three standard errors of 0: drive it by more inputs",)
        return ("the state stopped being finite: lower the gain",) if self.verdict == "broke" else ()


def echo_state(cell: Any, inputs: Any, *, initial: Any = None, transient: Any = None) -> EchoState:
    r"""Tell whether a driven net forgets its initial state: the sign of its largest conditional exponent.

    **Arguments:**

    - `cell`: a `Reservoir` or any other cell. `inputs`: shape (T, input_size): those that it will hear.
    - `initial`: where it starts; at rest by default. `transient`: steps that do not count; a ninth of all by default.

    **Returns:** an `EchoState`.

    **Raises:** as `lyapunov_spectrum`; inputs must be finite and of length 4 at least.

    **Example:** a radius of 1.3, quieted by its inputs.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.reservoir(1, 30, key=jax.random.key(0), spectral_radius=1.3, input_gain=4.0)
    >>> sx.recurrent.echo_state(cell, jax.random.normal(jax.random.key(1), (2000, 1))).verdict
    'forgets'

    **Reference:** Wainrib & Galtier, *A local echo state property through the largest Lyapunov exponent* (2016).
    """
    inputs = checked_series("echo_state: inputs", inputs, 4)
    first = rest(cell) if initial is None else initial
    require_kept("echo_state: cell", cell, inputs[0], first)
    found = lyapunov_spectrum(from_cell(cell, inputs), first, count=1, transient=transient)
    matrix = getattr(cell, "matrix", getattr(cell, "weight_hh", None))
    square = matrix is not None and matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    radius = jnp.asarray(radius_of(matrix) if square else jnp.nan, found.exponents.dtype)
    return EchoState(jnp.asarray(found.exponents[0]), jnp.asarray(found.standard_errors[0]), radius)


def ridge_readout(states: Any, targets: Any, ridge: Any = 1e-8) -> Float[Array, "outputs features"]:
    r"""Return R that minimises sum |y - R (1, x)|^2 + ridge T |R|^2, the constant not counted in |R|.

    **Arguments:**

    - `states`: x, shape (T, N). `targets`: y, shape (T, outputs). `ridge`: >= 0, in units of a mean square of x.

    **Returns:** R, shape (outputs, 1 + N), the constant first.

    Without a ridge, and with fewer rows than unknowns, it is the shortest of those that fit.

    **Raises:** `ValueError` for shapes that do not fit, or numbers that are not finite.

    **Example:** a line through points.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> x = jnp.array([[0.0], [1.0], [2.0]])
    >>> [round(v, 6) for v in sx.recurrent.ridge_readout(x, 3 * x + 1, 0.0)[0].tolist()]
    [1.0, 3.0]

    **Reference:** Hoerl & Kennard (1970); Lukosevicius (2012), equation 9.
    """
    states = checked_series("ridge_readout: states", states, 1)
    targets = checked_series("ridge_readout: targets", targets, 1)
    ranges.nonnegative("ridge_readout: ridge", ridge, "Take 1e-8.")
    rows, size = states.shape
    if targets.shape[0] != rows:
        do = "Pass one target for each state."
        raise ValueError(explain("ridge_readout: targets", f"{targets.shape[0]} rows", f"{rows}, as of states", do))
    # Least squares over the rows, with one row more for each coefficient that is held small.
    centre, mean = jnp.mean(states, axis=0), jnp.mean(targets, axis=0)
    held = jnp.sqrt(jnp.asarray(ridge, states.dtype) * rows) * jnp.eye(size, dtype=states.dtype)
    design = jnp.concatenate([states - centre[None], held])
    wanted = jnp.concatenate([targets - mean[None], jnp.zeros((size, targets.shape[1]), targets.dtype)])
    operator = lx.MatrixLinearOperator(design)
    solve = lambda column: lx.linear_solve(operator, column, lx.SVD()).value  # noqa: E731
    slopes = jax.vmap(solve, in_axes=1)(wanted)
    return jnp.concatenate([(mean - slopes @ centre)[:, None], slopes], axis=1)


def recursive_readout(
    states: Any, targets: Any, *, forgetting: Any = 1.0, prior: Any = 1e8
) -> tuple[Float[Array, "outputs features"], Float[Array, "time outputs"]]:
    r"""Return R after recursive least squares, and the error of each prediction before it was learned from.

    **Arguments:**

    - `states`, `targets`: as of `ridge_readout`. `forgetting`: f, above 0 up to 1; 1/(1 - f) steps are remembered.
    - `prior`: p > 0, the variance of the coefficients beforehand.

    **Returns:** R, shape (outputs, 1 + N), and errors y - R z of shape (T, outputs).

    **Raises:** as `ridge_readout`.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> x = jnp.array([[0.0], [1.0], [2.0], [5.0]])
    >>> [round(v, 3) for v in sx.recurrent.recursive_readout(x, 3 * x + 1, prior=1e4)[0][0].tolist()]
    [1.0, 3.0]

    **Reference:** Haykin, *Adaptive filter theory*, table 10.1.
    """
    states = checked_series("recursive_readout: states", states, 1)
    targets = checked_series("recursive_readout: targets", targets, 1)
    ranges.positive("recursive_readout: forgetting", forgetting, "Take 1 for none.")
    ranges.share("recursive_readout: forgetting", forgetting, "Take 1 for none.")
    ranges.positive("recursive_readout: prior", prior, "Take 1e8.")
    if len(states) != len(targets):
        do = "Pass one target for each state."
        got = f"{len(targets)} rows"
        raise ValueError(explain("recursive_readout: targets", got, f"{len(states)}, as of states", do))
    features = jnp.concatenate([jnp.ones((len(states), 1), states.dtype), states], axis=1)
    f = as_parameter(forgetting)

    def learn(inputs: Any, state: State) -> State:
        (z, y), (weights, inverse, _) = inputs, state
        along = inverse @ z
        gain = along / (jnp.asarray(f, z.dtype) + z @ along)
        error = y - weights @ z
        inverse = (inverse - jnp.outer(gain, along)) / jnp.asarray(f, z.dtype)
        # Rounding must not make it lopsided: it is symmetric.
        return weights + jnp.outer(error, gain), (inverse + inverse.T) / 2, error

    size, outputs = features.shape[1], targets.shape[1]
    first = (
        jnp.zeros((outputs, size), states.dtype),
        jnp.asarray(prior, states.dtype) * jnp.eye(size, dtype=states.dtype),
        jnp.zeros(outputs, states.dtype),
    )
    path = evolve(from_cell(learn, (features, targets)), first, save=lambda state: state[2])
    return path.final[0], path.states[1:]


def collected(cell: Any, inputs: Any, initial: Any = None) -> tuple[Float[Array, "time hidden"], Any]:
    """What is read of the states after each input, and the state at the end."""
    first = rest(cell) if initial is None else initial
    path = evolve(from_cell(cell, inputs), first, save=exposed)
    return path.states[1:], path.final


def _require_numbers(what: str, values: Any, least: int) -> None:
    """Refuse texts, and rows of unequal length."""
    try:
        words = np.asarray(values).dtype.kind in "OSUMm"
    except jax.errors.TracerArrayConversionError:
        return
    except ValueError:
        words = True
    if words:
        got, do = "values that are no numbers, or rows of unequal length", "Put time first, one row a step."
        raise ValueError(explain(what, got, f"floats of shape (T, columns), T >= {least}", do))


def checked_series(what: str, values: Any, least: int) -> Any:
    """Rows of finite numbers."""
    if isinstance(values, list | tuple | np.ndarray):
        _require_numbers(what, values, least)
    values = jnp.asarray(values)
    if values.ndim != 2 or values.shape[0] < least or not jnp.issubdtype(values.dtype, jnp.floating):
        got, do = f"shape {values.shape} and dtype {values.dtype}", "Put time first, one row a step."
        raise ValueError(explain(what, got, f"floats of shape (T, columns), T >= {least}", do))
    ranges.finite(what, values, "Repair that row, or leave it out.")
    return values
