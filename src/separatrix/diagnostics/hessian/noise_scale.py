r"""Gradient noise scale: from which batch size on a larger one stops paying.

    B_simple = tr(Sigma) / |G|^2,      Sigma the covariance of one example's gradient, G its mean.

From K independent batches of B examples, g_k, with mean g:

    tr(Sigma)/B = sum_k |g_k - g|^2 / (K - 1),       |G|^2 = |g|^2 - tr(Sigma)/(K B),

both without bias: the estimator from two batch sizes, B and K B. The error of the ratio is that of the jackknife over
batches.
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


class NoiseScale(Result):
    """How noisy a gradient is, in examples.

    - `value`, `standard_error`: B_simple. `noise`, `noise_error`: tr(Sigma). `signal`, `signal_error`: |G|^2.
    - `batch_size`: examples in a batch. `products`: how many gradients of batches it took.
    """

    value: Float[Array, "*batch"]
    standard_error: Float[Array, "*batch"]
    noise: Float[Array, "*batch"]
    noise_error: Float[Array, "*batch"]
    signal: Float[Array, "*batch"]
    signal_error: Float[Array, "*batch"]
    batch_size: int = eqx.field(static=True)
    products: int = eqx.field(static=True)

    def rows(self) -> list[Row]:
        return [
            Row("noise scale, examples", self.value, self.standard_error),
            Row("noise tr(Sigma)", self.noise, self.noise_error),
            Row("signal |G|^2", self.signal, self.signal_error),
            Row(f"gradients of batches of {self.batch_size}", self.products),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not np.all(np.asarray(self.signal) > 3 * np.asarray(self.signal_error)):
            found.append(
                "the signal |G|^2 is not clear of its own error: the ratio and its error mean little; take more or larger "
                "batches"
            )
        if self.products < 16:
            found.append(f"{self.products} batches give a rough error: take 16 or more")
        return tuple(found)


def noise_scale(
    objective: Any, parameters: Any, key: Any, batches: int = 64, *, batch_size: int | None = None
) -> NoiseScale:
    r"""Return the simple gradient noise scale of a random objective, with its standard error.

        B_simple = tr(Sigma) / |G|^2

    **Arguments:**

    - `objective`: one whose key draws a batch of independent examples, as `supervised` and `sampled` make them.
    - `parameters`: where. `key`: of the batches. `batches`: how many, K >= 3; their gradients are held at once.
    - `batch_size`: examples in a batch; by default the objective's own.

    **Returns:** a `NoiseScale`, in examples.

    **Raises:** `ValueError` for fewer than 3 batches, an objective that draws no batch or does not say of how many.

    **Example:** L = E (x - a)^2/2 with a = -1 or 1: gradients x - a at x = 2 have mean 2 and variance 1.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> loss = sx.sampled(lambda x, a: jnp.mean((x - a) ** 2) / 2, jnp.array([-1.0, 1.0]), batch_size=2)
    >>> found = sx.noise_scale(loss, jnp.array(2.0), jax.random.key(0), batches=4000)
    >>> bool(abs(found.value - 0.25) < 3 * found.standard_error), bool(found.standard_error < 0.01)
    (True, True)

    **Reference:** McCandlish, Kaplan, Amodei et al., *An empirical model of large-batch training* (2018), section 2.2 and
    appendix A.1; Efron & Stein, *The jackknife estimate of variance* (1981).
    """
    check_count("noise_scale: batches", batches, 3)
    size = getattr(objective, "batch_size", None) if batch_size is None else batch_size
    if size is None:
        do = "Build it with batch_size=..., or say batch_size here for a function L(parameters, *, key)."
        raise ValueError(explain("noise_scale: batch_size", "None", "how many examples a key draws", do))
    check_count("noise_scale: batch_size", size, 1)
    task = task_of("noise_scale", objective, parameters, key, "hessian", None)
    if not getattr(task.objective, "takes_key", True) and getattr(task.objective, "data", None) is None:
        do = "Write it as L(parameters, *, key) on the batch of the key."
        raise ValueError(explain("noise_scale: objective", "one without a key", "a random one", do))
    return _noise_scale(task, batches, size)


@eqx.filter_jit
def _noise_scale(task: CurvatureTask, count: int, size: int) -> NoiseScale:
    def gradient(key: Any) -> Array:
        return eqx.tree_at(lambda t: t.key, task, key).gradient()

    gradients = jax.lax.map(gradient, jax.random.split(task.key, count))
    mean = jnp.mean(gradients, axis=0)
    # Deviations first: squares of nearly equal gradients would cancel.
    own, along = jnp.sum((gradients - mean[None]) ** 2, axis=1), (gradients - mean[None]) @ mean
    whole = _estimates(jnp.sum(own), jnp.sum(mean**2), count, size)
    # Without batch k the mean is g - d_k/(K - 1), and the sum of squares about it S - |d_k|^2 K/(K - 1).
    less = _estimates(
        jnp.sum(own) - own * count / (count - 1),
        jnp.sum(mean**2) - 2 * along / (count - 1) + own / (count - 1) ** 2,
        count - 1,
        size,
    )
    errors = [((count - 1) * jnp.mean((part - jnp.mean(part)) ** 2)) ** 0.5 for part in less]
    noise, signal, ratio = whole
    return NoiseScale(ratio, errors[2], noise, errors[0], signal, errors[1], size, count)


def _estimates(squares: Array, mean_square: Array, count: int, size: int) -> tuple[Array, Array, Array]:
    """(tr Sigma, |G|^2, their ratio)."""
    variance = squares / (count - 1)
    signal = mean_square - variance / count
    return size * variance, signal, size * variance / signal
