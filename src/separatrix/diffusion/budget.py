r"""Where the error of a sampler comes from, in the unit of the data: prior, score, steps.

A point x_0 goes to F(x_0) = F_N o ... o F_1. What is wrong at one place is carried to the end by the tangent map of the
path, to first order:

    prior    (x_0 - P x_0)                      P: the law at the first level as a normal law of the same two moments
    score    F_n(x) - F_n*(x) at each step      F_n*: the same step with the exact prediction
    steps    the end less that of four times the steps by Heun's method, each cut evenly in sigma (ln sigma before noise 0)

Let delta be their sum at the end, a vector for each of M points. Point by point it couples what is sampled with what should
be, and every coupling bounds Wasserstein's distance; averaged over directions,

    sliced W_2 <= sqrt(E |delta|^2/d)           equal in one dimension, where the flow keeps the order of points.

On N(0, v) under sigma = t a score that is wrong by a factor 1 + e ends with the variance v (v/(v + T^2))^e: to first order
sliced W_2 = sqrt(v) (e/2) ln(1 + T^2/v). High noise counts as much as low, e-fold for e-fold.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Checked, Key, State, StepIndex
from separatrix.diffusion.floors import EmpiricalLaw
from separatrix.diffusion.mixture import GaussianMixture
from separatrix.diffusion.predictions import Prediction
from separatrix.diffusion.processes import NoisingProcess
from separatrix.diffusion.samplers import ChurnedHeun, SamplingMap, sampling_map
from separatrix.evolution import evolve
from separatrix.systems.map import FiniteMap

_PARTS = 4


class ErrorBudget(NamedTuple):
    """Root mean square displacements of the end, a coordinate, in the unit of the data.

    - `prior`, `score`, `steps`: by each cause; `steps` is NaN for a sampler that draws noise.
    - `by_step`: of the score's part, by the step at which it was made. `bound`: of the sum of all that is known.
    - `displacements`: that sum, shape (M, ...). `parts`: the score's, step by step, shape (N, M, ...). `ends`: where the
      points came out.
    """

    prior: Array
    score: Array
    steps: Array
    by_step: Float[Array, "steps"]
    bound: Array
    displacements: Array
    parts: Array
    ends: Array

    @property
    def shares(self) -> dict[str, float]:
        """What each cause makes of the sum of their squares."""
        squares = {name: float(getattr(self, name)) ** 2 for name in ("prior", "score", "steps")}
        total = sum(square for square in squares.values() if np.isfinite(square))
        return {name: square / total if total > 0 else 0.0 for name, square in squares.items()}


class LawPrediction(eqx.Module):
    """(t, x) -> the mean of the data behind each point of a batch, under a law."""

    law: Any
    process: NoisingProcess

    def __call__(self, t: Any, x: Array) -> Array:
        return jax.vmap(lambda point: self.law.posterior_mean(self.process, t, point))(x)


class ErrorMap(FiniteMap):
    """A sampler, and what is wrong so far at its state: a displacement for the prior and for each step."""

    sampler: SamplingMap
    exact: SamplingMap
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        inside, wrong = state
        after, push = jax.linearize(lambda z: self.sampler.step(n, z, key=key), inside)
        own = jax.tree.map(jnp.subtract, after, self.exact.step(n, inside, key=key))
        carried = jax.vmap(push)(wrong)
        place = jnp.asarray(n) + 1
        return after, jax.tree.map(lambda rows, row: rows.at[place].add(row), carried, own)


def error_budget(map: Checked[SamplingMap], law: Any, start: Array, *, key: Key | None = None) -> ErrorBudget:
    r"""Return what prior, score and steps each do to the samples of a map, to first order.

        sliced W_2 <= sqrt(E |delta_prior + delta_score + delta_steps|^2/d)

    **Arguments:**

    - `map`: what `sampling_map` gives. `law`: of the data, a `GaussianMixture` or an `EmpiricalLaw`; against the second a
      network that does not repeat its examples is far off at little noise, and rightly so: see `by_step`.
    - `start`: points of the prior at the first level, shape (M, ...). `key`: for a sampler that draws.

    **Returns:** an `ErrorBudget`.

    **Raises:** `TypeError` for another map or law.

    **Example:** normal data, a score that is 1 % too large from sigma = 10 on: sqrt(v) (e/2) ln(1 + T^2/v), nearly.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> law, edm = sx.diffusion.GaussianMixture([1.0], [[0.0]], [1.0]), sx.diffusion.EDM(10.0)
    >>> wrong = sx.diffusion.Prediction(edm, lambda t, x: -1.01 * x / (1 + t**2), "score")
    >>> times = jnp.geomspace(10.0, 1e-2, 400)
    >>> map = sx.diffusion.sampling_map(sx.diffusion.DDIM(), wrong, times)
    >>> budget = sx.diffusion.error_budget(map, law, jnp.array([[10.05], [-10.05]]))
    >>> round(float(budget.score), 3), round(0.005 * float(jnp.log(101.0)), 3)
    (0.023, 0.023)

    **Reference:** Chen et al., *Sampling is as easy as learning the score* (2023), theorem 2, for the three parts; Kwon,
    Fan & Lee, *Score-based generative modeling secretly minimizes the Wasserstein distance* (2022), theorem 1, for a bound.
    To first order along paths it is the variation of constants.
    """
    if not isinstance(map, SamplingMap):
        do = "Pass what sampling_map(...) gives."
        raise TypeError(explain("error_budget: map", type(map).__name__, "a SamplingMap", do))
    if not hasattr(law, "posterior_mean"):
        do = "Pass a GaussianMixture, or EmpiricalLaw(examples)."
        raise TypeError(explain("error_budget: law", type(law).__name__, "a law of data", do))
    process = map.prediction.process
    exact = Prediction(process, LawPrediction(law, process), "clean")
    ahead = ErrorMap(map, SamplingMap(map.sampler, exact, map.times, map.length), map.length)
    first = map.sampler.begin(start)
    wrong = jax.tree.map(lambda leaf: jnp.zeros((map.length + 1, *leaf.shape), leaf.dtype), first)
    of_prior = start - _as_the_law(law, process, map.times[0], start)
    wrong = jax.tree.map(lambda rows, row: rows.at[0].set(row), wrong, map.sampler.begin(of_prior))
    inside, carried = evolve(ahead, (first, wrong), key=key, save="last").final
    ends, wrong = map.sampler.seen(inside), map.sampler.seen(carried)
    parts = wrong[1:]
    of_steps = ends - _finely(map, start) if draws_nothing(map) else jnp.full_like(ends, jnp.nan)
    of_score = jnp.sum(parts, axis=0)
    total = wrong[0] + of_score + jnp.where(jnp.isnan(of_steps), 0, of_steps)

    each = jax.vmap(root_mean_square)(parts)
    prior, score, steps = (root_mean_square(part) for part in (wrong[0], of_score, of_steps))
    return ErrorBudget(prior, score, steps, each, root_mean_square(total), total, parts, ends)


def root_mean_square(displacement: Array) -> Array:
    """sqrt(E |delta|^2/d) over points and coordinates."""
    return jnp.sqrt(jnp.mean(displacement**2))


def draws_nothing(map: SamplingMap) -> bool:
    """Whether a sampler is known to be the same map each time."""
    share = getattr(map.sampler, "eta", getattr(map.sampler, "churn", None))
    return map.sampler.draws == 0 or (share is not None and not np.any(np.asarray(share) != 0))


def _finely(map: SamplingMap, start: Array) -> Array:
    """Where the probability flow of the same prediction leads, by Heun's method in four times the steps."""
    process = map.prediction.process
    alpha, sigma = process.marginal(map.times)
    levels = np.asarray(sigma / jnp.where(alpha > 0, alpha, 1), float)
    shares = np.arange(1, _PARTS) / _PARTS
    times = [map.times[:1]]
    for n in range(map.length):
        high, low = levels[n], levels[n + 1]
        between = high * (low / high) ** shares if low > 0 else high * (1 - shares)
        if alpha[n] > 0:
            times.append(process.time_of(jnp.asarray(between, map.times.dtype)))
        times.append(map.times[n + 1 : n + 2])
    finer = sampling_map(ChurnedHeun(), map.prediction, jnp.concatenate(times))
    return evolve(finer, start, save="last").final


def _as_the_law(law: Any, process: NoisingProcess, t: Any, start: Array) -> Array:
    """Points of the prior moved so that their mean and covariance are those of the law at time t."""
    alpha, sigma = (jnp.asarray(value, start.dtype) for value in process.marginal(t))
    (_, last), prior = process.marginal(process.horizon), jnp.asarray(process.prior_scale, start.dtype)
    width = prior * sigma / jnp.asarray(last, start.dtype)
    mean, values, vectors = _moments(law, start.dtype)
    flat = start.reshape(start.shape[0], -1)
    stretched = (jnp.sqrt(alpha**2 * values + sigma**2) - sigma) / width
    moved = alpha * mean[None] + flat * sigma / width + (flat @ vectors.T * stretched[None]) @ vectors
    return moved.reshape(start.shape)


def _moments(law: Any, dtype: Any) -> tuple[Array, Array, Array]:
    """Mean, and eigenvalues and eigenvectors (as rows) of the covariance; what is not among them has no variance."""
    if isinstance(law, GaussianMixture):
        means, weights = law.means.astype(dtype), law.weights.astype(dtype)
        mean = weights @ means
        apart = means - mean[None]
        inner = jnp.asarray(weights @ law.scales.astype(dtype) ** 2, dtype)
        covariance = (apart * weights[:, None]).T @ apart + inner * jnp.eye(means.shape[1], dtype=dtype)
        values, columns = jnp.linalg.eigh(covariance)
        return mean, values, columns.T
    if not isinstance(law, EmpiricalLaw):
        do = "Pass a GaussianMixture, or EmpiricalLaw(examples)."
        raise TypeError(explain("error_budget: law", type(law).__name__, "one whose moments are known", do))
    rows = law.examples.reshape(law.examples.shape[0], -1).astype(dtype)
    mean = jnp.mean(rows, axis=0)
    _, sizes, vectors = jnp.linalg.svd(rows - mean[None], full_matrices=False)
    return mean, sizes**2 / rows.shape[0], vectors
