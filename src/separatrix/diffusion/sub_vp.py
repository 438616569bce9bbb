r"""The sub-VP process: the drift of VP with less noise.

    dx = -beta/2 x dt + sqrt(beta (1 - e^{-2B})) dW,   B = int_0^t beta,   alpha = e^{-B/2},   sigma = 1 - e^{-B}

Its variance stays below that of VP at every time, and ends at the same prior.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from separatrix._types import Scalar
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter


class SubVP(NoisingProcess):
    r"""dx = -beta/2 x dt + sqrt(beta (1 - e^{-2B})) dW, with beta linear in t and t in [0, 1].

    **Arguments:**

    - `beta_min`, `beta_max`: beta at 0 and at 1; 0 < beta_min <= beta_max.

    **Raises:** `ValueError` for values outside these ranges.

    **Example:** sigma is 1 - alpha^2.

    >>> import separatrix as sx
    >>> [round(float(v), 6) for v in sx.diffusion.SubVP().marginal(0.5)]
    [0.281183, 0.920936]

    **Reference:** Song et al., *Score-based generative modeling through SDEs* (2021), equations 12 and 29.
    """

    beta_min: Any = eqx.field(default=0.1, converter=as_parameter)
    beta_max: Any = eqx.field(default=20.0, converter=as_parameter)

    def __check_init__(self) -> None:
        do = "Leave both out for 0.1 and 20."
        ranges.positive("SubVP: beta_min", self.beta_min, do)
        ranges.positive("SubVP: beta_max", self.beta_max, do)
        ranges.ordered("SubVP: beta_min and beta_max", self.beta_min, self.beta_max, do)

    @property
    def horizon(self) -> Scalar:
        return 1.0

    @property
    def prior_scale(self) -> Scalar:
        return 1.0

    def marginal(self, t: Any) -> tuple[Any, Any]:
        spent = self._spent(jnp.asarray(t))
        return jnp.exp(-spent / 2), -jnp.expm1(-spent)

    def time_of(self, ratio: Any) -> Any:
        # sigma/alpha = 1/alpha - alpha = 2 sinh(B/2).
        spent, slope = 2 * jnp.arcsinh(jnp.asarray(ratio) / 2), self.beta_max - self.beta_min
        return 2 * spent / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * slope * spent))

    def rates(self, t: Any) -> tuple[Any, Any]:
        beta = self.beta_min + t * (self.beta_max - self.beta_min)
        return -beta / 2, jnp.sqrt(-beta * jnp.expm1(-2 * self._spent(t)))

    def _spent(self, t: Any) -> Any:
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2
