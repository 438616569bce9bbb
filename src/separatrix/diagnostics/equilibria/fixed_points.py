r"""Where a system rests, or nearly does: all points found from many starts, each with its spectrum.

    map:  F(x) = x,  multipliers mu of DF(x);        flow, drift of an SDE:  f(x) = 0,  eigenvalues lambda of Df(x)

A point with k eigenvalues past the border (|mu| > 1, Re lambda > 0) has index k: the dimension of its unstable manifold.
With none on the border, nearby orbits are those of the linearisation (Hartman and Grobman), which gives the words
node (real spectrum), focus (complex), saddle (some each side). With all on it, it is a centre of the linearisation only.

Where there is no root the speed may still be small. A slow point is a local minimum of

    q(x) = |f(x)|^2 / 2      (map: |F(x) - x|^2 / 2),

around which a trajectory lingers: the ghost of a pair of points that met, or the waist of a channel.
"""

from collections import Counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from separatrix._types import Key, State
from separatrix.diagnostics.equilibria.rest import (
    Distinct,
    distinct,
    leading_spectra,
    spectra_of,
    with_slow_points,
)
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.questions import Question, by_name, register
from separatrix.diagnostics.result import Result, Row
from separatrix.diagnostics.starts import (
    around,
    is_single,
    refuse_traced,
    rows_of,
    starting_states,
    warn_if_single,
    within,
)
from separatrix.linear.closed_orbits import Anchor, ClosedOrbit, at_rest
from separatrix.linear.coordinates import as_vector, from_vector, kind_of
from separatrix.linear.root_search import Endings, converged, default_tolerance, find_roots

# Points that many, most of them singular, are a family and not points.
_FAMILY = 8

# By name: starts in the box around the state.
_STARTS = 64


class FixedPoints(Result):
    r"""The points found, those of the least index first, and of one index those that most starts went to.

    - `points`: states with a leading axis of length P. `coordinates`, shape (P, d): the same as real vectors.
    - `residuals`, shape (P,): |f(x)| or |F(x) - x|, relative to max(1, |x|).
    - `spectra`, shape (P, k): eigenvalues (multipliers of a map), the least stable first; all d of them, or the leading
      ones where d > 512.
    - `indices`, shape (P,): how many of those are past the border of stability, by more than `tolerances`.
    - `slow`, shape (P,): whether this is a slow point and no root. `speeds`, shape (P,): q = |f|^2/2, not relative.
    - `counts`, shape (P,): how many starts ended there, of `starts`; `outside` left the region for a point beyond it,
      `failed` ended nowhere.
    """

    points: State
    coordinates: Float[Array, "P d"]
    residuals: Float[Array, " P"]
    speeds: Float[Array, " P"]
    spectra: Complex[Array, "P k"]
    indices: Int[Array, " P"]
    tolerances: Float[Array, " P"]
    slow: Bool[Array, " P"]
    counts: Int[Array, " P"]
    starts: Int[Array, ""]
    outside: Int[Array, ""]
    failed: Int[Array, ""]
    kind: str = eqx.field(static=True)
    size: int = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    @property
    def kinds(self) -> list[str]:
        """A word for each point: "stable node", "saddle of index 2", "centre", "degenerate", ..."""
        rows = zip(self.spectra, self.tolerances, self.slow, strict=True)
        return [("slow: " if slow else "") + self._word(np.asarray(values), float(tol)) for values, tol, slow in rows]

    def _word(self, values: np.ndarray, tolerance: float) -> str:
        past = np.abs(values) - 1 if self.kind == "map" else np.real(values)
        up, down = int(np.sum(past > tolerance)), int(np.sum(past < -tolerance))
        turning = bool(np.any(np.abs(np.imag(values)) > tolerance))
        if np.isnan(values).any():
            return "without derivatives"
        more = values.size < self.size
        if np.any(np.abs(values - (1 if self.kind == "map" else 0)) <= tolerance):
            return "degenerate"
        if up + down < values.size:
            return "centre" if up + down == 0 and not more else f"neutral, index {up}"
        if up and (down or more):
            return f"saddle of index {up}" if down else f"unstable, index {up} or more"
        return f"{'unstable' if up else 'stable'} {'focus' if turning else 'node'}"

    def rows(self) -> list[Row]:
        words = Counter(self.kinds)
        lost = f"{int(self.failed)} ended nowhere, {int(self.outside)} outside"
        found = [
            Row("found", f"{len(self.counts)} from {int(self.starts)} starts ({lost})"),
            *[Row(word, str(number)) for word, number in words.items()],
        ]
        if len(self.counts):
            found += [
                Row("largest residual", np.max(self.residuals)),
                Row("leading eigenvalues", np.asarray(self.spectra)[:, 0]),
                Row("starts", self.counts),
            ]
        return found

    @property
    def cautions(self) -> tuple[str, ...]:
        found, words = [], self.kinds
        if not words:
            found.append("nothing was found: start nearer, from more starts, or ask for slow points too (slow=True)")
        degenerate = sum(word == "degenerate" for word in words)
        if degenerate > _FAMILY and 2 * degenerate > len(words):
            found.append(
                f"{degenerate} points with singular Jacobians: they lie on a family (a line, a surface), of which these "
                "are samples"
            )
        elif degenerate:
            found.append(
                f"{degenerate} with a singular Jacobian: where they are is known to fewer digits than the residual"
            )
        if any("centre" in word or "neutral" in word for word in words):
            found.append("on the border of stability the linearisation does not decide: nonlinear terms do")
        if 4 * int(self.failed) > int(self.starts):
            found.append(f"{int(self.failed)} of {int(self.starts)} starts ended nowhere: there may be more points")
        if np.any(np.asarray(self.counts)[~np.asarray(self.slow)] == 1):
            found.append("some points were reached from one start only: more starts may find more")
        if np.shape(self.spectra)[1] < self.size:
            found.append(f"only the leading {np.shape(self.spectra)[1]} of {self.size} eigenvalues are given")
        if self.single_precision:
            found.append(
                "float32: points closer than 1e-2 are one, and eigenvalues within 0.03 of the border count as neutral"
            )
        return tuple(found)


def fixed_points(
    system: Any,
    guesses: Any = None,
    *,
    region: Any = None,
    starts: int = 256,
    at: Any = 0,
    key: Key | None = None,
    slow: bool | float = False,
    tol: float | None = None,
    max_steps: int = 128,
    count: int = 6,
) -> FixedPoints:
    r"""Return the fixed points of a map, or the equilibria of a flow, that are reached from many starts.

        F(x) = x  (map);      f(x) = 0  (flow, drift of an SDE)

    By damped steps that lower |r|, then Newton's method, from all starts at once, so that saddles and unstable points are
    found as readily as stable ones; what two starts agree on is one point. More than 512 coordinates go by Newton's method
    with backtracking, on products with the Jacobian.

    **Arguments:**

    - `system`: a `Map` (those of an optimiser rest at the critical points of its objective), `Flow` or `SDE`.
    - `guesses`: a batch of states: every leaf with one leading axis. Or `region`: a pair (low, high) of states, between
      which `starts` points of a scrambled Sobol sequence are spread, always the same; what lies beyond is left out.
    - `at`: step number or time at which the system is frozen. `key`: randomness of a random map, held fixed.
    - `slow`: also give local minima of q = |f|^2/2 that are no roots and at most so high; True means a hundredth of the
      median q of the starts. Beyond 512 coordinates this second search also finds roots that the first missed.
    - `tol`: what residual makes a root, relative to max(1, |x|); 4e-10 in float64 by default.
    - `max_steps`: of each search, steps that were tried and not taken included.
    - `count`: eigenvalues of systems with more than 512 coordinates, which are given no more than these.

    **Returns:** a `FixedPoints`. No search proves that there are no more points.

    **Raises:** `TypeError` for anything but a system, and under `jit` (how many points there are is not known to it);
    `ValueError` for starts that cannot be.

    **Example:** the critical points of a double well: two minima of curvature 2 and a saddle of curvature -1 between.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> flow = sx.limit(sx.optimization.GradientDescent(sx.optimization.DoubleWell(), 0.1))
    >>> found = sx.fixed_points(flow, region=(jnp.array([-2.0]), jnp.array([2.0])), starts=64)
    >>> found.kinds
    ['stable node', 'stable node', 'unstable node']
    >>> sorted(found.coordinates[:, 0].round(12).tolist()) == [-1.0, 0.0, 1.0]
    True

    **Reference:** Sussillo & Barak, *Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural
    networks* (2013), for slow points; Nocedal & Wright, *Numerical Optimization* (2006), chapters 10 and 11.
    """
    kind_of(system)
    refuse_traced("fixed_points", system, guesses, region)
    likes = starting_states("fixed_points", guesses, region, starts)
    vectors = jax.vmap(as_vector)(likes)
    warn_if_single("fixed_points", vectors.dtype)
    tol = default_tolerance(vectors.dtype) if tol is None else tol
    equations, anchors = at_rest(system, at, key), Anchor(likes)
    found = find_roots(equations, vectors, anchors, max_steps)
    good, resting = converged(found, tol), np.zeros(len(vectors), bool)
    if slow is not False:
        found, good, resting = with_slow_points(equations, vectors, anchors, found, good, slow, tol, max_steps)
    inside = within(found.values, region)
    points = distinct(equations, found, anchors, good & inside, resting & inside)
    return _answer(equations, found, anchors, resting, points, int(np.sum((good | resting) & ~inside)), count)


def _answer(
    equations: ClosedOrbit,
    found: Endings,
    anchors: Anchor,
    resting: np.ndarray,
    points: Distinct,
    outside: int,
    count: int,
) -> FixedPoints:
    """The points chosen, classified and put in order."""
    kind, chosen, owner = kind_of(equations.system), points.chosen, points.owner
    if points.matrices is None:
        spectra, tolerances = leading_spectra(equations, found.values[chosen], rows_of(anchors, chosen), count)
    else:
        spectra, tolerances = spectra_of(points.matrices, kind, float(jnp.finfo(found.values.dtype).eps))
    past = np.abs(spectra) - 1 if kind == "map" else np.real(spectra)
    indices = np.sum(past > tolerances[:, None], axis=1)
    counts = np.bincount(owner[owner >= 0], minlength=len(chosen))
    order = np.lexsort((-counts, indices, resting[chosen]))
    rows = chosen[order]
    values, residuals = found.values[rows], found.residuals[rows]
    size = np.maximum(1.0, np.linalg.norm(values, axis=1))
    return FixedPoints(
        points=jax.vmap(from_vector)(jnp.asarray(values), rows_of(anchors.like, rows)),
        coordinates=jnp.asarray(values),
        residuals=jnp.asarray(residuals),
        speeds=jnp.asarray((residuals * size) ** 2 / 2),
        spectra=jnp.asarray(spectra[order]),
        indices=jnp.asarray(indices[order]),
        tolerances=jnp.asarray(tolerances[order]),
        slow=jnp.asarray(resting[rows]),
        counts=jnp.asarray(counts[order]),
        starts=jnp.asarray(len(owner)),
        outside=jnp.asarray(outside),
        failed=jnp.asarray(int(np.sum(owner < 0)) - outside),
        kind=kind,
        size=values.shape[1],
        single_precision=is_single(values.dtype),
    )


def _ask(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> FixedPoints:
    """Points of rest around a state."""
    return fixed_points(system, region=around(state), starts=_STARTS, at=at, key=key)


def _judge(answer: FixedPoints, system: Any) -> list[Finding]:
    """There is a point of rest that attracts."""
    attracting = int(np.sum((np.asarray(answer.indices) == 0) & ~np.asarray(answer.slow)))
    cause = "none was found that no direction leaves, within max(1, |x|) of the state in each coordinate"
    do = "Search a wider region with `fixed_points`, or ask for `periodic_orbits` and `lyapunov_spectrum`."
    return [Finding("points of rest that are not unstable", float(attracting), ">=", 1.0, cause, do)]


register(Question("fixed_points", "points of rest around the state (by name only)", _ask, by_name, _judge, rank=5))
