r"""Branch switching: from a special point onto the branch that is born or crosses there.

    Hopf                 x + e Re(q exp(i omega t)),  T = 2 pi/omega,    A q = i omega q
    period doubling      x + e q on F o F, or on twice the period,       A q = -q
    branch point         z + e (b_22 tau - 2 b_12 nu),   b_jk = <phi, D2G(v_j, v_k)>, v = (tau, nu) the null vectors of DG

At a branch point the directions w = a tau + b nu of both branches solve <phi, D2G(w, w)> = 0; with tau along the known one
b_11 = 0, and 2 a b_12 + b b_22 = 0 is the other.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix.diagnostics._coordinates import as_vector
from separatrix.diagnostics.branches._branch_problem import Cycle, Phase, derivatives, phase_at
from separatrix.diagnostics.branches._branch_setup import BranchStart
from separatrix.diagnostics.branches._normal_form import eigenvector
from separatrix.diagnostics.branches.continuation import Branch, SpecialPoint


def switch_branch(branch: Any, point: Any, *, amplitude: float = 0.02) -> BranchStart:
    r"""Return a start on the other branch at a special point.

    A Hopf point leads to cycles, a period doubling to orbits of twice the period, a branch point to the branch that
    crosses.

    **Arguments:**

    - `branch`: what `continuation` returned.
    - `point`: one of `branch.special`, or its number there.
    - `amplitude`: how far to leave at first, in the units of `continuation`. Of order sqrt|p - p0| where the branch is
      born at a Hopf point, a period doubling or a pitchfork.

    **Returns:** a `BranchStart`, to pass to `continuation` as its state.

    **Raises:** `ValueError` at a fold (the branch itself goes on) and at a Neimark-Sacker point (what is born is no orbit).

    **Example:** the 2-cycle of the logistic map, from where it is born at r = 3 to where it doubles again.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> from separatrix.catalogue.maps import Logistic
    >>> logistic = sx.as_map(Logistic(2.5))
    >>> branch = sx.continuation(logistic, "r", jnp.array(0.6), bounds=(1.5, 4.0))
    >>> start = sx.switch_branch(branch, branch.special[0])
    >>> twice = sx.continuation(logistic, "r", start, bounds=(1.5, 3.5))
    >>> [(point.kind, round(float(point.parameter), 6)) for point in twice.special]
    [('period doubling', 3.44949)]

    **Reference:** Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapter 10, branch switching.
    """
    if not isinstance(branch, Branch):
        do = "Pass what continuation returned."
        raise TypeError(explain("switch_branch: branch", type(branch).__name__, "a Branch", do))
    point = point if isinstance(point, SpecialPoint) else branch.special[point]
    problem = branch._problem
    cycle = isinstance(problem, Cycle)
    tail = [point.period, point.parameter] if cycle else [point.parameter]
    z = jnp.concatenate([as_vector(point.state), jnp.stack(tail)])
    match point.kind:
        case "hopf":
            return _cycles(problem, z, amplitude)
        case "period doubling":
            return _doubled(problem, z, amplitude, cycle)
        case "branch point":
            return _crossing(branch, problem, z, amplitude, cycle)
    do = "A branch goes on past a fold by itself; a torus is followed by evolve."
    raise ValueError(explain("switch_branch: point", point.kind, "a hopf, period doubling or branch point", do))


def _cycles(problem: Any, z: Float[Array, " m"], amplitude: float) -> BranchStart:
    value, q = eigenvector(np.asarray(derivatives(problem, z, None)[1], float), "hopf")
    real, imaginary = (jnp.asarray(part, z.dtype) for part in (np.real(q), np.imag(q)))
    start = jnp.concatenate([z[:-1], jnp.asarray([2 * np.pi / np.imag(value)], z.dtype), z[-1:]])
    direction = jnp.concatenate([real, jnp.zeros(2, z.dtype)])
    # A Re q = -omega Im q is the velocity at x + e Re q, up to e.
    phase = Phase(z[:-1], -imaginary / jnp.linalg.norm(imaginary))
    return BranchStart(problem.like, start, direction, phase, amplitude, True, 1, False)


def _doubled(problem: Any, z: Float[Array, " m"], amplitude: float, cycle: bool) -> BranchStart:
    phase = phase_at(problem, z)
    _, q = eigenvector(np.asarray(derivatives(problem, z, phase)[1], float), "period doubling")
    across = jnp.asarray(np.real(q), z.dtype)
    across = problem.across(z) @ across if cycle else across
    direction = jnp.concatenate([across, jnp.zeros(2 if cycle else 1, z.dtype)])
    twice = z.at[-2].multiply(2) if cycle else z
    return BranchStart(problem.like, twice, direction, phase, amplitude, cycle, 2 * problem.iterations, False)


def _crossing(branch: Branch, problem: Any, z: Float[Array, " m"], amplitude: float, cycle: bool) -> BranchStart:
    phase = phase_at(problem, z)
    jacobian = np.asarray(derivatives(problem, z, phase)[0], float)
    left, _, right = np.linalg.svd(jacobian)
    phi, null = left[:, -1], right[-2:]
    along = _along(branch, z, cycle) @ null.T
    along = along / np.linalg.norm(along)
    tau, nu = along @ null, np.array([-along[1], along[0]]) @ null
    second = lambda u, v: float(phi @ np.asarray(_second(problem, z, phase, jnp.asarray(u), jnp.asarray(v)), float))  # noqa: E731
    direction = second(nu, nu) * tau - 2 * second(tau, nu) * nu
    direction = nu if not np.linalg.norm(direction) > 0 else direction
    direction = jnp.asarray(direction, z.dtype)
    return BranchStart(problem.like, z, direction, phase, amplitude, cycle, problem.iterations, True)


def _along(branch: Branch, z: Float[Array, " m"], cycle: bool) -> np.ndarray:
    """The chord of the branch around a point of it."""
    x = jax.vmap(as_vector)(branch.states)
    tail = [branch.periods[:, None]] if cycle else []
    rows = np.asarray(jnp.concatenate([x, *tail, branch.parameters[:, None]], axis=1))
    nearest = int(np.argmin(np.linalg.norm(rows - np.asarray(z), axis=1)))
    low, high = max(nearest - 1, 0), min(nearest + 1, len(rows) - 1)
    return rows[high] - rows[low]


@eqx.filter_jit
def _second(problem: Any, z: Array, phase: Any, u: Array, v: Array) -> Array:
    """D2G(u, v)."""
    first = lambda z: jax.jvp(lambda z: problem.residual(z, phase), (z,), (u,))[1]  # noqa: E731
    return jax.jvp(first, (z,), (v,))[1]
