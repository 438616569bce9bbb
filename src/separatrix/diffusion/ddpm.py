r"""The chain of DDPM, and the process that it is a discretisation of.

    x[n] = sqrt(1 - beta_n) x[n-1] + sqrt(beta_n) z,   abar_n = prod_{i <= n} (1 - beta_i)

With the rate -ln(1 - beta_n) held on (n - 1, n] the variance-preserving process has exactly these laws at whole times: the
chain is that process, seen at n = 0, 1, ..., N. Between them log abar is linear in time.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._tree import float_dtype, is_inexact, is_traced
from separatrix._types import Key, Scalar, State, StepIndex
from separatrix.diffusion.processes import NoisingProcess
from separatrix.systems import ranges
from separatrix.systems.base import require_key
from separatrix.systems.map import FiniteMap


class DDPM(NoisingProcess):
    r"""The variance-preserving process whose laws at n = 0, 1, ..., N are those of the DDPM chain.

        alpha(n)^2 = abar_n,   beta(t) = -ln(1 - beta_n) for t in (n - 1, n]

    **Arguments:**

    - `betas`: beta_1, ..., beta_N, each above 0 and below 1; None for the 1,000 of the paper, from 1e-4 to 0.02.

    **Raises:** `ValueError` for betas outside these ranges.

    **Example:**

    >>> import separatrix as sx
    >>> alpha, sigma = sx.diffusion.DDPM().marginal(500.0)
    >>> round(float(alpha**2), 9)
    0.078587243

    **Reference:** Ho, Jain & Abbeel, *Denoising diffusion probabilistic models* (2020), equations 2 and 4, section 4.
    """

    betas: Array

    def __init__(self, betas: Any = None):
        self.betas = jnp.linspace(1e-4, 0.02, 1000) if betas is None else jnp.asarray(betas)
        do = "Leave it out for 1,000 from 1e-4 to 0.02."
        ranges.positive("DDPM: betas", self.betas, do)
        if not is_traced(self.betas):
            ranges.ordered("DDPM: the largest beta and 1", float(self.betas.max()), 1.0, do, strictly=True)

    @property
    def length(self) -> int:
        """N, how many steps the chain has."""
        return self.betas.shape[0]

    @property
    def horizon(self) -> Scalar:
        return float(self.length)

    @property
    def prior_scale(self) -> Scalar:
        return 1.0

    def marginal(self, t: Any) -> tuple[Any, Any]:
        t = _inexact(t)
        spent = jnp.interp(t, *self._table(t.dtype))
        return jnp.exp(-spent / 2), jnp.sqrt(-jnp.expm1(-spent))

    def time_of(self, ratio: Any) -> Any:
        ratio = _inexact(ratio)
        whole, spent = self._table(ratio.dtype)
        return jnp.interp(jnp.log1p(ratio**2), spent, whole)

    def rates(self, t: Any) -> tuple[Any, Any]:
        t = _inexact(t)
        beta = -jnp.log1p(-self.betas)[jnp.clip(jnp.ceil(t).astype(int) - 1, 0, self.length - 1)].astype(t.dtype)
        return -beta / 2, jnp.sqrt(beta)

    def chain(self) -> "NoisingChain":
        """The chain itself: a finite map of N random steps."""
        return NoisingChain(self.betas, self.length)

    def _table(self, dtype: Any) -> tuple[Array, Array]:
        """Whole times, and -log abar there."""
        spent = jnp.cumsum(-jnp.log1p(-self.betas)).astype(dtype)
        return jnp.arange(self.length + 1, dtype=dtype), jnp.concatenate([jnp.zeros_like(spent[:1]), spent])


class NoisingChain(FiniteMap):
    """x[n+1] = sqrt(1 - beta_{n+1}) x[n] + sqrt(beta_{n+1}) z, for n = 0, ..., N - 1."""

    betas: Array
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        beta = self.betas[n].astype(float_dtype(state))
        noise = jax.random.normal(require_key(key, "NoisingChain"), jnp.shape(state), float_dtype(state))
        return jnp.sqrt(1 - beta) * state + jnp.sqrt(beta) * noise


def _inexact(values: Any) -> Array:
    array = jnp.asarray(values)
    return array if is_inexact(array) else array.astype(float)
