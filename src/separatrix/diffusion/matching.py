r"""Scores learned by denoising.

With x(t) = alpha x(0) + sigma eps, the minimiser of E |e(t, x(t)) - eps|^2 is e = -sigma grad log p_t: a network that
guesses the noise has learned the score. Labels are left out at random, so that one network serves with and without, and
guidance by w moves along the difference, e = (1 + w) e(label) - w e(none).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked, Key, Scalar
from separatrix.diffusion.conditions import classes_of, guessed, require_as_many, require_labels
from separatrix.diffusion.predictions import require_process
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter, require_key
from separatrix.systems.signature import Frozen, as_pytree


class DenoisingScoreMatching(eqx.Module):
    r"""E |e(t, x(t)) - eps|^2 over data, noise and uniform times: an objective for `fit`.

    **Arguments:**

    - `process`: a `NoisingProcess`.
    - `earliest`: times are drawn from [earliest, horizon]; below it the noise has no size left to be guessed. At least 0
      and below the horizon.
    - `drop`: share of labels left out, where the batch is a pair (x, labels); from 0 to 1.

    Called as `loss(network, batch, key=key)`. The network is a function of (t, x), or of (t, x, label) where there are
    labels; then `network.classes` is the number that stands for none. x has no batch axis there. A label outside
    0, ..., classes makes the loss NaN.

    **Raises:** `TypeError` for anything but a `NoisingProcess`, and where it is called with labels for a network without
    classes; `ValueError` for values outside these ranges.

    **Example:**

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> data = jax.random.normal(jax.random.key(0), (500, 2))
    >>> network = sx.diffusion.ScoreMLP(2, width=32, key=jax.random.key(1), dtype=jnp.float64)
    >>> loss = sx.diffusion.DenoisingScoreMatching(sx.diffusion.VP())
    >>> run = sx.fit(loss, optax.adam(1e-3), data, initial=network, steps=5, batch_size=50, key=jax.random.key(2))
    >>> str(run.outcome)
    'completed'

    **Reference:** Vincent, *A connection between score matching and denoising autoencoders* (2011), section 4; Ho, Jain &
    Abbeel (2020), equation 14; Ho & Salimans, *Classifier-free diffusion guidance* (2022), algorithm 1.
    """

    process: Checked[NoisingProcess]
    earliest: Scalar = eqx.field(default=1e-3, converter=as_parameter)
    drop: Scalar = eqx.field(default=0.1, converter=as_parameter)

    def __check_init__(self) -> None:
        require_process("DenoisingScoreMatching: process", self.process)
        check_earliest("DenoisingScoreMatching: earliest", self.earliest, self.process)
        ranges.share("DenoisingScoreMatching: drop", self.drop, "Leave it out for 0.1.")

    @property
    def guess(self) -> str:
        """What the network gives."""
        return "noise"

    def __call__(self, network: Any, batch: Any, *, key: Key | None = None) -> Scalar:
        return jnp.mean(self.terms(network, batch, key=key))

    def terms(self, network: Any, batch: Any, *, key: Key | None = None) -> Float[Array, "batch"]:
        """The loss of each example."""
        x, labels = batch if isinstance(batch, tuple) else (batch, None)
        times_key, noise_key, drop_key = jax.random.split(require_key(key, "DenoisingScoreMatching"), 3)
        count, dtype = x.shape[0], x.dtype
        low, high = (jnp.asarray(v, dtype) for v in (self.earliest, self.process.horizon))
        # Stratified: one time in each of `count` equal parts, so that a batch covers them all.
        places = (jnp.arange(count, dtype=dtype) + jax.random.uniform(times_key, (count,), dtype)) / count
        times = low + (high - low) * places
        noised, noise = jax.vmap(self.process.perturb)(jax.random.split(noise_key, count), times, x)
        found = guessed("DenoisingScoreMatching: network", network, times, noised, labels, self.drop, drop_key)
        return jnp.mean(((found - noise) ** 2).reshape(count, -1), axis=1)

    def weight(self, t: Any) -> Array:
        """What the mean square of D - x(0) counts for at time t."""
        alpha, sigma = self.process.marginal(t)
        return (alpha / sigma) ** 2

    def nodes(self, count: int) -> tuple[Array, Array]:
        """Times and masses of the law of times, for integrals over it: the midpoint rule."""
        places = (jnp.arange(float(count)) + 0.5) / count
        return self.earliest + (self.process.horizon - self.earliest) * places, jnp.full(count, 1 / count)


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
        require_as_many("score_of: labels", self.labels, x)
        network = self.network.thaw() if isinstance(self.network, Frozen) else self.network
        none = network.classes
        wanted = jax.vmap(lambda point, label: network(time, point, label))(x, self.labels)
        plain = jax.vmap(lambda point: network(time, point, none))(x)
        weight = jnp.asarray(self.guidance, x.dtype)
        return -((1 + weight) * wanted - weight * plain) / sigma


def score_of(process: Checked[NoisingProcess], network: Any, labels: Any = None, guidance: Any = 0.0) -> LearnedScore:
    r"""Return the score that a denoising network has learned, for `reverse`, `probability_flow` and `sample`.

        score(t, x) = -e(t, x)/sigma(t)

    **Arguments:**

    - `process`, `network`: as in `DenoisingScoreMatching`.
    - `labels`: shape (B,), what each member of the batch is to be: integers from 0 to `network.classes`, which itself
      stands for none.
    - `guidance`: w >= 0; 0 follows the labels as they were learned, more follows them further than the data does.

    **Returns:** a function of (t, x), x of shape (B, ...).

    **Raises:** `TypeError` for a network that cannot be called or has no labels; `ValueError` for labels that are no
    integers, labels or a guidance outside these ranges, a guidance without labels, or, when it is called, another number
    of labels than of points.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> score = sx.diffusion.score_of(sx.diffusion.VP(), lambda t, x: x)
    >>> score(1.0, jnp.ones((3, 2))).shape
    (3, 2)
    """
    require_process("score_of: process", process)
    if not callable(network):
        do = "Pass what fit returned as its model."
        raise TypeError(explain("score_of: network", type(network).__name__, "a function of (t, x)", do))
    ranges.nonnegative("score_of: guidance", guidance, "Leave it out to follow the labels as they were learned.")
    if labels is not None:
        labels = require_labels("score_of: labels", classes_of("score_of: network", network), labels)
    if labels is None and not is_traced(guidance) and np.any(np.asarray(guidance) != 0):
        raise ValueError(explain("score_of: guidance", guidance, "0, without labels", "Pass labels= to be guided by."))
    return LearnedScore(process, as_pytree(network), labels, as_parameter(guidance))


def check_earliest(what: str, earliest: Any, process: NoisingProcess) -> None:
    """Refuse an earliest time that is negative, or not before the horizon."""
    do = "Leave it out for 1e-3."
    ranges.nonnegative(what, earliest, do)
    ranges.ordered(f"{what} and the horizon", earliest, process.horizon, do, strictly=True)
