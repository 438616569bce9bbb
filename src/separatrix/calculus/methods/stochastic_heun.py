r"""Stochastic Heun: the trapezoidal rule along the noise, on the drift that makes it solve the Ito equation.

    x~ = x + a(t, x) h + g(t, x) dW
    x' = x + h/2 (a(t, x) + a(t + h, x~)) + 1/2 (g(t, x) + g(t + h, x~)) dW

The rule itself solves dx = a dt + g o dW in the sense of Stratonovich. An `SDE` means dx = f dt + g dW in the sense of Ito,
which is the same equation for

    a = f - 1/2 sum_j (Dg_j) g_j,      a_i = f_i - 1/2 sum_jk g_kj dg_ij/dx_k,

with g_j the columns of g: one forward derivative for each noise, one in all where g_i is made of x_i alone, and none for
additive noise.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from separatrix._tree import add, axpy, scale
from separatrix._types import Key, Scalar, State
from separatrix.calculus._sources import is_entrywise
from separatrix.calculus.dependence import depends_on
from separatrix.calculus.methods.base import SDEMethod, brownian, noise_structure
from separatrix.systems.sde import SDE


class StochasticHeun(SDEMethod):
    r"""Heun's method for an Ito equation dx = f dt + g dW, whose correction -1/2 sum_j (Dg_j) g_j it differentiates.

    Strong order 1 for commutative noise (one noise, or g_i of x_i alone), 1/2 in general. To solve a Stratonovich equation
    dx = a dt + g o dW, add to its drift what makes it one of Ito: f = a + 1/2 sum_j (Dg_j) g_j, so a + 1/2 g g' for
    diagonal noise.

    **Example:** geometric Brownian motion of mean e^(mu t), over 10,000 paths.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> growth = sx.as_sde(lambda x: 0.2 * x, lambda x: 0.5 * x)
    >>> path = sx.evolve(growth, jnp.ones(10_000), times=(0.0, 1.0), step_size=0.1,
    ...                  method=sx.StochasticHeun(), key=jax.random.key(0))
    >>> bool(abs(path.final.mean() - jnp.exp(0.2)) < 0.03)
    True

    **Reference:** Kloeden & Platen, *Numerical Solution of SDEs* (1992), section 15.5; Rumelin (1982); equation 4.9.11 of
    the first for the correction.
    """

    strong_order: ClassVar[float] = 1.0
    weak_order: ClassVar[float] = 1.0

    def increments(self, system: SDE, t: Scalar, state: State, step_size: Scalar, key: Key) -> PyTree:
        return brownian(key, noise_structure(system, t, state), step_size)

    def advance_with(self, system: SDE, t: Scalar, state: State, step_size: Scalar, noise: PyTree | None) -> State:
        here = _increment(system, t, state, step_size, noise)
        there = _increment(system, t + step_size, add(state, here), step_size, noise)
        return axpy(0.5, there, axpy(0.5, here, state))


def _increment(system: SDE, t: Scalar, state: State, step_size: Scalar, noise: PyTree | None) -> State:
    drift = scale(step_size, system.drift(t, state))
    if noise is None:
        return drift
    drift = axpy(-0.5 * step_size, noise_drift(system, t, state), drift)
    return add(drift, system.diffusion(t, state).mv(noise))


def noise_drift(system: SDE, t: Scalar, state: State) -> State:
    """sum_j (Dg_j) g_j: twice what the Stratonovich reading of an equation adds to its drift."""
    flat, unravel = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), noise_structure(system, t, state)))

    def pushed(x: State, dw: PyTree) -> State:
        return system.diffusion(t, x).mv(dw)

    if not depends_on(lambda x: pushed(x, unravel(jnp.ones_like(flat))), state):
        return scale(0, state)
    operator: Any = system.diffusion(t, state)
    if isinstance(operator, lx.DiagonalLinearOperator):

        def diagonal(x: State) -> State:
            return system.diffusion(t, x).diagonal  # pyright: ignore[reportAttributeAccessIssue]

        if is_entrywise(diagonal, state):
            # The derivative of g_i(x_i) along the direction g itself is g_i g_i'.
            return jax.jvp(diagonal, (state,), (operator.diagonal,))[1]

    def column(direction: Any) -> Any:
        dw = unravel(direction)
        return jax.jvp(lambda x: pushed(x, dw), (state,), (pushed(state, dw),))[1]

    columns = jax.vmap(column)(jnp.eye(flat.size, dtype=flat.dtype))
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), columns)
