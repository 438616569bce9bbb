r"""The sub-VP process: the drift of VP with less noise.

    dx = -beta/2 x dt + sqrt(beta (1 - e^{-2B})) dW,   B = int_0^t beta,   alpha = e^{-B/2},   sigma = 1 - e^{-B}

Its variance stays below that of VP at every time, and ends at the same prior.
"""

from typing import Any

import jax.numpy as jnp

from separatrix.diffusion.processes import LinearRate
from separatrix.systems import ranges


class SubVP(LinearRate):
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

    def __check_init__(self) -> None:
        do = "Leave both out for 0.1 and 20."
        ranges.positive("SubVP: beta_min", self.beta_min, do)
        ranges.positive("SubVP: beta_max", self.beta_max, do)
        ranges.ordered("SubVP: beta_min and beta_max", self.beta_min, self.beta_max, do)

    def marginal(self, t: Any) -> tuple[Any, Any]:
        spent = self.spent(jnp.asarray(t))
        return jnp.exp(-spent / 2), -jnp.expm1(-spent)

    def time_of(self, ratio: Any) -> Any:
        # sigma/alpha = 1/alpha - alpha = 2 sinh(B/2).
        return self.time_spent(2 * jnp.arcsinh(jnp.asarray(ratio) / 2))

    def rates(self, t: Any) -> tuple[Any, Any]:
        return -self.rate(t) / 2, jnp.sqrt(-self.rate(t) * jnp.expm1(-2 * self.spent(t)))
