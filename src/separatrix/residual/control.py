r"""Control: a policy u = pi(x) trained through the simulator.

    minimise  J = integral over [0, T] of c(x, u) dt + g(x(T)),     dx/dt = f(t, x, u),  u = pi(x).

The cost is one more state, J' = c, so that one evolution gives it and one adjoint its gradient in the policy.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._types import Checked, Function, Scalar, State
from separatrix.calculus import close_loop
from separatrix.calculus.methods import RK4
from separatrix.evolution import evolve
from separatrix.evolution.save import identity
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.flow import Flow
from separatrix.systems.open import OpenFlow
from separatrix.systems.signature import as_pytree


class PendulumPlant(OpenFlow):
    """q'' = -sin q - a q' + u, on the state (q, q'): a pendulum that hangs at q = 0, with a torque at its pivot.

    Time is in units of sqrt(length/g), torque in units of what holds the pendulum level.

    **Arguments:**

    - `friction`: a >= 0.

    **Raises:** `ValueError` for a negative friction.

    **Example:** a torque of 1 holds it level.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.residual.PendulumPlant().velocity(0.0, jnp.array([jnp.pi / 2, 0.0]), 1.0).tolist()
    [0.0, 0.0]
    """

    friction: Any = eqx.field(default=0.0, converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.nonnegative("PendulumPlant: friction", self.friction, "Leave it out for none.")

    def velocity(self, t: Scalar, state: State, inputs: Any) -> State:
        angle, rate = state[0], state[1]
        friction = jnp.asarray(self.friction, state.dtype)
        return jnp.stack([rate, -jnp.sin(angle) - friction * rate + jnp.asarray(inputs, state.dtype)])

    @staticmethod
    def features(state: Any) -> Any:
        """(cos q, sin q, q'): what a policy may see without knowing how often the pendulum went round."""
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])

    @staticmethod
    def energy(state: Any) -> Any:
        """q'^2/2 - cos q: -1 at rest below, 1 at rest above."""
        return 0.5 * state[1] ** 2 - jnp.cos(state[0])


class BoundedPolicy(eqx.Module):
    """u(x) = limit tanh(net(features(x))).

    **Arguments:**

    - `net`: from features to a scalar, or to an array of inputs.
    - `limit`: the largest input, > 0; not trained.
    - `features`: what the net sees of a state; all of it by default.

    **Raises:** `ValueError` for a limit that is not positive and finite.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> policy = sx.residual.BoundedPolicy(lambda x: 100.0 * x[0], limit=0.5)
    >>> policy(jnp.array([1.0, 0.0])).item()
    0.5
    """

    net: Function = eqx.field(converter=as_pytree)
    limit: float = eqx.field(static=True)
    features: Function = eqx.field(default=identity, static=True)

    def __check_init__(self) -> None:
        ranges.positive("BoundedPolicy: limit", self.limit, "Pass the largest input.")

    def __call__(self, state: Any) -> Any:
        return self.limit * jnp.tanh(self.net(self.features(state)))


class CostedState(NamedTuple):
    """A state and the cost it has run up."""

    state: Any
    cost: Any


class CostedFlow(Flow):
    """dx/dt = f(t, x, pi(x)),  dJ/dt = c(x, pi(x))."""

    closed: Any
    policy: Function
    cost: Function

    def velocity(self, t: Scalar, state: State) -> State:
        x, total = state
        return CostedState(self.closed.velocity(t, x), jnp.asarray(self.cost(x, self.policy(x)), total.dtype))


def policy_loss(
    plant: OpenFlow,
    cost: Function,
    *,
    horizon: float,
    steps: Checked[int],
    terminal: Function | None = None,
    method: Any = None,
) -> Function:
    r"""Return the loss l(policy, starts): the mean cost of the closed loop over starts.

        J(x_0) = integral over [0, T] of c(x, pi(x)) dt + g(x(T))

    **Arguments:**

    - `plant`: an `OpenFlow`. `cost`: c(x, u), a scalar. `terminal`: g(x), none by default.
    - `horizon`: T > 0, taken in `steps` steps of the `method` (`RK4()` by default).

    **Returns:** l(policy, batch) for `fit`, with starts (B, ...) and a policy u(x), an `equinox.Module`. It is NaN if one
    of the starts does not get to T: no policy is rewarded for blowing up.

    **Raises:** `ValueError` for a horizon that is not positive and finite, or less than one step.

    **Example:** x' = u with cost x^2 + u^2 wants u = -x.

    >>> import equinox as eqx, jax.numpy as jnp, optax, separatrix as sx
    >>> class Gain(eqx.Module):
    ...     value: object
    ...     def __call__(self, x):
    ...         return -self.value * x
    >>> plant = sx.as_open_flow(lambda x, u: u)
    >>> loss = sx.residual.policy_loss(plant, lambda x, u: x**2 + u**2, horizon=8.0, steps=80)
    >>> found = sx.fit(loss, optax.adam(0.05), jnp.ones(1), initial=Gain(jnp.array(0.2)), steps=150)
    >>> round(float(found.model.value), 2)
    1.0

    **Reference:** Pontryagin et al., *The Mathematical Theory of Optimal Processes* (1962), chapter I, for the cost
    as a coordinate.
    """
    if not (0 < horizon < np.inf and isinstance(steps, int) and steps >= 1):
        got = f"horizon {horizon:g} in {steps} steps"
        raise ValueError(explain("policy_loss", got, "a horizon > 0 in at least one step", "Say how far to look."))
    method = RK4() if method is None else method

    def loss(policy: Any, starts: Any) -> Any:
        system = CostedFlow(close_loop(plant, policy), as_pytree(policy), as_pytree(cost))

        def one(start: Any) -> Any:
            first = CostedState(start, jnp.zeros((), jnp.result_type(*jax.tree.leaves(start))))
            last = evolve(system, first, times=(0.0, horizon), steps=steps, method=method, save="last").final
            return last.cost if terminal is None else last.cost + terminal(last.state)

        return jnp.mean(jax.vmap(one)(starts))

    return loss
