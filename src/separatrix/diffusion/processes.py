r"""Noising processes: linear SDEs whose marginals are known.

    x(t) given x(0) is N(alpha(t) x(0), sigma(t)^2 I)

    variance preserving   dx = -beta/2 x dt + sqrt(beta) dW,  beta = b0 + t (b1 - b0)
                          alpha = exp(-(b0 t + (b1 - b0) t^2/2)/2),  sigma^2 = 1 - alpha^2
    variance exploding    dx = sqrt(d sigma^2/dt) dW,  sigma^2 = s0^2 ((s1/s0)^{2t} - 1),  alpha = 1
    Brownian              dx = dW,  sigma^2 = t,  alpha = 1

None of them forgets its start in finite time, and the last two have no equilibrium law at all: what the reversal starts
from, the prior, is a choice, and its distance from the law at the horizon a number that can be had.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import float_dtype, scale
from separatrix._types import Checked, Key, Operator, Scalar, State
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.sde import SDE


class NoisingProcess(SDE):
    """A linear SDE with x(t) | x(0) ~ N(alpha x(0), sigma^2 I), for t from 0 to the horizon."""

    @property
    @abstractmethod
    def horizon(self) -> Scalar:
        """The time at which data counts as noise."""

    @property
    @abstractmethod
    def prior_scale(self) -> Scalar:
        """Standard deviation of the normal law from which the reversal starts."""

    @abstractmethod
    def marginal(self, t: Any) -> tuple[Any, Any]:
        """Return (alpha, sigma) at time t, a number or an array of times."""

    @abstractmethod
    def time_of(self, ratio: Any) -> Any:
        """Return the time at which sigma/alpha has a value."""

    @abstractmethod
    def rates(self, t: Any) -> tuple[Any, Any]:
        """Return (a, g) of dx = a x dt + g dW at time t."""

    def slopes(self, t: Any) -> tuple[Any, Any]:
        """Return (alpha', sigma') at time t; sigma' may be infinite where sigma is 0."""
        t = jnp.asarray(t)
        return jax.jvp(lambda time: self.marginal(time), (t,), (jnp.ones_like(t),))[1]

    def drift(self, t: Scalar, state: State) -> State:
        return scale(self.rates(_time(t, state))[0], state)

    def diffusion(self, t: Scalar, state: State) -> Operator:
        strength = self.rates(_time(t, state))[1]
        return lx.DiagonalLinearOperator(jax.tree.map(lambda leaf: jnp.full_like(leaf, strength), state))

    def perturb(self, key: Key, t: Scalar, start: Any) -> tuple[Any, Any]:
        """Return (x(t), the standard normal noise in it) from x(0), an array."""
        noise = jax.random.normal(key, start.shape, start.dtype)
        alpha, sigma = (jnp.asarray(v, start.dtype) for v in self.marginal(_time(t, start)))
        return alpha * start + sigma * noise, noise

    def prior(self, key: Key, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """Draw from the prior N(0, prior_scale^2)."""
        dtype = jnp.zeros(()).dtype if dtype is None else dtype
        return jnp.asarray(self.prior_scale, dtype) * jax.random.normal(key, shape, dtype)

    def prior_log_density(self, state: Any) -> Scalar:
        """log density of the prior at an array, all its entries being one point."""
        spread = jnp.asarray(self.prior_scale, state.dtype)
        return jnp.sum(-0.5 * (state / spread) ** 2 - jnp.log(spread) - 0.5 * jnp.log(2 * jnp.pi).astype(state.dtype))


class LinearRate(NoisingProcess):
    """A process on [0, 1] whose beta is linear, beta = b0 + t (b1 - b0), and whose prior is N(0, 1)."""

    beta_min: Any = eqx.field(default=0.1, converter=as_parameter)
    beta_max: Any = eqx.field(default=20.0, converter=as_parameter)

    @property
    def horizon(self) -> Scalar:
        return 1.0

    @property
    def prior_scale(self) -> Scalar:
        return 1.0

    def rate(self, t: Any) -> Any:
        """Return beta at time t."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def spent(self, t: Any) -> Any:
        """Return B, the integral of beta from 0 to t."""
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2

    def time_spent(self, spent: Any) -> Any:
        """Return the time at which the integral has a value."""
        slope = self.beta_max - self.beta_min
        return 2 * spent / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * slope * spent))


class VP(LinearRate):
    r"""The variance-preserving process, dx = -beta(t)/2 x dt + sqrt(beta(t)) dW, t in [0, 1].

    **Arguments:**

    - `beta_min`, `beta_max`: beta at 0 and at 1, between which it is linear; 0 <= beta_min <= beta_max, beta_max > 0.

    **Raises:** `ValueError` for values outside these ranges.

    **Example:**

    >>> import separatrix as sx
    >>> [round(float(v), 6) for v in sx.diffusion.VP().marginal(0.5)]
    [0.281183, 0.959654]

    **Reference:** Song et al., *Score-based generative modeling through SDEs* (2021), equations 11 and 33.
    """

    def __check_init__(self) -> None:
        do = "Leave both out for 0.1 and 20."
        ranges.nonnegative("VP: beta_min", self.beta_min, do)
        ranges.positive("VP: beta_max", self.beta_max, do)
        ranges.ordered("VP: beta_min and beta_max", self.beta_min, self.beta_max, do)

    def marginal(self, t: Any) -> tuple[Any, Any]:
        spent = self.spent(jnp.asarray(t))
        return jnp.exp(-spent / 2), jnp.sqrt(-jnp.expm1(-spent))

    def time_of(self, ratio: Any) -> Any:
        return self.time_spent(jnp.log1p(jnp.asarray(ratio) ** 2))

    def rates(self, t: Any) -> tuple[Any, Any]:
        return -self.rate(t) / 2, jnp.sqrt(self.rate(t))


class VE(NoisingProcess):
    r"""The variance-exploding process, dx = sqrt(d sigma^2/dt) dW, t in [0, 1].

    **Arguments:**

    - `sigma_min`, `sigma_max`: sigma^2 = sigma_min^2 ((sigma_max/sigma_min)^{2t} - 1), with 0 < sigma_min < sigma_max.

    **Raises:** `ValueError` for values outside these ranges.

    **Example:**

    >>> import separatrix as sx
    >>> [round(float(v), 4) for v in sx.diffusion.VE(0.01, 10.0).marginal(1.0)]
    [1.0, 10.0]

    **Reference:** Song et al., *Score-based generative modeling through SDEs* (2021), equations 9 and 31.
    """

    sigma_min: Any = eqx.field(default=0.01, converter=as_parameter)
    sigma_max: Any = eqx.field(default=50.0, converter=as_parameter)

    def __check_init__(self) -> None:
        do = "Leave both out for 0.01 and 50."
        ranges.positive("VE: sigma_min", self.sigma_min, do)
        ranges.positive("VE: sigma_max", self.sigma_max, do)
        ranges.ordered("VE: sigma_min and sigma_max", self.sigma_min, self.sigma_max, do, strictly=True)

    @property
    def horizon(self) -> Scalar:
        return 1.0

    @property
    def prior_scale(self) -> Scalar:
        return self.sigma_max

    def marginal(self, t: Any) -> tuple[Any, Any]:
        t = jnp.asarray(t)
        growth = jnp.log(self.sigma_max / self.sigma_min)
        return jnp.ones_like(t), self.sigma_min * jnp.sqrt(jnp.expm1(2 * growth * t))

    def time_of(self, ratio: Any) -> Any:
        growth = jnp.log(self.sigma_max / self.sigma_min)
        return jnp.log1p((jnp.asarray(ratio) / self.sigma_min) ** 2) / (2 * growth)

    def rates(self, t: Any) -> tuple[Any, Any]:
        growth = jnp.log(self.sigma_max / self.sigma_min)
        return jnp.zeros_like(t), self.sigma_min * jnp.exp(growth * t) * jnp.sqrt(2 * growth)


class Brownian(NoisingProcess):
    r"""dx = dW, t in [0, T]: the simplest noising process, whose variance grows for ever.

    **Arguments:**

    - `horizon`: T > 0. The prior is N(0, T); for data of variance s^2 the law at T is N(0, s^2 + T).

    **Raises:** `ValueError` for a horizon that is not positive and finite.

    **Example:**

    >>> import separatrix as sx
    >>> [float(v) for v in sx.diffusion.Brownian(9.0).marginal(4.0)]
    [1.0, 2.0]
    """

    end: Any

    def __init__(self, horizon: Any = 1.0):
        ranges.positive("Brownian: horizon", horizon, "Leave it out for 1.")
        self.end = as_parameter(horizon)

    @property
    def horizon(self) -> Scalar:
        return self.end

    @property
    def prior_scale(self) -> Scalar:
        return jnp.sqrt(self.end)

    def marginal(self, t: Any) -> tuple[Any, Any]:
        t = jnp.asarray(t)
        return jnp.ones_like(t), jnp.sqrt(t)

    def time_of(self, ratio: Any) -> Any:
        return jnp.asarray(ratio) ** 2

    def rates(self, t: Any) -> tuple[Any, Any]:
        return jnp.zeros_like(t), jnp.ones_like(t)


def alpha_bar(steps: Checked[int] = 1000, first: float = 1e-4, last: float = 0.02) -> Float[Array, "steps"]:
    r"""Return the products alpha_bar_n = prod_{i <= n} (1 - beta_i) of a linear schedule, n = 1, ..., steps.

    **Arguments:**

    - `steps`: how many, at least 2. `first`, `last`: beta_1 and beta_steps, between 0 and 1.

    **Raises:** `ValueError` for values outside these ranges.

    **Example:**

    >>> import separatrix as sx
    >>> round(float(sx.diffusion.alpha_bar()[499]), 6)
    0.078587

    **Reference:** Ho, Jain & Abbeel, *Denoising diffusion probabilistic models* (2020), equation 4 and section 4.
    """
    do = "Leave them out for the schedule of the paper."
    steps = ranges.whole("alpha_bar: steps", steps, do, least=2)
    if not 0 < first <= last < 1:
        raise ValueError(explain("alpha_bar", f"{first} to {last}", "0 < first <= last < 1", do))
    return jnp.exp(jnp.cumsum(jnp.log1p(-jnp.linspace(first, last, steps))))


def _time(t: Any, state: Any) -> Any:
    return jnp.asarray(t, float_dtype(state))
