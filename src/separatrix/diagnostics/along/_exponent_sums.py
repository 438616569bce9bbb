r"""What follows from Lyapunov exponents: a dimension, a bound on entropy; and where they can be differentiated.

    D = j + (lambda_1 + ... + lambda_j)/|lambda_{j+1}|,      j the largest with lambda_1 + ... + lambda_j >= 0
    h <= sum of lambda_i > 0

An exponent within two standard errors of zero counts as zero: so a limit cycle has dimension 1, on whichever side of zero
the estimate lies.

(Kaplan & Yorke (1979); Ruelle, *An inequality for the entropy of differentiable maps* (1978).)
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def settled(exponents: Float[Array, " k"], errors: Float[Array, " k"]) -> Float[Array, " k"]:
    """Return the exponents, those within two standard errors of zero as zero."""
    return jnp.where(jnp.abs(exponents) <= 2 * errors, 0, exponents)


def dimension(exponents: Float[Array, " k"], size: int) -> Float[Array, ""]:
    """Return D; `size` where no sum is negative, NaN where that is not known."""
    count = exponents.shape[0]
    sums = jnp.cumsum(exponents)
    held = jnp.sum(sums >= 0)
    next_one = exponents[jnp.minimum(held, count - 1)]
    sum_held = jnp.where(held > 0, sums[jnp.maximum(held - 1, 0)], 0)
    between = held.astype(sums.dtype) + sum_held / jnp.abs(jnp.where(next_one == 0, 1, next_one))
    whole = jnp.asarray(float(size) if count == size else jnp.nan, sums.dtype)
    return jnp.where(jnp.isnan(sums[-1]), jnp.nan, jnp.where(held == count, whole, between))


def entropy(exponents: Float[Array, " k"], size: int) -> Float[Array, ""]:
    """Return the sum of positive exponents; NaN where more of them may be positive."""
    total = jnp.sum(jnp.where(exponents < 0, 0, exponents))
    return total if exponents.shape[0] == size else jnp.where(exponents[-1] > 0, jnp.nan, total)


@jax.custom_jvp
def sound(exponents: Any, leading: Any) -> Any:
    """The exponents themselves; their derivative is refused where `leading` is positive."""
    return exponents


@sound.defjvp
def _(primals: Any, tangents: Any) -> Any:
    exponents, leading = primals
    factor = eqx.error_if(
        jnp.ones((), exponents.dtype),
        leading > 0,
        "lyapunov_spectrum: got the gradient of an exponent of a chaotic orbit, expected a largest exponent that is not "
        "positive. The derivative along such an orbit grows as its perturbations do and has no limit: differentiate a "
        "mean over many short runs, or take finite differences of long ones with their standard errors.",
    )
    return exponents, tangents[0] * factor
