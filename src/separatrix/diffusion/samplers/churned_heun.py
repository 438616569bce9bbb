r"""Heun's method with churn, in the clock s = sigma/alpha for y = x/alpha.

    s^ = s (1 + gamma),   y^ = y + sqrt(s^^2 - s^2) S z
    y' = y^ + (s' - s^) (d(y^, s^) + d(y' of Euler, s'))/2,   d(y, s) = (y - D)/s = e

To s' = 0 the Euler step alone is taken, which gives D. Without churn it is Heun's method on `DenoisingFlow`, of order 2.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._types import State
from separatrix.diffusion.predictions import Prediction
from separatrix.diffusion.samplers.base import LevelStep, Sampler, levels
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter


class ChurnedHeun(Sampler):
    r"""Heun's method in s = sigma/alpha, each step begun by a little noise.

    **Arguments:**

    - `churn`: gamma, the share by which s is raised before a step, at least 0; S_churn/N of the paper.
    - `swell`: S, standard deviation of the noise that is added beside that of the law; S_noise of the paper.
    - `low`, `high`: the levels s between which there is churn; S_min and S_max of the paper.

    The start must have a finite s: for `StraightPath` take a schedule that begins there, as `KarrasLevels`.

    **Raises:** `ValueError` for values that are negative or not finite.

    **Reference:** Karras et al. (2022), algorithm 2; gamma at most sqrt(2) - 1 there.
    """

    churn: Any = eqx.field(default=0.0, converter=as_parameter)
    swell: Any = eqx.field(default=1.0, converter=as_parameter)
    low: Any = eqx.field(default=0.0, converter=as_parameter)
    high: Any = eqx.field(default=1e9, converter=as_parameter)
    draws: ClassVar[int] = 1
    multistep: ClassVar[bool] = False

    def __check_init__(self) -> None:
        for name in ("churn", "swell", "low", "high"):
            ranges.nonnegative(f"ChurnedHeun: {name}", getattr(self, name), "Leave it out.")

    def advance(self, prediction: Prediction, step: LevelStep, state: State, noise: Array) -> State:
        x = jnp.asarray(state)
        (alpha, sigma), (alpha_then, sigma_then) = levels(prediction, step.now), levels(prediction, step.then)
        y, s, s_then = x / alpha, sigma / alpha, sigma_then / alpha_then
        inside = (s >= jnp.asarray(self.low, x.dtype)) & (s <= jnp.asarray(self.high, x.dtype))
        gamma = jnp.where(inside, jnp.asarray(self.churn, x.dtype), 0)
        raised = s * (1 + gamma)
        y = y + s * jnp.sqrt(gamma * (2 + gamma)) * jnp.asarray(self.swell, x.dtype) * noise[0]
        time = jnp.where(gamma > 0, jnp.asarray(prediction.process.time_of(raised), x.dtype), step.now)
        first = prediction.noise(time, levels(prediction, time)[0] * y)
        euler = y + (s_then - raised) * first
        second = prediction.noise(step.then, alpha_then * euler)
        mean = jnp.where(s_then > 0, (first + second) / 2, first)
        return alpha_then * (y + (s_then - raised) * mean)
