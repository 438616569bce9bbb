r"""The standard error of a mean over a correlated record, from means of its parts.

    m = (1/B) sum_b m_b,      s^2 = (1/(B-1)) sum_b (m_b - m)^2,      error^2 = (s^2/B) (1 + 2 max(r, 0)) + g^2

m_b are the means of B equal parts, next to independent where a part is longer than the memory of the record. r is their
correlation with the next one. Where it is positive the parts are too short, and the error is widened by the first term of
the spectral sum. Where it is below -3/sqrt(B) the parts alternate, as a bounded fluctuation makes them that neighbours
share at their border: they are joined in pairs, down to 16 parts, for what it adds to the error falls with their length.
g is half the gap between the means of the first and the last third, where it is more than four of its own errors: a record
that still drifts has a bias of that order, which no spread tells. The least is what rounding leaves of differences of
sums, 4 eps B max |m_b|.

(Flegal & Jones, *Batch means and spectral variance estimators in Markov chain Monte Carlo* (2010), sections 2 and 3: the
estimator of batch means; the lag-one term is that of their spectral estimator.)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# A gap that stationary parts show once in 16,000 records.
_GAP = 4.0
# Correlations of independent parts scatter by 1/sqrt(B).
_ALTERNATING = 3.0
_FEWEST = 16


def standard_error(batches: Float[Array, "*more B"]) -> Float[Array, "*more"]:
    """Return the standard error of the mean over the last axis."""
    count = batches.shape[-1]
    variance = _widening(batches) * jnp.var(batches, axis=-1, ddof=1) / count
    drift = jnp.where(drifts(batches), _gap(batches)[0] / 2, 0)
    error = jnp.sqrt(variance + drift**2 + _rounding(batches) ** 2)
    if count < 2 * _FEWEST:
        return error
    pairs = (batches[..., : count - 1 : 2] + batches[..., 1:count:2]) / 2
    return jnp.where(lag_one(batches) < -_ALTERNATING / count**0.5, standard_error(pairs), error)


def lag_one(batches: Float[Array, "*more B"]) -> Float[Array, "*more"]:
    """Return the correlation of each part with the next, 0 where there is no spread."""
    away = batches - jnp.mean(batches, axis=-1, keepdims=True)
    spread = jnp.sum(away**2, axis=-1)
    return jnp.sum(away[..., 1:] * away[..., :-1], axis=-1) / jnp.where(spread > 0, spread, 1)


def drifts(batches: Float[Array, "*more B"]) -> Bool[Array, "*more"]:
    """Return whether the first third differs from the last by more than four errors of the difference."""
    gap, error = _gap(batches)
    return jnp.abs(gap) > _GAP * error


def error_of(function: Callable[[Any], Any], mean: Float[Array, " k"], batches: Float[Array, "k B"]) -> Array:
    """Return the standard error of `function(mean)`, by its linear part on the parts (the delta method)."""
    _, push = jax.linearize(function, mean)
    return standard_error(jax.vmap(push)((batches - mean[:, None]).T))


def _gap(batches: Array) -> tuple[Array, Array]:
    third = max(batches.shape[-1] // 3, 1)
    first, last = batches[..., :third], batches[..., -third:]
    gap = jnp.mean(first, axis=-1) - jnp.mean(last, axis=-1)
    spread = (jnp.var(first, axis=-1) + jnp.var(last, axis=-1)) / max(third - 1, 1)
    error = jnp.sqrt(_widening(batches) * spread)
    return gap, error + _rounding(batches)


def _widening(batches: Array) -> Array:
    return 1 + 2 * jnp.maximum(lag_one(batches), 0)


def _rounding(batches: Array) -> Array:
    return 4 * batches.shape[-1] * jnp.finfo(batches.dtype).eps * jnp.max(jnp.abs(batches), axis=-1)
