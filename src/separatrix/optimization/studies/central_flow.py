r"""The central flow: what gradient descent follows on average at the edge of stability.

With S(x) the sharpness (the top eigenvalue of the Hessian) descent of step h oscillates along the top eigenvector once S
passes 2/h, with a variance sigma^2 that pushes S back through its own gradient. On average

    dx/dt = -(grad L + (sigma^2/2) grad S),       sigma^2 >= 0,   S <= 2/h,   sigma^2 (S - 2/h) = 0,

so that below the edge it is gradient flow, and at the edge sigma^2 = -2 <grad S, grad L>/|grad S|^2 keeps it there. Where
there is one unstable direction this is a projection of the gradient step onto S <= 2/h; it is taken here in steps that are
short against the time of the flow. The average loss of descent is L + sigma^2/h.
"""

from typing import Any

import jax
import jax.numpy as jnp

from separatrix._tree import axpy, dot, float_dtype
from separatrix._types import Function, Key, Scalar, State, StepIndex
from separatrix.diagnostics.hessian.curvature import curvature
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import unpack
from separatrix.systems.map import Map
from separatrix.systems.memory import MemoryForm, Remembered
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.optax_maps import require_trainable
from separatrix.systems.ranges import positive, require

CentralPoint = MemoryForm(
    "CentralPoint", ("position", "direction", "variance"),
    "Where the flow is, the top eigenvector it starts its next search from, and sigma^2 of its last step.",
)  # fmt: skip


class CentralFlow(Map):
    r"""Steps dt along dx/dt = -(grad L + (sigma^2/2) grad S), S <= 2/h.

    **Arguments:**

    - `objective`: L.
    - `step_size`: h > 0, the step of the descent whose average this is.
    - `resolution`: dt/h in (0, 1]: how much shorter the steps along the flow are.
    - `tol`: relative accuracy of the sharpness.

    The state is a `CentralPoint`; `init(parameters)` makes the first. Only one direction is held at the edge: where a
    second eigenvalue reaches it the flow is no longer that of descent.

    **Example:** L = (1 + x) y^2/2 - x sharpens at rate one until 1 + x = 2/h, where y alternates with y^2 = 2.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.optimization.CentralFlow(lambda p: (1 + p[0]) * p[1] ** 2 / 2 - p[0], step_size=0.5)
    >>> path = sx.evolve(flow, flow.init(jnp.array([0.0, 0.0])), steps=80, save="last")
    >>> round(float(path.final.position[0]), 3), round(float(path.final.variance), 3)
    (3.0, 2.0)

    **Reference:** Cohen, Damian, Talwalkar, Kolter & Lee, *Understanding optimization in deep learning with central flows*
    (2024), section 3; Damian, Nichani & Lee, *Self-stabilization* (2023).
    """

    objective: Objective
    step_size: Scalar
    resolution: Scalar
    tol: float

    def __init__(self, objective: Objective | Function, step_size: Any, resolution: Any = 0.25, tol: float = 1e-3):
        self.objective = as_objective(objective)
        self.step_size = positive("CentralFlow: step_size", step_size)
        self.resolution = positive("CentralFlow: resolution", resolution)
        require("CentralFlow: tol", tol, "a number above 0", lambda known: known > 0)
        self.tol = tol

    def init(self, parameters: State) -> Remembered:
        """Return the state at these parameters."""
        parameters = require_trainable(parameters)
        found = curvature(self.objective, parameters, tol=self.tol)
        return CentralPoint(parameters, found.vectors, jnp.zeros((), float_dtype(parameters)))

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        position, vectors, _ = unpack(state, CentralPoint)
        dtype = float_dtype(position)
        top = curvature(self.objective, position, start=vectors, tol=self.tol, guard=1)
        direction = jax.tree.map(lambda leaf: leaf[0], top.eigenvectors)
        slope = gradient(self.objective, position, None)
        steeper = self._sharpening(position, direction)
        small = jnp.asarray(self.step_size, dtype) * jnp.asarray(self.resolution, dtype)
        over = (top.sharpness.astype(dtype) - 2 / jnp.asarray(self.step_size, dtype)) / small - dot(steeper, slope)
        size = dot(steeper, steeper)
        variance = jnp.maximum(0, 2 * over / jnp.where(size > 0, size, 1))
        variance = jnp.where(size > 0, variance, 0)
        moved = axpy(-small, axpy(variance / 2, steeper, slope), position)
        return CentralPoint(moved, top.vectors, variance)

    def _sharpening(self, position: State, direction: State) -> State:
        """grad S = grad of <v, H(x) v> at a fixed unit v."""

        def bend(x: State) -> Any:
            return dot(direction, jax.jvp(jax.grad(self.objective), (x,), (direction,))[1])

        return jax.grad(bend)(position)
