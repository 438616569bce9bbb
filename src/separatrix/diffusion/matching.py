r"""Scores learned by denoising.

With x(t) = alpha x(0) + sigma eps, the minimiser of E |e(t, x(t)) - eps|^2 is e = -sigma grad log p_t: a network that
guesses the noise has learned the score. Labels are left out at random, so that one network serves with and without, and
guidance by w moves along the difference, e = (1 + w) e(label) - w e(none).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._types import Key, Scalar
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems._signature import Frozen, as_pytree
from separatrix.systems.base import as_parameter, require_key


class DenoisingScoreMatching(eqx.Module):
    r"""E |e(t, x(t)) - eps|^2 over data, noise and uniform times: an objective for `fit`.

    **Arguments:**

    - `process`: a `NoisingProcess`.
    - `earliest`: times are drawn from [earliest, horizon]; below it the noise has no size left to be guessed.
    - `drop`: share of labels left out, where the batch is a pair (x, labels).

    Called as `loss(network, batch, key=key)`. The network is a function of (t, x), or of (t, x, label) where there are
    labels; then `network.classes` is the number that stands for none. x has no batch axis there.

    **Example:**

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> data = jax.random.normal(jax.random.key(0), (500, 2))
    >>> network = sx.ScoreMLP(2, width=32, key=jax.random.key(1), dtype=jnp.float64)
    >>> loss = sx.DenoisingScoreMatching(sx.VP())
    >>> run = sx.fit(loss, optax.adam(1e-3), data, initial=network, steps=5, batch_size=50, key=jax.random.key(2))
    >>> str(run.outcome)
    'completed'

    **Reference:** Vincent, *A connection between score matching and denoising autoencoders* (2011), section 4; Ho, Jain &
    Abbeel (2020), equation 14; Ho & Salimans, *Classifier-free diffusion guidance* (2022), algorithm 1.
    """

    process: NoisingProcess
    earliest: Scalar = eqx.field(default=1e-3, converter=as_parameter)
    drop: Scalar = eqx.field(default=0.1, converter=as_parameter)

    def __call__(self, network: Any, batch: Any, *, key: Key | None = None) -> Scalar:
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        times_key, noise_key, drop_key = jax.random.split(require_key(key, "DenoisingScoreMatching"), 3)
        count, dtype = x.shape[0], x.dtype
        low, high = (jnp.asarray(v, dtype) for v in (self.earliest, self.process.horizon))
        # Stratified: one time in each of `count` equal parts, so that a batch covers them all.
        places = (jnp.arange(count, dtype=dtype) + jax.random.uniform(times_key, (count,), dtype)) / count
        times = low + (high - low) * places
        noised, noise = jax.vmap(self.process.perturb)(jax.random.split(noise_key, count), times, x)
        if labels is None:
            guessed = jax.vmap(network)(times, noised)
        else:
            gone = jax.random.uniform(drop_key, (count,)) < self.drop
            guessed = jax.vmap(network)(times, noised, jnp.where(gone, network.classes, labels))
        return jnp.mean((guessed - noise) ** 2)


class LearnedScore(eqx.Module):
    """(t, x) -> -e(t, x)/sigma(t), for x with a leading batch axis; see `score_of`."""

    process: NoisingProcess
    network: Any
    labels: Any
    guidance: Scalar

    def __call__(self, t: Scalar, x: Any) -> Any:
        sigma = self.process.marginal(jnp.asarray(t, x.dtype))[1].astype(x.dtype)
        time = jnp.asarray(t, x.dtype)
        if self.labels is None:
            return -jax.vmap(lambda point: self.network(time, point))(x) / sigma
        network = self.network.thaw() if isinstance(self.network, Frozen) else self.network
        none = network.classes
        wanted = jax.vmap(lambda point, label: network(time, point, label))(x, self.labels)
        plain = jax.vmap(lambda point: network(time, point, none))(x)
        weight = jnp.asarray(self.guidance, x.dtype)
        return -((1 + weight) * wanted - weight * plain) / sigma


def score_of(process: NoisingProcess, network: Any, labels: Any = None, guidance: Any = 0.0) -> LearnedScore:
    r"""Return the score that a denoising network has learned, for `reverse`, `probability_flow` and `sample`.

        score(t, x) = -e(t, x)/sigma(t)

    **Arguments:**

    - `process`, `network`: as in `DenoisingScoreMatching`.
    - `labels`: shape (B,), what each member of the batch is to be.
    - `guidance`: w >= 0; 0 follows the labels as they were learned, more follows them further than the data does.

    **Returns:** a function of (t, x), x of shape (B, ...).

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> score = sx.score_of(sx.VP(), lambda t, x: x)
    >>> score(1.0, jnp.ones((3, 2))).shape
    (3, 2)
    """
    labels = None if labels is None else jnp.asarray(labels)
    return LearnedScore(process, as_pytree(network), labels, as_parameter(guidance))
