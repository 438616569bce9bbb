r"""Momentum: second-order equations with friction.

Heavy ball, in the convention v <- gamma v + eta grad L(x), x <- x - v (the learning rate inside the velocity; optax.sgd
keeps v/eta, the averaged form multiplies grad by 1 - gamma). With h = sqrt(eta), w = -v/h and friction
a = (1 - gamma)/h,

    w[n+1] = (1 - a h) w[n] - h grad L(x[n]),      x[n+1] = x[n] + h w[n+1],

is the identity at h = 0. Its limit is x'' + a x' = -grad L(x). Without friction (gamma = 1) it is symplectic Euler on
H = |w|^2/2 + L(x), and oscillates for ever.

Nesterov takes the gradient where momentum alone would lead, at x + gamma h w; with gamma = 1 - 3h/(t + 3h) its limit is
x'' + (3/t) x' = -grad L(x).
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from separatrix._tree import axpy, float_dtype, scale
from separatrix._types import Function, Key, Scalar, State
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import FromParameters, unpack
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.memory import MemoryForm
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.ranges import positive, share

PhasePoint = MemoryForm(
    "PhasePoint", ("position", "velocity"),
    "Position x and velocity w = dx/dt in the time t = n sqrt(learning rate).",
)  # fmt: skip


class HeavyBall(FromParameters, NearIdentityMap):
    r"""v <- gamma v + eta grad L(x), x <- x - v, on the state (x, w = -v/sqrt(eta)).

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `learning_rate`: eta > 0; the step size of the family is h = sqrt(eta).
    - `momentum`: gamma in [0, 1]; 1 has no friction. Stable on curvature l where eta l < 2 + 2 gamma.

    **Example:** without friction symplectic Euler conserves, on L = x^2/2, x^2 + w^2 - h x w.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> ball = sx.optimization.HeavyBall(sx.optimization.Quadratic(1.0), learning_rate=0.01, momentum=1.0)
    >>> x, w = sx.evolve(ball, ball.init(jnp.array([1.0])), steps=1000, save="last").final
    >>> round(float(x[0]**2 + w[0]**2 - 0.1 * x[0] * w[0]), 6)
    1.0

    **Reference:** Polyak, *Some methods of speeding up the convergence of iteration methods* (1964); Su, Boyd & Candes
    (2016), section 2, for the scaling h = sqrt(eta).
    """

    memory: ClassVar[Any] = PhasePoint
    objective: Objective
    step_size: Scalar
    friction: Scalar

    def __init__(self, objective: Objective | Function, learning_rate: Any, momentum: Any):
        self.objective = as_objective(objective)
        self.step_size = jnp.sqrt(positive("HeavyBall: learning_rate", learning_rate))
        self.friction = (1 - share("HeavyBall: momentum", momentum)) / self.step_size

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        position, velocity = unpack(state, PhasePoint)
        kept = scale(1 - jnp.asarray(self.friction, jnp.result_type(step_size)) * step_size, velocity)
        velocity = axpy(-step_size, gradient(self.objective, position, key), kept)
        return PhasePoint(axpy(step_size, velocity, position), velocity)


class Nesterov(FromParameters, NearIdentityMap):
    r"""y = x + gamma h w;  w <- gamma w - h grad L(y);  x <- x + h w.

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `learning_rate`: eta > 0; the step size of the family is h = sqrt(eta).
    - `momentum`: a constant gamma in [0, 1], or None for the schedule gamma = n/(n + 3) of convex functions. Stable on
      curvature l where eta l < (2 + 2 gamma)/(1 + 2 gamma).

    The parameters that optax.sgd(..., nesterov=True) holds are the points y, see `lookahead`.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> nesterov = sx.optimization.Nesterov(sx.optimization.Quadratic(1.0), learning_rate=0.1)
    >>> round(sx.evolve(nesterov, nesterov.init(jnp.array([1.0])), steps=2).final.position.item(), 4)
    0.7875

    **Reference:** Su, Boyd & Candes, *A differential equation for modeling Nesterov's accelerated gradient method*
    (2016), equations 1 and 3.
    """

    memory: ClassVar[Any] = PhasePoint
    objective: Objective
    step_size: Scalar
    friction: Scalar | None

    def __init__(self, objective: Objective | Function, learning_rate: Any, momentum: Any = None):
        self.objective = as_objective(objective)
        self.step_size = jnp.sqrt(positive("Nesterov: learning_rate", learning_rate))
        self.friction = None
        if momentum is not None:
            self.friction = (1 - share("Nesterov: momentum", momentum)) / self.step_size

    def momentum(self, t: Scalar, step_size: Scalar) -> Scalar:
        """gamma = 1 - a h, or t/(t + 3h) on the schedule, which is 0 at the first step."""
        if self.friction is not None:
            return 1 - jnp.asarray(self.friction, jnp.result_type(step_size)) * step_size
        # At t = 0 the friction 3/t of the limit is infinite but acts on w = 0. A t whose square does not underflow, and
        # that no step size notices, keeps the product 0.
        t = jnp.where(t == 0, jnp.finfo(jnp.result_type(step_size)).tiny ** 0.4, t)
        return 1 - 3 * step_size / (t + 3 * step_size)

    def lookahead(self, t: Scalar, state: State) -> State:
        """y = x + gamma h w at time t = n h."""
        dtype = float_dtype(state)
        step_size = jnp.asarray(self.step_size, dtype)
        return axpy(self.momentum(jnp.asarray(t, dtype), step_size) * step_size, state[1], state[0])

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        position, velocity = unpack(state, PhasePoint)
        kept = scale(self.momentum(t, step_size), velocity)
        slope = gradient(self.objective, axpy(step_size, kept, position), key)
        velocity = axpy(-step_size, slope, kept)
        return PhasePoint(axpy(step_size, velocity, position), velocity)


def energy(objective: Objective | Function, state: State) -> Scalar:
    """Return H = |w|^2/2 + L(x), which the limit of heavy ball conserves without friction.

    **Arguments:** the objective, and a state (position, velocity).

    **Returns:** a scalar.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.optimization.energy(sx.optimization.Quadratic(1.0), (jnp.array([1.0]), jnp.array([1.0]))).item()
    1.0
    """
    position, velocity = state
    squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(velocity)]
    return 0.5 * sum(squares) + as_objective(objective)(position)
