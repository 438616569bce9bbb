r"""The strong order that a method has on an equation, from how the equation's noise depends on the state.

With the columns g_1, ..., g_m of the diffusion, in the sense of Ito,

    additive      g_k does not depend on x           Euler-Maruyama is Milstein's method, of strong order 1
    commutative   [g_j, g_k] = Dg_k g_j - Dg_j g_k = 0 for all j, k:   no Levy areas, Milstein's and Heun's order is 1
    neither       1/2 for what draws no areas

What the diffusion's program computes without the state is additive whatever its values; else the columns and their
derivatives are looked at in a few states and times, so that `0.5 + 0 * x` is additive too.

**Reference:** Kloeden & Platen, *Numerical Solution of Stochastic Differential Equations* (1992), sections 10.2 and 10.3.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from separatrix._tree import float_dtype
from separatrix._types import State
from separatrix.calculus.dependence import depends_on
from separatrix.calculus.methods import EulerMaruyama, Milstein, StochasticHeun
from separatrix.calculus.methods.base import SDEMethod, noise_structure
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.systems.sde import SDE

_PLACES = 5
# Derivatives of d^2 m entries; larger noises are taken for what the method says.
_MOST = 1 << 20


def strong_order_on(method: SDEMethod, sde: SDE, state: State, end: float) -> float:
    """The strong order of a method on an equation; that which the method states where it does not hang on the noise."""
    if not isinstance(method, EulerMaruyama | Milstein | StochasticHeun):
        return float(method.strong_order)
    additive, commutative = _noise(sde, state, end)
    if isinstance(method, EulerMaruyama):
        return 1.0 if additive else float(method.strong_order)
    return float(method.strong_order) if commutative else 0.5


def _noise(sde: SDE, state: State, end: float) -> tuple[bool, bool]:
    """Whether the noise is additive, and whether it commutes."""
    time = jnp.zeros((), float_dtype(state))
    structure = noise_structure(sde, time, state)
    leaves, tree = jax.tree.flatten(structure)

    def pushed(x: State) -> State:
        return sde.diffusion(time, x).mv(jax.tree.unflatten(tree, [jnp.ones(s.shape, s.dtype) for s in leaves]))

    if not depends_on(pushed, state):
        return True, True
    size = jax.eval_shape(lambda: as_vector(state)).shape[0]
    width = sum(int(np.prod(s.shape)) for s in leaves)
    if size**2 * width > _MOST:
        return False, True
    columns, slopes = map(np.asarray, _columns(sde, state, end))  # (places, m, d), (places, m, d, d)
    # At one time, places 0 and 1: the same columns; everywhere no slope.
    additive = bool(np.array_equal(columns[0], columns[1])) and not slopes.any()
    along = np.einsum("pkdx,pjx->pjkd", slopes, columns)  # Dg_k g_j
    brackets = along - np.swapaxes(along, 1, 2)
    # A root has no value on the other side.
    known = np.isfinite(along).all(axis=(1, 2, 3))
    along, brackets = along[known], brackets[known]
    rounding = 1e3 * float(jnp.finfo(float_dtype(state)).eps) * float(np.max(np.abs(along), initial=1e-300))
    return additive, bool(np.max(np.abs(brackets), initial=0.0) <= rounding)


@eqx.filter_jit
def _columns(sde: SDE, state: State, end: Any) -> tuple[Any, Any]:
    """The columns of the diffusion in some states and times, and their derivatives."""
    point = as_vector(state)
    steps = jax.random.normal(jax.random.key(0), (_PLACES, point.size), point.dtype).at[0].set(0)
    reach = jnp.maximum(jnp.abs(point), 1)
    # One of them on the other side of zero: a sign has no slope.
    places = (point[None] + reach[None] * steps).at[1].set(-point - reach)
    times = jnp.asarray(end, point.dtype) * jnp.maximum(jnp.arange(_PLACES) - 1, 0).astype(point.dtype) / _PLACES

    def columns(vector: Any, time: Any) -> Any:
        operator = sde.diffusion(time, from_vector(vector, state))
        flat, restore = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), operator.in_structure()))
        return jax.vmap(lambda unit: as_vector(operator.mv(restore(unit))))(jnp.eye(flat.size, dtype=flat.dtype))

    return jax.vmap(columns)(places, times), jax.vmap(jax.jacfwd(columns))(places, times)
