r"""Denoising with the preconditioning and the weights of EDM, for any process.

With y = x/alpha, s = sigma/alpha and data of standard deviation d, a network F is asked for what is of unit size at every
level:

    D = c_skip y + c_out F(c_noise, c_in y),   c_skip = d^2/(s^2 + d^2),   c_out = s d/sqrt(s^2 + d^2),
    c_in = 1/sqrt(s^2 + d^2),                  c_noise = ln(s)/4,          weight (s^2 + d^2)/(s d)^2 = 1/c_out^2

All but c_noise are written with x, alpha and sigma, so that they are finite where alpha or sigma is 0. On normal data of
that spread F = 0 is the best, and the loss is 1 for every law of noise.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._types import Checked, Key, Scalar
from separatrix.diffusion.conditions import guessed
from separatrix.diffusion.predictions import require_process
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter, require_key

# ln(s)/4 is kept between these: levels from 1e-7 to 1e7, so that s = 0 and infinity are answered too.
_SMALLEST, _LARGEST = 1e-7, 1e7


class Preconditioned(eqx.Module):
    r"""A network inside, the clean data out: D(t, x) or D(t, x, label), x without a batch axis.

    **Arguments:**

    - `network`: F(c_noise, x) or F(c_noise, x, label), as `ScoreMLP` or `SmallUNet`.
    - `process`: a `NoisingProcess`. `data_scale`: d, above 0: the standard deviation of the data.

    **Raises:** `TypeError` for anything but a process; `ValueError` for a scale that is not positive.

    **Example:** with F = 0 it is the best guess for normal data.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> model = sx.diffusion.Preconditioned(lambda level, x: 0 * x, sx.diffusion.EDM(), 0.5)
    >>> model(0.5, jnp.array([1.0])).round(9).tolist()
    [0.5]

    **Reference:** Karras et al. (2022), equation 7 and table 1.
    """

    network: Any
    process: Checked[NoisingProcess]
    data_scale: Any = eqx.field(default=0.5, converter=as_parameter)

    def __check_init__(self) -> None:
        require_process("Preconditioned: process", self.process)
        ranges.positive("Preconditioned: data_scale", self.data_scale, "Pass the standard deviation of the data.")

    @property
    def classes(self) -> Any:
        """How many labels the network knows; None for none."""
        return getattr(self.network, "classes", None)

    @property
    def absent(self) -> Any:
        """The condition that stands for none, of a network that is given arrays; None for others."""
        return getattr(self.network, "absent", None)

    def __call__(self, t: Scalar, x: Array, label: Any = None) -> Array:
        dtype = x.dtype
        alpha, sigma = (
            jax.lax.stop_gradient(jnp.asarray(v, dtype)) for v in self.process.marginal(jnp.asarray(t, dtype))
        )
        scale = jax.lax.stop_gradient(jnp.asarray(self.data_scale, dtype))
        size = jnp.sqrt(sigma**2 + (alpha * scale) ** 2)
        level = jnp.log(jnp.clip(sigma / jnp.maximum(alpha, 1e-12), _SMALLEST, _LARGEST)) / 4
        inside = self.network(level, x / size) if label is None else self.network(level, x / size, label)
        return alpha * (scale / size) ** 2 * x + sigma * scale / size * inside


class EDMMatching(eqx.Module):
    r"""E [(s^2 + d^2)/(s d)^2 |D(t, x) - x(0)|^2] with ln s normal: an objective for `fit`.

    **Arguments:**

    - `process`: a `NoisingProcess`. `data_scale`: d, above 0.
    - `center`, `spread`: mean and standard deviation of ln s, s = sigma/alpha.
    - `drop`: share of labels left out, where the batch is a pair (x, labels); from 0 to 1.
    - `jitter`: width of the uniform noise that is added to data first, which makes a density of whole numbers.

    Called as `loss(model, batch, key=key)`; the model is a function of (t, x), or (t, x, label), that gives clean data,
    as `Preconditioned`. The loss is a mean over coordinates.

    **Raises:** `TypeError` for anything but a process; `ValueError` for values outside these ranges.

    **Example:** the best model of normal data has the loss 1.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> edm, data = sx.diffusion.EDM(), 0.5 * jax.random.normal(jax.random.key(0), (4000, 1))
    >>> model = sx.diffusion.Preconditioned(lambda level, x: 0 * x, edm, 0.5)
    >>> loss = sx.diffusion.EDMMatching(edm, data_scale=0.5)(model, data, key=jax.random.key(1))
    >>> abs(float(loss) - 1) < 0.1
    True

    **Reference:** Karras et al. (2022), equation 8 and table 1.
    """

    process: Checked[NoisingProcess]
    data_scale: Any = eqx.field(default=0.5, converter=as_parameter)
    center: Any = eqx.field(default=-1.2, converter=as_parameter)
    spread: Any = eqx.field(default=1.2, converter=as_parameter)
    drop: Any = eqx.field(default=0.1, converter=as_parameter)
    jitter: Any = eqx.field(default=0.0, converter=as_parameter)

    def __check_init__(self) -> None:
        require_process("EDMMatching: process", self.process)
        ranges.positive("EDMMatching: data_scale", self.data_scale, "Pass the standard deviation of the data.")
        ranges.finite("EDMMatching: center", self.center, "Leave it out for -1.2.")
        ranges.positive("EDMMatching: spread", self.spread, "Leave it out for 1.2.")
        ranges.share("EDMMatching: drop", self.drop, "Leave it out for 0.1.")
        ranges.nonnegative("EDMMatching: jitter", self.jitter, "Leave it out for none.")

    @property
    def guess(self) -> str:
        """What the model gives."""
        return "clean"

    def __call__(self, network: Any, batch: Any, *, key: Key | None = None) -> Scalar:
        return jnp.mean(self.terms(network, batch, key=key))

    def terms(self, network: Any, batch: Any, *, key: Key | None = None) -> Float[Array, "batch"]:
        """The loss of each example."""
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        level_key, noise_key, drop_key, jitter_key = jax.random.split(require_key(key, "EDMMatching"), 4)
        x = x + jnp.asarray(self.jitter, x.dtype) * (jax.random.uniform(jitter_key, x.shape, x.dtype) - 0.5)
        times = self.times(level_key, x.shape[0], x.dtype)
        noised, _ = jax.vmap(self.process.perturb)(jax.random.split(noise_key, x.shape[0]), times, x)
        clean = guessed("EDMMatching: network", network, times, noised, labels, self.drop, drop_key)
        squares = jnp.mean(((clean - x) ** 2).reshape(x.shape[0], -1), axis=1)
        return self.weight(times).astype(x.dtype) * squares

    def times(self, key: Key, count: int, dtype: Any) -> Array:
        """Times at which ln s is normal, one in each of `count` equal shares of its law."""
        share = (jnp.arange(count, dtype=dtype) + jax.random.uniform(key, (count,), dtype)) / count
        normal = jax.scipy.special.ndtri(jnp.clip(share, jnp.finfo(dtype).eps, 1 - jnp.finfo(dtype).eps))
        levels = jnp.exp(jnp.asarray(self.center, dtype) + jnp.asarray(self.spread, dtype) * normal)
        return jnp.asarray(self.process.time_of(levels), dtype)

    def weight(self, t: Any) -> Array:
        """What the mean square of D - x(0) counts for at time t."""
        alpha, sigma = self.process.marginal(t)
        s, d = sigma / alpha, self.data_scale
        return (s**2 + d**2) / (s * d) ** 2

    def nodes(self, count: int) -> tuple[Array, Array]:
        """Times and masses of the law of noise, for integrals over it."""
        normal = jnp.linspace(-8.5, 8.5, count)
        mass = jnp.exp(-0.5 * normal**2)
        return self.process.time_of(jnp.exp(self.center + self.spread * normal)), mass / jnp.sum(mass)
