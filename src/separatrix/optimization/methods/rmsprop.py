r"""RMSprop and Adadelta: a step divided by the root of the average squared gradient.

    RMSprop     v <- d v + (1 - d) g^2,    x <- x - eta g/sqrt(v + eps)
    Adadelta    v <- r v + (1 - r) g^2,    u = sqrt(z + eps)/sqrt(v + eps) g,    z <- r z + (1 - r) u^2,    x <- x - eta u

with g = grad L(x). The step size is h = eta; held fixed is the rate a = (1 - d)/h. The limits are

    RMSprop     v' = a (g^2 - v),    x' = -g/sqrt(v + eps)
    Adadelta    v' = a (g^2 - v),    z' = a (u^2 - z),    x' = -u,    u = sqrt((z + eps)/(v + eps)) g.

Along both L falls: L' = -sum_i g_i^2/d_i < 0 with a preconditioner d > 0. A discrete run of RMSprop need not settle: at
rest v decays, the preconditioned curvature 2/eta is reached, and it goes on with a small oscillation.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from separatrix._tree import axpy
from separatrix._types import Function, Key, Scalar, State
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import (
    FromParameters,
    average,
    over_shifted_root,
    rate_of,
    squared,
    unpack,
)
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.memory import MemoryForm, Remembered
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import nonnegative, positive

Squares = MemoryForm(
    "Squares", ("position", "square"),
    "Position x, and what is gathered of the squared gradient: its average (RMSprop) or its sum (Adagrad).",
)  # fmt: skip

SquaresAndSteps = MemoryForm(
    "SquaresAndSteps", ("position", "square", "moved"),
    "Position x, average squared gradient v, and average squared step z in units of the learning rate.",
)  # fmt: skip


class RMSprop(NearIdentityMap):
    r"""v <- d v + (1 - d) g^2, x <- x - eta g/sqrt(v + eps).

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `learning_rate`: eta > 0; the step size of the family is h = eta.
    - `decay`: d in [0, 1); the rate (1 - d)/eta is what the limit keeps.
    - `eps`: added under the root, as optax does. `initial_scale`: v at the start.

    With v frozen it is stable where the largest eigenvalue of diag(sqrt(v + eps))^{-1} H is below 2/eta.

    **Example:** with no memory of its own (decay 0) it walks along the signs.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> rmsprop = sx.optimization.RMSprop(sx.optimization.Quadratic(jnp.array([1.0, 100.0])), 0.125, decay=0.0, eps=0.0)
    >>> rmsprop.step(0, rmsprop.init(jnp.array([1.0, -1.0]))).position.tolist()
    [0.875, -0.875]

    **Reference:** Tieleman & Hinton, *Lecture 6.5: rmsprop* (2012); Ma, Wu & E, *A qualitative study of the dynamic
    behavior for adaptive gradient algorithms* (2022), for the limit and for what becomes of it at a finite step.
    """

    objective: Objective
    step_size: Scalar
    square_rate: Scalar
    eps: Scalar
    initial_scale: Scalar

    def __init__(
        self,
        objective: Objective | Function,
        learning_rate: Any,
        decay: Any = 0.9,
        eps: Any = 1e-8,
        initial_scale: Any = 0.0,
    ):
        self.objective = as_objective(objective)
        self.step_size = positive("RMSprop: learning_rate", learning_rate)
        self.square_rate = rate_of(decay, learning_rate, "RMSprop: decay")
        self.eps = nonnegative("RMSprop: eps", eps)
        self.initial_scale = nonnegative("RMSprop: initial_scale", initial_scale)

    def init(self, parameters: State) -> Remembered:
        """Return the state at these parameters, with v = initial_scale."""
        parameters = jax.tree.map(jnp.asarray, require_trainable(parameters))
        return Squares(parameters, filled(parameters, self.initial_scale))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, v = unpack(state, Squares)
        g = gradient(self.objective, x, key)
        v = average(self.square_rate, step_size, v, squared(g))
        return Squares(axpy(-step_size, over_shifted_root(g, v, self.eps), x), v)


class Adadelta(FromParameters, NearIdentityMap):
    r"""u = sqrt(z + eps)/sqrt(v + eps) g with averages v of g^2 and z of u^2; x <- x - eta u.

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `learning_rate`: eta > 0, 1 in the paper; the step size of the family is h = eta.
    - `rho`: decay in [0, 1) of both averages. `eps`: added under both roots; it sets the first steps.

    With both averages frozen it is stable where the largest eigenvalue of diag(sqrt((v + eps)/(z + eps)))^{-1} H is below
    2/eta.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> adadelta = sx.optimization.Adadelta(sx.optimization.Quadratic(1.0), learning_rate=1.0)
    >>> round(float(1.0 - adadelta.step(0, adadelta.init(jnp.array([1.0]))).position[0]), 6)  # sqrt(1e-6/(0.1 + 1e-6))
    0.003162

    **Reference:** Zeiler, *ADADELTA: An adaptive learning rate method* (2012), algorithm 1.
    """

    memory: ClassVar[Any] = SquaresAndSteps
    objective: Objective
    step_size: Scalar
    rate: Scalar
    eps: Scalar

    def __init__(self, objective: Objective | Function, learning_rate: Any = 1.0, rho: Any = 0.9, eps: Any = 1e-6):
        self.objective = as_objective(objective)
        self.step_size = positive("Adadelta: learning_rate", learning_rate)
        self.rate = rate_of(rho, learning_rate, "Adadelta: rho")
        self.eps = positive("Adadelta: eps", eps)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, v, z = unpack(state, SquaresAndSteps)
        g = gradient(self.objective, x, key)
        v = average(self.rate, step_size, v, squared(g))
        u = jax.tree.map(lambda top, below, slope: _ratio(top, below, self.eps) * slope, z, v, g)
        return SquaresAndSteps(axpy(-step_size, u, x), v, average(self.rate, step_size, z, squared(u)))


def filled(like: State, value: Scalar) -> State:
    """A state of this form, the same number everywhere."""
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.asarray(value, leaf.dtype)), like)


def _ratio(z: Any, v: Any, eps: Scalar) -> Any:
    eps = jnp.asarray(eps, v.dtype)
    return jnp.sqrt(z + eps) / jnp.sqrt(v + eps)
