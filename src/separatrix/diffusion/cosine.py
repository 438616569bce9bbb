r"""The cosine schedule: noise that grows evenly in angle.

    alpha = cos(phi)/cos(phi_0),   phi = (t + s)/(1 + s) pi/2,   phi_0 = phi(0),   sigma^2 = 1 - alpha^2

so that sigma^2 = sin(phi - phi_0) sin(phi + phi_0)/cos^2(phi_0), which loses no digits near t = 0. At t = 1 nothing of the
data is left and the rate beta = 2 phi' tan(phi) is infinite: the horizon lies before.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from separatrix._types import Scalar
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter


class CosineVP(NoisingProcess):
    r"""The variance-preserving process of the cosine schedule, dx = -beta/2 x dt + sqrt(beta) dW.

        alpha(t) = cos((t + s)/(1 + s) pi/2)/cos(s/(1 + s) pi/2)

    **Arguments:**

    - `offset`: s > 0, which keeps the noise of the first steps from being too small; 0.008 in the paper.
    - `end`: the horizon, above 0 and below 1; 0.9946 by default, where alpha is 0.0084.

    **Raises:** `ValueError` for values outside these ranges.

    **Example:**

    >>> import separatrix as sx
    >>> [round(float(v), 6) for v in sx.diffusion.CosineVP().marginal(0.5)]
    [0.70274, 0.711447]

    **Reference:** Nichol & Dhariwal, *Improved denoising diffusion probabilistic models* (2021), equation 17; the horizon
    of Lu et al., *DPM-Solver* (2022), appendix D.4, in place of their bound on beta.
    """

    offset: Any = eqx.field(default=0.008, converter=as_parameter)
    end: Any = eqx.field(default=0.9946, converter=as_parameter)

    def __check_init__(self) -> None:
        do = "Leave both out for 0.008 and 0.9946."
        ranges.positive("CosineVP: offset", self.offset, do)
        ranges.positive("CosineVP: end", self.end, do)
        ranges.ordered("CosineVP: end and 1", self.end, 1.0, do, strictly=True)

    @property
    def horizon(self) -> Scalar:
        return self.end

    @property
    def prior_scale(self) -> Scalar:
        return 1.0

    def marginal(self, t: Any) -> tuple[Any, Any]:
        phi, first = self._angle(t), self._angle(0.0)
        squared = jnp.sin(phi - first) * jnp.sin(phi + first)
        return jnp.cos(phi) / jnp.cos(first), jnp.sqrt(squared) / jnp.cos(first)

    def time_of(self, ratio: Any) -> Any:
        first = self._angle(0.0)
        tangent = jnp.sqrt(jnp.asarray(ratio) ** 2 + jnp.sin(first) ** 2) / jnp.cos(first)
        return jnp.arctan(tangent) * (1 + self.offset) * 2 / jnp.pi - self.offset

    def rates(self, t: Any) -> tuple[Any, Any]:
        beta = jnp.pi / (1 + self.offset) * jnp.tan(self._angle(t))
        return -beta / 2, jnp.sqrt(beta)

    def _angle(self, t: Any) -> Any:
        return (jnp.asarray(t) + self.offset) / (1 + self.offset) * jnp.pi / 2
