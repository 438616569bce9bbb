r"""Linearisation: the Jacobian of a step or of a velocity, without forming it.

    map:  DF(n, x) : delta[n] -> delta[n+1],        flow:  Df(t, x) : delta -> d delta/dt.

The operator multiplies by forward differentiation, transposes by reverse differentiation, and becomes a matrix only on
request.
"""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx

from separatrix._tree import asarrays, float_dtype, structure
from separatrix._types import Key, Operator, State
from separatrix.calculus.undefined import undefined
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map


def linearize(system: System, state: State, *, at: Any = 0, key: Key | None = None) -> Operator:
    """Return the Jacobian of a map's step or of a flow's velocity at a state, as a matrix-free operator.

    **Arguments:**

    - `system`: a `Map` or a `Flow`.
    - `state`: where to linearise.
    - `at`: step number n of a map, or time t of a flow.
    - `key`: randomness of a random map, held fixed.

    **Returns:** a lineax operator A: `A.mv(v)`, `A.T`, `A.as_matrix()`.

    **Raises:** `TypeError` for an SDE: linearise `as_flow(sde.drift)`, and its diffusion apart.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> shear = sx.as_flow(lambda x: jnp.stack([x[0] + 2 * x[1], 3 * x[1]]))
    >>> sx.linearize(shear, jnp.array([1.0, 0.0])).as_matrix().tolist()
    [[1.0, 2.0], [0.0, 3.0]]
    """
    state = asarrays(state)
    match system:
        case Map():
            _, pushforward = jax.linearize(lambda x: system.step(at, x, key=key), state)
        case Flow():
            t = jnp.asarray(at, float_dtype(state))
            _, pushforward = jax.linearize(lambda x: system.velocity(t, x), state)
        case _:
            raise undefined("linearize", system, "Map or Flow", "for an SDE linearise as_flow(sde.drift)")
    return lx.FunctionLinearOperator(pushforward, structure(state))
