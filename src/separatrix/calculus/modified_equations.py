r"""Modified equations: the flow that a map with a finite step really follows (backward error analysis).

Sought is f_h = f_1 + h f_2 + h^2 f_3 + ... whose time-h flow is F_h. With D_k the derivative along f_k (and, for k = 1,
along time), the flow is exp(h D) x for D = D_1 + h D_2 + ..., so equal powers of h give

    f_k = c_k - sum_{j=2}^{k} (1/j!) sum_{i_1 + ... + i_j = k} D_{i_1} ... D_{i_{j-1}} f_{i_j},

where c_k are the Taylor coefficients of F_h in h. For k = 2 this is f_2 = 1/2 d^2F/dh^2 - 1/2 (Df_1 f_1 + d/dt f_1): for
gradient descent -1/4 grad |grad L|^2, hence the modified loss L + (h/4) |grad L|^2. The series is asymptotic, not
convergent: after m corrections the orbit is followed at order m + 1.
"""

import math
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import axpy, float_dtype
from separatrix._types import Scalar, State
from separatrix.calculus._coefficients import Field, coefficient, first_coefficient
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import NearIdentityMap


class Modified(Flow):
    """dx/dt = f_1 + h f_2 + ... + h^m f_{m+1}, at the map's own step size h."""

    map: NearIdentityMap
    corrections: int = eqx.field(static=True)

    def velocity(self, t: Scalar, state: State) -> State:
        step_size = jnp.asarray(self.map.step_size, float_dtype(state))
        fields = modified_fields(self.map, self.corrections)
        total = fields[0](t, state)
        for power, field in enumerate(fields[1:], start=1):
            total = axpy(step_size**power, field(t, state), total)
        return total


def modified(map: System, corrections: int = 1) -> Flow:
    """Return the flow that a near-identity map follows up to O(h^(m + 1)).

        dx/dt = f_1(t, x) + h f_2(t, x) + ... + h^m f_{m+1}(t, x)

    **Arguments:**

    - `map`: a `NearIdentityMap` that is m + 1 times differentiable.
    - `corrections`: m, the number of them, at least 0 (which is `limit`); cost and compile time grow quickly past 3.

    **Returns:** a `Flow` on the same state. Distance to the orbit of the map falls as h^(m + 1).

    **Raises:** `TypeError` for a map that is not a one-parameter family; `ValueError` for a number of corrections
    that is no whole number of at least 0.

    **Example:** the mean decay rate of gradient descent on x^2/2 is -ln(1 - h)/h = 1 + h/2 + h^2/3 + ...

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.GradientDescent(lambda x: 0.5 * jnp.sum(x**2), 0.1)
    >>> round(float(sx.modified(descent, corrections=2).velocity(0.0, jnp.array([1.0]))[0]), 6)
    -1.053333

    **Reference:** Hairer, Lubich & Wanner, *Geometric Numerical Integration* (2006), section IX.1, in Lie-series form;
    Barrett & Dherin, *Implicit gradient regularization* (2021), section 3.
    """
    if not isinstance(map, NearIdentityMap):
        raise undefined("modified", map, "NearIdentityMap", "write the step as as_near_identity(advance, step_size)")
    if isinstance(corrections, bool) or not isinstance(corrections, int | np.integer) or corrections < 0:
        expected, do = "a whole number of corrections >= 0", "Pass corrections=1 for f_1 + h f_2."
        raise ValueError(explain("modified: corrections", repr(corrections), expected, do))
    return Modified(map, int(corrections))


def modified_fields(map: NearIdentityMap, corrections: int) -> list[Field]:
    """Return f_1, ..., f_{m+1} as functions of (t, x), for m corrections."""
    fields: list[Field] = [lambda t, state: first_coefficient(map, t, state)]
    for k in range(2, corrections + 2):
        fields.append(_next_field(map, list(fields), k))
    return fields


def _next_field(map: NearIdentityMap, fields: list[Field], k: int) -> Field:
    """f_k from f_1, ..., f_{k-1} by the recursion at the head of this page."""

    def field(t: Scalar, state: State) -> State:
        result = coefficient(map, k)(t, state)
        for parts in _compositions(k):
            if len(parts) > 1:
                term = _lie_derivative(fields, parts)(t, state)
                result = axpy(-1.0 / math.factorial(len(parts)), term, result)
        return result

    return field


def _lie_derivative(fields: list[Field], parts: tuple[int, ...]) -> Field:
    """D_{i_1} ... D_{i_{j-1}} f_{i_j}: derivatives along f_i, and along time where i = 1."""
    if len(parts) == 1:
        return fields[parts[0] - 1]
    inner, index = _lie_derivative(fields, parts[1:]), parts[0]

    def field(t: Scalar, state: State) -> State:
        t = jnp.asarray(t, float_dtype(state))
        time_rate = jnp.ones_like(t) if index == 1 else jnp.zeros_like(t)
        return jax.jvp(inner, (t, state), (time_rate, fields[index - 1](t, state)))[1]

    return field


def _compositions(total: int) -> Iterator[tuple[int, ...]]:
    """All ordered ways to write a number as a sum of positive integers."""
    if total == 0:
        yield ()
    for first in range(1, total + 1):
        for rest in _compositions(total - first):
            yield (first, *rest)
