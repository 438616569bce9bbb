r"""What the answers mean for a healthy system: findings, with evidence beside threshold, cause and remedy.

A finding says what is claimed of a system that does its work: it stays finite, a small perturbation of a point of rest
dies, nearby runs stay together, what moves all at once falls more than it turns, and a gradient comes back through a run
as large as it went in, to within a thousand. A system may break a claim on purpose: chaos is no defect of a model of
the weather.
"""

from typing import Any

import numpy as np

from separatrix.diagnostics.fields.field_split import FieldSplit
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.gradients.gradient_profile import GradientProfile
from separatrix.diagnostics.linear_stability import LinearStability
from separatrix.diagnostics.lyapunov.lyapunov_spectrum import LyapunovSpectrum
from separatrix.diagnostics.orbits.fixed_points import FixedPoints
from separatrix.diagnostics.survival import Survival
from separatrix.systems.map import FiniteMap

# A perturbation that grows tenfold before it decays is seen in practice; a network's nonlinearity acts on it first.
_GROWTH = 10.0
# A gradient that is a thousand times smaller is below the noise of a batch; one so much larger undoes what was learned.
_GRADIENT = 1e3
_AT_REST = 1e-4


def of_nothing(answer: Any, system: Any) -> list[Finding]:
    """No claim: an answer that is told as it is."""
    return []


def of_survival(answer: Survival, system: Any) -> list[Finding]:
    """It stays finite."""
    return [
        Finding(
            "stays finite over a short run",
            float(answer.reached),
            ">=",
            float(answer.span),
            answer.outcome.advice or "the run ended early",
            "Lower the step size, or start nearer to where it is stable.",
        )
    ]


def of_linear_stability(answer: LinearStability, system: Any) -> list[Finding]:
    """At a point of rest perturbations die, and do not grow much before; elsewhere the spectrum decides nothing."""
    if not float(answer.displacement) <= _AT_REST:
        return []
    names = {
        "map": ("spectral radius", answer.spectral_radius, 1.0),
        "flow": ("abscissa", answer.spectral_abscissa, 0.0),
    }
    name, evidence, border = names.get(answer.kind, ("mean-square rate", answer.margin, 0.0))
    slack = float(answer.tolerance)
    found = [
        Finding(
            f"{name} of the fixed point is not past its border",
            evidence,
            "<=",
            border + slack,
            f"{answer.unstable} direction(s) grow under the linearisation",
            "Lower the step size or add damping; `linear_stability` has the directions' spectrum.",
        )
    ]
    growth = float(answer.transient_growth)
    if np.isfinite(growth):
        cause = "eigenvectors are far from orthogonal: a perturbation grows long before it decays"
        do = "Judge stability by singular values, not by the spectral radius."
        found.append(Finding("transient growth of perturbations", growth, "<=", _GROWTH, cause, do))
    return found


def of_exponents(answer: LyapunovSpectrum, system: Any) -> list[Finding]:
    """Nearby runs do not part: the leading exponent is not positive by more than two standard errors."""
    exponent, error = float(answer.exponents[0]), float(answer.standard_errors[0])
    if not np.isfinite([exponent, error]).all():
        return []
    doubling = np.log(2) / exponent if exponent > 0 else np.inf
    return [
        Finding(
            "leading Lyapunov exponent is not positive",
            exponent,
            "<=",
            2 * error,
            f"nearby runs part: their distance doubles every {doubling:.3g} {answer.units}",
            "Compare statistics of runs instead of runs; do not differentiate through more than a few doublings.",
        )
    ]


def of_rotation(answer: FieldSplit, system: Any) -> list[Finding]:
    """The field falls more than it turns."""
    index = float(answer.index)
    if not np.isfinite(index):
        return []
    cause = "the field turns more than it falls: simultaneous (Euler's) steps spiral outward"
    do = "Step alternately, by extragradient or with a consensus term; a flow by a method of higher order."
    return [Finding("rotation index of the field", index, "<", 0.5, cause, do)]


def of_gradients(answer: GradientProfile, system: Any) -> list[Finding]:
    """A gradient does not explode on the way back, nor vanish in a net of layers or over a record of inputs.

    Of a map without end it is asked only not to explode: where an optimiser converges, its gradients vanish.
    """
    logarithm = float(answer.log_norms[0] - answer.log_norms[-1])
    if np.isnan(logarithm):
        return []
    with np.errstate(over="ignore"):
        ratio = float(np.exp(logarithm))
    steps = answer.times.shape[0] - 1
    far = f"at {float(answer.exploding_horizon(_GRADIENT)):.0f} steps it is a thousand times as large"
    do = "Clip gradients, lower the gain of the steps' Jacobians, or go back fewer steps."
    found = [
        Finding(
            f"gradient does not explode over {steps} steps", ratio, "<=", _GRADIENT, f"the gradient explodes: {far}", do
        )
    ]
    if isinstance(system, FiniteMap):
        gone = f"nothing of it is left past {float(answer.vanishing_horizon(1 / _GRADIENT)):.0f} steps"
        do = "Raise the gain of the steps' Jacobians towards 1: gates, residual blocks, orthogonal weights."
        cause = f"the gradient vanishes: {gone}"
        found.append(Finding(f"gradient does not vanish over {steps} steps", ratio, ">=", 1 / _GRADIENT, cause, do))
    return found


def of_points(answer: FixedPoints, system: Any) -> list[Finding]:
    """There is a point of rest that attracts."""
    attracting = int(np.sum((np.asarray(answer.indices) == 0) & ~np.asarray(answer.slow)))
    cause = "none was found that no direction leaves, within max(1, |x|) of the state in each coordinate"
    do = "Search a wider region with `fixed_points`, or ask for `periodic_orbits` and `lyapunov_spectrum`."
    return [Finding("points of rest that are not unstable", float(attracting), ">=", 1.0, cause, do)]
