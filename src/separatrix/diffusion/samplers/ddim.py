r"""DDIM and the ancestral sampler of DDPM: guess the data, and noise them again.

    x' = alpha' D + sqrt(sigma'^2 - c^2) e + c z,   c^2 = eta^2 (sigma'/sigma)^2 (sigma^2 - (alpha/alpha')^2 sigma'^2)

With eta = 0 no noise is drawn: DDIM, which is Euler's method for dy/ds = e, y = x/alpha, s = sigma/alpha, and the
exponential Euler method for the probability flow in the clock -ln s, of order 1. With eta = 1 the law of x' is that of
x(t') given x(t) and x(0) = D: the ancestral sampler. A step to sigma' = 0 gives D itself.
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


class DDIM(Sampler):
    r"""x' = alpha' D + sqrt(sigma'^2 - c^2) e + c z, with a share eta of the ancestral noise.

    **Arguments:**

    - `eta`: from 0, deterministic, to 1, ancestral.

    **Raises:** `ValueError` for an eta outside this range.

    **Reference:** Song, Meng & Ermon, *Denoising diffusion implicit models* (2021), equations 12 and 16.
    """

    eta: Any = eqx.field(default=0.0, converter=as_parameter)
    draws: ClassVar[int] = 1
    multistep: ClassVar[bool] = False

    def __check_init__(self) -> None:
        ranges.share("DDIM: eta", self.eta, "Leave it out for 0.")

    def advance(self, prediction: Prediction, step: LevelStep, state: State, noise: Array) -> State:
        return renoised(prediction, step, jnp.asarray(state), noise[0], self.eta)


class Ancestral(Sampler):
    r"""DDIM with all of its noise: the sampler of DDPM, with the variance of the posterior.

    **Reference:** Ho, Jain & Abbeel, *Denoising diffusion probabilistic models* (2020), equations 6, 7 and algorithm 2.
    """

    draws: ClassVar[int] = 1
    multistep: ClassVar[bool] = False

    def advance(self, prediction: Prediction, step: LevelStep, state: State, noise: Array) -> State:
        return renoised(prediction, step, jnp.asarray(state), noise[0], 1.0)


def renoised(prediction: Prediction, step: LevelStep, x: Array, noise: Array, eta: Any) -> Array:
    """Guess clean data and noise, and put them together at the next level."""
    (alpha, sigma), (alpha_then, sigma_then) = levels(prediction, step.now), levels(prediction, step.then)
    clean, guessed = prediction.parts(step.now, x)
    fresh = jnp.maximum(sigma**2 - (alpha / alpha_then) ** 2 * sigma_then**2, 0)
    variance = (jnp.asarray(eta, x.dtype) * sigma_then / sigma) ** 2 * fresh
    kept = jnp.sqrt(jnp.maximum(sigma_then**2 - variance, 0))
    return alpha_then * clean + kept * guessed + jnp.sqrt(variance) * noise
