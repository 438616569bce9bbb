r"""Continuation: how equilibria, fixed points and cycles move with a parameter, and where they change.

    G(x; p) = 0        f(x; p) = 0,    F^k(x; p) = x,    or x' = T f(x; p), x(1) = x(0) for a cycle of period T

By the implicit function theorem the solutions form curves wherever DG has full rank. Steps along the curve's own
arclength pass folds, where x is no function of p. Along the curve the spectrum of the linearisation says where the
solution is stable, and where its stability changes something else is born: `_test_functions` says what.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from separatrix._tree import float_dtype
from separatrix._types import State
from separatrix.diagnostics.cycles._arclength import FollowedCurve, Point, follow_curve
from separatrix.diagnostics.cycles._branch_problem import Rest
from separatrix.diagnostics.cycles._branch_setup import ContinuationOptions, PreparedBranch, prepare
from separatrix.diagnostics.cycles._collocation import base_times
from separatrix.diagnostics.cycles._normal_form import coefficient
from separatrix.diagnostics.cycles._test_functions import Special, examine
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import from_vector

_COARSE = 1e-5
_PLURAL = {"equilibrium": "equilibria"}


class SpecialPoint(eqx.Module):
    """Where a branch changes: its `kind` ("fold", "branch point", "hopf", "period doubling", "neimark-sacker"), and

    - `parameter`, `state`, `period` (NaN at rest), `spectrum`, and the `residual` |G| there;
    - `frequency`: omega of a Hopf pair +-i omega, the angle of a Neimark-Sacker pair; NaN for other kinds;
    - `coefficient`: of the normal form, at rest; NaN where there is none. See `criticality`;
    - `extremes`, shape (2,), `orbit`, `phases`: as those of the branch.
    """

    kind: str = eqx.field(static=True)
    parameter: Float[Array, ""]
    state: State
    period: Float[Array, ""]
    spectrum: Complex[Array, " k"]
    residual: Float[Array, ""]
    frequency: Float[Array, ""]
    coefficient: Float[Array, ""]
    extremes: Float[Array, "2"]
    orbit: State
    phases: Float[Array, " K"]

    @property
    def criticality(self) -> str:
        """Return "supercritical" (what is born is stable where the old is not), "subcritical", or "" if not known."""
        value = float(self.coefficient) * (-1 if self.kind == "period doubling" else 1)
        if not np.isfinite(value):
            return ""
        return "supercritical" if value < 0 else "subcritical"


class Branch(Result):
    r"""A curve of equilibria, fixed points or cycles.

    - `parameters`, shape (m,); `states`, with a leading axis m; `periods`, shape (m,): T of cycles, NaN otherwise.
    - `spectra`, shape (m, k): eigenvalues, or multipliers (those of a cycle without the 1 along it), fastest first.
    - `stable`, shape (m,): whether none grows. `unstable`, shape (m,): how many do. `residuals`, shape (m,): |G|.
    - `special`: the special points, in order along the branch.
    - `ended`: why each end is one: "bounds", "closed", "steps" (as many as asked), "step collapsed", "start"; of cycles of
      a flow also "equilibrium", where they shrink to a point, and "infinite period", where the period grows at a parameter
      that stands still: towards a homoclinic orbit, or a saddle-node on the cycle.
    - `unresolved`: steps that may hold more special points than were located.
    - `extremes`, shape (m, 2): least and largest first coordinate of a cycle (of a map or flow); at rest the state's.
    - `orbits`: states with leading axes (m, K): the K = k points of a k-cycle, the base points of a cycle of a flow, at the
      times `phases`, shape (m, K), in units of the period; the state alone at rest.
    - `discretization_error`: of cycles of flows: the leading term of the error of `orbits` relative to 1 + |x|, at worst.
      Periods, parameters and multipliers, which hang on the ends of intervals, are known better.
    """

    parameters: Float[Array, " m"]
    states: State
    periods: Float[Array, " m"]
    spectra: Complex[Array, "m k"]
    stable: Bool[Array, " m"]
    unstable: Any
    residuals: Float[Array, " m"]
    special: tuple[SpecialPoint, ...]
    extremes: Float[Array, "m 2"]
    orbits: State
    phases: Float[Array, "m K"]
    discretization_error: Float[Array, ""]
    kind: str = eqx.field(static=True)
    parameter: str = eqx.field(static=True)
    ended: tuple[str, str] = eqx.field(static=True)
    unresolved: int = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)
    _problem: Any

    def rows(self) -> list[Row]:
        low, high = float(np.min(self.parameters)), float(np.max(self.parameters))
        count = len(self.parameters)
        rows = [
            Row("branch", f"{_PLURAL.get(self.kind, self.kind + 's')}, {count} points"),
            Row(self.parameter, f"{low:.6g} to {high:.6g} (ends: {', '.join(self.ended)})"),
            Row("stable", f"{int(np.sum(self.stable))} of {count} points"),
        ]
        return rows + [Row(point.kind, _described(self.parameter, point)) for point in self.special]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if "step collapsed" in self.ended:
            found.append(
                "the step collapsed: Newton's method failed, or the branch bends too fast; (a) it ends where the system is "
                "no longer smooth, (b) two branches all but meet, or (c) a cycle is too fine for its mesh"
            )
        if "steps" in self.ended:
            found.append("the branch goes on: raise steps, or max_step")
        if self.unresolved:
            found.append(
                f"{self.unresolved} steps hold more changes than special points located: eigenvalues that cross together, "
                "as symmetry makes them, or points closer than the smallest step"
            )
        if not float(self.discretization_error) <= _COARSE and self.kind == "cycle":
            found.append(
                f"the cycles are off by {float(self.discretization_error):.1g} between mesh points: raise steps_per_period"
            )
        if self.single_precision:
            found.append("float32: special points are located to three or four digits")
        return tuple(found)


def continuation(
    system: Any,
    parameter: Any,
    state: Any,
    *,
    bounds: Any,
    value: Any = None,
    period: Any = None,
    at: Any = 0,
    step: float = 0.01,
    max_step: float = 0.05,
    min_step: float = 1e-6,
    steps: int = 300,
    direction: str = "both",
    scale: float | None = None,
    steps_per_period: int = 240,
) -> Branch:
    r"""Follow an equilibrium, a fixed point or a cycle through a parameter, and locate where it changes.

        G(x(s); p(s)) = 0,    s the arclength

    Located are folds, branch points (simple: two branches cross), Hopf points of a flow; period doublings and
    Neimark-Sacker points of a map or of a flow's cycle. In float64 they are good to 1e-9, those of cycles up to the error
    of the mesh. A cycle of a flow is held by polynomials of degree 4 on a mesh that follows it (orthogonal collocation), as
    a whole: neither its instability nor fast and slow parts of it stand in the way.

    **Arguments:**

    - `system`: a `Flow`, a `Map` (without a key), or an `SDE` (its drift); or a function value -> system.
    - `parameter`: which leaf: a name or a function `where(system) -> leaf`, as for `at_parameter`; the label of a function.
    - `state`: a guess, corrected by damped Newton steps at fixed parameter. Or the `BranchStart` of `switch_branch`.
    - `bounds`: (low, high) of the parameter, where the branch ends.
    - `value`: the parameter at which the state is a guess; by default where it stands in the system. A function
      value -> system must be told.
    - `period`: k follows the k-cycles of a map, the fixed points of its k-th iterate; a time T, a guess of its period,
      follows a cycle of a flow, of which `state` is a point. None: what rests.
    - `at`: the step number or time at which a system that depends on it is frozen.
    - `step`, `max_step`, `min_step`: first, longest and shortest step, with the width of the bounds as unit of p and
      `scale` as unit of x. They adapt in between.
    - `steps`: at most so many each way. `direction`: "both", "up" or "down" in the parameter at first.
    - `scale`: a size of x that counts as one; by default the largest coordinate of the state, at least 1. A cycle is as
      large as its root mean square.
    - `steps_per_period`: of cycles of a flow: collocation points, four to each interval of the mesh.

    **Returns:** a `Branch`.

    **Raises:** `ValueError` for a state from which Newton's method finds no solution, for bounds that do not hold the
    parameter, for more than 512 coordinates (cycles of a flow: 2,048 in all ends of intervals); `TypeError` for a system
    of no kind.

    **Example:** gradient descent on curvature 4 loses its minimum where step size times curvature is 2, by a period
    doubling.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.GradientDescent(lambda x: jnp.sum(1 - jnp.cos(2 * x)), step_size=0.1)
    >>> branch = sx.continuation(descent, "step_size", jnp.array([0.1]), bounds=(0.01, 1.0))
    >>> [(point.kind, round(float(point.parameter), 9)) for point in branch.special]
    [('period doubling', 0.5)]

    **Reference:** Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapter 10, numerical analysis of
    bifurcations; Keller, *Numerical solution of bifurcation and nonlinear eigenvalue problems* (1977), for
    pseudo-arclength; Moore, *The numerical treatment of non-trivial bifurcation points* (1980), for branch points; Doedel,
    Keller & Kernevez, *Numerical analysis and control of bifurcation problems II* (1991), for cycles by collocation.
    """
    options = ContinuationOptions(
        bounds, value, period, at, step, max_step, min_step, steps, direction, scale, steps_per_period
    )
    made = prepare(system, parameter, state, options)
    curves = [follow_curve(made.curve, made.starts[0], made.limits, examine)]
    if len(made.starts) > 1 and curves[0].ended != "closed":
        curves.append(follow_curve(made.curve, made.starts[1], made.limits, examine))
    return _branch(made, curves)


def _branch(made: PreparedBranch, curves: list[FollowedCurve]) -> Branch:
    """Both ways as one curve: the second reversed, before the first."""
    curve, forward = made.curve, curves[0]
    points, specials = forward.points, forward.specials
    ended = ("closed" if forward.ended == "closed" else "start", forward.ended)
    for backward in curves[1:]:
        points = backward.points[:0:-1] + points
        specials = backward.specials[::-1] + specials
        ended = (backward.ended, forward.ended)
    held = _held(made, points)
    unstable = np.array([point.unstable for point in points])
    return Branch(
        parameters=held.parameters,
        states=held.states,
        periods=held.periods,
        spectra=jnp.asarray(np.array([point.spectrum for point in points])),
        stable=jnp.asarray(unstable == 0),
        unstable=jnp.asarray(unstable),
        residuals=jnp.asarray(np.array([point.residual for point in points])),
        special=tuple(_special(made, special) for special in specials),
        extremes=held.extremes,
        orbits=held.orbits,
        phases=held.phases,
        discretization_error=jnp.asarray(held.error),
        kind=made.kind,
        parameter=made.name,
        ended=ended,
        unresolved=sum(one.unresolved for one in curves),
        single_precision=bool(jnp.finfo(curve.dtype).eps > 1e-10),
        _problem=curve.problem,
    )


class _Held(NamedTuple):
    """Points of a branch in the user's terms, each with a leading axis."""

    parameters: Any
    states: State
    periods: Any
    extremes: Any
    orbits: State
    phases: Any
    error: float


def _held(made: PreparedBranch, points: list[Point]) -> _Held:
    dtype, rows = made.curve.dtype, [_read(made.curve.problem, point, made.curve.scales) for point in points]
    parameters, values, periods, extremes, times, errors = (np.stack(part) for part in zip(*rows, strict=True))
    # Up to the next power of two: branches of nearly the same length share a program.
    room = 1 << (len(points) - 1).bit_length()
    values = np.concatenate([values, np.broadcast_to(values[-1:], (room - len(points), *values.shape[1:]))])
    found = _states(jnp.asarray(values, dtype), made.curve.problem.like)
    states, orbits = jax.tree.map(lambda leaf: leaf if room == len(points) else leaf[: len(points)], found)
    numbers = (jnp.asarray(part, dtype) for part in (parameters, periods, extremes, times))
    parameters, periods, extremes, times = numbers
    return _Held(parameters, states, periods, extremes, orbits, times, float(np.max(errors)))


def _read(problem: Any, point: Point, scales: np.ndarray) -> tuple[Any, ...]:
    """(p, values on the orbit, T, least and largest first coordinate, when, error) on the host."""
    z = point.z * scales
    if not isinstance(problem, Rest):
        values, period, _ = problem.parts(z)
        return z[-1], values, period, problem.extremes(z), base_times(point.mesh), problem.error(z, point.mesh)
    dtype = float_dtype(problem.like)
    values = z[None, :-1] if problem.iterations == 1 else np.asarray(problem.points(jnp.asarray(z, dtype)), float)
    times, first = np.arange(len(values)) / len(values), values[:, 0]
    return z[-1], values, np.nan, np.array([first.min(), first.max()]), times, np.nan


@eqx.filter_jit
def _states(values: Any, like: State) -> tuple[State, State]:
    """The first state of each orbit, and all."""
    orbits = jax.vmap(jax.vmap(lambda row: from_vector(row, like)))(values)
    return jax.tree.map(lambda leaf: leaf[:, 0], orbits), orbits


def _special(made: PreparedBranch, special: Special) -> SpecialPoint:
    problem, point = made.curve.problem, special.point
    held = _held(made, [point])
    state, orbit = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in (held.states, held.orbits))
    z = jnp.asarray(point.z * made.curve.scales, made.curve.dtype)
    return SpecialPoint(
        kind=special.kind,
        parameter=held.parameters[0],
        state=state,
        period=held.periods[0],
        spectrum=jnp.asarray(point.spectrum),
        residual=jnp.asarray(point.residual),
        frequency=jnp.asarray(_frequency(special)),
        coefficient=jnp.asarray(coefficient(problem, special.kind, z) if isinstance(problem, Rest) else np.nan),
        extremes=held.extremes[0],
        orbit=orbit,
        phases=held.phases[0],
    )


def _frequency(special: Special) -> float:
    spectrum, growth = special.point.spectrum, special.point.growth
    value = spectrum[int(np.argmin(np.abs(growth)))]
    match special.kind:
        case "hopf":
            return float(abs(np.imag(value)))
        case "neimark-sacker":
            return float(abs(np.angle(value)))
    return float("nan")


def _described(parameter: str, point: SpecialPoint) -> str:
    extra = f", {point.criticality}" if point.criticality else ""
    return f"{parameter} = {float(point.parameter):.9g}{extra}"
