r"""Control: a policy u = pi(x), or pi(t, x), trained through the simulator.

    minimise  J = integral over [0, T] of c(x, u) + w |max(b(x, u), 0)|^2 dt + g(x(T)),     dx/dt = f(t, x, u)

The cost is one more state, J' = c + w |max(b, 0)|^2, so that one evolution gives it and one adjoint its gradient in the
policy. What may not be, b > 0, is fined; the bounds of u are built into the policy and hold whatever its weights.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._types import Checked, Function, Scalar, State
from separatrix.calculus import close_loop
from separatrix.calculus.closed_loop import ClosedFlow
from separatrix.calculus.methods import RK4
from separatrix.evolution import evolve
from separatrix.evolution.save import identity
from separatrix.systems import ranges
from separatrix.systems.flow import Flow
from separatrix.systems.open import OpenFlow
from separatrix.systems.signature import as_pytree


def _fixed(features: Any) -> Any:
    """A method of a plant holds the plant's numbers: hidden in a function they are neither trained nor compared."""
    call: Any = features
    return (lambda state: call(state)) if isinstance(features, eqx.Module) else features


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
    features: Function = eqx.field(default=identity, static=True, converter=_fixed)

    def __check_init__(self) -> None:
        ranges.positive("BoundedPolicy: limit", self.limit, "Pass the largest input.")

    def __call__(self, state: Any) -> Any:
        return self.limit * jnp.tanh(self.net(self.features(state)))


class TimedPolicy(eqx.Module):
    """u(t, x) = limit tanh(net(features(x), t/horizon)).

    **Arguments:**

    - `net`: from the features and one number more, the share of the time that is over.
    - `limit`: the largest input, > 0. `horizon`: T > 0. Neither is trained.
    - `features`: what the net sees of a state, a vector; all of it by default.

    **Raises:** `ValueError` for a limit or a horizon that is not positive and finite.

    **Example:** a push that changes its sign half way.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> policy = sx.residual.TimedPolicy(lambda seen: 100.0 * (0.5 - seen[-1]), limit=2.0, horizon=4.0)
    >>> policy(1.0, jnp.zeros(2)).item(), policy(3.0, jnp.zeros(2)).item()
    (2.0, -2.0)
    """

    net: Function = eqx.field(converter=as_pytree)
    limit: float = eqx.field(static=True)
    horizon: float = eqx.field(static=True)
    features: Function = eqx.field(default=identity, static=True, converter=_fixed)

    def __check_init__(self) -> None:
        ranges.positive("TimedPolicy: limit", self.limit, "Pass the largest input.")
        ranges.positive("TimedPolicy: horizon", self.horizon, "Pass the time there is.")

    def __call__(self, t: Any, state: Any) -> Any:
        seen = self.features(state)
        share = jnp.asarray(t, seen.dtype) / self.horizon
        return self.limit * jnp.tanh(self.net(jnp.concatenate([seen, share[None]])))


class CostedState(NamedTuple):
    """A state and the cost it has run up."""

    state: Any
    cost: Any


class CostedFlow(Flow):
    """dx/dt = f(t, x, u),  dJ/dt = c(x, u) + w |max(b(x, u), 0)|^2,  u = pi(t, x)."""

    closed: ClosedFlow
    cost: Function
    constraint: Function | None
    weight: Any

    def velocity(self, t: Scalar, state: State) -> State:
        x, total = state
        u = self.closed.inputs(t, x)
        rate = self.cost(x, u)
        if self.constraint is not None:
            rate = rate + self.weight * jnp.sum(jnp.maximum(self.constraint(x, u), 0.0) ** 2)
        return CostedState(self.closed.open.velocity(t, x, u), jnp.asarray(rate, total.dtype))


def policy_loss(
    plant: OpenFlow,
    cost: Function,
    *,
    horizon: float,
    steps: Checked[int],
    terminal: Function | None = None,
    constraint: Function | None = None,
    weight: float = 100.0,
    method: Any = None,
) -> Function:
    r"""Return the loss l(policy, starts): the mean cost of the closed loop over starts.

        J(x_0) = integral over [0, T] of c(x, u) + w |max(b(x, u), 0)|^2 dt + g(x(T))

    **Arguments:**

    - `plant`: an `OpenFlow`. `cost`: c(x, u), a scalar. `terminal`: g(x), none by default.
    - `horizon`: T > 0, taken in `steps` steps of the `method` (`RK4()` by default). How far a gradient can be trusted, see
      `trainable_horizon`.
    - `constraint`: b(x, u), a number or several that are to stay <= 0, as |x| - bound. `weight`: w > 0, what it costs to
      pass: the larger, the less it is passed, and never quite 0.

    **Returns:** l(policy, batch) for `fit`, with starts (B, ...) and a policy u(x) or u(t, x), an `equinox.Module`. It is
    NaN if one of the starts does not get to T: no policy is rewarded for blowing up.

    **Raises:** `ValueError` for a horizon or weight that is not positive and finite, or less than one step.

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
    as a coordinate; Fletcher, *Practical Methods of Optimization* (1987), section 12.1, for the quadratic penalty.
    """
    if not (0 < horizon < np.inf and isinstance(steps, int) and steps >= 1):
        got = f"horizon {horizon:g} in {steps} steps"
        raise ValueError(explain("policy_loss", got, "a horizon > 0 in at least one step", "Say how far to look."))
    weight = ranges.positive("policy_loss: weight", weight, "Pass what it costs to pass the constraint.")
    method = RK4() if method is None else method

    def loss(policy: Any, starts: Any) -> Any:
        closed: Any = close_loop(plant, policy)
        fined = None if constraint is None else as_pytree(constraint)
        system = CostedFlow(closed, as_pytree(cost), fined, weight)

        def one(start: Any) -> Any:
            first = CostedState(start, jnp.zeros((), jnp.result_type(*jax.tree.leaves(start))))
            last = evolve(system, first, times=(0.0, horizon), steps=steps, method=method, save="last").final
            return last.cost if terminal is None else last.cost + terminal(last.state)

        return jnp.mean(jax.vmap(one)(starts))

    return loss
