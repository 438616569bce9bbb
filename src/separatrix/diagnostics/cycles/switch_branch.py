r"""Branch switching: from a special point onto the branch that is born or crosses there.

    Hopf                 x + e Re(q exp(i omega t)),  T = 2 pi/omega,    A q = i omega q
    period doubling      x + e q on F o F, or on twice the period,       A q = -q
    branch point         z + e (b_22 tau - 2 b_12 nu),   b_jk = <phi, D2G(v_j, v_k)>, v = (tau, nu) the null vectors of DG

At a branch point the directions w = a tau + b nu of both branches solve <phi, D2G(w, w)> = 0; with tau along the known one
b_11 = 0, and 2 a b_12 + b b_22 = 0 is the other.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix.diagnostics.cycles._branch_problem import Rest
from separatrix.diagnostics.cycles._branch_setup import BranchStart
from separatrix.diagnostics.cycles._collocation import DEGREE, base_times, evaluated, functional
from separatrix.diagnostics.cycles._cycle import Cycle, Phase
from separatrix.diagnostics.cycles._normal_form import eigenvector
from separatrix.diagnostics.cycles.continuation import Branch, SpecialPoint
from separatrix.linear.coordinates import as_vector

# Intervals on which the harmonic of a Hopf point is handed over; its cycle gets a mesh of its own.
_UNIFORM = 20


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
    match point.kind:
        case "hopf":
            return _cycles(problem, point, amplitude)
        case "period doubling":
            return (
                _doubled_cycle(problem, point, amplitude)
                if isinstance(problem, Cycle)
                else _doubled(problem, point, amplitude)
            )
        case "branch point":
            return _crossing(branch, point, amplitude)
    do = "A branch goes on past a fold by itself; a torus is followed by evolve."
    raise ValueError(explain("switch_branch: point", point.kind, "a hopf, period doubling or branch point", do))


def _unknowns(problem: Any, point: SpecialPoint) -> tuple[np.ndarray, Phase | None]:
    """z, and what fixes the phase of a cycle."""
    if isinstance(problem, Rest):
        return np.append(np.asarray(as_vector(point.state), float), float(point.parameter)), None
    values = np.asarray(jax.vmap(as_vector)(point.orbit), float)
    mesh = np.diff(np.append(np.asarray(point.phases, float)[::DEGREE], 1.0))
    z = np.concatenate([values.ravel(), [float(point.period), float(point.parameter)]])
    return z, problem.phase(z, mesh)


def _start(
    problem: Any, z: Any, direction: Any, phase: Any, amplitude: float, *, iterations: int, cycle: bool, both: bool
) -> BranchStart:
    dtype = as_vector(problem.like).dtype
    first, second = (jnp.asarray(part, dtype) for part in (z, direction))
    return BranchStart(problem.like, first, second, phase, amplitude, cycle, iterations, both)


def _cycles(problem: Any, point: SpecialPoint, amplitude: float) -> BranchStart:
    z, _ = _unknowns(problem, point)
    value, q = eigenvector(problem.linearized(z).matrix, "hopf")
    mesh = np.full(_UNIFORM, 1 / _UNIFORM)
    swing = np.real(q * np.exp(2j * np.pi * base_times(mesh))[:, None])
    rest = np.broadcast_to(z[:-1], swing.shape)
    start = np.concatenate([rest.ravel(), [2 * np.pi / np.imag(value), z[-1]]])
    direction, phase = np.append(swing.ravel(), [0.0, 0.0]), Phase(rest, functional(swing), mesh)
    return _start(problem, start, direction, phase, amplitude, iterations=1, cycle=True, both=False)


def _doubled(problem: Rest, point: SpecialPoint, amplitude: float) -> BranchStart:
    z, _ = _unknowns(problem, point)
    _, q = eigenvector(problem.linearized(z).matrix, "period doubling")
    twice = 2 * problem.iterations
    return _start(problem, z, np.append(np.real(q), 0.0), None, amplitude, iterations=twice, cycle=False, both=False)


def _doubled_cycle(problem: Cycle, point: SpecialPoint, amplitude: float) -> BranchStart:
    """Twice around the cycle, and v once with either sign: v(t + 1) = -v(t)."""
    z, phase = _unknowns(problem, point)
    assert phase is not None
    values, period, parameter = problem.parts(z)
    swing = problem.linearized(z, phase).turned()
    start = np.concatenate([values.ravel(), values.ravel(), [2 * period, parameter]])
    direction = np.concatenate([swing.ravel(), -swing.ravel(), [0.0, 0.0]])
    both = np.concatenate([values, values])
    turned = Phase(both, functional(both), np.concatenate([phase.mesh, phase.mesh]) / 2)
    twice = 2 * problem.iterations
    return _start(problem, start, direction, turned, amplitude, iterations=twice, cycle=True, both=False)


def _crossing(branch: Branch, point: SpecialPoint, amplitude: float) -> BranchStart:
    problem = branch._problem
    z, phase = _unknowns(problem, point)
    left, _, right = np.linalg.svd(problem.jacobian(z, phase))
    phi, null = left[:, -1], right[-2:]
    along = null @ _along(branch, point, phase)
    along = along / np.linalg.norm(along)
    tau, nu = along @ null, np.array([-along[1], along[0]]) @ null

    def second(u: np.ndarray, v: np.ndarray) -> float:
        """<phi, D2G(u, v)>, by a central difference of DG u: good to 1e-9 of it, and a direction wants no more."""
        step = 1e-5 * max(1.0, float(np.linalg.norm(z)))
        ahead, behind = (problem.jacobian(z + side * step * v, phase) @ u for side in (1, -1))
        return float(phi @ (ahead - behind)) / (2 * step)

    direction = second(nu, nu) * tau - 2 * second(tau, nu) * nu
    direction = nu if not np.linalg.norm(direction) > 0 else direction
    cycle = isinstance(problem, Cycle)
    return _start(problem, z, direction, phase, amplitude, iterations=problem.iterations, cycle=cycle, both=True)


def _along(branch: Branch, point: SpecialPoint, phase: Phase | None) -> np.ndarray:
    """The chord of the branch around a point of it."""
    problem = branch._problem
    tail = [branch.periods, branch.parameters] if isinstance(problem, Cycle) else [branch.parameters]
    known = [float(point.period), float(point.parameter)][-len(tail) :]
    rows = np.concatenate(
        [np.stack([np.asarray(part, float) for part in tail], axis=1), np.asarray(branch.extremes)], axis=1
    )
    nearest = int(np.argmin(np.linalg.norm(rows - np.append(known, point.extremes), axis=1)))
    ends = []
    for place in (max(nearest - 1, 0), min(nearest + 1, len(rows) - 1)):
        values = np.asarray(
            jax.vmap(as_vector)(jax.tree.map(lambda leaf, place=place: leaf[place], branch.orbits)), float
        )
        if phase is not None:
            mesh = np.diff(np.append(np.asarray(branch.phases[place], float)[::DEGREE], 1.0))
            values = evaluated(values, mesh, base_times(phase.mesh))
        ends.append(np.concatenate([values[: 1 if phase is None else None].ravel(), rows[place, : len(tail)]]))
    return ends[1] - ends[0]
