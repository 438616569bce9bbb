r"""Explicit Runge-Kutta methods, by their Butcher tableau (a, b, c):

    k_i = f(t + c_i h, x + h sum_{j<i} a_ij k_j),        x' = x + h sum_i b_i k_i.

On x' = l x a step multiplies by the stability function R(h l): 1 + z for Euler, 1 + z + z^2/2 for Midpoint and Heun,
1 + z + z^2/2 + z^3/6 + z^4/24 for RK4.
"""

import math
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from separatrix._errors import explain
from separatrix._tree import combine
from separatrix._types import Key, Scalar, State
from separatrix.calculus.methods._order_conditions import order_of
from separatrix.calculus.methods.base import FlowMethod
from separatrix.systems.flow import Flow

Row = tuple[float, ...]

# Of sums of a row of coefficients that are given to double precision.
ROUNDING = 1e-12


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
    """x' = x + h f(t, x), of order 1: gradient descent, a residual block.

    **Reference:** Hairer, Norsett & Wanner, *Solving Ordinary Differential Equations I* (1993), section II.1.
    """

    order: ClassVar[int] = 1

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return explicit_step(((),), (1.0,), (0.0,), system, t, state, step_size)


class Midpoint(FlowMethod):
    """x' = x + h f(t + h/2, x + h/2 f(t, x)), of order 2: the explicit midpoint rule.

    **Reference:** Runge (1895); Hairer, Norsett & Wanner (1993), equation II.1.4.
    """

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return explicit_step(((), (0.5,)), (0.0, 1.0), (0.0, 0.5), system, t, state, step_size)


class Heun(FlowMethod):
    """x' = x + h/2 (k_1 + k_2), k_1 = f(t, x), k_2 = f(t + h, x + h k_1), of order 2: the explicit trapezoidal rule.

    **Reference:** Heun (1900); Hairer, Norsett & Wanner (1993), section II.1.
    """

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return explicit_step(((), (1.0,)), (0.5, 0.5), (0.0, 1.0), system, t, state, step_size)


class RK4(FlowMethod):
    """The classical method of order 4: weights 1/6, 1/3, 1/3, 1/6 at nodes 0, 1/2, 1/2, 1.

    **Reference:** Kutta (1901); Hairer, Norsett & Wanner (1993), table II.1.2.
    """

    order: ClassVar[int] = 4

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        a = ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0))
        return explicit_step(a, (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 0.5, 0.5, 1.0), system, t, state, step_size)


class RungeKutta(FlowMethod):
    """Any explicit tableau; its order is found from Butcher's conditions.

    **Arguments:**

    - `a`: lower-triangular rows, the i-th of at least i entries; entries on or above the diagonal must be zero.
    - `b`: weights, summing to 1.
    - `c`: nodes, the row sums of a; computed where left out.

    **Raises:** `ValueError` for a tableau that is implicit, of unequal lengths, or inconsistent.

    **Example:** Ralston's method.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> ralston = sx.RungeKutta(a=[[], [2 / 3]], b=[1 / 4, 3 / 4], c=[0, 2 / 3])
    >>> ralston.order
    2
    >>> decay = sx.discretize(sx.as_flow(lambda x: -x), ralston, 0.1)
    >>> round(float(decay.step(0, jnp.array(1.0))), 6)
    0.905

    **Reference:** Hairer, Norsett & Wanner, *Solving Ordinary Differential Equations I* (1993), sections II.1 and II.2.
    """

    a: tuple[Row, ...] = eqx.field(static=True)
    b: Row = eqx.field(static=True)
    c: Row = eqx.field(static=True)
    order: int = eqx.field(static=True)

    def __init__(self, a: Any, b: Any, c: Any = None):
        self.a = tuple(_strictly_lower(i, row) for i, row in enumerate(a))
        self.b = tuple(float(weight) for weight in b)
        sums = tuple(math.fsum(row) for row in self.a)
        self.c = sums if c is None else tuple(float(node) for node in c)
        if not len(self.a) == len(self.b) == len(self.c):
            raise ValueError(_wrong(f"{len(self.a)} rows, {len(self.b)} weights, {len(self.c)} nodes", "equal lengths"))
        total = math.fsum(self.b)
        if not abs(total - 1) <= ROUNDING:
            raise ValueError(_wrong(f"sum b = {total:.15g}", "sum b = 1, or the method does not converge"))
        if not all(abs(node - row) <= ROUNDING for node, row in zip(self.c, sums, strict=True)):
            raise ValueError(_wrong(f"c = {self.c}", f"the row sums {sums}"))
        self.order = order_of(_square(self.a), np.array(self.b))

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return explicit_step(self.a, self.b, self.c, system, t, state, step_size)


def _strictly_lower(i: int, row: Any) -> Row:
    row = tuple(float(entry) for entry in row)
    if len(row) < i or any(entry != 0 for entry in row[i:]):
        raise ValueError(_wrong(f"row {i} of a = {row}", f"{i} entries left of the diagonal, zeros elsewhere"))
    return row[:i]


def _square(a: tuple[Row, ...]) -> np.ndarray:
    return np.array([[*row, *[0.0] * (len(a) - len(row))] for row in a])


def _wrong(got: str, expected: str) -> str:
    return explain("RungeKutta: tableau", got, expected, "Check it against its source; implicit ones are not taken.")
