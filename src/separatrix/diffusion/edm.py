r"""The process whose clock is the noise itself.

dx = sqrt(2 t) dW,   alpha = 1,   sigma = t
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from separatrix._types import Scalar
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter


class EDM(NoisingProcess):
    r"""dx = sqrt(2 t) dW, t in [0, sigma_max]: at time t the noise has standard deviation t.

    **Arguments:**

    - `sigma_max`: the horizon, above 0: many times the spread of the data, whose prior is N(0, sigma_max^2).

    **Raises:** `ValueError` for a horizon that is not positive and finite.

    **Example:**

    >>> import separatrix as sx
    >>> [float(v) for v in sx.diffusion.EDM().marginal(3.0)]
    [1.0, 3.0]

    **Reference:** Karras et al., *Elucidating the design space of diffusion-based generative models* (2022), table 1 and
    section 3 (sigma(t) = t, s(t) = 1).
    """

    sigma_max: Any = eqx.field(default=80.0, converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("EDM: sigma_max", self.sigma_max, "Leave it out for 80.")

    @property
    def horizon(self) -> Scalar:
        return self.sigma_max

    @property
    def prior_scale(self) -> Scalar:
        return self.sigma_max

    def marginal(self, t: Any) -> tuple[Any, Any]:
        t = jnp.asarray(t)
        return jnp.ones_like(t), t

    def time_of(self, ratio: Any) -> Any:
        return jnp.asarray(ratio)

    def rates(self, t: Any) -> tuple[Any, Any]:
        return jnp.zeros_like(t), jnp.sqrt(2 * t)
