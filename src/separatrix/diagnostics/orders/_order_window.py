r"""The asymptotic window of errors over step sizes, and the slope in it.

On logarithmic axes an error e = C h^p (1 + c h + ...) has local slopes

    s_i = ln(e_i / e_{i+1}) / ln(h_i / h_{i+1})  =  p + O(h_i),

too far from p where h is too large, and meaningless where e is at the floor of rounding (or of the reference it was
measured against). The window is the run of points, from the finest above the floor upwards, whose local slopes agree with
the finest one; the order is the slope of the least squares line through it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# An error of 30 floors is known to 3 %, which is 0.05 of a slope over one halving.
ABOVE_FLOOR = 30.0
# How far a local slope may be from the finest one: two thirds of the 0.15 to which an order is asked.
AGREEMENT = 0.1


class FittedLine(NamedTuple):
    """Local slopes (K - 1,), the window (K,), the weights (K,) with order = sum_i w_i ln e_i, and the fit."""

    slopes: Any
    window: Any
    weights: Any
    order: Any
    residual_error: Any


def local_slopes(step_sizes: Any, errors: Any) -> Any:
    """s_i, NaN or infinite where an error is not positive."""
    x, y = jnp.log(step_sizes), jnp.log(errors)
    return (y[:-1] - y[1:]) / (x[:-1] - x[1:])


@jax.jit
def fit(step_sizes: Any, errors: Any, floor: Any, slope_errors: Any) -> FittedLine:
    """Find the window and the line; step sizes fall, `floor` (K,) and `slope_errors` (K - 1,) as measured."""
    slopes = local_slopes(step_sizes, errors)
    good = jnp.isfinite(errors) & (errors > 0) & (errors > ABOVE_FLOOR * floor)
    pairs = _run_from_the_finest(good[:-1] & good[1:], slopes, slope_errors)
    window = jnp.append(pairs, False) | jnp.append(jnp.zeros(1, bool), pairs)
    weights, order, residual = _line(jnp.log(step_sizes), jnp.log(jnp.where(good, errors, 1.0)), window)
    return FittedLine(slopes, window, weights, order, residual)


def _run_from_the_finest(usable: Any, slopes: Any, slope_errors: Any) -> Any:
    """Pairs up from the finest usable one while their slopes agree with it, within two of their standard errors."""
    number = jnp.arange(usable.size)
    finest = jnp.max(jnp.where(usable, number, -1))
    slack = AGREEMENT + 2.0 * jnp.hypot(slope_errors, slope_errors[finest])
    agree = usable & (jnp.abs(slopes - slopes[finest]) <= slack)
    broken = jnp.max(jnp.where(~agree & (number < finest), number, -1))
    return agree & (number > broken) & (number <= finest) & (finest >= 0)


def _line(x: Any, y: Any, window: Any) -> tuple[Any, Any, Any]:
    """Least squares through the window: weights of the slope, the slope, and its error from the residuals."""
    inside = window.astype(x.dtype)
    count = jnp.sum(inside)
    mean = lambda values: jnp.sum(inside * values) / count  # noqa: E731
    spread = jnp.sum(inside * (x - mean(x)) ** 2)
    weights = inside * (x - mean(x)) / spread
    order = jnp.sum(weights * y)
    residuals = inside * (y - mean(y) - order * (x - mean(x)))
    return weights, order, jnp.sqrt(jnp.sum(residuals**2) / (count - 2) / spread)
