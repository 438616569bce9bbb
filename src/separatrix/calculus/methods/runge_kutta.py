r"""Explicit Runge-Kutta methods, by their Butcher tableau (a, b, c):

k_i = f(t + c_i h, x + h sum_{j<i} a_ij k_j),        x' = x + h sum_i b_i k_i.
"""

from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from separatrix._errors import explain
from separatrix._tree import combine
from separatrix._types import Key, Scalar, State
from separatrix.calculus.methods.base import FlowMethod
from separatrix.systems.flow import Flow

Row = tuple[float, ...]


def explicit_step(a: tuple[Row, ...], b: Row, c: Row, flow: Flow, t: Scalar, state: State, step_size: Scalar) -> State:
    """One step of the tableau; zero entries cost nothing."""
    stages: list[State] = []
    for row, node in zip(a, c, strict=True):
        point = _weighted(row[: len(stages)], stages, step_size, state)
        stages.append(flow.velocity(t + node * step_size, point))
    return _weighted(b, stages, step_size, state)


def _weighted(weights: Row, stages: list[State], step_size: Scalar, state: State) -> State:
    pairs = [(weight * step_size, stage) for weight, stage in zip(weights, stages, strict=True) if weight != 0]
    return combine([weight for weight, _ in pairs], [stage for _, stage in pairs], state)


class Euler(FlowMethod):
    """x' = x + h f(t, x), of order 1: gradient descent, a residual block."""

    order: ClassVar[int] = 1

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return explicit_step(((),), (1.0,), (0.0,), system, t, state, step_size)


class Midpoint(FlowMethod):
    """x' = x + h f(t + h/2, x + h/2 f(t, x)), of order 2: explicit midpoint (Runge 1895)."""

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return explicit_step(((), (0.5,)), (0.0, 1.0), (0.0, 0.5), system, t, state, step_size)


class Heun(FlowMethod):
    """x' = x + h/2 (k_1 + k_2), k_2 = f(t + h, x + h k_1), of order 2: the explicit trapezoidal rule."""

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return explicit_step(((), (1.0,)), (0.5, 0.5), (0.0, 1.0), system, t, state, step_size)


class RK4(FlowMethod):
    """The classical method of order 4 (Kutta 1901): weights 1/6, 1/3, 1/3, 1/6 at nodes 0, 1/2, 1/2, 1."""

    order: ClassVar[int] = 4

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        a = ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0))
        return explicit_step(a, (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 0.5, 0.5, 1.0), system, t, state, step_size)


class RungeKutta(FlowMethod):
    """Any explicit tableau.

    **Arguments:**

    - `a`: lower-triangular rows, the i-th of at least i entries; entries on or above the diagonal must be zero.
    - `b`: weights, summing to 1. `c`: nodes, the row sums of a; computed where left out.
    - `order`: of the tableau, as the literature states it.

    **Raises:** `ValueError` for a tableau that is implicit, of unequal lengths, or inconsistent.

    **Example:** Ralston's method of order 2.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> ralston = sx.RungeKutta(a=[[], [2 / 3]], b=[1 / 4, 3 / 4], order=2)
    >>> decay = sx.discretize(sx.as_flow(lambda x: -x), ralston, 0.1)
    >>> round(float(decay.step(0, jnp.array(1.0))), 6)
    0.905

    **Reference:** Hairer, Norsett & Wanner, *Solving Ordinary Differential Equations I* (1993), section II.1.
    """

    a: tuple[Row, ...] = eqx.field(static=True)
    b: Row = eqx.field(static=True)
    c: Row = eqx.field(static=True)
    order: int = eqx.field(static=True)

    def __init__(self, a: Any, b: Any, c: Any = None, *, order: int):
        self.a = tuple(_strictly_lower(i, row) for i, row in enumerate(a))
        self.b = tuple(float(weight) for weight in b)
        sums = tuple(float(np.sum(row)) for row in self.a)
        self.c = sums if c is None else tuple(float(node) for node in c)
        self.order = order
        if not len(self.a) == len(self.b) == len(self.c):
            raise ValueError(_wrong(f"{len(self.a)} rows, {len(self.b)} weights, {len(self.c)} nodes", "equal lengths"))
        if abs(sum(self.b) - 1) > 1e-12:
            raise ValueError(_wrong(f"sum b = {sum(self.b):.15g}", "1, or the method does not converge"))
        if np.abs(np.subtract(self.c, sums)).max() > 1e-12:
            raise ValueError(_wrong(f"nodes {self.c}", f"the row sums {sums}"))

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return explicit_step(self.a, self.b, self.c, system, t, state, step_size)


def _strictly_lower(i: int, row: Any) -> Row:
    row = tuple(float(entry) for entry in row)
    if len(row) < i or any(entry != 0 for entry in row[i:]):
        raise ValueError(_wrong(f"row {i} = {row}", f"{i} entries left of the diagonal, zeros elsewhere"))
    return row[:i]


def _wrong(got: str, expected: str) -> str:
    return explain("RungeKutta: tableau", got, expected, "Check it against its source; implicit ones are not taken.")
