r"""A process of the user's own, from alpha and sigma alone.

    x(t) | x(0) ~ N(alpha x(0), sigma^2)  <->  dx = a x dt + g dW,  a = alpha'/alpha,  g^2 = 2 sigma sigma' - 2 a sigma^2

Rates follow by differentiation, and the time at which sigma/alpha has a value by bisection.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Function, Scalar
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.signature import as_pytree

_LOOKED_AT = 129
_HALVINGS = 70


class GivenPath(NoisingProcess):
    r"""x(t) = alpha(t) x(0) + sigma(t) eps for two functions of time.

    **Arguments:**

    - `alpha`, `sigma`: functions of t, differentiable, with sigma >= 0 and sigma/alpha rising from its value at 0.
    - `end`: the horizon, above 0, where alpha is still above 0.
    - `scale`: standard deviation of the prior; sigma(end) by default.

    **Raises:** `ValueError` for a horizon outside its range, and where sigma/alpha does not rise, with the time.

    **Example:** the variance-preserving circle.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> circle = sx.diffusion.GivenPath(jnp.cos, jnp.sin, 1.5)
    >>> round(float(circle.time_of(1.0)), 6)
    0.785398

    **Reference:** Karras et al. (2022), equation 28, solved for the rates; Kingma et al., *Variational diffusion models*
    (2021), section 3.1, equation 2.
    """

    alpha: Function
    sigma: Function
    end: Any
    scale: Any

    def __init__(self, alpha: Function, sigma: Function, end: Any = 1.0, scale: Any = None):
        ranges.positive("GivenPath: end", end, "Leave it out for 1.")
        self.alpha, self.sigma, self.end = as_pytree(alpha), as_pytree(sigma), as_parameter(end)
        self.scale = None if scale is None else as_parameter(scale)
        if scale is not None:
            ranges.positive("GivenPath: scale", scale, "Leave it out for sigma at the horizon.")

    def __check_init__(self) -> None:
        if is_traced(self.end, self.alpha, self.sigma):
            return
        with jax.ensure_compile_time_eval():
            times = jnp.linspace(0.0, float(self.end), _LOOKED_AT)
            alpha, sigma = (np.asarray(values) for values in jax.vmap(self.marginal)(times))
        sound = np.isfinite(alpha) & np.isfinite(sigma) & (alpha > 0) & (sigma >= 0)
        rises = np.diff(sigma / np.where(alpha > 0, alpha, 1), prepend=-np.inf) > 0
        if not (sound & rises).all():
            at = int(np.argmin(sound & rises))
            got = f"alpha = {alpha[at]:g}, sigma = {sigma[at]:g} at t = {float(times[at]):g}"
            do = "Check both functions: data at t = 0, noise at the horizon."
            raise ValueError(explain("GivenPath: alpha and sigma", got, "alpha > 0, sigma/alpha rising in t", do))

    @property
    def horizon(self) -> Scalar:
        return self.end

    @property
    def prior_scale(self) -> Scalar:
        return self.marginal(self.end)[1] if self.scale is None else self.scale

    def marginal(self, t: Any) -> tuple[Any, Any]:
        t = jnp.asarray(t)
        return jnp.broadcast_to(self.alpha(t), t.shape), jnp.broadcast_to(self.sigma(t), t.shape)

    def time_of(self, ratio: Any) -> Any:
        ratio = jnp.asarray(ratio)
        ratio = ratio if jnp.issubdtype(ratio.dtype, jnp.inexact) else ratio.astype(float)
        return jnp.vectorize(self._time_of)(ratio)

    def rates(self, t: Any) -> tuple[Any, Any]:
        (alpha, sigma), (rise, growth) = self.marginal(t), self.slopes(t)
        squared = 2 * sigma * growth - 2 * rise / alpha * sigma**2
        return rise / alpha, jnp.sqrt(jnp.maximum(squared, 0))

    def _time_of(self, ratio: Any) -> Any:
        end = jnp.asarray(self.end, ratio.dtype)
        top = jnp.divide(*self.marginal(end)[::-1]).astype(ratio.dtype)

        def gap(t: Any, wanted: Any) -> Any:
            alpha, sigma = self.marginal(t)
            return (sigma - wanted * alpha).astype(ratio.dtype)

        bottom = jnp.divide(*self.marginal(jnp.zeros_like(end))[::-1]).astype(ratio.dtype)
        inside = (ratio > bottom) & (ratio < top)
        wanted = jnp.where(inside, ratio, (bottom + top) / 2)
        tolerance = 4 * float(jnp.finfo(ratio.dtype).eps)
        found = optx.root_find(
            gap, optx.Bisection(rtol=tolerance, atol=tolerance**2), end / 2, args=wanted, max_steps=_HALVINGS, throw=False,
            options={"lower": jnp.zeros_like(end), "upper": end},
        ).value  # fmt: skip
        return jnp.where(inside, found, jnp.where(ratio >= top, end, 0))
