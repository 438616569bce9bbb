r"""Spectral density of a Hessian or Gauss-Newton matrix by stochastic Lanczos quadrature.

    (1/n) tr f(A) = E z^T f(A) z  ~  (1/K) sum_k sum_j w_kj f(theta_kj),     z uniform on the unit sphere,

theta_kj being the eigenvalues of the tridiagonal T that m steps of Lanczos from z make of A, and w_kj the squares of the
first components of its eigenvectors: Gauss quadrature in the measure of z, exact for polynomials of degree 2m - 1. The
K probes are independent, so they give error bars.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix.diagnostics.checks import check_count
from separatrix.diagnostics.hessian._products import CurvatureTask, task_of
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.lanczos import tridiagonal

_POINTS = 256
# Nodes of less weight stand for nothing: past the end of an exhausted space they are zeros.
_HELD = 1e-12
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


class SpectralDensity(Result):
    r"""How the eigenvalues of a matrix of n rows are spread.

    - `nodes`, `weights`, shape (K, m): quadrature of each probe; weights of a probe sum to 1.
    - `grid`, `density`, `density_error`, shape (g,): the density smoothed by a Gaussian of standard deviation `width`,
      with the standard error over probes.
    - `products`: how many products with the matrix it took.
    """

    nodes: Float[Array, "*batch K m"]
    weights: Float[Array, "*batch K m"]
    grid: Float[Array, "*batch g"]
    density: Float[Array, "*batch g"]
    density_error: Float[Array, "*batch g"]
    width: Float[Array, "*batch"]
    products: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    matrix: str = eqx.field(static=True)

    def expectation(self, function: Any) -> tuple[Any, Any]:
        """Return (1/n) tr f(A) with its standard error, for f of an array of eigenvalues."""
        return _over_probes(jnp.sum(self.weights * function(self.nodes), axis=-1))

    def moment(self, power: int) -> tuple[Any, Any]:
        """Return (1/n) tr A^p with its standard error; each probe's is exact for p < 2m."""
        return self.expectation(lambda nodes: nodes**power)

    def share_above(self, value: Any) -> tuple[Any, Any]:
        """Return the share of eigenvalues above a value, with its standard error over probes."""
        return self.expectation(lambda nodes: (nodes > value).astype(nodes.dtype))

    def quantile(self, levels: Any) -> Any:
        """Return the values below which given shares of the eigenvalues lie, to about a node's distance."""
        order = jnp.argsort(self.nodes.ravel())
        nodes, weights = self.nodes.ravel()[order], self.weights.ravel()[order]
        below = (jnp.cumsum(weights) - weights / 2) / jnp.sum(weights)
        return jnp.interp(jnp.asarray(levels, nodes.dtype), below, nodes)

    def rows(self) -> list[Row]:
        mean, second = self.moment(1), self.moment(2)
        held = np.asarray(self.nodes)[np.asarray(self.weights) > _HELD]
        return [
            Row(f"mean eigenvalue ({self.matrix.replace('_', '-')}, {self.size} parameters)", *mean),
            Row("mean square", *second),
            Row(f"quantiles {', '.join(map(str, _LEVELS))}", self.quantile(_LEVELS)),
            Row("range of nodes", [np.min(held), np.max(held)]),
            Row("share of negative eigenvalues", *self.expectation(lambda x: (x < 0).astype(x.dtype))),
            Row("products", self.products),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        if not np.all(np.isfinite(self.nodes)):
            return ("not finite: the objective has no curvature there",)
        found = []
        if self.nodes.shape[-2] < 4:
            found.append(f"{self.nodes.shape[-2]} probes give no error bar to rely on: take 8 or more")
        exhausted = np.any(np.asarray(self.weights) <= _HELD)
        if self.nodes.shape[-1] < min(20, self.size) and not exhausted:
            found.append("features narrower than the spread of eigenvalues over the steps are smoothed away")
        if self.nodes.dtype == jnp.float32:
            found.append("float32: eigenvalues within 1e-6 of the largest cannot be told from zero, nor their sign")
        return tuple(found)


def spectral_density(
    objective: Any,
    parameters: Any,
    key: Any,
    probes: int = 10,
    steps: int = 60,
    *,
    width: float | None = None,
    matrix: str = "hessian",
    preconditioner: Any = None,
    batch_key: Any = None,
) -> SpectralDensity:
    r"""Return the density of an objective's curvatures, with an error band over random probes.

        rho(x) = (1/n) sum_i delta(x - lambda_i),  smoothed

    **Arguments:**

    - `objective`, `parameters`, `matrix`, `preconditioner`: those of `curvature`.
    - `key`: of the probes. `probes`: how many, K. `steps`: of Lanczos from each, m; with full reorthogonalisation, so
      there has to be room for m vectors.
    - `width`: standard deviation of the smoothing, in the unit of eigenvalues; a hundredth of their range by default.
    - `batch_key`: the key of a random objective, held fixed.

    **Returns:** a `SpectralDensity`, from K m products.

    **Raises:** `ValueError` for fewer than 1 probe or step; what `curvature` raises.

    **Example:** half of the eigenvalues are 1, half are 3.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> bowl = lambda x: 0.5 * jnp.sum(jnp.repeat(jnp.array([1.0, 3.0]), 500) * x**2)
    >>> found = sx.spectral_density(bowl, jnp.ones(1000), jax.random.key(0), probes=8, steps=4)
    >>> share, error = found.share_above(2.0)
    >>> bool(abs(share - 0.5) < 3 * error), bool(error < 0.02)
    (True, True)

    **Reference:** Ubaru, Chen & Saad, *Fast estimation of tr f(A) via stochastic Lanczos quadrature* (2017), Algorithm 1;
    Ghorbani, Krishnan & Xiao, *An investigation into neural net optimization via Hessian eigenvalue density* (2019).
    """
    task = task_of("spectral_density", objective, parameters, batch_key, matrix, preconditioner)
    check_count("spectral_density: probes", probes, 1)
    check_count("spectral_density: steps", steps, 1)
    return _density(task, key, probes, min(steps, task.size), width)


@eqx.filter_jit
def _density(task: CurvatureTask, key: Any, probes: int, steps: int, width: Any) -> SpectralDensity:
    multiply, gradient = task.products()

    def quadrature(z: Array) -> tuple[Array, Array]:
        diagonal, beside = tridiagonal(multiply, z / jnp.linalg.norm(z), steps)
        nodes, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))
        return nodes, vectors[0] ** 2

    z = jax.random.normal(key, (probes, task.size), gradient.dtype)
    nodes, weights = jax.lax.map(quadrature, z)
    held = weights > _HELD
    low, high = jnp.min(jnp.where(held, nodes, jnp.inf)), jnp.max(jnp.where(held, nodes, -jnp.inf))
    span = jnp.where(high > low, high - low, jnp.maximum(jnp.abs(high), 1))
    width = span / 100 if width is None else jnp.asarray(width, nodes.dtype)
    grid = low - 3 * width + (high - low + 6 * width) * jnp.linspace(0, 1, _POINTS, dtype=nodes.dtype)
    bumps = jnp.exp(-0.5 * ((grid[None, None] - nodes[..., None]) / width) ** 2) / (width * (2 * np.pi) ** 0.5)
    density, error = _over_probes(jnp.sum(weights[..., None] * bumps, axis=1), axis=0)
    return SpectralDensity(nodes, weights, grid, density, error, width, probes * steps, task.size, task.matrix)


def _over_probes(values: Array, axis: int = -1) -> tuple[Array, Array]:
    """Mean and standard error; that of one probe is not known."""
    count = values.shape[axis]
    error = (
        jnp.std(values, axis=axis, ddof=1) / count**0.5 if count > 1 else jnp.full_like(jnp.mean(values, axis), jnp.nan)
    )
    return jnp.mean(values, axis=axis), error
