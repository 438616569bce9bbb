r"""Descent along signs: signSGD and Lion.

    signSGD   x <- x - eta sign(g)
    Lion      x <- x - eta (sign(b1 m + (1 - b1) g) + lambda x),    m <- b2 m + (1 - b2) g

The step size is h = eta, Lion's rate a = (1 - b2)/h and its b1 stay fixed. The limits are

    signSGD   x' = -sign(g)
    Lion      m' = a (g - m),    x' = -sign(b1 m + (1 - b1) g) - lambda x,

fields that jump: where they point at a jump from both sides the flow slides along it (Filippov), and a discrete run
chatters about it with amplitude h. The orbit follows the limit at order h away from the jumps; the correction of
`modified` and a linear stability edge exist only there, and at a minimum not at all.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from separatrix._tree import axpy
from separatrix._types import Function, Key, Scalar, State
from separatrix.optimization.methods.aggregated import Averaged
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import FromParameters, average, mix, rate_of, unpack
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.ranges import nonnegative, positive, share


class SignDescent(FromParameters, NearIdentityMap):
    r"""x <- x - eta sign(grad L(x)): signSGD, the limit of Adam and RMSprop without memory.

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `step_size`: h = eta > 0.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.SignDescent(sx.optimization.Quadratic(jnp.array([1.0, 100.0])), 0.25)
    >>> descent.step(0, jnp.array([1.0, -1.0])).tolist()
    [0.75, -0.75]

    **Reference:** Bernstein et al., *signSGD: Compressed optimisation for non-convex problems* (2018), algorithm 1.
    """

    objective: Objective
    step_size: Scalar

    def __init__(self, objective: Objective | Function, step_size: Any):
        self.objective = as_objective(objective)
        self.step_size = positive("SignDescent: step_size", step_size)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return axpy(-step_size, jax.tree.map(jnp.sign, gradient(self.objective, state, key)), state)


class Lion(FromParameters, NearIdentityMap):
    r"""x <- x - eta (sign(b1 m + (1 - b1) g) + lambda x), m <- b2 m + (1 - b2) g.

    Where it rests, |x_i| <= 1/lambda: weight decay makes it solve a problem with that bound.

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `learning_rate`: eta > 0; the step size of the family is h = eta.
    - `b1`: in [0, 1], the share of the average in the sign. `b2`: decay in [0, 1) of the average.
    - `weight_decay`: lambda >= 0, in 1/time.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> lion = sx.optimization.Lion(sx.optimization.Quadratic(jnp.array([1.0, 100.0])), 0.25, weight_decay=0.0)
    >>> lion.step(0, lion.init(jnp.array([1.0, -1.0]))).position.tolist()
    [0.75, -0.75]

    **Reference:** Chen et al., *Symbolic discovery of optimization algorithms* (2023), algorithm 2; Chen, Liu, Liang &
    Liu, *Lion secretly solves constrained optimization: as Lyapunov predicts* (2024), for its differential equation.
    """

    memory: ClassVar[Any] = Averaged
    objective: Objective
    step_size: Scalar
    rate: Scalar
    b1: Scalar
    weight_decay: Scalar

    def __init__(
        self,
        objective: Objective | Function,
        learning_rate: Any,
        b1: Any = 0.9,
        b2: Any = 0.99,
        weight_decay: Any = 1e-3,
    ):
        self.objective = as_objective(objective)
        self.step_size = positive("Lion: learning_rate", learning_rate)
        self.rate = rate_of(b2, learning_rate, "Lion: b2")
        self.b1 = share("Lion: b1", b1)
        self.weight_decay = nonnegative("Lion: weight_decay", weight_decay)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, m = unpack(state, Averaged)
        g = gradient(self.objective, x, key)
        direction = jax.tree.map(jnp.sign, mix(self.b1, g, m))
        moved = axpy(-step_size, axpy(self.weight_decay, x, direction), x)
        return Averaged(moved, average(self.rate, step_size, m, g))
