"""Noising processes and what runs them back."""

from typing import Any

import jax.numpy as jnp

from separatrix.calculus import probability_flow, reverse
from separatrix.catalogue.listing import Entry
from separatrix.diffusion import VP, Brownian, DenoisingFlow, GaussianMixture


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
    Entry("denoising-flow", "flow", "the probability flow of a noised mixture in the clock sigma/alpha",
          "dy/ds = -sigma score(t(s), alpha y)", "a step of Euler's method is a step of DDIM", _denoising, _pair, 1.0, 0.05),
)  # fmt: skip
