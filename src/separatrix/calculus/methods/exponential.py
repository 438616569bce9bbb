r"""Exponential (Rosenbrock-)Euler: exact where the field is linear in state and time.

    x' = x + h phi_1(hJ) f + h^2 phi_2(hJ) f_t,      J = Df(t, x),   f_t = df/dt,

    phi_1(z) = (e^z - 1)/z,      phi_2(z) = (e^z - 1 - z)/z^2.

This increment is the solution at time h, from 0, of the linearised equation u' = J u + s f_t + f with s' = 1. So it stands
in the last column of the exponential of h W, where W moves (u, s, 1) to (J u + s f_t + f, 1, 0).
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from separatrix._errors import explain
from separatrix._tree import add
from separatrix._types import Key, Scalar, State
from separatrix.calculus.methods.base import FlowMethod
from separatrix.systems.flow import Flow

# Components up to which the Jacobian is formed and exponentiated: cost grows with their cube.
LIMIT = 1024
# Of a matrix of norm at most 1, the Taylor remainder past this degree is below 1/19! < 1e-17.
DEGREE = 18
# Norms up to 2^40; past that squaring has lost every digit, and the step is NaN.
SQUARINGS = 40


class ExponentialEuler(FlowMethod):
    """x' = x + h phi_1(hJ) f + h^2 phi_2(hJ) f_t, of order 2, exact where f is linear in x and t: R(z) = e^z.

    The Jacobian is formed as a matrix, so the state has at most 1024 components.

    **Raises:** `ValueError` for a larger state.

    **Reference:** Hochbruck & Ostermann, *Exponential integrators* (2010), section 2.4 (exponential Rosenbrock-Euler,
    non-autonomous form); Al-Mohy & Higham, *Computing the action of the matrix exponential* (2011), theorem 2.1.
    """

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        flat, unravel = ravel_pytree(state)
        size = _checked_size(flat)
        velocity, push = jax.linearize(
            lambda time, x: ravel_pytree(system.velocity(time, unravel(x)))[0], jnp.asarray(t, flat.dtype), flat
        )

        def w(vector: jax.Array) -> jax.Array:
            u, s, one = vector[:size], vector[size], vector[size + 1]
            return jnp.concatenate([push(s, u) + one * velocity, jnp.stack([one, jnp.zeros_like(one)])])

        matrix = jax.vmap(w, out_axes=1)(jnp.eye(size + 2, dtype=flat.dtype))
        return add(state, unravel(_exponential(step_size * matrix)[:size, -1]))


def _exponential(matrix: jax.Array) -> jax.Array:
    """exp of a matrix: Taylor's series of matrix/2^s, squared s times.

    As loops over one product, so that nested derivatives of it compile in seconds; `jax.scipy.linalg.expm`, with its
    branches by degree, takes minutes.
    """
    norm = jax.lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(matrix), axis=0)))
    count = jnp.clip(jnp.ceil(jnp.log2(norm)), 0)
    small = matrix * jnp.exp2(-count)
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)

    def horner(total: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        return identity + small @ total / k, None

    def square(total: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        return jax.lax.cond(k < count, lambda x: x @ x, lambda x: x, total), None

    taylor, _ = jax.lax.scan(horner, identity, jnp.arange(DEGREE, 0, -1, dtype=matrix.dtype))
    result, _ = jax.lax.scan(square, taylor, jnp.arange(SQUARINGS, dtype=count.dtype))
    return jnp.where(count <= SQUARINGS, result, jnp.nan)


def _checked_size(flat: jax.Array) -> int:
    if flat.size > LIMIT:
        raise ValueError(
            explain(
                "ExponentialEuler: state",
                f"{flat.size} components",
                f"at most {LIMIT}: the Jacobian is formed as a matrix",
                "Use ImplicitMidpoint, which does not form it, or an explicit method with a smaller step.",
            )
        )
    return flat.size
