r"""Stochastic modified equations: the SDE that a random near-identity map follows in law.

A step x -> F_h(t, x; xi) has a mean and a covariance. With the mean map F_h(t, x) = E F_h(t, x; xi),

    dx = b(t, x) dt + g(t, x) dW,        g g^T = Cov[F_h(t, x; xi)] / h,

follows the map weakly at order 1 in h for b = limit(mean map) and at order 2 for b = modified(mean map, 1). For
stochastic gradient descent that is dx = -grad(L + (h/4)|grad L|^2) dt + sqrt(h) Sigma^{1/2} dW, Sigma the covariance of
the gradient. The covariance is measured over a fixed set of keys, so g is a smooth function of x of rank at most one
less than their number.
"""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Shaped

from separatrix._errors import explain
from separatrix._tree import float_dtype
from separatrix._types import Key, Operator, Scalar, State
from separatrix.calculus._undefined import undefined
from separatrix.calculus.limit import limit
from separatrix.calculus.modified import modified
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.sde import SDE


class DiffusionLimit(SDE):
    """dx = b(t, x) dt + g(t, x) dW, with g g^T the measured covariance of a step over h."""

    map: NearIdentityMap
    mean: Flow
    keys: Shaped[Array, "samples ..."]

    def drift(self, t: Scalar, state: State) -> State:
        return self.mean.velocity(t, state)

    def diffusion(self, t: Scalar, state: State) -> Operator:
        spread = self.deviations(t, state)

        def multiply(noise: Any) -> State:
            return jax.tree.map(lambda leaf: jnp.tensordot(noise, leaf, axes=1), spread)

        count = jax.ShapeDtypeStruct((self.keys.shape[0],), float_dtype(state))
        return lx.FunctionLinearOperator(multiply, count)

    def deviations(self, t: Scalar, state: State) -> State:
        """Rows d_k with sum_k d_k d_k^T = Cov(step) / h: centred steps over sqrt(h (K - 1))."""
        dtype = float_dtype(state)
        step_size = jnp.asarray(self.map.step_size, dtype)
        time = jnp.asarray(t, dtype)
        steps = jax.vmap(lambda key: self.map.advance(time, state, step_size, key=key))(self.keys)
        factor = 1 / jnp.sqrt(step_size * (self.keys.shape[0] - 1))
        return jax.tree.map(
            lambda leaf: (leaf - jnp.mean(leaf, axis=0, keepdims=True)) * factor.astype(leaf.dtype), steps
        )


def diffusion_limit(map: System, order: int = 1, *, key: Key, samples: int = 256) -> SDE:
    r"""Return the SDE that a random near-identity map follows in law.

    **Arguments:**

    - `map`: a `NearIdentityMap` whose `advance` draws from `key` and without a key is its mean (stochastic gradient
      descent on an `Objective` is one).
    - `order`: 1 (drift of the limit) or 2 (drift of the first modified equation): the weak order in the step size.
    - `key`, `samples`: the draws over which the covariance of a step is measured; its relative error is about
      sqrt(2/samples).

    **Returns:** an `SDE` at the map's own step size; its noise has `samples` components.

    **Raises:** `TypeError` for any other system; `ValueError` for another order or fewer than two samples.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> def noisy(t, x, h, *, key=None):
    ...     return x - h * (x + (0.0 if key is None else jax.random.normal(key)))
    >>> sde = sx.diffusion_limit(sx.as_near_identity(noisy, 0.01), key=jax.random.key(0), samples=4096)
    >>> g = sde.diffusion(0.0, jnp.array(1.0))
    >>> round(float(g.mv(g.T.mv(jnp.array(1.0)))), 3)
    0.01

    **Reference:** Li, Tai & E, *Stochastic modified equations and dynamics of stochastic gradient algorithms I* (2019),
    theorem 9.
    """
    if not isinstance(map, NearIdentityMap):
        raise undefined("diffusion_limit", map, "a random NearIdentityMap", "Write it with as_near_identity.")
    if order not in (1, 2):
        raise ValueError(explain("diffusion_limit: order", order, "1 or 2", "Pass order=2 for the modified drift."))
    if samples < 2:
        raise ValueError(explain("diffusion_limit: samples", samples, "at least 2", "A covariance needs a spread."))
    mean = limit(map) if order == 1 else modified(map, 1)
    return DiffusionLimit(map, mean, jax.random.split(key, samples))
