r"""Orbits that close: cycles of maps and flows, with the multipliers that say what becomes of their neighbours.

    map    F^k(x) = x,        multipliers: spectrum of DF(x_{k-1}) ... DF(x_0)
    flow   phi_T(x) = x,      multipliers: spectrum of the monodromy matrix M = D phi_T(x)

k is the least such number, T the least such time. A cycle is stable if all |mu| < 1. An autonomous flow has M f = f: the
multiplier 1 along the orbit says nothing of stability. It is split off exactly, by Q^T M Q with Q an orthonormal basis
of what is perpendicular to f(x), which leaves the multipliers of the return map; and |M f - f|/|f| is a check of M. The
product of all is exp of the integral of div f over a period (Liouville).
"""

from collections import Counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from separatrix._errors import explain
from separatrix._tree import asarrays, float_dtype
from separatrix._types import Key, State
from separatrix.calculus.undefined import undefined
from separatrix.diagnostics.cycles._found_orbits import found_orbits
from separatrix.diagnostics.questions import Question, by_name, register
from separatrix.diagnostics.result import Result, Row
from separatrix.diagnostics.starts import around, is_single, refuse_traced, rows_of, starting_states, warn_if_single
from separatrix.linear.closed_orbits import ClosedOrbit, close_returns
from separatrix.linear.root_search import default_tolerance
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map

# By name: starts in the box around the state, or the time within which a flow comes back.
_STARTS, _HORIZON = 64, 20.0


class PeriodicOrbits(Result):
    r"""The orbits found, by period and then by how unstable they are.

    - `states`: states with leading axes (P, K): the K = k points of an orbit of a map (repeated where its own period is a
      part of k), or K = 240 equally spaced times over the period of a flow. `coordinates`, shape (P, K, d): the same.
    - `periods`, shape (P,): least period, in steps or in time.
    - `multipliers`, shape (P, m): the largest first; the one along the orbit of an autonomous flow is left out.
      They are those of a product of as many factors as there are segments (steps of a map), each to its own digits.
    - `residuals`, shape (P,): |F^k(x) - x| or |phi_T(x) - x|, relative to max(1, |x|).
    - `trivial`, shape (P,): |M f - f|/|f|, 0 but for errors; NaN for maps and driven flows.
    - `tolerances`, shape (P,): how near to 1 a |mu| counts as neutral.
    - `counts`, shape (P,): how many starts ended there, of `starts`; `failed` ended nowhere, or at rest.
    """

    states: State
    coordinates: Float[Array, "P K d"]
    periods: Float[Array, " P"]
    multipliers: Complex[Array, "P m"]
    residuals: Float[Array, " P"]
    trivial: Float[Array, " P"]
    tolerances: Float[Array, " P"]
    counts: Int[Array, " P"]
    starts: Int[Array, ""]
    failed: Int[Array, ""]
    kind: str = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    @property
    def indices(self) -> np.ndarray:
        """How many multipliers of each orbit are past the unit circle: the dimension in which it is unstable."""
        return np.sum(np.abs(self.multipliers) - 1 > np.asarray(self.tolerances)[:, None], axis=1)

    @property
    def kinds(self) -> list[str]:
        """A word for each orbit: "stable cycle", "saddle cycle of index 1", "unstable cycle", "neutral cycle"."""
        return [
            self._word(np.asarray(row), float(tol)) for row, tol in zip(self.multipliers, self.tolerances, strict=True)
        ]

    def _word(self, values: np.ndarray, tolerance: float) -> str:
        up, down = int(np.sum(np.abs(values) - 1 > tolerance)), int(np.sum(np.abs(values) - 1 < -tolerance))
        if up:
            return f"saddle cycle of index {up}" if up < values.size else "unstable cycle"
        return "stable cycle" if down == values.size else "neutral cycle"

    def rows(self) -> list[Row]:
        lost = f"{int(self.failed)} ended nowhere"
        found = [Row("found", f"{len(self.counts)} from {int(self.starts)} starts ({lost})")]
        found += [Row(word, str(number)) for word, number in Counter(self.kinds).items()]
        if len(self.counts):
            found += [
                Row("periods", self.periods),
                Row("largest multipliers", np.asarray(self.multipliers)[:, 0] if np.size(self.multipliers) else "none"),
                Row("largest residual", np.max(self.residuals)),
            ]
        if np.isfinite(self.trivial).any():
            found.append(Row("error of the multiplier 1", np.nanmax(self.trivial)))
        return found

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not len(self.counts):
            found.append("nothing was found: start nearer to the orbit, and to its period")
        if any(word == "neutral cycle" for word in self.kinds):
            found.append(
                "a neutral cycle may be one of a family, as on every level of a conserved energy: which one depends "
                "on the start"
            )
        if np.any(np.asarray(self.trivial) > 1e-4):
            found.append(
                f"the multiplier 1 is off by {float(np.nanmax(self.trivial)):.1g}: so are the others; use more segments"
            )
        if 4 * int(self.failed) > int(self.starts):
            found.append(f"{int(self.failed)} of {int(self.starts)} starts ended nowhere: there may be more orbits")
        if self.kind == "map" and np.any(np.asarray(self.counts) == 1):
            found.append("some orbits were reached from one start only: more starts may find more")
        if self.single_precision:
            found.append("float32: multipliers within 1e-2 of the unit circle count as neutral")
        return tuple(found)


def periodic_orbits(
    system: Any,
    guesses: Any = None,
    *,
    period: Any = None,
    region: Any = None,
    starts: int = 256,
    search_time: float | None = None,
    driven: bool = False,
    segments: int = 1,
    tol: float | None = None,
    max_steps: int = 64,
) -> PeriodicOrbits:
    r"""Return the periodic orbits that are reached from many starts, with their Floquet multipliers.

        F^k(x) = x  (map);      phi_T(x) = x  (flow, with T unknown unless it is driven)

    **Arguments:**

    - `system`: a `Map` or a `Flow`. What an SDE does on average is a flow of its own.
    - `guesses`: a batch of states, every leaf with one leading axis; or `region`: a pair (low, high) of states between
      which `starts` points of a Sobol sequence are spread.
    - `period`: for a map k: orbits of period k and of its divisors are given, fixed points (k = 1) included. For a flow
      a guess of T > 0, one for all or one for each start; for a driven one the exact period of the drive or a multiple.
    - `search_time`: for a flow, instead of a period: each guess is first evolved so long, and starts where it is at half of
      that, with the time of its first close return from there.
    - `driven`: the flow depends on time, with this period; the orbit starts at t = 0.
    - `segments`: of multiple shooting, a divisor of 240, or of the period of a map; more for orbits whose neighbours part
      fast.
    - `tol`: what residual closes an orbit, relative to max(1, |x|); 4e-10 for maps and 1e-8 for flows in float64.
    - `max_steps`: of Newton's method, backtracking included.

    **Returns:** a `PeriodicOrbits`. Orbits that differ by a shift along themselves are one. Points of rest of a flow are
    left out.

    **Raises:** `TypeError` for an SDE, and under `jit`; `ValueError` for a period, starts or segments that cannot be.

    **Example:** the two points of the logistic map's cycle, whose multiplier is 4 + 2r - r^2.

    >>> import separatrix as sx
    >>> logistic = sx.as_map(lambda x: 3.2 * x * (1.0 - x))
    >>> found = sx.periodic_orbits(logistic, region=(0.0, 1.0), starts=32, period=2)
    >>> found.periods.tolist(), found.kinds
    ([1.0, 1.0, 2.0], ['unstable cycle', 'unstable cycle', 'stable cycle'])
    >>> round(float(found.multipliers[2, 0].real), 10)
    0.16

    **Reference:** Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), section 1.5 for multipliers; Ascher, Mattheij
    & Russell, *Numerical Solution of Boundary Value Problems* (1995), chapter 4, for multiple shooting.
    """
    refuse_traced("periodic_orbits", system, guesses, region, period)
    kind = "map" if isinstance(system, Map) else "flow"
    if not isinstance(system, Map | Flow):
        raise undefined("periodic_orbits", system, "Map or Flow", "Make it one with as_map or as_flow.")
    check = _check_steps if kind == "map" else _check_shooting
    check(period, search_time, driven, segments)
    likes = asarrays(starting_states("periodic_orbits", guesses, region, starts))
    dtype, total = float_dtype(likes), len(jax.tree.leaves(likes)[0])
    warn_if_single("periodic_orbits", dtype)
    tolerance, room = (1e-3 if is_single(dtype) else 1e-8), None
    orbit = ClosedOrbit(system, closes="drive" if driven else "return", segments=segments)
    if kind == "map":
        orbit, tolerance, room = (
            ClosedOrbit(system, steps=int(period), segments=segments),
            default_tolerance(dtype),
            region,
        )
    if search_time is not None and isinstance(system, Flow):
        likes, period = close_returns(system, likes, float(search_time))
        returned = np.flatnonzero(np.isfinite(period))
        likes, period = rows_of(likes, returned), period[returned]
    periods = jnp.broadcast_to(jnp.asarray(period, dtype), (len(jax.tree.leaves(likes)[0]),))
    tol = tolerance if tol is None else tol
    return PeriodicOrbits(**found_orbits(orbit, likes, periods, total, room, tol, max_steps))


def _check_steps(period: Any, search_time: Any, driven: bool, segments: int) -> None:
    if isinstance(period, bool) or not isinstance(period, int | np.integer) or period < 1:
        do = "Say how many steps the orbit has: period=2."
        raise ValueError(explain("periodic_orbits: period of a map", repr(period), "a whole number >= 1", do))
    for name, value in (("search_time", search_time), ("driven", driven)):
        if value not in (None, False):
            do = "Leave it out: a map's period is a number of steps."
            raise ValueError(explain(f"periodic_orbits: {name} of a map", repr(value), "nothing", do))
    if segments < 1 or period % segments:
        do = "Take a divisor of the period, or the period itself: then no step is iterated."
        raise ValueError(explain("periodic_orbits: segments", segments, f"a divisor of {period}", do))


def _check_shooting(period: Any, search_time: Any, driven: bool, segments: int) -> None:
    if (period is None) == (search_time is None):
        do = "Pass a guess of the period, or a search_time over which to look for a close return."
        got = "neither" if period is None else "both"
        raise ValueError(explain("periodic_orbits: period and search_time of a flow", got, "one of them", do))
    given = np.asarray(period if search_time is None else search_time, float)
    if not (np.isfinite(given).all() and (given > 0).all()):
        raise ValueError(explain("periodic_orbits: period", given, "a positive time", "Pass a guess such as 6.3."))
    if driven and period is None:
        do = "Pass the period of the drive, or a multiple of it."
        raise ValueError(explain("periodic_orbits: period of a driven flow", "None", "a time", do))
    if segments < 1 or 240 % segments:
        do = "Try 1, 4, 8, 12, 20 or 24."
        raise ValueError(explain("periodic_orbits: segments", segments, "a divisor of 240", do))


def _ask(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> PeriodicOrbits:
    """Cycles of period up to two of a map, around a state; the cycle of a flow that the state's orbit comes back to."""
    if isinstance(system, Flow):
        return periodic_orbits(system, jax.tree.map(lambda leaf: leaf[None], state), search_time=_HORIZON)
    return periodic_orbits(system, region=around(state), starts=_STARTS, period=2)


register(Question("periodic_orbits", "cycles near the state (by name only)", _ask, by_name, rank=6))
