r"""High-resolution equations, which tell Nesterov's method from heavy ball.

With s the learning rate and h = sqrt(s), both have one limit as h -> 0. To the next order in h they part:

    heavy ball            x'' + 2 sqrt(mu) x' + (1 + sqrt(mu) h) grad L = 0
    Nesterov              x'' + 2 sqrt(mu) x' + h Hess L x' + (1 + sqrt(mu) h) grad L = 0
    Nesterov, convex      x'' + (3/t) x' + h Hess L x' + (1 + 3 h/(2 t)) grad L = 0

at the momentum gamma = (1 - sqrt(mu) h)/(1 + sqrt(mu) h), and n/(n + 3) in the last, at t = (n + 3/2) h. The term
h Hess L x' = h d/dt grad L, the gradient correction, is a friction along steep directions, and heavy ball has none.
These are `modified(HeavyBall(...), 1)` and `modified(Nesterov(...), 1)` in the coordinates (x, x'), up to O(h^2).

A method at rest, w = 0, is not a curve at rest: its first step is -h^2 grad L(x), and the velocity with which the modified
flow leaves is x' = w - (h/2)(a w + grad L) = -(h/2) grad L. On the schedule, where a = 3/t is no small friction at
t = 3 h/2, it is read off a constant gradient G: the method has x[n] = x[0] - h^2 G (n^2 + 7 n)/8, and the equation is
solved by x' = -(t/4 + h/2) G, which passes through all of these, so x' = -(7/8) h G at the start.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._tree import axpy, float_dtype, scale
from separatrix._types import Function, Scalar, State
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import unpack
from separatrix.optimization.methods.momentum import PhasePoint
from separatrix.systems.flow import Flow
from separatrix.systems.memory import Remembered
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import nonnegative, positive


class HighResolutionHeavyBall(Flow):
    r"""x'' + 2 sqrt(mu) x' + (1 + sqrt(mu s)) grad L(x) = 0, on `PhasePoint`(x, x').

    Follows `HeavyBall` of learning rate s and momentum (1 - sqrt(mu s))/(1 + sqrt(mu s)) at order 2 in sqrt(s), from
    `init(parameters)`.

    **Arguments:**

    - `objective`: L(parameters). `learning_rate`: s > 0.
    - `convexity`: mu >= 0, a lower bound of the curvature of L; 2 sqrt(mu) is the friction.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> ball = sx.optimization.HighResolutionHeavyBall(sx.optimization.Quadratic(1.0), learning_rate=0.01, convexity=1.0)
    >>> ball.velocity(0.0, sx.optimization.PhasePoint(jnp.array([1.0]), jnp.array([1.0]))).velocity.tolist()
    [-3.1]

    **Reference:** Shi, Du, Jordan & Su, *Understanding the acceleration phenomenon via high-resolution differential
    equations* (2021).
    """

    objective: Objective
    learning_rate: Scalar
    convexity: Scalar

    def __init__(self, objective: Objective | Function, learning_rate: Any, convexity: Any):
        self.objective = as_objective(objective)
        self.learning_rate = positive("HighResolutionHeavyBall: learning_rate", learning_rate)
        self.convexity = nonnegative("HighResolutionHeavyBall: convexity", convexity)

    def init(self, parameters: State) -> Remembered:
        """Return the state from which the curve follows the method at rest: x' = -(sqrt(s)/2) grad L."""
        return _leaving(self.objective, parameters, self.learning_rate, 0.5)

    def velocity(self, t: Scalar, state: State) -> State:
        position, velocity = unpack(state, PhasePoint)
        root, step = jnp.sqrt(jnp.asarray(self.convexity)), jnp.sqrt(jnp.asarray(self.learning_rate))
        slope = gradient(self.objective, position, None)
        return PhasePoint(velocity, axpy(-(1 + root * step), slope, scale(-2 * root, velocity)))


class HighResolutionNesterov(Flow):
    r"""x'' + 2 sqrt(mu) x' + sqrt(s) Hess L x' + (1 + sqrt(mu s)) grad L(x) = 0, on `PhasePoint`(x, x').

    Follows `Nesterov` of learning rate s and momentum (1 - sqrt(mu s))/(1 + sqrt(mu s)) at order 2 in sqrt(s), from
    `init(parameters)`. Without `convexity` it is that of the schedule n/(n + 3),

        x'' + (3/t) x' + sqrt(s) Hess L x' + (1 + 3 sqrt(s)/(2 t)) grad L = 0,

    which starts at t = 3 sqrt(s)/2: step n of the method stands at t = (n + 3/2) sqrt(s).

    **Arguments:**

    - `objective`: L(parameters), twice differentiable. `learning_rate`: s > 0.
    - `convexity`: mu >= 0, a lower bound of the curvature of L; None for the schedule.

    **Example:** steep directions feel more friction, 2 sqrt(mu) + sqrt(s) l.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> loss = sx.optimization.Quadratic(jnp.array([1.0, 100.0]))
    >>> flow = sx.optimization.HighResolutionNesterov(loss, learning_rate=0.01, convexity=1.0)
    >>> at_the_minimum = sx.optimization.PhasePoint(jnp.zeros(2), jnp.ones(2))
    >>> flow.velocity(0.0, at_the_minimum).velocity.round(6).tolist()
    [-2.1, -12.0]

    **Reference:** as for `HighResolutionHeavyBall`.
    """

    objective: Objective
    learning_rate: Scalar
    convexity: Scalar | None

    def __init__(self, objective: Objective | Function, learning_rate: Any, convexity: Any = None):
        self.objective = as_objective(objective)
        self.learning_rate = positive("HighResolutionNesterov: learning_rate", learning_rate)
        self.convexity = None if convexity is None else nonnegative("HighResolutionNesterov: convexity", convexity)

    def init(self, parameters: State) -> Remembered:
        """Return the state from which the curve follows the method at rest.

        That is x' = -(sqrt(s)/2) grad L, and x' = -(7/8) sqrt(s) grad L at t = 3 sqrt(s)/2 on the schedule.
        """
        return _leaving(self.objective, parameters, self.learning_rate, 7 / 8 if self.convexity is None else 0.5)

    def velocity(self, t: Scalar, state: State) -> State:
        position, velocity = unpack(state, PhasePoint)
        step = jnp.sqrt(jnp.asarray(self.learning_rate, float_dtype(state)))
        slope, turned = jax.jvp(lambda x: gradient(self.objective, x, None), (position,), (velocity,))
        friction = self.friction(jnp.asarray(t, float_dtype(state)), step)
        force = axpy(-(1 + friction * step / 2), slope, scale(-friction, velocity))
        return PhasePoint(velocity, axpy(-step, turned, force))

    def friction(self, t: Scalar, step: Scalar) -> Scalar:
        """2 sqrt(mu), or 3/t, held at its first value before t = 3 sqrt(s)/2."""
        if self.convexity is None:
            return 3 / jnp.maximum(jnp.asarray(t), 1.5 * jnp.asarray(step))
        return 2 * jnp.sqrt(jnp.asarray(self.convexity, jnp.result_type(step)))


def _leaving(objective: Objective, parameters: State, learning_rate: Scalar, share: float) -> Remembered:
    """These parameters with the velocity -share sqrt(s) grad L."""
    parameters = jax.tree.map(jnp.asarray, require_trainable(parameters))
    slope = gradient(objective, parameters, None)
    return PhasePoint(parameters, scale(-share * jnp.sqrt(jnp.asarray(learning_rate)), slope))
