r"""Averages of the parameters along a run.

    plain                a[n+1] = d a[n] + (1 - d) theta[n+1]                      a memory of 1/(1 - d) steps
    power function       a[n] = (c + 1)/n^(c+1) sum_k k^c theta[k], nearly:        a memory that grows with the run
                         d_n = (1 - 1/n)^(c+1) in place of d

The plain one holds on to its start, a[0], by d^n: a run that is not much longer than 1/(1 - d) is averaged with the
untrained weights. The other forgets its start at the first step, and its memory is the same share of any run, its relative
width w, the standard deviation of the profile k^c on [0, n] over n:

    w^2 = (c + 1)/((c + 2)^2 (c + 3)),        c = 0, the mean of all, at w = 1/sqrt(12) = 0.289
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix.systems import ranges

_WIDEST = 12**-0.5


class PowerAverage(eqx.Module):
    r"""An average of the parameters with a power-function profile, for `fit(..., average=PowerAverage(0.1))`.

        a[n+1] = d a[n] + (1 - d) theta[n+1],   d = (1 - 1/(n + 1))^(c + 1)

    **Arguments:**

    - `width`: the standard deviation of the profile over the length of the run, above 0 and at most 0.2886, where the
      average is the mean of all steps. 0.05 to 0.15 are usual.

    **Raises:** `ValueError` for a width outside that range.

    **Example:** with the largest width it is the mean.

    >>> import separatrix as sx
    >>> wide = sx.training.PowerAverage(12**-0.5)
    >>> [round(float(wide.factor(n)), 6) for n in range(3)]
    [0.0, 0.5, 0.666667]

    **Reference:** Karras et al., *Analyzing and improving the training dynamics of diffusion models* (2024), equations 2
    and 3, algorithm 2.
    """

    width: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        ranges.positive("PowerAverage: width", self.width, "Take 0.1.")
        if self.width > _WIDEST + 1e-9:
            expected = "at most 0.2886, the width of the mean of all"
            raise ValueError(explain("PowerAverage: width", self.width, expected, "Take 0.1."))

    @property
    def exponent(self) -> float:
        """c, of the profile k^c."""
        inverse = self.width**-2
        roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
        return float(max(np.real(roots).max(), 0.0))

    def factor(self, n: Any) -> Array:
        """d at step n, which counts from 0."""
        return (1 - 1 / (jnp.asarray(n).astype(float) + 1)) ** (self.exponent + 1)
