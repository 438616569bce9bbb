r"""What an optimiser is asked beside the general questions: where it stands against its own stability edge.

    ratio = largest eigenvalue of M^{1/2} H M^{1/2},      stable where it is below 1

with M the reciprocal edges, entry by entry, measured from the optimiser's own update (`stability_edge`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix.diagnostics.examination import examine
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.hessian.curvature import curvature
from separatrix.optimization.stability.edges import edge_of, response_of
from separatrix.optimization.stability.responses import refusal
from separatrix.optimization.stability.watched import LATE, METHODS, objective_of
from separatrix.systems.optax_maps import OptaxMap

_TOL = 1e-3


def against_the_edge(system: Any, state: Any, *, at: Any = 0, key: Any = None) -> list[Finding]:
    """Return the finding "sharpness below the optimiser's edge" at a state.

    **Arguments:** an optimiser on an objective, as a map; its state; those of `diagnose`. At step 0, the default, schedules
    and bias corrections are taken to be over.

    **Returns:** one finding, with the ratio as evidence; none for an optimiser without an edge (signs), or whose second
    moments have no scale yet.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.GradientDescent(sx.optimization.Quadratic(jnp.array([1.0, 4.0])), 0.55)
    >>> found = sx.diagnose(descent, jnp.ones(2), questions=["linear_stability"]).findings[-1]
    >>> round(found.evidence, 6), found.remedy
    (1.1, 'Lower the learning rate below 0.91 of itself, or warm it up.')
    """
    found = response_of(system, state, at or LATE, key)
    if float(found.checks.unknown) == 1 or refusal(found.checks) is not None:
        return []
    if not any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(found.inverse_edge)):
        return []
    objective, parameters = objective_of(system), system.parameters(state)
    ratio = float(curvature(objective, parameters, key=key, preconditioner=edge_of(found), tol=_TOL).sharpness)
    cause, remedy = "the curvature here is not finite", "Ask at a state where the objective is smooth."
    if not np.isnan(ratio):
        cause = "steps along the sharpest direction overshoot and grow, with period two"
        remedy = f"Lower the learning rate below {1 / max(ratio, 1e-30):.2g} of itself, or warm it up."
    return [Finding("sharpness over the optimiser's edge", ratio, "<", 1.0, cause, remedy)]


for _method in (*METHODS, OptaxMap):
    examine.register(_method, against_the_edge)
