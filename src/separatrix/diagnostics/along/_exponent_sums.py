r"""What follows from Lyapunov exponents: a dimension, a bound on entropy; and where they can be differentiated.

    D = j + (lambda_1 + ... + lambda_j)/|lambda_{j+1}|,      j the largest with lambda_1 + ... + lambda_j >= 0
    h <= sum of lambda_i > 0

An exponent within two standard errors of zero counts as zero: so a limit cycle has dimension 1, on whichever side of zero
the estimate lies. Each comes with its gradient, from which its error follows: dD = (d lambda_1 + ... + d lambda_j)/|l| +
(lambda_1 + ... + lambda_j) d l/l^2 with l = lambda_{j+1} < 0, and dh = the sum of the d lambda_i that are positive.

(Kaplan & Yorke (1979); Ruelle, *An inequality for the entropy of differentiable maps* (1978).)
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import is_traced


def settled(exponents: Any, errors: Any) -> Any:
    """Return the exponents, those within two standard errors of zero as zero."""
    xp = of(exponents)
    return xp.where(xp.abs(exponents) <= 2 * errors, 0.0, exponents)


def dimension(exponents: Any, size: int) -> tuple[Any, Any]:
    """Return D and its gradient; D is `size` where no sum is negative, NaN where that is not known."""
    xp, count = of(exponents), exponents.shape[0]
    sums = xp.cumsum(exponents)
    held = xp.sum(sums >= 0)
    places = xp.arange(count)
    following = places == held
    next_one = xp.sum(xp.where(following, exponents, 0.0))
    total = xp.sum(xp.where(places < held, exponents, 0.0))
    scale = xp.abs(xp.where(next_one == 0, 1.0, next_one))
    between = held.astype(sums.dtype) + total / scale
    slope = xp.where(places < held, 1 / scale, xp.where(following, total / scale**2, 0.0))
    whole = float(size) if count == size else np.nan
    value = xp.where(xp.isnan(sums[-1]), np.nan, xp.where(held == count, whole, between))
    return value, xp.where(held == count, 0.0, slope)


def entropy(exponents: Any, size: int) -> tuple[Any, Any]:
    """Return the sum of positive exponents and its gradient; NaN where more of them may be positive."""
    xp = of(exponents)
    total = xp.sum(xp.where(exponents < 0, 0.0, exponents))
    more = (exponents[-1] > 0) & (exponents.shape[0] < size)
    return xp.where(more, np.nan, total), xp.where(exponents > 0, 1.0, 0.0)


def of(*values: Any) -> Any:
    """NumPy where values are known, so that nothing is compiled for a few numbers; JAX's where they are traced."""
    return jnp if is_traced(*values) else np


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
