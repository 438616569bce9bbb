r"""The sampler as a dynamical system: when classes part, and how fast neighbours do.

Going down in noise, the middle between two classes is at first stable: all points are drawn to it. At the time of
speciation the largest eigenvalue of the Jacobian of the score there crosses zero, and the middle becomes a separatrix. Of
two normal laws +-m of spread s,

    alpha^2 m^2 = alpha^2 s^2 + sigma^2:      VE  sigma^2 = m^2 - s^2,      VP  alpha^2 = 1/(m^2 - s^2 + 1).

Along a path the flow in y = x/alpha against the clock u = -ln(sigma/alpha) is dy/du = D - y, whose Jacobian has the
eigenvalues mu_i - 1, mu_i those of dD/dy. They are rates in the clock in which schedules are even:

    -1    directions without data: contracted for ever, e-fold for e-fold of the noise
     0    directions that are data already (mu = 1)
    > 0   where classes part

and (h u) times the largest size is the stiffness of a step. Over a whole path the same rates are those of its Jacobian,

    lambda_i = ln sigma_i(dy_end/dy_start)/(u_end - u_start),

finite-time exponents: -1 for what noise alone decides, 0 for what the start decides.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Checked, Key
from separatrix.diffusion.predictions import Prediction
from separatrix.diffusion.samplers import SamplingMap
from separatrix.evolution import evolve
from separatrix.systems import ranges

_SHARPENED = 3
LARGEST = 256  # components up to which a Jacobian is formed


class Speciation(NamedTuple):
    """The time at which the middle loses its stability, and sigma/alpha there; NaN where it does not between the levels."""

    time: Array
    level: Array


def speciation(prediction: Prediction, middle: Array, *, low: Any = 1e-3, high: Any = 1e3) -> Speciation:
    r"""Return when the middle between classes becomes unstable, on the way from noise to data.

        the largest eigenvalue of D score(t, alpha x) at x = middle is 0

    **Arguments:**

    - `prediction`: a `Prediction`. `middle`: clean, one point without batch axis: the mean of two classes.
    - `low`, `high`: sigma/alpha between which it is sought, by bisection in its logarithm.

    **Returns:** a `Speciation`; NaN where the eigenvalue has the same sign at both.

    **Raises:** `ValueError` for levels that are not positive, or cross.

    **Example:** two normal laws at +-3 of spread 1 under dx = dW: sigma^2 = 8.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> pair = sx.diffusion.GaussianMixture([0.5, 0.5], [[-3.0], [3.0]], [1.0, 1.0])
    >>> edm = sx.diffusion.EDM()
    >>> prediction = sx.diffusion.Prediction(edm, pair.score_under(edm).clean, "clean")
    >>> round(float(sx.diffusion.speciation(prediction, jnp.zeros(1)).level), 7)
    2.8284271

    **Reference:** Biroli et al., *Dynamical regimes of diffusion models* (2024), equation 4 and appendix A; Raya &
    Ambrogioni, *Spontaneous symmetry breaking in generative diffusion models* (2023), section 4.
    """
    do = "Leave both out for 0.001 and 1000."
    ranges.positive("speciation: low", low, do)
    ranges.ordered("speciation: low and high", low, high, do, strictly=True)
    process = prediction.process

    def leading(logarithm: Array, _: Any) -> Array:
        # sigma^2 times the Jacobian of the score is alpha dD/dy - 1 in y = x/alpha: of the same sign.
        return separation_rates(prediction, process.time_of(jnp.exp(logarithm)), middle)[-1]

    bottom, top = (jnp.log(jnp.asarray(end, middle.dtype)) for end in (low, high))
    crosses = (leading(bottom, None) > 0) & (leading(top, None) < 0)
    options = {"lower": bottom, "upper": top}
    solver = optx.Bisection(rtol=1e-14, atol=1e-12, flip=False)
    found = optx.root_find(
        lambda x, a: -leading(x, a), solver, (bottom + top) / 2, options=options, max_steps=80, throw=False
    )
    level = jnp.where(crosses, jnp.exp(found.value), jnp.nan)
    return Speciation(process.time_of(level), level)


def separation_rates(prediction: Prediction, t: Any, middle: Array) -> Float[Array, "rates"]:
    r"""Return the rates of the flow at a clean point in the clock -ln(sigma/alpha): the eigenvalues of dD/dy - 1, rising.

    **Arguments:**

    - `prediction`: of batches. `t`: a time with noise. `middle`: a clean point, without batch axis.

    **Returns:** shape (d,). Zero and above where neighbours part.

    **Raises:** `ValueError` for more than 256 components.

    **Example:** normal data: mu = v/(v + s^2).

    >>> import jax.numpy as jnp, separatrix as sx
    >>> normal = sx.diffusion.Prediction(sx.diffusion.EDM(), lambda t, x: x / (1 + t**2), "clean")
    >>> sx.diffusion.separation_rates(normal, 1.0, jnp.zeros(1)).tolist()
    [-0.5]
    """
    if middle.size > LARGEST:
        do = "Look at principal components of the data instead."
        raise ValueError(explain("separation_rates: middle", f"{middle.size} components", f"at most {LARGEST}", do))
    t = jnp.asarray(t, middle.dtype)
    alpha = jnp.asarray(prediction.process.marginal(t)[0], middle.dtype)

    def clean(y: Array) -> Array:
        return prediction.clean(t, alpha * y.reshape(1, *middle.shape)).ravel()

    jacobian = jax.jacfwd(clean)(middle.ravel())
    return jnp.linalg.eigvalsh((jacobian + jacobian.T) / 2) - 1


def path_exponents(
    map: SamplingMap, x: Array, *, count: Checked[int | None] = None, key: Key | None = None
) -> Float[Array, "exponents"]:
    r"""Return the finite-time exponents of a sampler along its path from x, in the clock -ln(sigma/alpha), rising.

        ln(singular values of dy_end/dy_start)/(u_end - u_start),   y = x/alpha

    The path ends at the last level with noise, and is taken without the noise of the sampler.

    **Arguments:**

    - `map`: what `sampling_map` gives. `x`: one point at its first level, without batch axis.
    - `count`: None for all, from the Jacobian; or how many of the largest, from products of
      `2 count + 8` vectors with it and its transpose, whose range is sharpened three times: exact
      where what is left out is smaller by a factor. `key`: of that range; `key(0)` by default.

    **Returns:** shape (d,) or (count,).

    **Raises:** `ValueError` for all of more than 256 components, or fewer than two levels with noise and signal.

    **Example:** data at one point: all that differs is noise, and shrinks with it.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> point = sx.diffusion.Prediction(sx.diffusion.EDM(), lambda t, x: 0 * x, "clean")
    >>> map = sx.diffusion.sampling_map(sx.diffusion.DDIM(), point, jnp.array([80.0, 8.0, 1.0, 0.0]))
    >>> sx.diffusion.path_exponents(map, jnp.ones(1)).round(6).tolist()
    [-1.0]

    **Reference:** Raya & Ambrogioni (2023), section 5, for the instability that they show; Halko, Martinsson & Tropp,
    *Finding structure with randomness* (2011), algorithms 4.4 and 5.1, for `count`.
    """
    if count is None and x.size > LARGEST:
        do = "Pass count= for the largest, or look at principal components of the data."
        raise ValueError(explain("path_exponents: x", f"{x.size} components", f"at most {LARGEST}", do))
    alpha, sigma = (np.asarray(level) for level in map.prediction.process.marginal(map.times))
    noisy = (sigma > 0) & (alpha > 0)
    if noisy.sum() < 2:
        do = "Take more steps, or begin below the horizon of a straight path."
        raise ValueError(explain("path_exponents: map", f"{noisy.sum()} levels with noise and signal", "two", do))
    levels, times = (sigma / np.where(alpha > 0, alpha, 1))[noisy], map.times[noisy]
    shorter = SamplingMap(map.sampler, map.prediction, times, times.shape[0] - 1)
    factor = jnp.asarray(alpha[noisy][0] / alpha[noisy][-1], x.dtype)

    def end(flat: Array) -> Array:
        found = evolve(shorter, map.sampler.begin(flat.reshape(1, *x.shape)), save="last").final
        return factor * map.sampler.seen(found).ravel()

    if count is None:
        sizes = jnp.linalg.svd(jax.jacfwd(end)(x.ravel()), compute_uv=False)
    else:
        wanted = min(ranges.whole("path_exponents: count", count, "Leave it out for all."), x.size)
        sizes = _leading_sizes(end, x.ravel(), wanted, jax.random.key(0) if key is None else key)
    return jnp.sort(jnp.log(sizes)) / jnp.asarray(np.log(levels[0] / levels[-1]), x.dtype)


def _leading_sizes(end: Any, x: Array, count: int, key: Key) -> Array:
    """The largest singular values of a Jacobian, from products."""

    @jax.jit
    def found(x: Array, key: Key) -> Array:
        _, push = jax.linearize(end, x)
        pull = jax.linear_transpose(push, x)
        columns = jax.random.normal(key, (min(2 * count + 8, x.size), x.size), x.dtype)
        for _ in range(_SHARPENED):
            ahead = jnp.linalg.qr(jax.vmap(push)(columns).T)[0].T
            columns = jax.vmap(lambda row: pull(row)[0])(ahead)
        return jnp.linalg.svd(columns, compute_uv=False)[:count]

    return found(x, key)
