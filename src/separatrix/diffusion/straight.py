r"""Straight paths from data to noise, as flow matching has them.

    x(t) = (1 - t) x(0) + t eps,   dx = -x/(1 - t) dt + sqrt(2 t/(1 - t)) dW

At t = 1 nothing of the data is left, exactly: the prior has no mismatch. There the rates are infinite and neither noise nor
score knows the data any more; a prediction of velocity or clean data does (`Prediction`).
"""

from typing import Any

import jax.numpy as jnp

from separatrix._types import Scalar
from separatrix.diffusion.processes import NoisingProcess


class StraightPath(NoisingProcess):
    r"""x(t) = (1 - t) x(0) + t eps, t in [0, 1], whose flow has the velocity E[eps - x(0) | x(t)].

    **Example:**

    >>> import separatrix as sx
    >>> [float(v) for v in sx.diffusion.StraightPath().marginal(0.25)]
    [0.75, 0.25]

    **Reference:** Lipman et al., *Flow matching for generative modeling* (2023), equation 20 with sigma_min = 0 and time
    reversed; Liu, Gong & Liu, *Flow straight and fast* (2023), equation 1.
    """

    @property
    def horizon(self) -> Scalar:
        return 1.0

    @property
    def prior_scale(self) -> Scalar:
        return 1.0

    def marginal(self, t: Any) -> tuple[Any, Any]:
        t = jnp.asarray(t)
        return 1 - t, t

    def time_of(self, ratio: Any) -> Any:
        # r/(1 + r), also at an infinite ratio.
        ratio = jnp.asarray(ratio)
        large = jnp.maximum(ratio, 1)
        return jnp.where(ratio > 1, 1 / (1 + 1 / large), ratio / (1 + jnp.minimum(ratio, 1)))

    def rates(self, t: Any) -> tuple[Any, Any]:
        return -1 / (1 - t), jnp.sqrt(2 * t / (1 - t))
