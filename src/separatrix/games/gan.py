r"""Generative adversarial networks, as a game on batches.

With logits D(x) of the discriminator, s(u) = log(1 + e^u), real x and generated G(z), z ~ N(0, I):

    discriminator    E s(-D(x)) + E s(D(G(z))) + (gamma/2) E |grad_x D(x)|^2
    generator        saturating -E s(D(G(z))); non-saturating E s(-D(G(z)))
    Wasserstein      E D(G(z)) - E D(x) + ..., and -E D(G(z))
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Checked, Key, Scalar
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter, require_key

LOSSES = ("non_saturating", "saturating", "wasserstein")


class GAN(eqx.Module):
    r"""The losses of generator and discriminator on a batch: an objective for `fit` with `Players`.

    **Arguments:**

    - `latent_size`: dimension of z, at least 1.
    - `loss`: "non_saturating", "saturating" or "wasserstein".
    - `penalty`: gamma >= 0 of the gradient penalty on real data (R1); a traced leaf.

    Called as `gan((generator, discriminator), real, key=key)`; the generator maps one z (latent_size,) to one x, the
    discriminator one x to one number. Without a key it raises: there is no loss without noise.

    **Raises:** `ValueError` for an unknown loss, a latent size below 1 or a negative penalty.

    **Example:**

    >>> import equinox as eqx, jax, jax.numpy as jnp, optax, separatrix as sx
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> networks = (eqx.nn.Linear(2, 2, key=keys[0]), eqx.nn.Linear(2, "scalar", key=keys[1]))
    >>> gan, data = sx.games.GAN(latent_size=2), jax.random.normal(keys[2], (100, 2))
    >>> run = sx.fit(gan, sx.games.Players(optax.sgd(0.1)), data, initial=networks, steps=5, batch_size=10, key=keys[2])
    >>> gan.sample(run.model[0], keys[0], 4).shape
    (4, 2)

    **Reference:** Goodfellow et al., *Generative adversarial nets* (2014), equation 1 and section 3; Arjovsky, Chintala &
    Bottou (2017) for Wasserstein; Mescheder, Geiger & Nowozin (2018), equation 9, for R1.
    """

    latent_size: int = eqx.field(static=True)
    loss: str = eqx.field(static=True)
    penalty: Scalar

    def __init__(self, latent_size: Checked[int], loss: Any = "non_saturating", penalty: Any = 0.0):
        if loss not in LOSSES:
            raise ValueError(explain("GAN: loss", repr(loss), f"one of {', '.join(LOSSES)}", "Leave it out."))
        ranges.nonnegative("GAN: penalty", penalty, "Leave it out for none.")
        self.latent_size = ranges.whole("GAN: latent_size", latent_size, "Pass the dimension of the noise.")
        self.loss, self.penalty = loss, as_parameter(penalty)

    def __call__(self, networks: Any, real: Any, *, key: Key | None = None) -> tuple[Scalar, Scalar]:
        generator, discriminator = networks
        key = require_key(key, "GAN")
        fake = jax.vmap(discriminator)(self._generate(generator, key, real.shape[0], real.dtype))
        values, slopes = jax.vmap(jax.value_and_grad(discriminator))(real)
        weight = jnp.asarray(self.penalty, values.dtype) / 2
        regularity = weight * jnp.mean(jnp.sum(slopes**2, axis=tuple(range(1, slopes.ndim))))
        soft = jax.nn.softplus
        match self.loss:
            case "wasserstein":
                return -jnp.mean(fake), jnp.mean(fake) - jnp.mean(values) + regularity
            case "saturating":
                own = -jnp.mean(soft(fake))
            case _:
                own = jnp.mean(soft(-fake))
        return own, jnp.mean(soft(-values)) + jnp.mean(soft(fake)) + regularity

    def sample(self, generator: Any, key: Key, count: Checked[int]) -> Any:
        """Return `count` >= 1 generated examples, in the dtype of the generator's parameters."""
        ranges.whole("GAN.sample: count", count, "Say how many to draw.")
        dtype = jax.tree.leaves(eqx.filter(generator, eqx.is_inexact_array))[0].dtype
        return self._generate(generator, key, count, dtype)

    def _generate(self, generator: Any, key: Key, count: int, dtype: Any) -> Any:
        return jax.vmap(generator)(jax.random.normal(key, (count, self.latent_size), dtype))
