r"""Stochastic modified equations: the SDE that a random near-identity map follows in law.

A step x -> F_h(t, x; xi) has a mean and a covariance. With the mean map F_h(t, x) = E F_h(t, x; xi),

    dx = b(t, x) dt + g(t, x) dW,        g g^T = Cov[F_h(t, x; xi)] / h,

follows the map weakly at order 1 in h for b = limit(mean map). It does so at order 2 for b = modified(mean map, 1) if the
noise of a step enters as h times a random field of mean zero, so that g g^T = O(h). For stochastic gradient descent that
is dx = -grad(L + (h/4)|grad L|^2) dt + sqrt(h) Sigma^{1/2} dW, Sigma the covariance of the gradient.

Noise of size sqrt(h), as in a step of Euler-Maruyama, is another scaling: g g^T = O(1) there, and the second order has
terms of the noise too. On x' = x - h a x + sqrt(h) s z the stationary variance is s^2/(2a (1 - h a/2)). The limit has
s^2/(2a), off by O(h), and with the drift modified alone it would be s^2/(2a (1 + h a/2)), off by twice as much.

The covariance C is measured over a fixed set of K keys, so g is a smooth function of x, in one of three forms:

    full        g = D, whose K columns are centred steps over sqrt(h (K - 1)): g g^T = C, of rank at most K - 1
    rank r      g = D V_r, V_r the r leading right singular vectors: the nearest to C of rank r
    diagonal    g = diag(sqrt(C_ii)): each component its own variance, and no correlation
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Shaped

from separatrix._errors import explain
from separatrix._tree import all_finite, float_dtype, is_traced
from separatrix._types import Key, Operator, Scalar, State
from separatrix.calculus.limits import limit
from separatrix.calculus.modified_equations import modified
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.sde import SDE


class DiffusionLimit(SDE):
    """dx = b(t, x) dt + g(t, x) dW, with g g^T the measured covariance of a step over h."""

    map: NearIdentityMap
    mean: Flow
    keys: Shaped[Array, "samples ..."]
    covariance: str | int = eqx.field(default="full", static=True)
    order: int = eqx.field(default=1, static=True)

    def drift(self, t: Scalar, state: State) -> State:
        velocity = self.mean.velocity(t, state)
        return velocity if self.order == 1 else _require_smooth_noise(velocity, self.map, self.keys[0], t, state)

    def diffusion(self, t: Scalar, state: State) -> Operator:
        spread = self.deviations(t, state)
        if self.covariance == "diagonal":
            return lx.DiagonalLinearOperator(jax.tree.map(_root_of_sum_of_squares, spread))
        rows = spread if isinstance(self.covariance, str) else _leading(spread, self.covariance)

        def multiply(noise: Any) -> State:
            return jax.tree.map(lambda leaf: jnp.tensordot(noise.astype(leaf.dtype), leaf, axes=1), rows)

        count = jax.ShapeDtypeStruct((jax.tree.leaves(rows)[0].shape[0],), float_dtype(state))
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


def _require_smooth_noise(velocity: State, map: NearIdentityMap, key: Key, t: Scalar, state: State) -> State:
    """Return the velocity if a step with a draw, too, is smooth in h at 0: x + h (a random field) + O(h^2)."""
    zero = jnp.zeros((), float_dtype(state))
    along = jax.jvp(lambda h: map.advance(t, state, h, key=key), (zero,), (jnp.ones_like(zero),))[1]
    rough = all_finite(velocity) & ~all_finite(along)
    if is_traced(velocity, rough):
        return eqx.error_if(velocity, rough, _ROUGH)
    if rough:
        raise ValueError(_ROUGH)
    return velocity


_ROUGH = explain(
    "diffusion_limit: order",
    "order=2 for a step whose noise is not smooth in h at 0, as sqrt(h) is not",
    "noise that enters as h times a random field of mean zero, as in stochastic gradient descent",
    "Pass order=1: a step of Euler-Maruyama has no second-order limit in general.",
)


def _root_of_sum_of_squares(rows: Array) -> Array:
    """sqrt(sum_k d_k^2), with slope 0 where the sum is 0."""
    total = jnp.sum(rows**2, axis=0)
    positive = total > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, total, 1)), 0)


def _leading(rows: State, rank: int) -> State:
    """V_r^T D: the rows that carry the most variance, from the eigenvectors of the (K, K) matrix of their products."""
    flat = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
    dtype = float_dtype(rows)
    products = sum((part @ part.T).astype(dtype) for part in flat)
    vectors = jnp.linalg.eigh(products)[1][:, -rank:]
    return jax.tree.map(lambda leaf: jnp.tensordot(vectors.T.astype(leaf.dtype), leaf, axes=1), rows)


def diffusion_limit(
    map: System, order: int = 1, *, key: Key, samples: int = 256, covariance: str | int = "full"
) -> SDE:
    r"""Return the SDE that a random near-identity map follows in law.

    **Arguments:**

    - `map`: a `NearIdentityMap` whose `advance` draws from `key` and without a key is its mean (stochastic gradient
      descent on an `Objective` is one).
    - `order`: 1 (drift of the limit) or 2 (drift of the first modified equation): the weak order in the step size. The
      second needs noise that enters as h times a random field.
    - `key`, `samples`: the draws over which the covariance of a step is measured; its relative error is about
      sqrt(2/samples).
    - `covariance`: "full"; a rank r from 1 to `samples`, for the nearest of that rank (its leading eigenvectors meet no
      derivative where two of their eigenvalues are equal); or "diagonal", which keeps variances and drops correlations.

    **Returns:** an `SDE` at the map's own step size; its noise has `samples` components, or r, or the form of the state.

    **Raises:** `TypeError` for any other system; `ValueError` for another order, fewer than two samples, or another form
    of covariance. Its drift raises `ValueError` (a runtime error under `jit`) for order 2 of a map with noise of another
    scaling, as sqrt(h).

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
    if isinstance(order, bool) or order not in (1, 2):
        raise ValueError(explain("diffusion_limit: order", order, "1 or 2", "Pass order=2 for the modified drift."))
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer) or samples < 2:
        raise ValueError(
            explain("diffusion_limit: samples", samples, "a whole number, at least 2", "A covariance needs a spread.")
        )
    _check_covariance(covariance, samples)
    mean = limit(map) if order == 1 else modified(map, 1)
    return DiffusionLimit(map, mean, jax.random.split(key, samples), covariance, order)


def _check_covariance(covariance: Any, samples: int) -> None:
    rank = isinstance(covariance, int) and not isinstance(covariance, bool)
    if not (1 <= covariance <= samples if rank else covariance in ("full", "diagonal")):
        expected = f'"full", "diagonal" or a rank from 1 to samples = {samples}'
        do = "Pass covariance=10 for the ten directions of largest variance."
        raise ValueError(explain("diffusion_limit: covariance", repr(covariance), expected, do))
