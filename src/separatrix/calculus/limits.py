r"""The limit h -> 0 of a near-identity map.

A family F_h(t, x) with F_0 = identity moves a state by h f_1(t, x) + O(h^2) in a step, so that in time t = n h its
orbits approach those of

    dx/dt = f_1(t, x) = d/dh F_h(t, x) at h = 0,

at first order in h. One forward derivative gives it, whatever the map: gradient descent goes to gradient flow, a
residual net to its neural ODE, heavy ball to a second-order ODE, simultaneous descent to the field of its game.
"""

from typing import Any

from separatrix._types import Key, Scalar, State
from separatrix.calculus._coefficients import first_coefficient
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import NearIdentityMap


class Limit(Flow):
    """dx/dt = d/dh F_h(t, x) at h = 0."""

    map: NearIdentityMap

    def velocity(self, t: Scalar, state: State, *, key: Key | None = None) -> State:
        return first_coefficient(self.map, t, state, key)


def limit(map: System) -> Flow:
    """Return the flow that a near-identity map follows as its step size goes to zero.

        f(t, x) = d/dh F_h(t, x) at h = 0

    **Arguments:**

    - `map`: a `NearIdentityMap`. A random one is taken without its key, hence at its mean; the limit's `velocity` takes a
      key, for the field on one sample.

    **Returns:** a `Flow` on the same state, in time t = n h.

    **Raises:** `TypeError` for a map that is not a one-parameter family; `ValueError` (a runtime error under `jit`)
    where the family is not the identity at h = 0.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.GradientDescent(lambda x: 0.5 * jnp.sum(x**2), 0.1)
    >>> sx.limit(descent).velocity(0.0, jnp.array([2.0])).tolist()
    [-2.0]

    **Reference:** Hairer, Lubich & Wanner, *Geometric Numerical Integration* (2006), section IX.1, term j = 1.
    """
    if not isinstance(map, NearIdentityMap):
        raise undefined("limit", map, "NearIdentityMap", _advice(map))
    return Limit(map)


def _advice(map: Any) -> str:
    if type(map).__name__ == "OptaxMap":
        return (
            "use the family with a scaling: GradientDescent (h = learning rate), HeavyBall or Nesterov (h = "
            "sqrt(learning rate)); for Adam hold (1 - beta)/learning rate fixed and write it with as_near_identity"
        )
    return "write the step as advance(t, x, h) with as_near_identity(advance, step_size)"
