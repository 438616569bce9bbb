r"""What a noising process is asked: what its prior costs.

The law at the horizon is compared with the prior (`prior_mismatch`): the divergence of normal data is the least that any
data of this mean square can have, the prior's part of the bound on the likelihood the most. Where alpha^2 v is small the
bound is larger by a factor sigma^2/(alpha^2 v).
What is judged is the first; the bound is told beside it. The share of the
variance that is missing after exact reversal is no error of any solver.

**Reference:** Ho, Jain & Abbeel, *Denoising diffusion probabilistic models* (2020), equation 5, L_T, for the bound.
"""

from typing import Any

import numpy as np

from separatrix.diagnostics.examination import examine
from separatrix.diagnostics.finding import Finding
from separatrix.diffusion.priors import prior_mismatch
from separatrix.diffusion.processes import NoisingProcess
from separatrix.linear.coordinates import as_vector

# Nats a coordinate: a hundredth is 0.014 bits a dimension, less than models differ by.
_NATS = 0.01
_MISSING = 0.05


@examine.register(NoisingProcess)
def examine_process(system: NoisingProcess, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """The law at the horizon is the prior: the state is taken as data, and the mean of its squares as their variance."""
    signal = float(np.mean(np.square(as_vector(state))))
    found = prior_mismatch(system, signal)
    divergence, bound, law, prior, _ = found
    alpha, sigma = (float(value) for value in system.marginal(system.horizon))
    noise = sigma**2
    cause = f"at the horizon the data count for {alpha**2 * signal:.3g} beside noise of variance {noise:.3g}"
    do = "Run to a later horizon, or take a prior of the variance that the law has there."
    name = f"divergence of the noised law from the prior, nats a coordinate of normal data (at most {bound:.3g} of any)"
    return [
        Finding(name, divergence, "<=", _NATS, cause, do),
        Finding(
            "share of the variance that exact reversal gets wrong", abs(1 - prior / law), "<=", _MISSING, cause, do
        ),
    ]
