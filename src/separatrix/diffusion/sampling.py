r"""Sampling is the verbs, composed.

    reverse SDE        evolve(reverse(process, score), prior)                    with EulerMaruyama, ...
    probability flow   evolve(reverse(probability_flow(process, score)), prior)  with Heun, RK4, a diffrax solver, ...
    DDIM               Euler on the same flow in other coordinates: with y = x/alpha against s = sigma/alpha,

        dy/ds = -sigma grad log p_t(x) = the noise in x,

which is a straight line wherever the noise is guessed the same. In that clock useful steps are very uneven: a `Schedule`
says where they are, and a `Sampler` is one such step.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import Diverged, explain
from separatrix._tree import float_dtype, is_inexact, is_traced, scale
from separatrix._types import Checked, Key, Scalar, Score, State
from separatrix.calculus import on_grid, probability_flow, reverse
from separatrix.calculus.methods import EulerMaruyama
from separatrix.calculus.methods.base import FlowMethod, SDEMethod
from separatrix.diffusion.matching import check_earliest
from separatrix.diffusion.predictions import (
    PredictedFlow,
    Prediction,
    prediction_of,
    require_one_process,
    require_prediction,
    require_process,
)
from separatrix.diffusion.processes import NoisingProcess
from separatrix.diffusion.samplers import DDIM, Sampler, sampling_map
from separatrix.diffusion.schedules import KarrasLevels, UniformTimes, times_of
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap
from separatrix.systems.signature import as_pytree
from separatrix.systems.trajectory import Trajectory


class DenoisingFlow(Flow):
    r"""dy/ds = -sigma score(t, alpha y), the probability flow in y = x/alpha against s = sigma/alpha.

    Its Euler steps are DDIM. Run it from large s to small with `reverse(flow, horizon=s_max)`, or down a falling grid of s
    with `on_grid`.

    **Arguments:**

    - `process`: a `NoisingProcess`. `score`: grad log p_t(x), a function of (t, x).

    **Example:** all mass at 0: y shrinks in proportion to s.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> process = sx.diffusion.Brownian(1.0)
    >>> flow = sx.diffusion.DenoisingFlow(process, lambda t, x: -x / t)
    >>> flow.velocity(0.5, jnp.array([1.0])).item()
    2.0

    **Reference:** Song, Meng & Ermon, *Denoising diffusion implicit models* (2021), equations 13 and 14.
    """

    process: NoisingProcess
    score: Score

    def __init__(self, process: NoisingProcess, score: Score):
        self.process, self.score = process, as_pytree(score)

    def velocity(self, t: Scalar, state: State) -> State:
        dtype = float_dtype(state)
        time = jnp.asarray(self.process.time_of(jnp.asarray(t, dtype)), dtype)
        alpha, sigma = self.process.marginal(time)
        return scale(-sigma, self.score(time, scale(alpha, state)))


def denoised(process: NoisingProcess, score: Score, t: Any, state: Array) -> Array:
    r"""Return the mean of the data that x(t) may have come from.

        E[x(0) | x(t) = x] = (x + sigma^2 score(t, x))/alpha

    **Arguments:**

    - `process`: a `NoisingProcess`. `score`: score(t, x). `t`: time. `state`: x.

    **Example:** standard normal data under Brownian motion, seen at t = 1, are worth half of what is seen.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.diffusion.denoised(sx.diffusion.Brownian(), lambda t, x: -x / (1.0 + t), 1.0, jnp.array([3.0])).tolist()
    [1.5]

    **Reference:** Efron, *Tweedie's formula and selection bias* (2011), equation 1.4.
    """
    alpha, sigma = process.marginal(jnp.asarray(t, state.dtype))
    return (state + sigma**2 * score(t, state)) / alpha


def sample(
    process: Checked[NoisingProcess],
    score: Any,
    key: Key,
    shape: tuple[int, ...],
    *,
    steps: Checked[int | None] = None,
    method: Any = None,
    schedule: Any = None,
    earliest: Any = 1e-3,
    denoise: bool = False,
    parallel: Any = None,
    dtype: Any = None,
    save: Any = "last",
    throw: bool = False,
) -> Trajectory:
    r"""Draw from the prior and run the process back to data.

    **Arguments:**

    - `process`: a `NoisingProcess`. `score`: grad log p_t(x), exact (`GaussianMixture.score_under`) or learned
      (`score_of`), a function of (t, x) with x of the shape given; or a `Prediction`.
    - `key`: of the prior and of the noise on the way. `shape`: of the state, (B, ...) for a batch.
    - `method`: `EulerMaruyama()` by default. Any method for SDEs runs the reverse SDE; any for flows (`Heun()`, a diffrax
      solver) the probability flow; a `Sampler` (`DDIM()`, `DPMSolver()`, ...) takes its own steps.
    - `steps`: how many, at least 1; 200 by default, 50 with a schedule or a sampler. None for a diffrax solver, which
      chooses its own.
    - `schedule`: where the steps are, a `Schedule`; `KarrasLevels()` by default for a `Sampler`, else equal steps in t
      from the horizon to `earliest`.
    - `denoise`: put the mean of the data behind the last state in its place.
    - `parallel`: a `Parallel`, for a `Sampler` without noise or a method for flows on a schedule: all steps at once.
    - `dtype`: of the state; JAX's default float. `save`, `throw`: as in `evolve`.

    **Returns:** a `Trajectory`; the samples are its `final`, NaN where it broke on the way. Its times are those of the
    reversed clock, or with a schedule the numbers of the steps; then `stats["levels"]` has sigma/alpha at each.

    **Raises:** `TypeError` for anything but a process, or a score that cannot be called; `ValueError` for no steps, steps
    with a solver that chooses its own, or an earliest time outside [0, horizon). `Diverged` if `throw` is set: with a
    schedule it says at which noise level.

    **Example:** data all at 2, whose score is known.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> process = sx.diffusion.Brownian(1.0)
    >>> path = sx.diffusion.sample(process, lambda t, x: (2.0 - x) / t, jax.random.key(0), (4,), method=sx.Heun())
    >>> bool(jnp.all(jnp.abs(path.final - 2.0) < 0.2))
    True

    **Reference:** Song et al., *Score-based generative modeling through SDEs* (2021), equations 6 and 13.
    """
    require_process("sample: process", process)
    prediction = prediction_of("sample: score", process, score)
    require_one_process("sample: process and score", process, prediction.process)
    check_earliest("sample: earliest", earliest, process)
    for size in shape:
        ranges.whole("sample: shape", size, "Pass the shape of the state, (B, ...) for a batch.")
    method = EulerMaruyama() if method is None else method
    prior_key, path_key = jax.random.split(key)
    start = process.prior(prior_key, shape, dtype)
    if isinstance(method, Sampler) or schedule is not None:
        times = times_of("sample", KarrasLevels() if schedule is None else schedule, process, steps)
        path = _down(prediction, method, times, start, path_key, save=save, parallel=parallel, throw=throw)
        last = float(times[-1]) if not is_traced(times) else times[-1]
    else:
        if parallel is not None:
            do = "Pass schedule=, and a DDIM(), a DPMSolver() or a method for flows."
            raise ValueError(explain("sample: parallel", "no schedule", "a map of finitely many steps", do))
        path = _back(process, score, prediction, method, steps, earliest, start, path_key, save=save, throw=throw)
        last = earliest
    return _denoised(path, prediction, last) if denoise else path


def ddim_inversion(
    prediction: Checked[Prediction], x: Any, *, steps: Checked[int | None] = None, schedule: Any = None
) -> Array:
    r"""Return the noise that DDIM turns into given data: its steps taken upwards.

    The inverse is not exact: a step guesses at its lower end. What comes back from the noise by as many steps differs by an
    error of order 1 in their number.

    **Arguments:**

    - `prediction`: a `Prediction`. `x`: data, of the shape that it takes: finite floating-point numbers.
    - `steps`, `schedule`: as in `sample`, ending above t = 0; `UniformTimes(1e-3)` by default.

    **Returns:** x at the first time of the schedule.

    **Raises:** `TypeError` for anything but a `Prediction`; `ValueError` for data that are no finite floating-point
    numbers, or a schedule that ends without noise, from where nothing is to be guessed.

    **Example:** standard normal data stay as they are, up to that error.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> normal = sx.diffusion.Prediction(sx.diffusion.VP(), lambda t, x: -x, "score")
    >>> round(float(sx.diffusion.ddim_inversion(normal, jnp.array([1.0]), steps=1000)[0]), 2)
    1.0

    **Reference:** Song, Meng & Ermon, *Denoising diffusion implicit models* (2021), section 4.3 and equation 14.
    """
    require_prediction("ddim_inversion: prediction", prediction)
    if not hasattr(x, "dtype") or not is_inexact(x):
        got, do = getattr(x, "dtype", type(x).__name__), "Pass jnp.asarray(x, float)."
        raise ValueError(explain("ddim_inversion: x", got, "an array of floating-point numbers", do))
    ranges.finite("ddim_inversion: x", x, "Leave out the examples that are not finite.")
    times = times_of("ddim_inversion", UniformTimes(1e-3) if schedule is None else schedule, prediction.process, steps)
    if not is_traced(times) and float(times[-1]) <= 0:
        do = "Pass for example UniformTimes(1e-3)."
        raise ValueError(explain("ddim_inversion: schedule", "one that ends at t = 0", "a last time above 0", do))
    return evolve(sampling_map(DDIM(), prediction, times[::-1]), x, save="last").final


def _back(
    process: NoisingProcess, score: Any, prediction: Prediction, method: Any, steps: Any, earliest: Any, start: Array,
    key: Key, **settings: Any,
) -> Trajectory:  # fmt: skip
    """Equal steps in t, or those of a solver."""
    steps, end = _steps(steps, method), process.horizon - earliest
    if isinstance(method, SDEMethod):
        backwards: Any = reverse(process, horizon=process.horizon, score=score)
        return evolve(backwards, start, times=(0.0, end), key=key, steps=steps, method=method, **settings)
    plain = prediction.kind == "score" and not isinstance(score, Prediction)
    flow = probability_flow(process, score) if plain else PredictedFlow(prediction)
    backwards = reverse(flow, horizon=process.horizon)
    return evolve(backwards, start, times=(0.0, end), steps=steps, method=method, **settings)


def _down(
    prediction: Prediction, method: Any, times: Array, start: Array, key: Key, *, save: Any, parallel: Any, throw: bool
) -> Trajectory:
    """The steps of a schedule."""
    process, dtype = prediction.process, start.dtype
    # The law at the first time: the prior, if that is the horizon.
    widths = [process.marginal(jnp.asarray(t, dtype))[1] for t in (times[0], process.horizon)]
    x = start * jnp.asarray(widths[0] / widths[1], dtype)
    map, state = _map(prediction, method, times, x)
    random = isinstance(method, SDEMethod) or (isinstance(method, Sampler) and method.draws > 0 and not _still(method))
    settings = {} if parallel is None else {"method": parallel, "steps": map.length}
    if parallel is not None and random:
        do = "Take DDIM(), DPMSolver() or a method for flows."
        raise ValueError(explain("sample: parallel", type(method).__name__, "a sampler without noise", do))
    path = evolve(map, state, key=key if random else None, save=save, **settings)
    alpha, sigma = process.marginal(times)
    path = _seen(path, method if isinstance(method, Sampler) else None, sigma / alpha)
    if throw and not is_traced(path.outcome) and not bool(path.outcome.reached):
        at = int(path.outcome.at)
        now = max(at - 1, 0)
        level = f"noise level sigma = {float(sigma[now]):.4g}, t = {float(times[now]):.4g}, step {at} of {map.length}"
        do = f"Check the prediction there. {path.outcome.advice}"
        raise Diverged(explain("sample", f"{path.outcome.name} at {level}", "finite states", do))
    return path


def _map(prediction: Prediction, method: Any, times: Array, x: Array) -> tuple[FiniteMap, State]:
    if isinstance(method, Sampler):
        return sampling_map(method, prediction, times), method.begin(x)
    if isinstance(method, SDEMethod):
        horizon = prediction.process.horizon
        backwards: Any = reverse(prediction.process, horizon=horizon, score=prediction)
        return on_grid(backwards, method, jnp.asarray(horizon, times.dtype) - times), x
    if isinstance(method, FlowMethod):
        return on_grid(PredictedFlow(prediction), method, times), x
    do = "Leave the schedule out, or pass a Sampler or a method of fixed steps."
    raise ValueError(explain("sample: schedule", f"a schedule with {type(method).__name__}", "steps of its own", do))


def _still(sampler: Sampler) -> bool:
    """Whether a sampler is known to draw nothing."""
    share = getattr(sampler, "eta", getattr(sampler, "churn", None))
    return share is not None and not is_traced(share) and not np.any(np.asarray(share) != 0)


def _seen(path: Trajectory, sampler: Sampler | None, levels: Array) -> Trajectory:
    """What is seen of the states of a sampler, and the levels."""
    stats = dict(path.stats) | {"levels": levels}
    states, last = (path.states, path.last) if sampler is None else (sampler.seen(path.states), sampler.seen(path.last))
    return Trajectory(path.times, states, last, path.last_time, path.outcome, stats)


def _denoised(path: Trajectory, prediction: Prediction, last: Any) -> Trajectory:
    clean = prediction.clean(last, path.last)
    return Trajectory(path.times, path.states, clean, path.last_time, path.outcome, path.stats)


def _steps(steps: Any, method: Any) -> int | None:
    """How many steps of a method; none for a solver that chooses its own."""
    if isinstance(method, SDEMethod | FlowMethod):
        do = "Leave it out for 200: without a step the prior itself would be the sample."
        return ranges.whole("sample: steps", 200 if steps is None else steps, do)
    if steps is not None:
        got, do = f"{steps} with {type(method).__name__}", "Leave it out, or pass a method of fixed steps as sx.Heun()."
        raise ValueError(explain("sample: steps", got, "none, for a solver that chooses its own", do))
    return None
