r"""Gradient descent, the explicit Euler step of gradient flow.

    x[n+1] = x[n] - h grad L(x[n])

- limit            dx/dt = -grad L(x)
- modified         dx/dt = -grad(L + (h/4) |grad L|^2)
- stability edge   h < 2 / (largest eigenvalue of the Hessian)
- with a key       the gradient is that of a random sample: stochastic gradient descent
"""

from typing import Any

import jax

from separatrix._tree import axpy
from separatrix._types import Function, Key, Scalar, State
from separatrix.optimization.methods.moments import FromParameters
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.ranges import positive


def gradient(objective: Objective, parameters: State, key: Key | None) -> State:
    """grad L at the parameters, on the sample of the key where there is one."""
    return jax.grad(lambda values: objective(values, key=key))(parameters)


class GradientDescent(FromParameters, NearIdentityMap):
    r"""x[n+1] = x[n] - h grad L(x[n]).

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key) for a random sample of it.
    - `step_size`: h > 0, the learning rate; a traced leaf. Stable on curvature l where h l < 2.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.GradientDescent(sx.optimization.Quadratic(2.0), step_size=0.25)
    >>> sx.evolve(descent, descent.init(jnp.array([1.0])), steps=3).final.tolist()
    [0.125]

    **Reference:** Barrett & Dherin, *Implicit gradient regularization* (2021), theorem 3.1, for the modified loss.
    """

    objective: Objective
    step_size: Scalar

    def __init__(self, objective: Objective | Function, step_size: Any):
        self.objective = as_objective(objective)
        self.step_size = positive("GradientDescent: step_size", step_size)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        return axpy(-step_size, gradient(self.objective, state, key), state)
