r"""Neural controlled differential equations: a state driven by a path, which is a series as it comes.

    dz = f(z) dX,     z(0) = E(X(0)),     y = R(z(T))

With f(z) a matrix (d, k) and X a path in R^k, time among its coordinates, the state sees the increments of the series and
their order, whatever the instants. Through the straight lines between observations X' is constant, and the flow of each
piece is that of the field f(z) X': going right, then up, is not going up, then right, unless the columns of f commute.
"""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked, Function, Key, Scalar, State, StepIndex
from separatrix.calculus.methods import RK4
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.flow import Flow
from separatrix.systems.functions import as_flow
from separatrix.systems.map import FiniteMap
from separatrix.systems.signature import as_pytree


class ControlledFlow(Flow):
    """dz/dt = f(z) X'(t).

    **Arguments:**

    - `field`: f(z), shape (d, k) for z of shape (d,).
    - `path`: X, a `diffrax` path in R^k with a `derivative`, as `diffrax.LinearInterpolation` or `CubicInterpolation`.

    Straight lines have slopes that jump: adaptive steps must end on the corners, and a fixed step that ends on one sees
    the slope behind it. `NeuralCDE` goes piece by piece; smooth paths do not care.

    **Raises:** `TypeError` for a path without a derivative; `ValueError`, when it runs, for a field of another shape.

    **Example:** on the line, dz = z dX makes z(T) = z(0) exp(X(T) - X(0)), whatever the way.

    >>> import diffrax, jax.numpy as jnp, separatrix as sx
    >>> times = jnp.array([0.0, 1.0, 3.0])
    >>> values = jnp.array([[0.0], [2.0], [1.0]])
    >>> path = diffrax.CubicInterpolation(times, diffrax.backward_hermite_coefficients(times, values))
    >>> flow = sx.residual.ControlledFlow(lambda z: z[:, None], path)
    >>> steps = sx.on_grid(flow, sx.RK4(), jnp.linspace(0.0, 3.0, 31))
    >>> round(float(sx.evolve(steps, jnp.ones(1)).final[0]), 3)
    2.718

    **Reference:** Kidger, Morrill, Foster & Lyons, *Neural controlled differential equations for irregular time series*
    (2020), equation 2; section 3.2 for the reduction to an ODE.
    """

    field: Function = eqx.field(converter=as_pytree)
    path: Any

    def __check_init__(self) -> None:
        if not callable(getattr(self.path, "derivative", None)):
            do = "Pass diffrax.LinearInterpolation(times, values)."
            raise TypeError(explain("ControlledFlow: path", type(self.path).__name__, "a path with a derivative", do))

    def velocity(self, t: Scalar, state: State) -> State:
        slope = jnp.asarray(self.path.derivative(t), state.dtype)
        field = self.field(state)
        if jnp.shape(field) != (*state.shape, *slope.shape):
            do = "Reshape what the network returns."
            expected = f"({', '.join(map(str, (*state.shape, *slope.shape)))})"
            raise ValueError(explain("ControlledFlow: field", f"shape {jnp.shape(field)}", expected, do))
        return field @ slope


class NeuralCDE(eqx.Module):
    r"""y = R(z(T)),  dz = f(z) dX,  z(0) = E(X(0)):  one series in, one answer out.

    X holds the time and the columns of the series, drawn in straight lines through what was seen.

    **Arguments:**

    - `encoder`: from X(0), shape (k + 1,), time first, to z(0), shape (d,).
    - `field`: from z to shape (d, k + 1) or (d (k + 1),). `readout`: from z(T) to the answer.
    - `substeps`: steps of RK4 between two instants, >= 1.

    It is called on `times`, shape (T,), and `values`, shape (T, k), NaN where nothing was seen; under `jax.vmap` on
    batches. Before the first value of a column, and after its last, the column stays. What is read out is NaN if the flow
    breaks.

    **Raises:** `ValueError` for substeps below 1; when it is called, for shapes that do not fit, times that do not
    increase, or a column in which nothing was seen.

    **Example:** the increment of a column, whatever its instants.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> model = sx.residual.NeuralCDE(lambda x: x[1:], lambda z: jnp.array([[0.0, 1.0]]), lambda z: z[0])
    >>> round(model(jnp.array([0.0, 0.2, 1.0]), jnp.array([[1.0], [jnp.nan], [4.0]])).item(), 9)
    4.0

    **Reference:** Kidger, Morrill, Foster & Lyons, *Neural controlled differential equations for irregular time series*
    (2020), section 3.
    """

    encoder: Function = eqx.field(converter=as_pytree)
    field: Function = eqx.field(converter=as_pytree)
    readout: Function = eqx.field(converter=as_pytree)
    substeps: Checked[int] = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        ranges.whole("NeuralCDE: substeps", self.substeps, "Leave it out for 1.")

    def __call__(self, times: Inexact[Array, " T"], values: Inexact[Array, "T k"]) -> Any:
        values = _filled(times, values)
        points = jnp.concatenate([times[:, None].astype(values.dtype), values], axis=1)
        pieces = DrivenPieces(self.field, jnp.diff(points, axis=0), self.substeps, self.substeps * (len(points) - 1))
        return self.readout(evolve(pieces, self.encoder(points[0]), save="last").final)


class DrivenPieces(FiniteMap):
    """RK4 on dz/ds = f(z) (X_j+1 - X_j), s in [0, 1], piece after piece: in straight lines no piece depends on time."""

    field: Function
    increments: Any  # (T - 1, k + 1)
    substeps: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        increment = self.increments[jnp.asarray(n) // self.substeps].astype(state.dtype)
        flow = as_flow(lambda z: self.field(z).reshape(*z.shape, -1) @ increment)
        return RK4().advance(flow, jnp.zeros((), state.dtype), state, jnp.asarray(1 / self.substeps, state.dtype))


def _filled(times: Any, values: Any) -> Any:
    """Values with straight lines where nothing was seen."""
    if not is_traced((times, values)):
        instants, seen = np.asarray(times), ~np.isnan(np.asarray(values))
        if len(instants) < 2 or not np.all(np.diff(instants) > 0):
            row = int(np.argmin(np.diff(instants) > 0)) + 1 if len(instants) > 1 else 0
            got = f"{instants[row]:g} in row {row}"
            raise ValueError(explain("NeuralCDE: times", got, "at least two times that increase", "Sort the rows."))
        if not seen.any(axis=0).all():
            got = f"column {int(np.argmin(seen.any(axis=0)))} without a value"
            raise ValueError(explain("NeuralCDE: values", got, "one in each column", "Leave it out."))

    def column(known: Any) -> Any:
        seen = ~jnp.isnan(known)
        # Instants of what was not seen go to the end, where they hold the last value.
        order = jnp.argsort(jnp.where(seen, times, jnp.inf))
        count = jnp.sum(seen)
        place = jnp.minimum(jnp.arange(len(times)), count - 1)
        return jnp.interp(times, times[order][place], jnp.where(seen, known, 0)[order][place])

    return jax.vmap(column, in_axes=1, out_axes=1)(values)


def linear_path(times: Any, values: Any) -> Any:
    """Return the path (t, x(t)) through observations in straight lines, as a `diffrax.LinearInterpolation`.

    **Arguments:**

    - `times`: shape (T,), increasing. `values`: shape (T, k), NaN where nothing was seen.

    **Returns:** a path in R^(k + 1), time first.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> path = sx.residual.linear_path(jnp.array([0.0, 1.0, 2.0]), jnp.array([[0.0], [jnp.nan], [4.0]]))
    >>> path.evaluate(1.0).tolist(), path.derivative(0.5).tolist()
    ([1.0, 2.0], [1.0, 2.0])
    """
    times, values = jnp.asarray(times), jnp.asarray(values)
    filled = _filled(times, values)
    return diffrax.LinearInterpolation(times, jnp.concatenate([times[:, None].astype(filled.dtype), filled], axis=1))
