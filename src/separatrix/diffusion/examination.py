r"""What a noising process is asked: what its prior costs.

From data x(0) the law at the horizon T is N(alpha x(0), sigma^2 I), and the reversal starts from N(0, s^2 I). With v the
mean square of the data and V = alpha^2 v + sigma^2 that of the law, for each of d coordinates

    divergence of the law from the prior   (1/2) [V/s^2 - 1 - ln(V/s^2)]         nats, of normal data of variance v
    the prior's term in the bound          (1/2) [V/s^2 - 1 - ln(sigma^2/s^2)]   nats, of any data
    variance after exact reversal          v s^2/V,                              of normal data

The first is the least that any data of this mean square can have (what is not normal about their law adds to it), the
second, by convexity, the most: it is the prior's part of the bound on the likelihood, and where alpha^2 v is small it is
larger by a factor sigma^2/(alpha^2 v). What is judged is the first; the bound is told beside it. The third is exact: what
is missing is no error of any solver.

**Reference:** Ho, Jain & Abbeel, *Denoising diffusion probabilistic models* (2020), equation 5, L_T, for the bound.
"""

from typing import Any

import numpy as np

from separatrix._errors import explain
from separatrix.diagnostics.examination import examine
from separatrix.diagnostics.finding import Finding
from separatrix.diffusion.processes import NoisingProcess
from separatrix.linear.coordinates import as_vector

# Nats a coordinate: a hundredth is 0.014 bits a dimension, less than models differ by.
_NATS = 0.01
_MISSING = 0.05


@examine.register(NoisingProcess)
def examine_process(system: NoisingProcess, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """The law at the horizon is the prior: the state is taken as data, and the mean of its squares as their variance."""
    alpha, sigma = (float(value) for value in system.marginal(system.horizon))
    signal, noise, prior = float(np.mean(np.square(as_vector(state)))), sigma**2, float(system.prior_scale) ** 2
    law = alpha**2 * signal + noise
    if not (0 < prior < np.inf and 0 < noise < np.inf):
        got, do = f"noise of variance {noise:g} and a prior of {prior:g}", "Give it a horizon at which there is noise."
        raise ValueError(explain("examination of a noising process", got, "both positive", do))
    # x - ln(1 + x) of the relative excess, which is not lost to rounding where the law is the prior.
    excess = (law - prior) / prior
    divergence, bound = (0.5 * (excess - np.log1p(part)) for part in (excess, (noise - prior) / prior))
    cause = f"at the horizon the data count for {alpha**2 * signal:.3g} beside noise of variance {noise:.3g}"
    do = "Run to a later horizon, or take a prior of the variance that the law has there."
    name = f"divergence of the noised law from the prior, nats a coordinate of normal data (at most {bound:.3g} of any)"
    return [
        Finding(name, divergence, "<=", _NATS, cause, do),
        Finding(
            "share of the variance that exact reversal gets wrong", abs(1 - prior / law), "<=", _MISSING, cause, do
        ),
    ]
