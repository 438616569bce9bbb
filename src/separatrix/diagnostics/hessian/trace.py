r"""Trace of a Hessian or Gauss-Newton matrix, from products with random vectors.

    tr A = E z^T A z,    z_i = +-1                                                  (Hutchinson)
    tr A = tr Q^T A Q + E z^T (I - Q Q^T) A (I - Q Q^T) z,    Q = orth(A S)         (Hutch++)

The variance of the first is 2 (|A|_F^2 - sum_i A_ii^2). The second takes the leading directions out of it, exactly: better
where few eigenvalues make up the norm, as in a trained network.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix.diagnostics.checks import check_count
from separatrix.diagnostics.hessian._products import CurvatureTask, task_of
from separatrix.diagnostics.result import Result, Row

_METHODS = ("hutch++", "hutchinson")


class Trace(Result):
    """The trace of a matrix of n rows.

    - `value`, `standard_error`: its estimate. `captured`: the part of it that was found exactly, by Hutch++.
    - `products`: how many products it took. `samples`: how many random ones the error is from.
    """

    value: Float[Array, "*batch"]
    standard_error: Float[Array, "*batch"]
    captured: Float[Array, "*batch"]
    products: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    matrix: str = eqx.field(static=True)

    @property
    def mean(self) -> Float[Array, "*batch"]:
        """Mean eigenvalue, tr A / n."""
        return self.value / self.size

    def rows(self) -> list[Row]:
        return [
            Row(f"trace ({self.matrix.replace('_', '-')}, {self.size} parameters)", self.value, self.standard_error),
            Row("mean eigenvalue", self.mean, self.standard_error / self.size),
            Row("products", self.products),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not np.all(np.isfinite(self.value)):
            found.append("not finite: the objective has no curvature there")
        if self.samples and np.any(np.asarray(self.standard_error) > 0.1 * np.abs(self.value)):
            found.append("the standard error is more than a tenth of the trace: take more probes")
        if 0 < self.samples < 10:
            found.append(f"a standard error from {self.samples} samples is itself only known to a third or worse")
        return tuple(found)


def trace(
    objective: Any,
    parameters: Any,
    key: Any,
    probes: int = 48,
    *,
    method: str = "hutch++",
    matrix: str = "hessian",
    preconditioner: Any = None,
    batch_key: Any = None,
) -> Trace:
    r"""Return the trace of an objective's curvature, with its standard error.

        tr A = E z^T A z

    **Arguments:**

    - `objective`, `parameters`, `matrix`, `preconditioner`: those of `curvature`.
    - `key`: of the random vectors. `probes`: how many products, at least 2 (6 for Hutch++).
    - `method`: "hutch++", which takes a third of the products to find the leading directions and a third to take them
      out, or "hutchinson".
    - `batch_key`: the key of a random objective, held fixed.

    **Returns:** a `Trace`.

    **Raises:** `ValueError` for too few probes or an unknown method; what `curvature` raises.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> found = sx.diagnostics.trace(lambda x: jnp.sum(x**2), jnp.ones(50), jax.random.key(0), method="hutchinson")
    >>> round(float(found.value), 6), found.products
    (100.0, 48)

    **Reference:** Hutchinson, *A stochastic estimator of the trace of the influence matrix* (1990); Meyer, Musco, Musco &
    Woodruff, *Hutch++: optimal stochastic trace estimation* (2021), Algorithm 1.
    """
    if method not in _METHODS:
        raise ValueError(explain("trace: method", repr(method), f"one of {', '.join(_METHODS)}", "Name one of these."))
    check_count("trace: probes", probes, 6 if method == "hutch++" else 2)
    task = task_of("trace", objective, parameters, batch_key, matrix, preconditioner)
    sketch = min(probes // 3, task.size) if method == "hutch++" else 0
    # A sketch of the whole space leaves nothing over.
    samples = 0 if sketch == task.size else probes - 2 * sketch
    return _trace(task, key, sketch, samples)


@eqx.filter_jit
def _trace(task: CurvatureTask, key: Any, sketch: int, samples: int) -> Trace:
    multiply, gradient = task.products()
    many = lambda rows: jax.lax.map(multiply, rows)  # noqa: E731
    first, second = jax.random.split(key)

    def signs(key: Any, count: int) -> Array:
        return jax.random.rademacher(key, (count, task.size), gradient.dtype)

    captured, error = jnp.zeros((), gradient.dtype), jnp.zeros((), gradient.dtype)
    basis = jnp.zeros((task.size, 0), gradient.dtype)
    if sketch:
        basis = jnp.linalg.qr(many(signs(first, sketch)).T)[0]  # (n, s)
        captured = jnp.sum(many(basis.T).T * basis)
    value = captured
    if samples:
        z = signs(second, samples)
        z = z - (z @ basis) @ basis.T
        values = jnp.sum(z * many(z), axis=1)
        value, error = captured + jnp.mean(values), jnp.std(values, ddof=1) / samples**0.5
    return Trace(value, error, captured, 2 * sketch + samples, samples, task.size, task.matrix)
