r"""What the choice of a prior costs.

From data x(0) the law at the horizon T is N(alpha x(0), sigma^2 I), and the reversal starts from N(0, s^2 I). With v the
mean square of the data and V = alpha^2 v + sigma^2 that of the law, for each of d coordinates

    divergence of the law from the prior   (1/2) [V/s^2 - 1 - ln(V/s^2)]         nats, of normal data of variance v
    the prior's term in the bound          (1/2) [V/s^2 - 1 - ln(sigma^2/s^2)]   nats, of any data
    variance after exact reversal          v s^2/V,                              of normal data

The first is the least that any data of this mean square can have (what is not normal about their law adds to it), the
second, by convexity, the most.
"""

from typing import NamedTuple

import numpy as np

from separatrix._errors import explain
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges


class PriorMismatch(NamedTuple):
    """Nats a coordinate between the law at the horizon and the prior, for normal data and at most; and the variances."""

    divergence: float
    bound: float
    law: float
    prior: float
    reversed: float


def prior_mismatch(process: NoisingProcess, variance: float) -> PriorMismatch:
    r"""Return how far the prior is from the law at the horizon.

        (1/2) [V/s^2 - 1 - ln(V/s^2)],   V = alpha^2 v + sigma^2

    **Arguments:**

    - `process`: a `NoisingProcess`, with known parameters. `variance`: v, the mean square of the data, at least 0.

    **Returns:** a `PriorMismatch`: `divergence` and its `bound` in nats a coordinate; the variances `law` (V), `prior`
    (s^2) and `reversed` (v s^2/V, of what exact reversal of the prior gives for normal data).

    **Raises:** `ValueError` for a variance that is negative or not finite, or a process without noise at its horizon.

    **Example:**

    >>> import separatrix as sx
    >>> round(sx.diffusion.prior_mismatch(sx.diffusion.Brownian(9.0), 1.0).reversed, 12)
    0.9

    **Reference:** Ho, Jain & Abbeel, *Denoising diffusion probabilistic models* (2020), equation 5, L_T, for the bound.
    """
    ranges.nonnegative("prior_mismatch: variance", variance, "Pass the mean square of the data.")
    alpha, sigma = (float(value) for value in process.marginal(process.horizon))
    signal, noise, prior = float(variance), sigma**2, float(process.prior_scale) ** 2
    law = alpha**2 * signal + noise
    if not (0 < prior < np.inf and 0 < noise < np.inf):
        got, do = f"noise of variance {noise:g} and a prior of {prior:g}", "Give it a horizon at which there is noise."
        raise ValueError(explain("examination of a noising process", got, "both positive", do))
    # x - ln(1 + x) of the relative excess, which is not lost to rounding where the law is the prior.
    excess = (law - prior) / prior
    divergence, bound = (0.5 * float(excess - np.log1p(part)) for part in (excess, (noise - prior) / prior))
    return PriorMismatch(divergence, bound, law, prior, signal * prior / law)
