r"""Predictor-corrector: an ancestral step, then steps of Langevin at the new level.

    x <- x + delta score(t', x) + sqrt(2 delta) z = x - 2 r^2 sigma' e + 2 r sigma' z,   delta = 2 (r sigma')^2

r is the ratio of signal to noise of a corrector step. (The paper takes |z|/|score| of the batch for sigma', so that a step
depends on all points; at the exact score of N(0, sigma'^2) the two agree up to the draw.)
"""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._types import State
from separatrix.diffusion.predictions import Prediction
from separatrix.diffusion.samplers.base import LevelStep, Sampler, levels
from separatrix.diffusion.samplers.ddim import renoised
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter


class PredictorCorrector(Sampler):
    r"""An ancestral step and one corrector step of Langevin: two evaluations a step.

    **Arguments:**

    - `ratio`: r, signal to noise of the corrector, at least 0; 0.16 in the paper.

    **Raises:** `ValueError` for a ratio that is negative or not finite.

    **Reference:** Song et al., *Score-based generative modeling through SDEs* (2021), algorithms 3 and 5.
    """

    ratio: Any = eqx.field(default=0.16, converter=as_parameter)
    draws: ClassVar[int] = 2
    multistep: ClassVar[bool] = False

    def __check_init__(self) -> None:
        ranges.nonnegative("PredictorCorrector: ratio", self.ratio, "Leave it out for 0.16.")

    def advance(self, prediction: Prediction, step: LevelStep, state: State, noise: Array) -> State:
        x = renoised(prediction, step, jnp.asarray(state), noise[0], 1.0)
        sigma, ratio = levels(prediction, step.then)[1], jnp.asarray(self.ratio, x.dtype)
        pulled = x - 2 * ratio**2 * sigma * prediction.noise(step.then, x)
        return jnp.where(sigma > 0, pulled + 2 * ratio * sigma * noise[1], x)
