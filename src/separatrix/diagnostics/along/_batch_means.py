r"""The standard error of a mean over a correlated record, from sums of its parts.

    m = (1/B) sum_b m_b,      Var(sum of n neighbours) = D n + C,      error^2 = 1.13^2 (D/B + C/B^2) + g^2

m_b are the means of B equal parts. Independent parts have C = 0. If a part is shorter than the memory of the record,
neighbours are alike and C < 0. If a part holds a bounded fluctuation, as the exponent of a flow along itself does, then
neighbours share it at their border with opposite signs: C > 0, and D, which alone stays for long runs, is small.

D and C are fitted to the variances of sums of 2, 4, 8 and 16 neighbours, whose relative variances grow as n. A fit that is
negative gives way to 0.6 C. The factor 1.13 is for the scatter of D over records of 64 parts: twice the error covers 93 to
99 % of Gaussian, exponential, autoregressive (coefficient up to 1/2) and differenced records, and the error is 1.02 to 1.75
times the true one.

With fewer than 16 parts there is nothing to fit. Then error^2 = (s^2/B) (1 + 2 max(r, 0)) + g^2, where r is the correlation
of each part with the next.

g is half the gap between the means of the first and the last third, where it is more than four of its own errors: a record
that still drifts has a bias of that order, which no spread tells. The least is what rounding leaves of differences of
sums, 4 eps B max |m_b|.

(Flegal & Jones, *Batch means and spectral variance estimators in Markov chain Monte Carlo* (2010), sections 2 and 3, for
batch means and overlapping ones.)
"""

from typing import Any

import numpy as np

from separatrix.diagnostics.along._exponent_sums import of

# A gap that stationary parts show once in 16,000 records.
_GAP = 4.0
_NEIGHBOURS = (2, 4, 8, 16)
_SCATTER, _FLOOR = 1.13, 0.6


def standard_error(batches: Any) -> Any:
    """Return the standard error of the mean over the last axis."""
    xp, count = of(batches), batches.shape[-1]
    drift = xp.where(drifts(batches), _gap(batches)[0] / 2, 0.0)
    return xp.sqrt(_variance(batches) / count + drift**2 + _rounding(batches) ** 2)


def errors_of(gradients: Any, batches: Any) -> Any:
    """Return the standard errors of functions of the means, by their gradients at them (the delta method)."""
    return standard_error(gradients @ batches)


def lag_one(batches: Any) -> Any:
    """Return the correlation of each part with the next, 0 where there is no spread."""
    xp = of(batches)
    away = batches - xp.mean(batches, axis=-1, keepdims=True)
    spread = xp.sum(away**2, axis=-1)
    return xp.sum(away[..., 1:] * away[..., :-1], axis=-1) / xp.where(spread > 0, spread, 1.0)


def drifts(batches: Any) -> Any:
    """Return whether the first third differs from the last by more than four errors of the difference."""
    gap, error = _gap(batches)
    return of(batches).abs(gap) > _GAP * error


def _variance(batches: Any) -> Any:
    """B times the variance of the mean."""
    xp, count = of(batches), batches.shape[-1]
    numbers = [n for n in _NEIGHBOURS if 4 * n <= count]
    if len(numbers) < 2:
        return _widening(batches) * xp.var(batches, axis=-1, ddof=1)
    away = batches - xp.mean(batches, axis=-1, keepdims=True)
    sums = xp.cumsum(xp.concatenate([0 * away[..., :1], away], axis=-1), axis=-1)
    # E (sum of n, less n m)^2 = (D n + C) (1 - n/B), next to exactly.
    seen = [xp.mean((sums[..., n:] - sums[..., :-n]) ** 2, axis=-1) / n / (1 - n / count) for n in numbers]
    inverse = 1 / np.asarray(numbers, batches.dtype)
    weights = inverse / inverse.sum()
    middle = float((weights * inverse).sum())
    level = sum(w * v for w, v in zip(weights, seen, strict=True))
    slope = sum(w * (x - middle) * v for w, x, v in zip(weights, inverse, seen, strict=True))
    slope = slope / float((weights * (inverse - middle) ** 2).sum())
    fitted = level - slope * middle + slope / count
    return _SCATTER**2 * xp.maximum(fitted, _FLOOR * xp.maximum(slope, 0.0) / count)


def _gap(batches: Any) -> tuple[Any, Any]:
    xp = of(batches)
    third = max(batches.shape[-1] // 3, 1)
    first, last = batches[..., :third], batches[..., -third:]
    gap = xp.mean(first, axis=-1) - xp.mean(last, axis=-1)
    spread = (xp.var(first, axis=-1) + xp.var(last, axis=-1)) / max(third - 1, 1)
    return gap, xp.sqrt(_widening(batches) * spread) + _rounding(batches)


def _widening(batches: Any) -> Any:
    return 1 + 2 * of(batches).maximum(lag_one(batches), 0.0)


def _rounding(batches: Any) -> Any:
    xp = of(batches)
    return 4 * batches.shape[-1] * float(np.finfo(batches.dtype).eps) * xp.max(xp.abs(batches), axis=-1)
