r"""Continuation: how equilibria, fixed points and cycles move with a parameter, and where they change.

    G(x; p) = 0        f(x; p) = 0,    F^k(x; p) = x,    or phi_T(x; p) = x for a cycle of period T

By the implicit function theorem the solutions form curves wherever DG has full rank. Steps along the curve's own
arclength pass folds, where x is no function of p. Along the curve the spectrum of the linearisation says where the
solution is stable, and where its stability changes something else is born: `_test_functions` says what.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from separatrix._types import State
from separatrix.diagnostics._coordinates import as_vector, from_vector
from separatrix.diagnostics.branches._arclength import Walk, walk
from separatrix.diagnostics.branches._branch_problem import Rest
from separatrix.diagnostics.branches._branch_setup import Asked, Setup, set_up
from separatrix.diagnostics.branches._normal_form import coefficient
from separatrix.diagnostics.branches._test_functions import Special, examine
from separatrix.diagnostics.result import Result, Row

_STIFF = 1e6
_COARSE = 1e-6
_PLURAL = {"equilibrium": "equilibria"}


class SpecialPoint(eqx.Module):
    """Where a branch changes: its `kind` ("fold", "branch point", "hopf", "period doubling", "neimark-sacker"), and

    - `parameter`, `state`, `period` (NaN at rest), `spectrum`, and the `residual` |G| there;
    - `frequency`: omega of a Hopf pair +-i omega, the angle of a Neimark-Sacker pair; NaN for other kinds;
    - `coefficient`: of the normal form, at rest; NaN where there is none. See `criticality`;
    - `extremes`, shape (2,): as those of the branch.
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
    - `ended`: why each end is one: "bounds", "closed", "steps" (as many as asked), "step collapsed", or "start".
    - `unresolved`: steps that may hold more special points than were located.
    - `extremes`, shape (m, 2): least and largest first coordinate of a cycle (of a map or flow); at rest the state's.
    - `discretization_error`: of cycles: how far the end of a period is from that of twice as many steps, at worst.
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
                "no longer smooth, (b) two branches all but meet, or (c) a cycle's period grows without bound"
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
                f"a period ends {float(self.discretization_error):.1g} away from that of twice as many steps: raise "
                "steps_per_period"
            )
        if np.max(np.abs(self.spectra), initial=0) > _STIFF and self.kind != "equilibrium":
            found.append("a multiplier beyond a million: shooting over a whole period loses as many digits")
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
    method: Any = None,
    steps_per_period: int = 400,
) -> Branch:
    r"""Follow an equilibrium, a fixed point or a cycle through a parameter, and locate where it changes.

        G(x(s); p(s)) = 0,    s the arclength

    Located are folds, branch points (simple: two branches cross), Hopf points of a flow; period doublings and
    Neimark-Sacker points of a map or of a flow's cycle. In float64 they are good to 1e-9, those of cycles up to the error
    of the fixed steps.

    **Arguments:**

    - `system`: a `Flow`, a `Map` (without a key), or an `SDE` (its drift); or a function value -> system.
    - `parameter`: which leaf: a name or a function `where(system) -> leaf`, as for `at_parameter`; the label of a function.
    - `state`: a guess, corrected by Newton's method at fixed parameter. Or the `BranchStart` of `switch_branch`.
    - `bounds`: (low, high) of the parameter, where the branch ends.
    - `value`: the parameter at which the state is a guess; by default where it stands in the system. A function
      value -> system must be told.
    - `period`: k follows the k-cycles of a map, the fixed points of its k-th iterate; a time T, a guess of its period,
      follows a cycle of a flow, of which `state` is a point. None: what rests.
    - `at`: the step number or time at which a system that depends on it is frozen.
    - `step`, `max_step`, `min_step`: first, longest and shortest step, with the width of the bounds as unit of p and
      `scale` as unit of x. They adapt in between.
    - `steps`: at most so many each way. `direction`: "both", "up" or "down" in the parameter at first.
    - `scale`: a size of x that counts as one; by default the largest coordinate of the state, at least 1.
    - `method`, `steps_per_period`: of cycles: `RK4()` and 400 by default.

    **Returns:** a `Branch`.

    **Raises:** `ValueError` for a state from which Newton's method finds no solution, for bounds that do not hold the
    parameter, for more than 512 coordinates; `TypeError` for a system of no kind.

    **Example:** gradient descent on curvature 4 loses its minimum where step size times curvature is 2, by a period
    doubling.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.GradientDescent(lambda x: jnp.sum(1 - jnp.cos(2 * x)), step_size=0.1)
    >>> branch = sx.continuation(descent, "step_size", jnp.array([0.1]), bounds=(0.01, 1.0))
    >>> [(point.kind, round(float(point.parameter), 9)) for point in branch.special]
    [('period doubling', 0.5)]

    **Reference:** Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapter 10, numerical analysis of
    bifurcations; Keller, *Numerical solution of bifurcation and nonlinear eigenvalue problems* (1977), for
    pseudo-arclength; Moore, *The numerical treatment of non-trivial bifurcation points* (1980), for branch points.
    """
    asked = Asked(
        bounds, value, period, at, step, max_step, min_step, steps, direction, scale, method, steps_per_period
    )
    made = set_up(system, parameter, state, asked)
    walks = [walk(made.curve, made.starts[0], made.settings, examine)]
    if len(made.starts) > 1 and walks[0].ended != "closed":
        walks.append(walk(made.curve, made.starts[1], made.settings, examine))
    return _branch(made, walks)


def _branch(made: Setup, walks: list[Walk]) -> Branch:
    """The walks as one curve: the second reversed, before the first."""
    curve, forward = made.curve, walks[0]
    points, specials = forward.points, forward.specials
    ended = ("closed" if forward.ended == "closed" else "start", forward.ended)
    for backward in walks[1:]:
        points = backward.points[:0:-1] + points
        specials = backward.specials[::-1] + specials
        ended = (backward.ended, forward.ended)
    z = jnp.asarray(np.array([point.z * curve.scales for point in points]), curve.dtype)
    states, periods = split(curve.problem, z)
    extremes, errors = along_period(curve.problem, z)
    unstable = np.array([point.unstable for point in points])
    return Branch(
        parameters=z[:, -1],
        states=states,
        periods=periods,
        spectra=jnp.asarray(np.array([point.spectrum for point in points])),
        stable=jnp.asarray(unstable == 0),
        unstable=jnp.asarray(unstable),
        residuals=jnp.asarray([point.residual for point in points]),
        special=tuple(_special(made, special) for special in specials),
        extremes=extremes,
        discretization_error=jnp.max(errors),
        kind=made.kind,
        parameter=made.name,
        ended=ended,
        unresolved=sum(walk.unresolved for walk in walks),
        single_precision=bool(jnp.finfo(curve.dtype).eps > 1e-10),
        _problem=curve.problem,
    )


def _special(made: Setup, special: Special) -> SpecialPoint:
    problem, point = made.curve.problem, special.point
    z = jnp.asarray(point.z * made.curve.scales, made.curve.dtype)
    state, period = split(problem, z[None])
    rest = isinstance(problem, Rest)
    return SpecialPoint(
        kind=special.kind,
        parameter=z[-1],
        state=jax.tree.map(lambda leaf: leaf[0], state),
        period=period[0],
        spectrum=jnp.asarray(point.spectrum),
        residual=jnp.asarray(point.residual),
        frequency=jnp.asarray(_frequency(special)),
        coefficient=jnp.asarray(coefficient(problem, special.kind, z) if rest else np.nan),
        extremes=along_period(problem, z[None])[0][0],
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


def split(problem: Any, z: Float[Array, "m n"]) -> tuple[State, Float[Array, " m"]]:
    """States and periods of the points of a branch."""
    if isinstance(problem, Rest):
        return jax.vmap(lambda row: from_vector(row, problem.like))(z[:, :-1]), jnp.full(len(z), jnp.nan)
    return jax.vmap(lambda row: from_vector(row, problem.like))(z[:, :-2]), z[:, -2]


@eqx.filter_jit
def along_period(problem: Any, z: Float[Array, "m n"]) -> tuple[Float[Array, "m 2"], Float[Array, " m"]]:
    """The extremes of the first coordinate, and |phi with N steps - phi with 2N| relative to 1 + |x|; NaN for maps."""
    rest = isinstance(problem, Rest)
    if rest and problem.iterations == 1:
        return jnp.stack([z[:, 0], z[:, 0]], axis=1), jnp.full(len(z), jnp.nan)

    def one(row: Array) -> tuple[Array, Array]:
        points = jax.vmap(as_vector)(problem.points(row))
        extremes = jnp.stack([jnp.min(points[:, 0]), jnp.max(points[:, 0])])
        if rest:
            return extremes, jnp.asarray(jnp.nan, z.dtype)
        return extremes, jnp.max(jnp.abs(problem.image(row) - points[-1])) / (1 + jnp.max(jnp.abs(points)))

    return jax.vmap(one)(z)


def _described(parameter: str, point: SpecialPoint) -> str:
    extra = f", {point.criticality}" if point.criticality else ""
    return f"{parameter} = {float(point.parameter):.9g}{extra}"
