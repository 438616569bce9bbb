r"""The verdict on noising processes: what their priors cost, and how fast their noise forgets.

Brownian motion from normal data of unit variance is N(0, 1 + T) at time T: (1/T - ln(1 + 1/T))/2 nats from its prior
N(0, T), and its exact reversal misses a share 1/(1 + T) of the variance. The Ornstein-Uhlenbeck process, VP with a constant
rate b, forgets at b/2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import separatrix as sx
from separatrix.plotting import figure, plot
from separatrix.tour.chapter import Check, Section, source
from separatrix.tour.verdicts.told import evidence, told


def _diagnose_processes(data, horizons):
    """Brownian motion to several horizons, and the variance-preserving process as it is used and with a constant rate."""
    found = {}
    for horizon in horizons:
        found[f"Brownian motion to {horizon:g}"] = sx.diagnose(
            sx.diffusion.Brownian(horizon), data, questions=["survival"]
        )
    found["Variance preserving"] = sx.diagnose(sx.diffusion.VP(), data, questions=["survival"])
    named = ["linear_stability", "lyapunov_spectrum"]
    found["The same at a constant rate 8"] = sx.diagnose(
        sx.diffusion.VP(8.0, 8.0), data, questions=named, key=jax.random.key(0)
    )
    return found


def verdict(say: Callable[[str], None]) -> Section:
    """What `diagnose` says of four processes."""
    say("the verdict on noising processes")
    horizons, data = (1.0, 9.0, 81.0), jnp.array([1.0, -1.0])
    found = _diagnose_processes(data, horizons)
    *brownian, _, constant = found.values()
    answers = constant.answers
    fig, axes = figure(2)
    plot(answers["linear_stability"], axes=axes[0])
    plot(answers["lyapunov_spectrum"], axes=axes[1])
    checks = []
    for horizon, diagnosis in zip(horizons, brownian, strict=True):
        divergence, missing = evidence(diagnosis, "divergence"), evidence(diagnosis, "share of the variance")
        truth = 0.5 * (1 / horizon - float(np.log1p(1 / horizon)))
        checks.append(Check(f"Brownian to {horizon:g}: nats a coordinate", divergence, truth, 1e-12))
        checks.append(Check(f"Brownian to {horizon:g}: share missing", missing, 1 / (1 + horizon), 1e-12))
    exponents = answers["lyapunov_spectrum"]
    # Its standard error, and half of a step of a hundredth: the method's own error.
    error = 4 * float(exponents.standard_errors[0]) + 0.02
    checks.append(Check("constant rate 8: leading exponent", float(exponents.exponents[0]), -4.0, error))
    abscissa = answers["linear_stability"].spectral_abscissa
    checks.append(Check("constant rate 8: abscissa of the drift", abscissa, -4.0, 1e-12))
    text = f"""
        `diagnose` asks a noising process what its prior costs: how far the law at the horizon is from it, and what share
        of the variance an exact reversal gets wrong. The state is taken as data.

        {told(found)}
    """
    equation = (
        r"\frac{1}{2}\left[\frac{V}{s^2} - 1 - \ln\frac{V}{s^2}\right],\qquad 1 - \frac{s^2}{V},\qquad"
        r"V = \alpha^2 v + \sigma^2"
    )
    caption = "Of the variance-preserving process at a constant rate: eigenvalues of its drift, and Lyapunov exponents."
    return Section("The verdict", text, equation, fig, caption, source(_diagnose_processes), tuple(checks))
