r"""Sampling is the verbs, composed.

    reverse SDE        evolve(reverse(process, score), prior)                    with EulerMaruyama, ...
    probability flow   evolve(reverse(probability_flow(process, score)), prior)  with Heun, RK4, a diffrax solver, ...
    DDIM               Euler on the same flow in other coordinates: with y = x/alpha against s = sigma/alpha,

        dy/ds = -sigma grad log p_t(x) = the noise in x,

which is a straight line wherever the noise is guessed the same. In that clock useful steps are very uneven: `on_grid`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import float_dtype, scale
from separatrix._types import Checked, Key, Scalar, Score, State
from separatrix.calculus import probability_flow, reverse
from separatrix.calculus.methods import EulerMaruyama
from separatrix.calculus.methods.base import FlowMethod, SDEMethod
from separatrix.diffusion.matching import check_earliest, require_process
from separatrix.diffusion.processes import NoisingProcess
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.flow import Flow
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
    earliest: Any = 1e-3,
    dtype: Any = None,
    save: Any = "last",
    throw: bool = False,
) -> Trajectory:
    r"""Draw from the prior and run the process back to data.

    **Arguments:**

    - `process`: a `NoisingProcess`. `score`: grad log p_t(x), exact (`GaussianMixture.score_under`) or learned
      (`score_of`), a function of (t, x) with x of the shape given.
    - `key`: of the prior and of the noise on the way. `shape`: of the state, (B, ...) for a batch.
    - `steps`: of equal size in t, from the horizon to `earliest`; at least 1, 200 by default. None for a diffrax solver,
      which chooses its own.
    - `method`: `EulerMaruyama()` by default; any method for SDEs runs the reverse SDE, any for flows (`Heun()`, a diffrax
      solver) the probability flow.
    - `dtype`: of the state; JAX's default float. `save`, `throw`: as in `evolve`.

    **Returns:** a `Trajectory` in the reversed clock; the samples are its `final`, NaN where it broke on the way.

    **Raises:** `TypeError` for anything but a process, or a score that cannot be called; `ValueError` for no steps, steps
    with a solver that chooses its own, or an earliest time outside [0, horizon).

    **Example:** data all at 2, whose score is known.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> process = sx.diffusion.Brownian(1.0)
    >>> path = sx.diffusion.sample(process, lambda t, x: (2.0 - x) / t, jax.random.key(0), (4,), method=sx.Heun())
    >>> bool(jnp.all(jnp.abs(path.final - 2.0) < 0.2))
    True

    **Reference:** Song et al., *Score-based generative modeling through SDEs* (2021), equations 6 and 13.
    """
    if not callable(score):
        do = "Pass mixture.score_under(process), or score_of(process, network)."
        raise TypeError(explain("sample: score", type(score).__name__, "a function of (t, x)", do))
    require_process("sample: process", process)
    check_earliest("sample: earliest", earliest, process)
    for size in shape:
        ranges.whole("sample: shape", size, "Pass the shape of the state, (B, ...) for a batch.")
    method = EulerMaruyama() if method is None else method
    steps = _steps(steps, method)
    prior_key, path_key = jax.random.split(key)
    start = process.prior(prior_key, shape, dtype)
    end = process.horizon - earliest
    if isinstance(method, SDEMethod):
        backwards: Any = reverse(process, horizon=process.horizon, score=score)
        settings = {"steps": steps, "method": method, "save": save, "throw": throw}
        return evolve(backwards, start, times=(0.0, end), key=path_key, **settings)
    flow = reverse(probability_flow(process, score), horizon=process.horizon)
    return evolve(flow, start, times=(0.0, end), steps=steps, method=method, save=save, throw=throw)


def _steps(steps: Any, method: Any) -> int | None:
    """How many steps of a method; none for a solver that chooses its own."""
    if isinstance(method, SDEMethod | FlowMethod):
        do = "Leave it out for 200: without a step the prior itself would be the sample."
        return ranges.whole("sample: steps", 200 if steps is None else steps, do)
    if steps is not None:
        got, do = f"{steps} with {type(method).__name__}", "Leave it out, or pass a method of fixed steps as sx.Heun()."
        raise ValueError(explain("sample: steps", got, "none, for a solver that chooses its own", do))
    return None
