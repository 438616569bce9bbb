r"""Mixtures of Gaussians, whose score is known at every noise level.

    p(x) = sum_k w_k N(x; m_k, s_k^2 I)   becomes   p_t(x) = sum_k w_k N(x; alpha m_k, (alpha^2 s_k^2 + sigma^2) I)

under a process with x(t) | x(0) ~ N(alpha x(0), sigma^2 I). So reversal and likelihood can be tested without a network.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import is_inexact, is_traced
from separatrix._types import Key, Scalar
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges


class GaussianMixture(eqx.Module):
    r"""p(x) = sum_k w_k N(x; m_k, s_k^2 I) in d dimensions.

    **Arguments:**

    - `weights`: shape (K,), at least 0, summing to one. `means`: shape (K, d). `scales`: shape (K,), standard deviations,
      above 0.

    **Raises:** `ValueError` for shapes that do not fit, values that are not finite or outside these ranges, or weights of
    another sum.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> mixture = sx.diffusion.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [1.0, 1.0])
    >>> mixture.score(jnp.array([0.0])).tolist()
    [0.0]
    """

    weights: Array
    means: Array
    scales: Array

    def __init__(self, weights: Any, means: Any, scales: Any):
        self.weights, self.means, self.scales = (_inexact(values) for values in (weights, means, scales))

    def __check_init__(self) -> None:
        count = self.weights.shape
        if len(count) != 1 or self.means.ndim != 2 or self.means.shape[:1] != count or self.scales.shape != count:
            got = f"weights {count}, means {self.means.shape}, scales {self.scales.shape}"
            do = "Give one weight, one mean vector and one scale for each component."
            raise ValueError(explain("GaussianMixture", got, "(K,), (K, d) and (K,)", do))
        ranges.nonnegative("GaussianMixture: weights", self.weights, "Give the share of each component.")
        ranges.finite("GaussianMixture: means", self.means, "Give the mean of each component.")
        ranges.positive("GaussianMixture: scales", self.scales, "Give standard deviations.")
        if not is_traced(self.weights):
            # Weights may have been summed and stored in their own precision.
            mass, rounding = float(np.sum(np.asarray(self.weights))), float(jnp.finfo(self.weights.dtype).eps) ** 0.5
            if not abs(mass - 1) <= max(rounding, 1e-6):
                raise ValueError(explain("GaussianMixture: weights", f"a sum of {mass:g}", "1", "Divide by their sum."))

    def log_density(self, x: Array) -> Array:
        """log p at points of shape (..., d)."""
        return jnp.vectorize(lambda point: jax.nn.logsumexp(self._components(point)), signature="(d)->()")(x)

    def score(self, x: Array) -> Array:
        """grad log p at points of shape (..., d)."""

        def at(point: Array) -> Array:
            shares = jax.nn.softmax(self._components(point))
            precisions = (1 / self.scales**2).astype(x.dtype)
            return (shares * precisions) @ (self.means.astype(x.dtype) - point[None])

        return jnp.vectorize(at, signature="(d)->(d)")(x)

    def sample(self, key: Key, count: int) -> Array:
        """Draw points of shape (count, d)."""
        which, noise = jax.random.split(key)
        chosen = jax.random.categorical(which, jnp.log(self.weights), shape=(count,))
        normal = jax.random.normal(noise, (count, self.means.shape[1]), self.means.dtype)
        return self.means[chosen] + self.scales[chosen, None] * normal

    def noised(self, process: NoisingProcess, t: Scalar) -> "GaussianMixture":
        """The law at time t of a process started from this one."""
        alpha, sigma = (jnp.asarray(v, self.means.dtype) for v in process.marginal(jnp.asarray(t, self.means.dtype)))
        return GaussianMixture(self.weights, alpha * self.means, jnp.sqrt((alpha * self.scales) ** 2 + sigma**2))

    def score_under(self, process: NoisingProcess) -> "NoisedScore":
        """The function (t, x) -> grad log p_t(x), for `reverse` and `probability_flow`."""
        return NoisedScore(self, process)

    def posterior_mean(self, process: NoisingProcess, t: Scalar, x: Array) -> Array:
        r"""E[x(0) | x(t) = x] at points of shape (..., d), also where alpha or sigma is 0.

        sum_k r_k(x) (sigma^2 m_k + alpha s_k^2 x)/(sigma^2 + alpha^2 s_k^2),   r_k the shares at x under p_t
        """
        alpha, sigma = (jnp.asarray(v, x.dtype) for v in process.marginal(jnp.asarray(t, x.dtype)))
        noised, spreads, means = self.noised(process, t), self.scales.astype(x.dtype) ** 2, self.means.astype(x.dtype)

        def at(point: Array) -> Array:
            shares = jax.nn.softmax(noised._components(point))
            pulled = sigma**2 * means + alpha * spreads[:, None] * point[None]
            return (shares / (sigma**2 + alpha**2 * spreads)) @ pulled

        return jnp.vectorize(at, signature="(d)->(d)")(x)

    def _components(self, x: Array) -> Array:
        """log w_k N(x; m_k, s_k^2 I), shape (K,), at one point."""
        weights, means, scales = (leaf.astype(x.dtype) for leaf in (self.weights, self.means, self.scales))
        squares = jnp.sum((x[None] - means) ** 2, axis=-1)
        constant = jnp.asarray(means.shape[1] * (0.5 * jnp.log(2 * jnp.pi)), x.dtype)
        return jnp.log(weights) - squares / (2 * scales**2) - means.shape[1] * jnp.log(scales) - constant


def _inexact(values: Any) -> Array:
    array = jnp.asarray(values)
    return array if is_inexact(array) else array.astype(float)


class NoisedScore(eqx.Module):
    """(t, x) -> grad log p_t(x), and the mean of the data behind x."""

    mixture: GaussianMixture
    process: NoisingProcess

    def __call__(self, t: Scalar, x: Any) -> Any:
        return self.mixture.noised(self.process, t).score(x)

    def clean(self, t: Scalar, x: Any) -> Any:
        """E[x(0) | x(t) = x]."""
        return self.mixture.posterior_mean(self.process, t, x)
