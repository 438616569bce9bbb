r"""The ordinary differential equation with the marginals of a diffusion.

    dx/dt = f(t, x) - 1/2 div(g g^T)(t, x) - 1/2 g g^T grad log p(t, x)

The Fokker-Planck equation of dx = f dt + g dW is the continuity equation of this field, so densities agree at every
time, although paths do not.
"""

from typing import Any

from separatrix._errors import explain
from separatrix._tree import axpy
from separatrix._types import Scalar, Score, State
from separatrix.calculus._divergence import covariance_divergence, covariance_times
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.sde import SDE
from separatrix.systems.signature import as_pytree


class ProbabilityFlow(Flow):
    """dx/dt = f - 1/2 div(g g^T) - 1/2 g g^T score."""

    sde: SDE
    score: Score

    def velocity(self, t: Scalar, state: State) -> State:
        drift = self.sde.drift(t, state)
        pull = covariance_times(self.sde.diffusion(t, state), self.score(t, state))
        return axpy(-0.5, covariance_divergence(self.sde, t, state), axpy(-0.5, pull, drift))


def probability_flow(sde: System, score: Any) -> Flow:
    r"""Return the flow that has the same marginal densities as an SDE.

        dx/dt = f - 1/2 div(g g^T) - 1/2 g g^T grad log p

    **Arguments:**

    - `sde`: an `SDE` in the sense of Ito.
    - `score`: grad log p(t, x) of its marginals, exact or learned, of the structure of x.

    **Returns:** a `Flow`. `reverse` it to go from noise to data.

    **Raises:** `TypeError` for anything but an SDE, or a score that cannot be called.

    **Example:** Brownian motion from a standard normal: p(t) = N(0, 1 + t), so x grows as sqrt(1 + t).

    >>> import jax.numpy as jnp, separatrix as sx
    >>> noising = sx.as_sde(lambda x: 0.0 * x, lambda x: 1.0)
    >>> flow = sx.probability_flow(noising, lambda t, x: -x / (1.0 + t))
    >>> flow.velocity(0.0, jnp.array(2.0)).item()
    1.0

    **Reference:** Song et al., *Score-based generative modeling through SDEs* (2021), appendix D.1.
    """
    if not isinstance(sde, SDE):
        raise undefined("probability_flow", sde, "SDE", "Make it one with as_sde(drift, diffusion).")
    if not callable(score):
        raise TypeError(
            explain(
                "probability_flow: score",
                type(score).__name__,
                "a function score(t, x)",
                "Pass grad log p, exact or learned.",
            )
        )
    return ProbabilityFlow(sde, as_pytree(score))
