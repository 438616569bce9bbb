r"""Exponential (Rosenbrock-)Euler: exact on linear autonomous fields.

    x' = x + h phi_1(h J) f(t, x),     J = Df(t, x),     phi_1(z) = (e^z - 1)/z

of order 2 on autonomous fields; on fields that depend on time of order 1 unless t is a component of the state. The
function phi_1(h J) f is read off the exponential of the matrix [[hJ, h f], [0, 0]], whose last column holds h phi_1(hJ) f.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from separatrix._tree import add
from separatrix._types import Key, Scalar, State
from separatrix.calculus.methods.base import FlowMethod
from separatrix.systems.flow import Flow


class ExponentialEuler(FlowMethod):
    """x' = x + h phi_1(h J) f(t, x) + h^2 phi_2(h J) df/dt, of order 2, exact where f is linear in x and t.

    Forms the Jacobian as a matrix: for states of up to some thousand components.

    **Reference:** Hochbruck & Ostermann, *Exponential integrators* (2010), equation 2.44 (exponential Rosenbrock-Euler,
    non-autonomous form).
    """

    order: ClassVar[int] = 2

    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        flat, unravel = ravel_pytree(state)

        def field(time: Scalar, x: jax.Array) -> jax.Array:
            return ravel_pytree(system.velocity(time, unravel(x)))[0]

        t = jnp.asarray(t, flat.dtype)
        velocity, acceleration = jax.jvp(lambda time: field(time, flat), (t,), (jnp.ones_like(t),))
        jacobian = jax.jacfwd(lambda x: field(t, x))(flat)
        return add(state, unravel(_increment(step_size, jacobian, velocity, acceleration)))


def _increment(h: Scalar, jacobian: jax.Array, velocity: jax.Array, acceleration: jax.Array) -> jax.Array:
    """h phi_1(hJ) f + h^2 phi_2(hJ) f_t, the last column of exp of a matrix with two more rows and columns.

    (Al-Mohy & Higham, *Computing the action of the matrix exponential* (2011), theorem 2.1.)
    """
    d = velocity.shape[0]
    top = jnp.concatenate([h * jacobian, h * acceleration[:, None], h * velocity[:, None]], axis=1)
    shift = jnp.zeros((2, d + 2), top.dtype).at[0, d + 1].set(h)
    return jax.scipy.linalg.expm(jnp.concatenate([top, shift]))[:d, d + 1]
