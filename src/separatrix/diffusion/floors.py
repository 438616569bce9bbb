r"""The least that a loss can be, and how far above it a network is.

With P(t) = E |x(0) - D(t, x(t))|^2 a coordinate, D the exact mean, every loss of this family has the least value

    floor = E_t w(t) P(t),   w = (alpha/sigma)^2 for noise, (alpha' - sigma' alpha/sigma)^2 for velocity, EDM's own for EDM

    normal data N(m, s^2)   P = s^2 sigma^2/(alpha^2 s^2 + sigma^2)
    a mixture on the line   P = E x(0)^2 - E D^2, by quadrature over x
    any data                D by Bayes' rule over the data themselves

and what a network has above it is E_t w |D_net - D|^2 exactly, which on the same draws has a small standard error. For a
finite set the floor is that of the set: a network close to it at low noise has learned the examples by heart.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._types import Key, Scalar
from separatrix.diffusion.mixture import GaussianMixture
from separatrix.diffusion.predictions import convert
from separatrix.diffusion.processes import NoisingProcess

_NODES = 20_000
_LEVELS, _POINTS = 400, 2_001


class EmpiricalLaw(eqx.Module):
    r"""The law of a finite set of examples, each as likely.

        D(t, x) = sum_i r_i x_i,   r = softmax(-|x - alpha x_i|^2/(2 sigma^2))

    **Arguments:**

    - `examples`: shape (N, ...).

    **Example:** halfway between two points that are equally likely.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> law = sx.diffusion.EmpiricalLaw(jnp.array([[-1.0], [1.0]]))
    >>> law.posterior_mean(sx.diffusion.EDM(), 0.5, jnp.array([0.0])).tolist()
    [0.0]
    """

    examples: Array

    def posterior_mean(self, process: NoisingProcess, t: Scalar, x: Array) -> Array:
        """E[x(0) | x(t) = x] at one point."""
        rows = self.examples.reshape(self.examples.shape[0], -1).astype(x.dtype)
        return (self.shares(process, t, x) @ rows).reshape(x.shape)

    def shares(self, process: NoisingProcess, t: Scalar, x: Array) -> Array:
        """r, shape (N,), at one point."""
        alpha, sigma = (jnp.asarray(v, x.dtype) for v in process.marginal(jnp.asarray(t, x.dtype)))
        rows = self.examples.reshape(self.examples.shape[0], -1).astype(x.dtype)
        gaps = jnp.sum((x.reshape(1, -1) - alpha * rows) ** 2, axis=1)
        # In units of the noise, of differences from the nearest: at sigma = 0 it alone is left.
        return jax.nn.softmax(-(gaps - jnp.min(gaps)) / jnp.maximum(2 * sigma**2, jnp.finfo(x.dtype).tiny))

    def effective(self, process: NoisingProcess, t: Scalar, x: Array) -> Array:
        """1/sum r^2 at one point: how many examples it may have come from. Near 1 the set says nothing of its law."""
        return 1 / jnp.sum(self.shares(process, t, x) ** 2)


class ExactModel(eqx.Module):
    """What the best network of a loss says: (t, x, label) -> the exact mean, as what the loss asks for."""

    law: Any
    process: NoisingProcess
    guess: str = eqx.field(static=True)
    classes: int | None = eqx.field(static=True, default=None)

    def __call__(self, t: Scalar, x: Array, label: Any = None) -> Array:
        return convert(self.process, t, x, self.law.posterior_mean(self.process, t, x), "clean", self.guess)


class LossGap(NamedTuple):
    """A loss, the floor on the same draws, how far the one is above the other, and that number's standard error."""

    loss: float
    floor: float
    gap: float
    standard_error: float


def loss_floor(loss: Any, law: GaussianMixture) -> float:
    r"""Return the least value of a loss on data of a known law, by quadrature.

        E_t w(t) P(t)

    **Arguments:**

    - `loss`: `DenoisingScoreMatching`, `EDMMatching` or `FlowMatching` (independent). `law`: a `GaussianMixture`: one
      component in any dimension, several in one.

    **Returns:** a number: a mean over coordinates, as the loss.

    **Raises:** `TypeError` for another loss; `ValueError` for several components in several dimensions, or an optimal
    coupling.

    **Example:** whatever the noise, EDM's loss is 1 on normal data of its own scale.

    >>> import separatrix as sx
    >>> normal = sx.diffusion.GaussianMixture([1.0], [[0.0]], [0.5])
    >>> round(sx.diffusion.loss_floor(sx.diffusion.EDMMatching(sx.diffusion.EDM(), center=0.3), normal), 9)
    1.0
    """
    _require_weights("loss_floor", loss)
    if getattr(loss, "coupling", "independent") != "independent":
        do = 'Take coupling="independent": the other\'s floor depends on the batch.'
        raise ValueError(explain("loss_floor: loss", "an optimal coupling", "an independent one", do))
    several, dimensions = law.weights.shape[0] > 1, law.means.shape[1]
    if several and dimensions > 1:
        got, do = f"{law.weights.shape[0]} components in {dimensions} dimensions", "Take loss_gap, which draws."
        raise ValueError(explain("loss_floor: law", got, "one component, or one dimension", do))
    times, masses = loss.nodes(_LEVELS if several else _NODES)
    alpha, sigma = loss.process.marginal(times)
    if several:
        unexplained = jax.vmap(lambda t: _unexplained(law, loss.process, t))(times)
    else:
        spread = law.scales[0] ** 2
        unexplained = spread * sigma**2 / (alpha**2 * spread + sigma**2)
    return float(jnp.sum(masses * loss.weight(times) * unexplained))


def loss_gap(loss: Any, model: Any, examples: Any, *, key: Key, law: Any = None, draws: int = 8) -> LossGap:
    r"""Return how far a model is above the least loss, on the same draws of noise.

        E_t w |D_model - D|^2

    **Arguments:**

    - `loss`: `DenoisingScoreMatching`, `EDMMatching` or `FlowMatching` (independent). `model`: as it trains.
    - `examples`: data, shape (N, ...); a pair (x, labels) is judged by what the model says without one.
    - `law`: what they are drawn from, a `GaussianMixture`; by default the examples themselves are all there is.
    - `key`: of times and noise. `draws`: of each example.

    **Returns:** a `LossGap`.

    **Raises:** `TypeError` for another loss.

    **Example:** the exact model is at the floor.

    >>> import jax, separatrix as sx
    >>> law = sx.diffusion.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.2, 0.2])
    >>> loss = sx.diffusion.EDMMatching(sx.diffusion.EDM())
    >>> exact = sx.diffusion.ExactModel(law, loss.process, "clean")
    >>> sx.diffusion.loss_gap(loss, exact, law.sample(jax.random.key(0), 50), key=jax.random.key(1), law=law).gap
    0.0

    **Reference:** Xu et al., *How far are diffusion models from the optimal loss?* (2025), for the idea; here by Bayes'
    rule over all examples.
    """
    _require_weights("loss_gap", loss)
    if isinstance(examples, tuple):
        examples = examples[0]
    classes = getattr(model, "classes", None)
    best = ExactModel(EmpiricalLaw(jnp.asarray(examples)) if law is None else law, loss.process, loss.guess, classes)
    batch = examples if classes is None else (examples, jnp.full(len(examples), classes))

    @eqx.filter_jit
    def pair(model: Any, best: Any, batch: Any, key: Key) -> tuple[Array, Array]:
        return loss.terms(model, batch, key=key), loss.terms(best, batch, key=key)

    found = [pair(model, best, batch, one) for one in jax.random.split(key, draws)]
    losses, floors = (np.concatenate([np.asarray(row[i], float) for row in found]) for i in (0, 1))
    gaps = (losses - floors).reshape(draws, -1).mean(axis=0)
    error = float(gaps.std(ddof=1) / gaps.size**0.5) if gaps.size > 1 else float("nan")
    return LossGap(float(losses.mean()), float(floors.mean()), float(gaps.mean()), error)


def _require_weights(what: str, loss: Any) -> None:
    """Refuse a loss that is no weighted square of an error of D."""
    if not hasattr(loss, "terms") or not hasattr(loss, "weight"):
        expected = "DenoisingScoreMatching, EDMMatching or FlowMatching"
        do = "The target of another loss, as MeanFlow, moves with the network: it has no floor of its own."
        raise TypeError(explain(f"{what}: loss", type(loss).__name__, expected, do))


def _unexplained(law: GaussianMixture, process: NoisingProcess, t: Any) -> Array:
    """E x(0)^2 - E D^2 of a mixture on the line."""
    means, spreads = law.means[:, 0], law.scales**2
    noised = law.noised(process, t)
    # In standard deviations of each component: the trapezoidal rule is then exact to rounding at every level.
    z = jnp.linspace(-9.0, 9.0, _POINTS)
    mass = jnp.exp(-0.5 * z**2) / jnp.sum(jnp.exp(-0.5 * z**2))
    x = noised.means[:, 0][:, None] + noised.scales[:, None] * z[None]
    clean = law.posterior_mean(process, t, x[..., None])[..., 0]
    second = jnp.sum(law.weights * (means**2 + spreads))
    return second - jnp.sum(law.weights * jnp.sum(mass[None] * clean**2, axis=1))
