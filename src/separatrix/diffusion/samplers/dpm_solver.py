r"""DPM-Solver++ of two steps: exact for the linear part, linear extrapolation of the clean prediction in log-SNR.

With lambda = ln(alpha/sigma), h = lambda' - lambda, q = e^{-h} = (sigma' alpha)/(alpha' sigma), r = h_before/h:

    flow   x' = (sigma'/sigma) x + alpha' (1 - q) D~
    SDE    x' = (sigma'/sigma) q x + alpha' (1 - q^2) D~ + sigma' sqrt(1 - q^2) z,     D~ = D + (D - D_before)/(2 r)

The first step, and one to sigma' = 0 (where h is infinite), take D~ = D: the flow's is then DDIM, the SDE's the ancestral
sampler.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from separatrix._types import State
from separatrix.diffusion.predictions import Prediction
from separatrix.diffusion.samplers.base import LevelStep, Sampler, levels


class DPMSolver(Sampler):
    r"""DPM-Solver++(2M) for the probability flow: order 2 with one evaluation a step.

    **Reference:** Lu et al., *DPM-Solver++* (2022), algorithm 2 and equation 4.1.
    """

    draws: ClassVar[int] = 0
    multistep: ClassVar[bool] = True

    def advance(self, prediction: Prediction, step: LevelStep, state: State, noise: Array) -> State:
        x, before = state
        clean = prediction.clean(step.now, x)
        decay, q, alpha_then, _ = _factors(prediction, step)
        return decay * x + alpha_then * (1 - q) * _extrapolated(prediction, step, clean, before), clean


class DPMSolverSDE(Sampler):
    r"""SDE-DPM-Solver++(2M), for the reverse SDE: one evaluation a step.

    **Reference:** Lu et al., *DPM-Solver++* (2022), section 5 and equation 5.2.
    """

    draws: ClassVar[int] = 1
    multistep: ClassVar[bool] = True

    def advance(self, prediction: Prediction, step: LevelStep, state: State, noise: Array) -> State:
        x, before = state
        clean = prediction.clean(step.now, x)
        decay, q, alpha_then, sigma_then = _factors(prediction, step)
        pulled = alpha_then * (1 - q**2) * _extrapolated(prediction, step, clean, before)
        return decay * q * x + pulled + sigma_then * jnp.sqrt(1 - q**2) * noise[0], clean


def _factors(prediction: Prediction, step: LevelStep) -> tuple[Array, Array, Array, Array]:
    """sigma'/sigma, q, alpha', sigma'."""
    (alpha, sigma), (alpha_then, sigma_then) = levels(prediction, step.now), levels(prediction, step.then)
    decay = sigma_then / sigma
    return decay, decay * alpha / alpha_then, alpha_then, sigma_then


def _extrapolated(prediction: Prediction, step: LevelStep, clean: Array, before: Array) -> Array:
    """D + (D - D_before)/(2 r), or D where there is nothing before or no noise after."""
    (alpha, sigma), (alpha_then, sigma_then) = levels(prediction, step.now), levels(prediction, step.then)
    alpha_before, sigma_before = levels(prediction, step.before)
    single = (jnp.asarray(step.number) == 0) | (sigma_then == 0)
    size = jnp.log(jnp.where(single, 1, (sigma * alpha_then) / jnp.where(single, 1, alpha * sigma_then)))
    # ln of an infinite ratio is an infinite step before, after which nothing is extrapolated.
    past = jnp.where(single, 1, jnp.log(sigma_before * alpha) - jnp.log(alpha_before * sigma))
    return clean + jnp.where(single, 0, size / (2 * past)) * (clean - before)
