r"""What an optimiser is asked beside the general questions: where it stands against its own stability edge.

    ratio = largest eigenvalue of M^{1/2} H M^{1/2},      stable where it is below 1

with M the reciprocal edges, entry by entry: in closed form for a method of this family, measured from the update itself for
a map of optax.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix.diagnostics.examination import examine
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.hessian.curvature import curvature
from separatrix.optimization.methods.adagrad import Adagrad
from separatrix.optimization.methods.adam import Adam, AdamW, Nadam
from separatrix.optimization.methods.aggregated import QHM, AggMo, QHAdam
from separatrix.optimization.methods.descent import GradientDescent
from separatrix.optimization.methods.momentum import HeavyBall, Nesterov
from separatrix.optimization.methods.rmsprop import Adadelta, RMSprop
from separatrix.optimization.stability.responses import refusal
from separatrix.optimization.stability.watched import watched
from separatrix.systems.optax_maps import OptaxMap, OptimizerState

_METHODS = (
    GradientDescent, HeavyBall, Nesterov, QHM, AggMo, RMSprop, Adadelta, Adagrad, Adam, AdamW, Nadam, QHAdam, OptaxMap,
)  # fmt: skip
_TOL = 1e-3
_LEAST = 1e-12


def against_the_edge(system: Any, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """Return the finding "sharpness below the optimiser's edge" at a state.

    **Arguments:** an optimiser on an objective, as a map; its state; those of `diagnose`.

    **Returns:** one finding, with the ratio as evidence; none for an optimiser without an edge (signs), or whose second
    moments have no scale yet.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.GradientDescent(sx.optimization.Quadratic(jnp.array([1.0, 4.0])), 0.55)
    >>> found = sx.diagnose(descent, jnp.ones(2), questions=["linear_stability"]).findings[-1]
    >>> round(found.evidence, 6), found.remedy
    (1.1, 'Lower the learning rate below 0.91 of itself, or warm it up.')
    """
    optimizer = watched(system)
    inner = state.optimizer_state if isinstance(state, OptimizerState) else state
    parameters = system.parameters(state)
    value, gradient = jax.value_and_grad(lambda x: system.objective(x, key=key))(parameters)
    found = optimizer.response(inner, parameters, gradient, value)
    if float(found.checks.unknown) == 1 or refusal(found.checks) is not None:
        return []
    sizes = [jnp.abs(leaf) for leaf in jax.tree.leaves(found.inverse_edge)]
    largest = jnp.stack([jnp.max(leaf) for leaf in sizes if leaf.size]).max()
    if not float(largest) > 0:
        return []
    # What hardly moves adds nothing to the curvature; its metric must stay finite.
    metric = jax.tree.map(lambda m: 1 / jnp.maximum(jnp.abs(m), (_LEAST * largest).astype(m.dtype)), found.inverse_edge)
    ratio = float(curvature(system.objective, parameters, key=key, preconditioner=metric, tol=_TOL).sharpness)
    cause, remedy = "the curvature here is not finite", "Ask at a state where the objective is smooth."
    if not np.isnan(ratio):
        cause = "steps along the sharpest direction overshoot and grow, with period two"
        remedy = f"Lower the learning rate below {1 / max(ratio, 1e-30):.2g} of itself, or warm it up."
    return [Finding("sharpness over the optimiser's edge", ratio, "<", 1.0, cause, remedy)]


for _method in _METHODS:
    examine.register(_method, against_the_edge)
