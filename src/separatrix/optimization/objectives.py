r"""Landscapes with known minima.

    quadratic     L = 1/2 x^T A x
    Rosenbrock    L = sum_i b (x_{i+1} - x_i^2)^2 + (a - x_i)^2
    Beale         L = (1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2
    Himmelblau    L = (x^2 + y - 11)^2 + (x + y^2 - 7)^2
    double well   L = sum_i (x_i^2 - 1)^2 / 4

Each is an `Objective` on an array; `minimizers` holds the places where it is zero, one a row.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Key, Scalar
from separatrix.systems.base import as_parameter
from separatrix.systems.objective import Objective


class Quadratic(Objective):
    r"""L(x) = 1/2 x^T A x, with least value 0 at the origin where A is positive definite.

    **Arguments:**

    - `curvature`: A as a symmetric matrix (d, d), its diagonal (d,), or one number for all directions.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.optimization.Quadratic(jnp.array([1.0, 4.0]))(jnp.array([1.0, 1.0])).item()
    2.5
    """

    curvature: Any = eqx.field(converter=as_parameter)

    def __check_init__(self) -> None:
        shape = jnp.shape(self.curvature)
        if len(shape) > 2 or (len(shape) == 2 and shape[0] != shape[1]):
            raise ValueError(
                explain(
                    "Quadratic: curvature",
                    f"shape {shape}",
                    "a number, (d,) or (d, d)",
                    "Pass eigenvalues or a symmetric matrix.",
                )
            )

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        curvature = jnp.asarray(self.curvature).astype(parameters.dtype)
        pushed = curvature @ parameters if curvature.ndim == 2 else curvature * parameters
        return 0.5 * jnp.sum(parameters * pushed)


class Rosenbrock(Objective):
    r"""L(x) = sum_i b (x_{i+1} - x_i^2)^2 + (a - x_i)^2: a curved valley, least value 0 at x_i = a = 1.

    **Reference:** Rosenbrock, *An automatic method for finding the greatest or least value of a function* (1960).
    """

    a: Any = eqx.field(default=1.0, converter=as_parameter)
    b: Any = eqx.field(default=100.0, converter=as_parameter)

    @property
    def minimizers(self) -> Float[Array, "1 2"]:
        """(a, a^2), the minimum in the plane."""
        return jnp.stack([jnp.asarray(self.a), jnp.asarray(self.a) ** 2])[None]

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        here, following = parameters[:-1], parameters[1:]
        return jnp.sum(self.b * (following - here**2) ** 2 + (self.a - here) ** 2)


class Beale(Objective):
    r"""L = (1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2: flat valleys, least value 0 at (3, 1/2)."""

    @property
    def minimizers(self) -> Float[np.ndarray, "1 2"]:
        """The one minimum."""
        return np.array([[3.0, 0.5]])

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        x, y = parameters[0], parameters[1]
        return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


class Himmelblau(Objective):
    r"""L = (x^2 + y - 11)^2 + (x + y^2 - 7)^2: four minima of value 0, four saddles, one maximum."""

    @property
    def minimizers(self) -> Float[np.ndarray, "4 2"]:
        """The four minima; all but (3, 2) are roots of a cubic, given to double precision."""
        return np.array([
            [3.0, 2.0],
            [-2.8051180869527448, 3.1313125182505730],
            [-3.7793102533777469, -3.2831859912861694],
            [3.5844283403304917, -1.8481265269644035],
        ])  # fmt: skip

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        x, y = parameters[0], parameters[1]
        return (x**2 + y - 11.0) ** 2 + (x + y**2 - 7.0) ** 2


class DoubleWell(Objective):
    r"""L(x) = sum_i (x_i^2 - 1)^2 / 4: minima of value 0 at x_i = +-1 of curvature 2, a saddle at 0 of curvature -1."""

    @property
    def minimizers(self) -> Float[np.ndarray, "2 1"]:
        """Both minima on the line."""
        return np.array([[-1.0], [1.0]])

    def __call__(self, parameters: Any, *, key: Key | None = None) -> Scalar:
        return jnp.sum((parameters**2 - 1.0) ** 2) / 4.0
