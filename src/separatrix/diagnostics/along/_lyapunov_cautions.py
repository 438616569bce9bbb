"""Why measured Lyapunov exponents might not hold; for a batch, what speaks against any of its members."""

from typing import Any

import numpy as np

from separatrix.diagnostics.along._batch_means import drifts, lag_one, standard_error

# Of a spread in lag-one correlations of 1/8, from 64 batches: four of them, less what is widened for anyway.
_CORRELATED = 0.45
_UNSETTLED = 0.1
# Of the largest exponent, and of one over the step: what the sum may miss by for a method that follows the flow. The second
# is for neutral systems, all of whose exponents are rounding.
_SUM, _STEP = 1e-4, 1e-6


def cautions_of(found: Any) -> tuple[str, ...]:
    """Return a sentence for each reason."""
    reasons = (_broke, _collapsed, _drifting, _short, _correlated, _killed, _sum, _single)
    return tuple(sentence for reason in reasons if (sentence := reason(found)))


def _broke(found: Any) -> str:
    if np.all(found.outcome.completed):
        return ""
    return f"the orbit ended early ({found.outcome}): batches before that are kept, exponents are not known"


def _collapsed(found: Any) -> str:
    unstable = found.exponents[..., 0] > 2 * found.standard_errors[..., 0]
    period = np.max(np.where(unstable, found.period, 0))
    if not period:
        return ""
    where = "at a fixed point" if period == 1 else f"on a cycle of period {period}"
    return (
        f"the orbit stands exactly {where} although it repels: in floating point it has collapsed there, or it started "
        "there; these are the exponents of that cycle, and not of the attractor. Start elsewhere, add a little noise, or "
        "write a map that doubles its argument (tent map, x -> 2x mod 1) with a slope just off 2"
    )


def _drifting(found: Any) -> str:
    if not np.any(drifts(found.batches) & _beyond_rounding(found)):
        return ""
    return (
        "the first third of the batches differs from the last by more than four errors: the transient is not over, or "
        "exponents converge slower than 1/T; half the gap is in the standard errors. Take a longer transient and run"
    )


def _short(found: Any) -> str:
    scale = np.max(np.abs(found.exponents), axis=-1)
    error = np.max(found.standard_errors, axis=-1)
    # Exponents that are zero have errors of the order of batches^(1/2)/T whatever their scale.
    if not np.any((error > _UNSETTLED * scale) & (error * np.asarray(found.duration) > 50)):
        return ""
    return f"standard errors reach {float(np.max(error)):.2g}, a tenth of the exponents and more: take a longer run"


def _correlated(found: Any) -> str:
    if not np.any((np.asarray(lag_one(found.batches)) > _CORRELATED) & _beyond_rounding(found)):
        return ""
    return "batches are shorter than the memory of the orbit: errors are widened for it, but take a longer run"


def _killed(found: Any) -> str:
    lowest = np.log(np.finfo(np.asarray(found.batches).dtype).tiny) / 2
    step = np.asarray(found.step_size) * found.interval
    if not np.any(np.asarray(found.batches) * step[..., None, None] < lowest):
        return ""
    return "a direction dies at once (a singular Jacobian): its exponent is minus infinity, whatever is shown"


def _sum(found: Any) -> str:
    scale = np.sum(np.abs(found.exponents), axis=-1)
    spread = np.max(standard_error(found.batches), axis=-1)
    allowed = np.maximum(np.maximum(_SUM * scale, spread), _STEP / np.asarray(found.step_size))
    if not np.any(np.abs(found.sum_residual) > allowed):
        return ""
    largest = float(np.nanmax(np.abs(found.sum_residual)))
    return f"the exponents miss the mean divergence by {largest:.2g} in their sum: take a shorter step"


def _single(found: Any) -> str:
    return (
        "float32: a chaotic orbit is followed for about 20 steps, and sums lose digits"
        if found.single_precision
        else ""
    )


def _beyond_rounding(found: Any) -> Any:
    scale = np.max(np.abs(found.exponents), axis=-1, keepdims=True)
    return np.asarray(found.standard_errors) > 1e-8 * scale
