r"""Stochastic Heun: the trapezoidal rule along the noise, which solves the Stratonovich equation dx = f dt + g o dW.

    x~ = x + f(t, x) h + g(t, x) dW
    x' = x + h/2 (f(t, x) + f(t + h, x~)) + 1/2 (g(t, x) + g(t + h, x~)) dW

An `SDE` means Ito everywhere else. To solve the Ito equation with this method subtract its correction from the drift:
f - 1/2 sum_k (Dg_k) g_k, which is nothing for additive noise.
"""

from typing import ClassVar

from jaxtyping import PyTree

from separatrix._tree import add, axpy, scale
from separatrix._types import Key, Scalar, State
from separatrix.calculus.methods.base import SDEMethod, brownian, noise_structure
from separatrix.systems.sde import SDE


class StochasticHeun(SDEMethod):
    r"""Heun's method for dx = f dt + g o dW, read in the sense of **Stratonovich**.

    Strong order 1 for commutative noise (one noise, or g_i of x_i alone), 1/2 in general. An Ito equation is solved by
    taking its correction from the drift:

        f_i - 1/2 sum_jk g_jk dg_ik/dx_j,        so f - 1/2 g g' for diagonal noise, and f for additive.

    **Example:** geometric Brownian motion of mean e^(mu t) in the sense of Ito.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> mu, sigma = 0.2, 0.5
    >>> corrected = sx.as_sde(lambda x: (mu - sigma**2 / 2) * x, lambda x: sigma * x)
    >>> path = sx.evolve(corrected, jnp.ones(3), times=(0.0, 1.0), step_size=0.1,
    ...                  method=sx.StochasticHeun(), key=jax.random.key(0))
    >>> str(path.outcome)
    'completed'

    **Reference:** Kloeden & Platen, *Numerical Solution of SDEs* (1992), section 15.5; Rumelin (1982).
    """

    strong_order: ClassVar[float] = 1.0
    weak_order: ClassVar[float] = 1.0

    def increments(self, system: SDE, t: Scalar, state: State, step_size: Scalar, key: Key) -> PyTree:
        return brownian(key, noise_structure(system, t, state), step_size)

    def advance_with(self, system: SDE, t: Scalar, state: State, step_size: Scalar, noise: PyTree | None) -> State:
        here = _increment(system, t, state, step_size, noise)
        there = _increment(system, t + step_size, add(state, here), step_size, noise)
        return axpy(0.5, there, axpy(0.5, here, state))


def _increment(system: SDE, t: Scalar, state: State, step_size: Scalar, noise: PyTree | None) -> State:
    drift = scale(step_size, system.drift(t, state))
    return drift if noise is None else add(drift, system.diffusion(t, state).mv(noise))
