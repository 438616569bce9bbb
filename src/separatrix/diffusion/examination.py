r"""What a noising process is asked: what its prior costs.

From data x(0) the law at the horizon T is N(alpha x(0), sigma^2 I), and the reversal starts from N(0, s^2 I). For each of
d coordinates, in the mean over the entries of the data,

    divergence of the law from the prior   (1/2) [(alpha^2 x(0)^2 + sigma^2)/s^2 - 1 - ln(sigma^2/s^2)]     nats
    variance after exact reversal          v s^2/V,   V = alpha^2 v + sigma^2,   from normal data of variance v

The first is the prior's term in the bound on the likelihood, and by convexity no less than the divergence of the law of
all data. The second is exact for normal data: what is missing is no error of any solver.

**Reference:** Ho, Jain & Abbeel, *Denoising diffusion probabilistic models* (2020), equation 5, L_T.
"""

from typing import Any

import numpy as np

from separatrix.diagnostics._coordinates import as_vector
from separatrix.diagnostics.examine import examine
from separatrix.diagnostics.finding import Finding
from separatrix.diffusion.processes import NoisingProcess

# Nats a coordinate: a hundredth is 0.014 bits a dimension, less than models differ by.
_NATS = 0.01
_MISSING = 0.05


@examine.register(NoisingProcess)
def examine_process(system: NoisingProcess, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """The law at the horizon is the prior: the state is taken as data, and the mean of its squares as their variance."""
    alpha, sigma = (float(value) for value in system.marginal(system.horizon))
    signal, noise, prior = float(np.mean(np.square(as_vector(state)))), sigma**2, float(system.prior_scale) ** 2
    law = alpha**2 * signal + noise
    divergence = 0.5 * (law / prior - 1 - np.log(noise / prior))
    missing = abs(1 - prior / law)
    cause = f"at the horizon the data count for {alpha**2 * signal:.3g} beside noise of variance {noise:.3g}"
    do = "Run to a later horizon, or take a prior of the variance that the law has there."
    return [
        Finding("divergence of the noised law from the prior, nats a coordinate", divergence, "<=", _NATS, cause, do),
        Finding("share of the variance that exact reversal gets wrong", missing, "<=", _MISSING, cause, do),
    ]
