r"""The rates of a sampler along its own path, and how stiff its steps are.

At level n the path is at y_n = x_n/alpha_n. In the clock u = -ln(sigma/alpha) the flow there has the Jacobian dD/dy - 1, of
which the lowest and the highest rate are told, and

    stiffness of step n = (u[n+1] - u[n]) max |rate|

Of up to 256 components the Jacobian is formed; of more the two ends of the spectrum of its symmetric part are found by
Lanczos, from products alone.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Key, Scalar
from separatrix.diffusion.predictions import Prediction
from separatrix.diffusion.samplers import SamplingMap
from separatrix.diffusion.symmetry_breaking import LARGEST, separation_rates
from separatrix.evolution import evolve
from separatrix.linear.lanczos import tridiagonal

_PRODUCTS = 16


class PathRates(NamedTuple):
    """At each level with noise and signal but the last: sigma/alpha, lowest and highest rate, stiffness of the step."""

    levels: Float[Array, "steps"]
    lowest: Float[Array, "steps"]
    highest: Float[Array, "steps"]
    stiffness: Float[Array, "steps"]


def path_rates(map: SamplingMap, x: Array, *, key: Key | None = None) -> PathRates:
    r"""Return the rates of a sampler along its path from x, and the stiffness of its steps.

        the ends of the spectrum of dD/dy - 1 at y_n = x_n/alpha_n

    **Arguments:**

    - `map`: what `sampling_map` gives. `x`: one point at its first level, without batch axis. `key`: of the noise of the
      sampler; none is drawn without.

    **Returns:** `PathRates`.

    **Raises:** `ValueError` for fewer than two levels with noise and signal.

    **Example:** data at one point: all rates are -1, and a step is as stiff as it is long.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> point = sx.diffusion.Prediction(sx.diffusion.EDM(), lambda t, x: 0 * x, "clean")
    >>> map = sx.diffusion.sampling_map(sx.diffusion.DDIM(), point, jnp.array([80.0, 8.0, 4.0, 0.0]))
    >>> [round(size, 3) for size in sx.diffusion.path_rates(map, jnp.ones(1)).stiffness.tolist()]
    [2.303, 0.693]
    """
    noisy, levels = noisy_levels(map, "path_rates: map")
    times, points, _ = path_of(map, x, noisy, key)
    return rates_of(levels, *rates_at(map.prediction, times, points))


def path_of(map: SamplingMap, x: Array, noisy: np.ndarray, key: Key | None = None) -> tuple[Array, Array, Array]:
    """Times and clean points y = x/alpha where a step begins and leaves noise, and the end of the path."""
    path = evolve(map, map.sampler.begin(x[None]), key=key, save="all")
    alphas = jnp.asarray(map.prediction.process.marginal(map.times)[0], x.dtype)
    states, places = map.sampler.seen(path.states)[:, 0], np.flatnonzero(noisy)[:-1]
    return map.times[places], states[places] / alphas[places].reshape(-1, *[1] * x.ndim), states[-1]


def rates_of(levels: np.ndarray, lowest: Array, highest: Array) -> PathRates:
    """With the stiffness of the steps between these levels."""
    sizes = jnp.asarray(-np.diff(np.log(levels)), lowest.dtype)
    stiffness = sizes * jnp.maximum(jnp.abs(lowest), jnp.abs(highest))
    return PathRates(jnp.asarray(levels[:-1], lowest.dtype), lowest, highest, stiffness)


def noisy_levels(map: SamplingMap, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Which levels of a map have noise and signal, and sigma/alpha at these."""
    alpha, sigma = (np.asarray(level) for level in map.prediction.process.marginal(map.times))
    noisy = (sigma > 0) & (alpha > 0)
    if noisy.sum() < 2:
        do = "Take more steps, or begin below the horizon of a straight path."
        raise ValueError(explain(what, f"{noisy.sum()} levels with noise and signal", "two", do))
    return noisy, sigma[noisy] / alpha[noisy]


def rates_at(prediction: Prediction, times: Array, points: Array) -> tuple[Array, Array]:
    """Lowest and highest rate at each time and the clean point that belongs to it."""

    # One at a time: a Jacobian of each at once would not fit into memory.
    one = jax.jit(lambda t, point: jnp.stack(_ends(prediction, t, point)))
    found = jnp.stack([one(jnp.asarray(t, points.dtype), point) for t, point in zip(times, points, strict=True)])
    return found[:, 0], found[:, 1]


def _ends(prediction: Prediction, t: Scalar, middle: Array) -> tuple[Array, Array]:
    if middle.size <= LARGEST:
        rates = separation_rates(prediction, t, middle)
        return rates[0], rates[-1]
    alpha = jnp.asarray(prediction.process.marginal(t)[0], middle.dtype)

    def clean(y: Array) -> Array:
        return prediction.clean(t, alpha * y.reshape(1, *middle.shape)).ravel()

    _, push = jax.linearize(clean, middle.ravel())
    pull = jax.linear_transpose(push, middle.ravel())
    start = jax.random.normal(jax.random.key(0), (middle.size,), middle.dtype)

    def symmetric(v: Array) -> Array:
        return (push(v) + pull(v)[0]) / 2

    alphas, betas = tridiagonal(symmetric, start / jnp.linalg.norm(start), _PRODUCTS)
    values = jnp.linalg.eigvalsh(jnp.diag(alphas) + jnp.diag(betas, 1) + jnp.diag(betas, -1))
    return values[0] - 1, values[-1] - 1
