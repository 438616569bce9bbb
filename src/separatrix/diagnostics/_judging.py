r"""What the answers mean for a healthy system: findings, with evidence beside threshold, cause and remedy.

A finding says what is claimed of a system that does its work: it stays finite, a small perturbation of a point of rest
dies, nearby runs stay together, what moves all at once falls more than it turns, and a gradient comes back through a run
as large as it went in, to within a thousand. A system may break a claim on purpose: chaos is no defect of a model of
the weather.

How severe it is follows from what the evidence shows. A run that broke is broken. A linearisation that grows at a state
that is no rest, a gradient that vanishes in a net that may have been trained all the same, a field that only Euler's long
steps leave: each is a caution, which a verdict names. A number that is not known decides nothing, and is named too.
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
from separatrix.systems.map import FiniteMap, NearIdentityMap

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
    reached, span = float(answer.reached), float(answer.span)
    if not bool(answer.outcome.reached) and not reached < span:
        # That it broke is known, if not where.
        reached = 0.0
    return [
        Finding(
            "stays finite over a short run",
            reached,
            ">=",
            span,
            answer.outcome.advice or "the run ended early",
            "Lower the step size, or start nearer to where it is stable.",
        )
    ]


def of_linear_stability(answer: LinearStability, system: Any) -> list[Finding]:
    """At a point of rest perturbations die, and do not grow much before; elsewhere that they grow is a caution."""
    name, evidence, border = answer.criterion
    error = answer.mean_square_error if np.isfinite(answer.mean_square) else answer.almost_sure_error
    slack = border + float(answer.tolerance) + 2 * float(np.nan_to_num(error))
    if not float(answer.displacement) <= _AT_REST:
        if isinstance(system, FiniteMap):
            # Layers, or a record of inputs: another map at each step, which has no point of rest.
            return []
        moved = f"it moves by {float(answer.displacement):.2g} there, so this says nothing of the long run"
        do = "Ask at a point of rest: `fixed_points` finds those around the state."
        name = f"{name} of the linearisation at this state, which is no rest"
        return [Finding(name, evidence, "<=", slack, f"perturbations grow at first; {moved}", do, "caution")]
    grows = "perturbations grow" if answer.random else f"{answer.unstable} direction(s) grow under the linearisation"
    do = "Lower the step size or add damping; `linear_stability` has the directions' spectrum."
    found = [Finding(f"{name} of the fixed point is not past its border", evidence, "<=", slack, grows, do)]
    growth = float(answer.transient_growth)
    if np.isfinite(growth):
        cause = "eigenvectors are far from orthogonal: a perturbation grows long before it decays"
        do = "Judge stability by singular values, not by the spectral radius."
        found.append(Finding("transient growth of perturbations", growth, "<=", _GROWTH, cause, do))
    return found


def of_exponents(answer: LyapunovSpectrum, system: Any) -> list[Finding]:
    """Nearby runs do not part: the leading exponent is not positive by more than two standard errors."""
    exponent, error = float(answer.exponents[0]), float(answer.standard_errors[0])
    name, cause, do = "leading Lyapunov exponent is not positive", "the run broke, or was too short for an error", ""
    if np.isneginf(exponent):
        # A step that forgets everything.
        error = 0.0
    if not np.isnan([exponent, error]).any():
        doubling = np.log(2) / exponent if exponent > 0 else np.inf
        cause = f"nearby runs part: their distance doubles every {doubling:.3g} {answer.units}"
        do = "Compare statistics of runs instead of runs; do not differentiate through more than a few doublings."
    return [Finding(name, exponent, "<=", 2 * error, cause, do)]


def of_rotation(answer: FieldSplit, system: Any) -> list[Finding]:
    """The field falls more than it turns; broken where Euler's steps, of the length they have, lead away."""
    if float(answer.symmetric + answer.antisymmetric) == 0:
        # The field is the same all around: it neither falls nor turns.
        return []
    edge, own = float(answer.euler_edge), np.nan
    if isinstance(system, NearIdentityMap):
        own = float(system.step_size)
    turns = "the field turns more than it falls"
    if np.isnan(answer.index):
        turns = "its Jacobian is not finite"
    elif edge > 0:
        turns += f": simultaneous (Euler's) steps longer than {edge:.3g} spiral outward"
        turns += f", those of {own:.3g} do not" if own <= edge else ""
    elif edge == 0:
        turns += ": simultaneous (Euler's) steps spiral outward, however short"
    else:
        turns += ": long simultaneous (Euler's) steps spiral outward"
    do = "Step alternately, by extragradient or with a consensus term; a flow by a method of higher order."
    severity = "broken" if edge == 0 or own > edge else "caution"
    return [Finding("rotation index of the field", float(answer.index), "<", 0.5, turns, do, severity)]


def of_gradients(answer: GradientProfile, system: Any) -> list[Finding]:
    """A gradient does not explode on the way back, nor vanish in a net of layers or over a record of inputs.

    Of a map without end it is asked only not to explode: where an optimiser converges, its gradients vanish. That one
    vanishes says how far back training would feel, and not that what was trained fails: memory that is held by an attractor
    has no gradient left.
    """
    steps = answer.times.shape[0] - 1
    best = np.asarray(answer.log_singular_values[:, 0])
    with np.errstate(over="ignore"):
        ratio, kept = float(np.exp(answer.log_norms[0] - answer.log_norms[-1])), float(np.exp(best[0]))
    cause, do = "the run broke before its end, or the gradient was zero from the start", "Ask over fewer steps."
    if not np.isnan(ratio):
        far = float(answer.exploding_horizon(_GRADIENT))
        cause = f"the gradient explodes: at {far:.0f} steps it is a thousand times as large"
        do = "Clip gradients, lower the gain of the steps' Jacobians, or go back fewer steps."
    found = [Finding(f"gradient does not explode over {steps} steps", ratio, "<=", _GRADIENT, cause, do)]
    if isinstance(system, FiniteMap):
        if not np.isnan(kept):
            gone = _gone_for_good(best)
            cause = f"the gradient vanishes: past {gone} steps nothing of it is left, and training does not feel them"
            do = "To train it raise the gain of the steps' Jacobians towards 1: orthogonal weights, residual blocks, gates."
        name = f"gradient does not vanish over {steps} steps"
        found.append(Finding(name, kept, ">=", 1 / _GRADIENT, cause, do, "caution"))
    return found


def _gone_for_good(best: np.ndarray) -> int:
    """From how many steps back on the largest singular value stays below a thousandth; row n is steps n to N."""
    below = np.flatnonzero(np.maximum.accumulate(best) < -np.log(_GRADIENT))
    return len(best) - 1 - int(below[-1]) if below.size else len(best) - 1


def of_points(answer: FixedPoints, system: Any) -> list[Finding]:
    """There is a point of rest that attracts."""
    attracting = int(np.sum((np.asarray(answer.indices) == 0) & ~np.asarray(answer.slow)))
    cause = "none was found that no direction leaves, within max(1, |x|) of the state in each coordinate"
    do = "Search a wider region with `fixed_points`, or ask for `periodic_orbits` and `lyapunov_spectrum`."
    return [Finding("points of rest that are not unstable", float(attracting), ">=", 1.0, cause, do)]
