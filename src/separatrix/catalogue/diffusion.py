"""Noising processes and what runs them back."""

from typing import Any

import jax.numpy as jnp

from separatrix.calculus import probability_flow, reverse
from separatrix.catalogue.listing import Entry
from separatrix.diffusion import (
    DDIM,
    DDPM,
    VP,
    Brownian,
    DenoisingFlow,
    GaussianMixture,
    KarrasLevels,
    PredictedFlow,
    Prediction,
    StraightPath,
    sampling_map,
)


def _mixture() -> GaussianMixture:
    means = jnp.array([[-2.0, 0.0], [1.0, 1.0]])
    return GaussianMixture(jnp.array([0.3, 0.7]), means, jnp.array([0.5, 1.0]))


def _normal() -> GaussianMixture:
    return GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.ones(1))


def _reversed() -> Any:
    return reverse(VP(), score=_mixture().score_under(VP()), horizon=1.0)


def _brownian_flow() -> Any:
    return probability_flow(Brownian(), _normal().score_under(Brownian()))


def _denoising() -> Any:
    return DenoisingFlow(VP(), _mixture().score_under(VP()))


def _straight() -> Any:
    process = StraightPath()
    return PredictedFlow(Prediction(process, _mixture().score_under(process).clean, "clean"))


def _ddim() -> Any:
    prediction = Prediction(VP(), _mixture().score_under(VP()).clean, "clean")
    return sampling_map(DDIM(), prediction, KarrasLevels().times(VP(), 8))


def _chain() -> Any:
    return DDPM(jnp.linspace(1e-3, 0.2, 20)).chain()


def _pair() -> Any:
    return jnp.array([1.0, -0.5])


ENTRIES = (
    Entry("variance-preserving", "sde", "the noising process of DDPM", "dx = -beta(t)/2 x dt + sqrt(beta(t)) dW",
          "x(t) | x(0) ~ N(alpha x(0), 1 - alpha^2), alpha = exp(-B(t)/2); alpha(0.5) = 0.281183",
          VP, _pair, 1.0, 0.01, True),
    Entry("reverse-diffusion", "sde", "noise back to a mixture of two normals, by its exact score",
          "dy = (beta/2 y + beta score(1 - s, y)) ds + sqrt(beta) dW",
          "started from N(0, I) it ends in the mixture", _reversed, _pair, 1.0, 0.01, True),
    Entry("brownian-probability-flow", "flow", "the flow with the marginals of Brownian motion from N(0, 1)",
          "dx/dt = x/(2 (1 + t))", "x(t) = x(0) sqrt(1 + t)", _brownian_flow, _pair, 1.0, 0.05),
    Entry("straight-path-flow", "flow", "the flow of straight paths from a mixture to noise, as flow matching learns it",
          "dx/dt = E[eps - x(0) | x(t) = x]", "at t = 0 the velocity is -x, at t = 1 it is x less the mean of the data",
          _straight, _pair, 1.0, 0.05),
    Entry("ddim", "map", "a sampler: guess the data, noise them again less", "x' = alpha' D + sigma' e",
          "its error falls with the first power of the number of steps", _ddim, _pair, 8),
    Entry("ddpm-chain", "map", "the noising chain of DDPM", "x' = sqrt(1 - beta) x + sqrt(beta) z",
          "x(n) | x(0) ~ N(sqrt(abar_n) x(0), 1 - abar_n)", _chain, _pair, 20, None, True),
    Entry("denoising-flow", "flow", "the probability flow of a noised mixture in the clock sigma/alpha",
          "dy/ds = -sigma score(t(s), alpha y)", "a step of Euler's method is a step of DDIM", _denoising, _pair, 1.0, 0.05),
)  # fmt: skip
