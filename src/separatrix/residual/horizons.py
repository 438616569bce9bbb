r"""Over which horizon can a policy be trained? As far as rounding lets a gradient through the closed loop be known.

A costate is carried back by Phi(T, t)^T, the derivative of the closed loop's state at T in that at t, and an error of the
state by Phi itself. Over a span s both grow by up to sigma_1(s), the largest singular value; in the long run
ln sigma_1(s)/s is the largest exponent. With numbers that are rounded by eps the state, and with it the gradient, is known
to the relative error eps sigma_1(s), so that an error of delta is allowed up to

    horizon = min {s : eps sigma_1(s) >= delta},       for x' = a x, a > 0:   ln(delta/eps)/a.

A closed loop that does not grow has no such horizon. A policy that is not trained yet often has a short one, so training
begins with short horizons and lengthens them as far as the policy of the moment allows.
"""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import float_dtype
from separatrix._types import Checked, Function
from separatrix.calculus import close_loop
from separatrix.diagnostics import gradient_profile
from separatrix.diagnostics.result import Result, Row
from separatrix.evolution import evolve
from separatrix.residual.control import policy_loss
from separatrix.systems import ranges
from separatrix.systems.open import OpenFlow
from separatrix.training import Fit, fit


class TrainableHorizon(Result):
    """How far a policy can be trained.

    - `horizon`: in units of time; infinite where gradients do not grow, NaN where the closed loop breaks.
    - `rate`, `rate_error`: how fast gradients grow, in nats a unit of time, over what was searched.
    - `grown`: ln of the largest growth seen. `allowed`: ln(delta/eps), the growth that is still allowed.
    - `searched`: how long the closed loop was followed; a horizon beyond it is extrapolated by the rate.
    """

    horizon: Float[Array, ""]
    rate: Float[Array, ""]
    rate_error: Float[Array, ""]
    grown: Float[Array, ""]
    allowed: Float[Array, ""]
    searched: Float[Array, ""]

    def rows(self) -> list[Row]:
        return [
            Row("trainable over a horizon of", self.horizon),
            Row("growth rate of gradients, nats", self.rate, self.rate_error),
            Row("ln of the largest growth, of what is allowed", np.array([float(self.grown), float(self.allowed)])),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        if np.isnan(self.horizon):
            return ("not known: the closed loop breaks on the way",)
        if self.searched < self.horizon < np.inf:
            return (f"extrapolated: the loop was followed over {float(self.searched):.3g}",)
        return ()


def trainable_horizon(
    plant: OpenFlow, policy: Function, state: Any, *, search_time: float, accuracy: float = 1e-3, intervals: int = 64
) -> TrainableHorizon:
    r"""Return the horizon over which the gradient of a policy is known to an accuracy, in the precision of the state.

        horizon = min {s : eps sigma_1(s) >= accuracy}

    **Arguments:**

    - `plant`, `policy`: an `OpenFlow` and u(x) or u(t, x).
    - `state`: where the closed loop starts; its dtype is the precision, eps = 1.2e-7 or 2.2e-16.
    - `search_time`: > 0, how long the loop is followed.
    - `accuracy`: delta, the relative error that a gradient may have, above eps.
    - `intervals`: rows of the profile that the growth is read from.

    **Returns:** a `TrainableHorizon`.

    **Raises:** `ValueError` for a search time that is not positive and finite, or an accuracy that is not above eps.

    **Example:** an unstable plant without feedback, x' = 2 x: ln(1e-3/2.2e-16)/2 in double precision.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> plant = sx.as_open_flow(lambda x, u: 2.0 * x + u)
    >>> found = sx.residual.trainable_horizon(plant, lambda x: 0.0 * x, jnp.array([1.0]), search_time=5.0)
    >>> eps = float(jnp.finfo(found.rate.dtype).eps)
    >>> bool(abs(found.horizon - jnp.log(1e-3 / eps) / 2) < 0.05)
    True

    **Reference:** Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks* (2013), section 2;
    Metz, Freeman, Schoenholz & Kachman, *Gradients are not all you need* (2021), section 3.
    """
    ranges.positive("trainable_horizon: search_time", search_time, "Pass how long to follow the loop.")
    dtype = float_dtype(state)
    eps = float(jnp.finfo(dtype).eps)
    ranges.require("trainable_horizon: accuracy", accuracy, f"a number above {eps:.1g}", lambda known: known > eps)
    loop = close_loop(plant, policy)
    path = evolve(loop, state, times=(0.0, search_time), dense=True)
    profile = gradient_profile(loop, path, intervals=intervals)
    # Row 0 is the whole search, the last one no time at all.
    spans, growth = profile.times[-1] - profile.times[::-1], profile.log_singular_values[::-1, 0]
    allowed = jnp.asarray(np.log(accuracy / eps), dtype)
    horizon = _first_crossing(spans, growth, allowed, profile.growth_rate, profile.growth_error)
    return TrainableHorizon(
        jnp.where(jnp.all(jnp.isfinite(growth)), horizon, jnp.nan).astype(dtype), profile.growth_rate,
        profile.growth_error, jnp.max(growth), allowed, spans[-1],
    )  # fmt: skip


def _first_crossing(spans: Any, growth: Any, allowed: Any, rate: Any, error: Any) -> Any:
    """The span at which the growth first passes what is allowed, on straight lines; beyond the last by the rate."""
    above = growth >= allowed
    k = jnp.argmax(above)
    before = jnp.maximum(k - 1, 0)
    share = (allowed - growth[before]) / jnp.where(growth[k] == growth[before], 1, growth[k] - growth[before])
    within = spans[before] + share * (spans[k] - spans[before])
    grows = rate > jnp.maximum(2 * jnp.nan_to_num(error), 1e-9)
    beyond = spans[-1] + (allowed - growth[-1]) / jnp.where(grows, rate, 1)
    return jnp.where(jnp.any(above), within, jnp.where(grows, beyond, jnp.inf))


@dataclasses.dataclass(frozen=True)
class PolicyFit:
    """A policy trained over growing horizons, and of each stage its horizon, what was trainable, its `Fit`."""

    policy: Any
    horizons: tuple[float, ...]
    trainable: tuple[float, ...]
    fits: tuple[Fit, ...]

    @property
    def loss(self) -> float:
        """The last loss of the last stage."""
        return float(self.fits[-1].losses[-1])


def train_policy(
    plant: OpenFlow,
    cost: Function,
    optimizer: Any,
    starts: Any,
    *,
    initial: Any,
    horizon: float,
    step_size: float,
    steps: Checked[int],
    stages: Checked[int] = 3,
    accuracy: float = 1e-3,
    terminal: Function | None = None,
    constraint: Function | None = None,
    weight: float = 100.0,
    method: Any = None,
    **options: Any,
) -> PolicyFit:
    r"""Train a policy by `fit` over horizons that double from stage to stage, as far as its gradients can be known.

        T_k = min(T 2^(k - K), trainable horizon of the policy of the moment),     k = 1, ..., K

    **Arguments:**

    - `plant`, `cost`, `terminal`, `constraint`, `weight`, `method`: as in `policy_loss`.
    - `optimizer`, `steps`, and `options` as `batch_size` and `key`: as in `fit`, anew for each stage.
    - `starts`: (B, ...), where the loop starts; the horizon is measured from the first of them.
    - `initial`: the policy to start from. `horizon`: T, of the last of the `stages`. `step_size`: > 0, below T.
    - `accuracy`: as in `trainable_horizon`.

    **Returns:** a `PolicyFit`. A stage that had to be cut is warned of; one that diverges is the last.

    **Raises:** `ValueError` for a horizon or step size that is not positive or does not fit, or stages below 1.

    **Example:** x' = x + u, cost x^2 + u^2: the gain 1 + sqrt 2.

    >>> import equinox as eqx, jax.numpy as jnp, optax, separatrix as sx
    >>> class Gain(eqx.Module):
    ...     value: object
    ...     def __call__(self, x):
    ...         return -self.value * x
    >>> plant = sx.as_open_flow(lambda x, u: x + u)
    >>> found = sx.residual.train_policy(
    ...     plant, lambda x, u: x[0]**2 + u[0]**2, optax.adam(0.05), jnp.ones((1, 1)), initial=Gain(jnp.array(0.5)),
    ...     horizon=8.0, step_size=0.1, steps=150)
    >>> found.horizons, round(float(found.policy.value), 1)
    ((2.0, 4.0, 8.0), 2.4)

    **Reference:** Metz et al., *Gradients are not all you need* (2021), section 5.2, for horizons that are cut.
    """
    ranges.positive("train_policy: horizon", horizon, "Say how far to look.")
    ranges.positive("train_policy: step_size", step_size, "Say how fine to step.")
    stages = ranges.whole("train_policy: stages", stages, "Take 1 for the whole horizon at once.")
    shortest = horizon / 2 ** (stages - 1)
    if step_size > shortest:
        got, expected = f"{step_size:g}", f"at most the first horizon, {shortest:g}"
        raise ValueError(explain("train_policy: step_size", got, expected, "Take smaller steps or fewer stages."))
    policy, horizons, trainable, fits = initial, [], [], []
    for stage in range(stages):
        asked = horizon / 2 ** (stages - 1 - stage)
        first = jax.tree.map(lambda leaf: leaf[0], starts)
        known = float(trainable_horizon(plant, policy, first, search_time=asked, accuracy=accuracy).horizon)
        taken = _told(asked, known, step_size)
        loss = policy_loss(
            plant, cost, horizon=taken, steps=max(round(taken / step_size), 1), terminal=terminal,
            constraint=constraint, weight=weight, method=method,
        )  # fmt: skip
        fits.append(fit(loss, optimizer, starts, initial=policy, steps=steps, **options))
        policy = fits[-1].model
        horizons.append(taken)
        trainable.append(known)
        if not bool(fits[-1].outcome.reached):
            break
    return PolicyFit(policy, tuple(horizons), tuple(trainable), tuple(fits))


def _told(asked: float, known: float, step_size: float) -> float:
    """The horizon to train over: what was asked, or what can be known of it."""
    if np.isnan(known) or known < step_size:
        got = "a closed loop that breaks" if np.isnan(known) else f"gradients that are known over {known:.2g}"
        do = "Start from a policy that keeps the plant in bounds, or take a shorter horizon."
        raise ValueError(explain("train_policy: initial", got, f"a loop that can be followed over {asked:g}", do))
    if known >= asked:
        return asked
    got = f"a horizon of {asked:g}, over which gradients cannot be known"
    do = "Take float64, a policy that stabilises, or a lower accuracy."
    warnings.warn(
        explain("train_policy", got, f"at most {known:.3g}, which is taken", do), RuntimeWarning, stacklevel=3
    )
    return known
