r"""What `diagnose` asks of a sampler: stiffness, exponents, growth near the data, where classes part, sources of error.

Of the first point of the state, along the path of the sampler without its noise:

    stiffness      the longest step in ln sigma times the fastest rate there
    exponent       the largest, ln(largest singular value of dy_end/dy_start)/(u_end - u_start)
    growth         the power of 1/sigma of the steepest slope of the score at the end, between the last two levels
    speciation     how many steps lie within a factor 2 of the level at which the mean of the data loses its stability

A `JudgedSampler`, which carries a law of the data, is also asked for its prior and for its `error_budget`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._types import Key, State, StepIndex
from separatrix.diagnostics.examination import examine
from separatrix.diagnostics.finding import Finding
from separatrix.diffusion.budget import ErrorBudget, error_budget, root_mean_square
from separatrix.diffusion.examination import examine_process
from separatrix.diffusion.floors import EmpiricalLaw
from separatrix.diffusion.predictions import network_prediction
from separatrix.diffusion.samplers import DPMSolver, SamplingMap, sampling_map
from separatrix.diffusion.sampling_path import PathRates, noisy_levels, path_of, rates_at, rates_of
from separatrix.diffusion.symmetry_breaking import LARGEST, path_exponents
from separatrix.evolution import evolve
from separatrix.linear.coordinates import as_vector
from separatrix.systems.map import FiniteMap
from separatrix.systems.signature import as_pytree

# A step of an explicit method over more than two e-folds of the fastest rate is unstable.
_STIFF = 2.0
# Across a surface of data the power is 2; a half more is no measurement error.
_GROWTH = 2.5
_RESOLVED = 2
# Shares of the data's own spread: a tenth is what a sampler's distance from real data often is.
_SHARE = 0.1
# The mean of so many examples is known to a quarter of their spread.
_WEIGHED = 16
_LEADING, _POINTS, _EXAMPLES = 4, 8, 1000


class JudgedSampler(FiniteMap):
    r"""A sampler beside the law that it should draw from: the same map, of which `diagnose` can ask more.

    **Arguments:**

    - `sampler`: what `sampling_map` gives. `law`: a `GaussianMixture` or an `EmpiricalLaw`.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> law, edm = sx.diffusion.GaussianMixture([1.0], [[0.0]], [1.0]), sx.diffusion.EDM(8.0)
    >>> exact = sx.diffusion.Prediction(edm, law.score_under(edm).clean, "clean")
    >>> map = sx.diffusion.sampling_map(sx.diffusion.DDIM(), exact, jnp.geomspace(8.0, 0.1, 200))
    >>> found = sx.diagnostics.examine(sx.diffusion.JudgedSampler(map, law), jnp.array([[8.0], [-8.0]]))
    >>> [finding.holds for finding in found if "score" in finding.name]
    [True, True]
    """

    sampler: SamplingMap
    law: Any

    @property
    def length(self) -> int:  # type: ignore[override]
        """How many steps."""
        return self.sampler.length

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.sampler.step(n, state, key=key)


class OneLabel(eqx.Module):
    """(t, x) -> model(t, x, label): the same label for all, or none."""

    model: Any
    label: Any

    def __call__(self, t: Any, x: Any) -> Any:
        return self.model(t, x) if self.label is None else self.model(t, x, self.label)


def judged(model: Any, examples: Any, schedule: Any, key: Key, steps: int = 20) -> tuple[JudgedSampler, Any]:
    """DPM-Solver++ of a model without a label beside (some of) its examples, and points to start from."""
    process, few = model.process, examples[:: max(1, len(examples) // _EXAMPLES)]
    label = None if model.classes is None else jnp.asarray(model.classes)
    prediction = network_prediction(process, OneLabel(as_pytree(model), label), "clean")
    map = sampling_map(DPMSolver(), prediction, schedule.times(process, steps))
    dtype = examples.dtype
    width = jnp.asarray(process.prior_scale, dtype)  # at the horizon, where the schedule begins
    start = width * jax.random.normal(key, (_POINTS, *examples.shape[1:]), dtype)
    return JudgedSampler(map, EmpiricalLaw(jnp.asarray(few))), map.sampler.begin(start)


@examine.register(SamplingMap)
def examine_sampler(system: SamplingMap, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """Stiffness, exponents, growth and speciation along the path of the first point of the state."""
    x = jnp.asarray(system.sampler.seen(state))[0]
    try:
        noisy, levels = noisy_levels(system, "examination of a sampler")
    except ValueError:
        return []
    times, path, end = path_of(system, x, noisy)
    noised = system.times[np.flatnonzero(noisy)]
    middle = _mean(system, noised[0], x)
    # One program for all: along the path, at its end, at the mean of the data.
    count, every = len(path), jnp.concatenate([path, jnp.stack([end] * 2 + [middle] * len(levels))])
    lowest, highest = rates_at(system.prediction, jnp.concatenate([times, noised[-2:], noised]), every)
    slopes = np.asarray(jnp.maximum(jnp.abs(lowest), jnp.abs(highest)))[count : count + 2] / levels[-2:] ** 2
    return [
        _stiffness(rates_of(levels, lowest[:count], highest[:count]), times, levels),
        _exponent(system, x),
        _growth(slopes, levels),
        *_speciation(np.asarray(highest[count + 2 :]), noised, levels),
    ]


def _mean(system: SamplingMap, t: Any, x: Any) -> Any:
    """The guess at the highest level of the guess at the highest level: all but the mean of the data."""
    process = system.prediction.process

    @jax.jit
    def twice(t: Any, x: Any) -> Any:
        alpha = jnp.asarray(process.marginal(t)[0], x.dtype)
        return system.prediction.clean(t, alpha * system.prediction.clean(t, x[None]))[0]

    return twice(t, x)


def _stiffness(found: PathRates, times: Any, levels: Any) -> Finding:
    worst = int(np.argmax(np.asarray(found.stiffness)))
    size, stiffness = float(np.log(levels[worst] / levels[worst + 1])), float(found.stiffness[worst])
    cause = f"at t = {float(times[worst]):.3g} {size:.3g} e-folds of noise meet a rate {stiffness / size:.3g}"
    do = "Take more steps, or a schedule that is even in log-SNR."
    return Finding("stiffness of the stiffest step that leaves noise", stiffness, "<=", _STIFF, cause, do)


def _exponent(system: SamplingMap, x: Any) -> Finding:
    count = None if x.size <= LARGEST else _LEADING
    exponents = np.asarray(path_exponents(system, x, count=count))
    cause = "neighbours in noise end further apart than they began, and so do errors made early"
    do = "Expect samples to change with small changes of the network; average its weights, or lower the guidance."
    return Finding("largest exponent along the path", float(exponents[-1]), "<=", 0.0, cause, do, "caution")


def _growth(slopes: Any, levels: Any) -> Finding:
    power = float(np.log(slopes[1] / slopes[0]) / np.log(levels[-2] / levels[-1]))
    cause = "steeper than noise across a surface of data, whose power is 2: the network's guess jumps near there"
    do = "End at more noise, or train more at that level."
    name = f"power of 1/sigma of the score's slope, from sigma/alpha = {levels[-2]:.3g} to {levels[-1]:.3g}"
    return Finding(name, power, "<=", _GROWTH, cause, do, "caution")


def _speciation(rates: Any, times: Any, levels: Any) -> list[Finding]:
    """Where the mean of the data loses its stability; none if it keeps it."""
    risen = np.flatnonzero(np.diff((rates > 0).astype(int)) > 0)
    if not len(risen):
        return []
    n = int(risen[0])
    share = rates[n] / (rates[n] - rates[n + 1])
    level = float(np.exp(np.log(levels[n]) + share * np.log(levels[n + 1] / levels[n])))
    near = int(np.sum((levels > level / 2) & (levels < 2 * level)))
    cause = (
        f"classes part at sigma/alpha = {level:.3g}, between t = {float(times[n]):.3g} and {float(times[n + 1]):.3g}"
    )
    do = "Take more steps, or give times of your own: GivenTimes(...)."
    name = f"levels within a factor 2 of where the mean of the data loses its stability, sigma/alpha = {level:.3g}"
    return [Finding(name, near, ">=", _RESOLVED, cause, do, "caution")]


@examine.register(JudgedSampler)
def examine_judged(system: JudgedSampler, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """What a sampler is asked, its prior, and where its error comes from."""
    map, law = system.sampler, system.law
    data = law.examples if isinstance(law, EmpiricalLaw) else law.sample(jax.random.key(0), 512)
    start = jnp.asarray(map.sampler.seen(state))[:_POINTS]
    budget = error_budget(map, law, start, key=key if key is not None else jax.random.key(0))
    of_process = examine_process(map.prediction.process, data)
    return [*examine_sampler(map, state, key=key), *of_process, *_shares(map, law, start, budget, data)]


def _shares(map: SamplingMap, law: Any, start: Any, budget: ErrorBudget, data: Any) -> list[Finding]:
    """Displacements of samples by prior, steps and score, beside the spread of the data, and shares of their squares."""
    spread = float(np.std(np.asarray(as_vector(data - jnp.mean(data, axis=0)[None]))))
    known, by_step = _known(map, law, start), np.asarray(budget.by_step)
    of_score = root_mean_square(jnp.sum(budget.parts[np.flatnonzero(known)], axis=0)) if known.any() else jnp.nan
    worst = _level(map, map.times[int(np.argmax(np.where(known, by_step, -1)))])
    cause, above = f"most is made at sigma/alpha = {worst:.3g}", ""
    if not known.all():
        above = f" above sigma/alpha = {_level(map, map.times[int(np.argmin(known))]):.3g}"
        cause += "; at less noise the examples do not say what it should be"
    rows = (
        ("prior", budget.prior, "the prior is not the law there", "Begin at more noise."),
        ("steps", budget.steps, f"{map.length} are few for this sampler", "Take more, or a sampler of higher order."),
        (f"score{above}", of_score, cause, "Train longer, or a wider network."),
    )
    sizes = np.array([float(size) / spread for _, size, *_ in rows])
    told = sizes**2 / np.nansum(sizes**2)
    return [
        Finding(
            f"error by the {what}, {share:.0%} of squares, in spreads of the data",
            size,
            "<=",
            _SHARE,
            why,
            do,
            "caution",
        )
        for (what, _, why, do), size, share in zip(rows, sizes.tolist(), told, strict=True)
    ]


def _known(map: SamplingMap, law: Any, start: Any) -> Any:
    """At which steps a law says what the score is: of a set, where so many of its examples count."""
    if not isinstance(law, EmpiricalLaw):
        return np.ones(map.length, bool)
    path = evolve(map, map.sampler.begin(start), save="all")
    states = map.sampler.seen(path.states)[:-1]
    process = map.prediction.process
    count = jax.jit(lambda t, some: jnp.mean(jax.vmap(lambda x: law.effective(process, t, x))(some)))
    counts = [float(count(jnp.asarray(t, states.dtype), some)) for t, some in zip(map.times[:-1], states, strict=True)]
    return np.logical_and.accumulate(np.asarray(counts) >= _WEIGHED)


def _level(map: SamplingMap, t: Any) -> Any:
    alpha, sigma = map.prediction.process.marginal(t)
    return float(sigma) / float(alpha) if float(alpha) > 0 else float("inf")
