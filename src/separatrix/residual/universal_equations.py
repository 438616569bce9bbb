r"""Universal differential equations: a law known in part, and a network for the rest.

    dx/dt = known(t, x) + unknown(t, x)

is fitted to observed orbits by shooting (`trajectory_loss`, `shooting_loss`): the network alone is trained, and what it has
learned can be read as a law (`discover`).
"""

import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import add
from separatrix._types import Function, Scalar, State
from separatrix.systems.flow import Flow
from separatrix.systems.functions import as_flow


class Universal(Flow):
    """dx/dt = known(t, x) + unknown(t, x)."""

    known: Flow
    unknown: Flow

    def velocity(self, t: Scalar, state: State) -> State:
        _require_form("known", self.known, t, state)
        _require_form("unknown", self.unknown, t, state)
        return add(self.known.velocity(t, state), self.unknown.velocity(t, state))


def universal(known: Flow | Function, unknown: Flow | Function) -> Universal:
    """Return the flow of a known velocity and an unknown one, dx/dt = known(t, x) + unknown(t, x).

    **Arguments:**

    - `known`, `unknown`: flows, or velocities f(t, x) or f(x). To train the unknown part alone, build the flow of it
      inside the objective, as `trajectory_loss` does.

    **Returns:** a `Flow`.

    **Raises:** `ValueError`, where it is evaluated, for a part that does not return the form of the state.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.residual.universal(lambda x: -x, lambda t, x: t * x**2).velocity(2.0, jnp.array(3.0)).item()
    15.0

    **Reference:** Rackauckas et al., *Universal differential equations for scientific machine learning* (2020).
    """
    return Universal(*(part if isinstance(part, Flow) else as_flow(part) for part in (known, unknown)))


def _require_form(name: str, part: Flow, t: Scalar, state: State) -> None:
    """Refuse a part whose velocity would be broadcast, or cut, to the form of the state."""
    told, wanted = (jax.tree.map(jnp.shape, tree) for tree in (jax.eval_shape(part.velocity, t, state), state))
    if told != wanted:
        do = "Return one rate for each number of the state, zero where nothing is known."
        raise ValueError(
            explain(f"universal: {name}", f"a velocity of shape {told}", f"that of the state, {wanted}", do)
        )
