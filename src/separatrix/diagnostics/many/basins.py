r"""Basins of attraction: which start ends where.

The basin of an attractor A is the set of starts whose orbits approach A; basin stability is its share of a region,

    S(A) = |{x in region : orbit of x -> A}|/|region|,      standard error sqrt(S (1 - S)/N) from N random starts.

Every start runs in a compiled batch. Attractors are not told beforehand: a tail that is near none of those known becomes a
new one, if it comes back to itself as it is run on, and orbits that are still on their way run on too. Flight to infinity
is a fate of its own. What attracts must hold its own when pushed: each attractor is run again from beside itself.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from separatrix._errors import explain
from separatrix._tree import asarrays, float_dtype
from separatrix._types import Key
from separatrix.diagnostics.many._attractors import LONGEST_PERIOD, TAIL, Runner, batch_of
from separatrix.diagnostics.many._finder import ESCAPED, UNSETTLED, Finder, attracting, search
from separatrix.diagnostics.region import embedded, starts_of
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import kind_of
from separatrix.systems.map import FiniteMap

# Fewer starts than this are told: a share of so few is no estimate.
_FEW = 5
_DRAWN = 256
_LISTED = 12


class Basins(Result):
    r"""The fates of N starts of d coordinates, and the A attractors found.

    - `points`, shape (N, p): the starts as given in the region; `states`, shape (N, d): as coordinates of states.
    - `fates`, shape (N,): number of the attractor, -1 escaped to infinity, -2 still under way; `grid`: in the grid's shape.
      What is past `escape` has escaped, and what moved away from all starts in every span by as much as before or more.
    - `attractors`, shape (A, d): a state of each; `clouds`, shape (A, 256, d): some of its states.
    - `periods`, shape (A,): of a map 1 at a fixed point and k on a k-cycle; of a flow 0 at rest and T on a limit cycle;
      NaN where the attractor is neither (or not settled). `kinds` says it in words.
    - `attracting`, shape (A,): whether orbits from beside it come back.
    - `turns`, shape (N,): the spans of time that each start was given. `steady`, shape (N,): which of the escaped are short
      of `escape`, and are told by their growth.
    - `unsearched`: "", or why no more attractors were looked for.
    """

    points: Float[Array, "N p"]
    states: Float[Array, "N d"]
    fates: Int[Array, " N"]
    attractors: Float[Array, "A d"]
    clouds: Float[Array, "A K d"]
    periods: Float[Array, " A"]
    attracting: Array
    turns: Int[Array, " N"]
    steady: Bool[Array, " N"]
    unsearched: str = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    _finder: Finder
    _embed: Callable[[Any], Any] = eqx.field(static=True)

    @property
    def grid(self) -> Int[Array, "..."]:
        """Fates in the shape of the grid of starts; (N,) where they were given one by one."""
        return self.fates.reshape(self.shape)

    @property
    def counts(self) -> np.ndarray:
        """Starts of each attractor, shape (A,)."""
        return np.array([np.sum(np.asarray(self.fates) == i) for i in range(len(self.attractors))], int)

    @property
    def stability(self) -> np.ndarray:
        """Basin stability, the share of starts of each attractor, shape (A,)."""
        return self.counts / len(self.fates)

    @property
    def standard_errors(self) -> np.ndarray:
        """Binomial errors of the shares, sqrt(S (1 - S)/N): those of random starts; a regular grid does better."""
        return np.sqrt(self.stability * (1 - self.stability) / len(self.fates))

    @property
    def intervals(self) -> np.ndarray:
        """Wilson's 95% intervals of the shares, shape (A, 2): right where a share is near 0 or 1 too."""
        return wilson(self.counts, len(self.fates))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return "fixed point", "cycle of period ..." or "other" for each attractor."""
        return tuple(_kind(float(period), self.kind) for period in self.periods)

    def fates_of(self, points: Any) -> Int[np.ndarray, " M"]:
        """Return the fates of other starts (M, p) among the attractors found."""
        points = np.atleast_2d(np.asarray(points, self.points.dtype))
        if points.ndim != 2 or points.shape[1] != self.points.shape[1]:
            expected, do = f"shape (M, {self.points.shape[1]})", "Pass starts as in `points`."
            raise ValueError(explain("fates_of: points", f"shape {points.shape}", expected, do))
        return self._finder.fates(embedded(points, self._embed))

    @property
    def _periodic(self) -> str:
        """What was looked for."""
        return f"periodic within {LONGEST_PERIOD} steps" if self.kind == "map" else "periodic within half of a span"

    def rows(self) -> list[Row]:
        rows = [Row("starts", f"{len(self.fates)} ({self.kind})"), Row("attractors", str(len(self.attractors)))]
        for i, kind in list(enumerate(self.kinds))[:_LISTED]:
            low, high = self.intervals[i]
            share = f"{self.stability[i]:.4g} +- {self.standard_errors[i]:.1g} (95%: {low:.4g} to {high:.4g})"
            rows.append(Row(f"basin {i}: {kind}", share))
        for fate, name in ((ESCAPED, "escaped to infinity"), (UNSETTLED, "still under way")):
            count = int(np.sum(np.asarray(self.fates) == fate))
            rows += [Row(name, f"{count / len(self.fates):.4g}")] if count else []
        return rows

    @property
    def cautions(self) -> tuple[str, ...]:
        found, count = [], len(self.fates)
        moving = int(np.sum(np.asarray(self.fates) == UNSETTLED))
        if moving:
            found.append(
                f"{moving} of {count} starts are near no attractor yet: run longer, loosen closeness, or the system keeps "
                "volume and has no attractors"
            )
        if self.unsearched:
            found.append(
                f"the search ended before all starts were told: {self.unsearched}. There may be more attractors; "
                "ask of a smaller region, or, where the system keeps volume, of none at all"
            )
        steady = int(np.sum(self.steady))
        if steady:
            found.append(
                f"{steady} of {count} starts count as escaped by their growth, short of `escape`: an attractor "
                "farther out would be theirs"
            )
        longer = int(np.sum((np.asarray(self.turns) > 1) & (np.asarray(self.fates) != ESCAPED)))
        if longer > 0.05 * count:
            found.append(f"{longer} of {count} starts had not settled in the span given, and were run on: run longer")
        told = {
            "not attracting: orbits from beside go elsewhere. Their starts lie on a boundary (a saddle hit exactly), are "
            "not settled, or the system keeps volume": ~np.asarray(self.attracting),
            f"held by fewer than {_FEW} starts: the share is a guess, take more starts": self.counts < _FEW,
            f"neither at rest nor {self._periodic}: chaotic, quasiperiodic, or not settled": np.isnan(self.periods),
        }
        for words, which in told.items():
            if np.any(which):
                found.append(f"attractors {_listed(np.flatnonzero(which))} are {words}")
        return tuple(found)


def basins(
    system: Any,
    states: Any = None,
    *,
    region: Any = None,
    resolution: Any = 64,
    embed: Callable[[Any], Any] | None = None,
    steps: int | None = None,
    times: Any = None,
    key: Key | None = None,
    closeness: float = 1e-3,
    escape: float = 1e6,
    rtol: Any = None,
    atol: Any = None,
) -> Basins:
    r"""Return which of many starts ends on which attractor; the attractors are found on the way.

        S(A) = share of starts whose orbits approach A

    **Arguments:**

    - `system`: a `Map` without end, or a `Flow` (ask an SDE's drift, made a flow).
    - `states`: N starts, a leading axis of N in every leaf; or none, and a `region` instead.
    - `region`: `(low, high)`, corners of a box of p dimensions, each of p numbers; starts form a grid of `resolution`
      nodes along each side (one number or p).
    - `embed`: the state at a point (p,) of the region; the point itself by default. So a plane in many dimensions is
      looked at.
    - `steps`: of a map, 1,000 by default. `times`: `(t0, t1)` of a flow, (0, 100) by default. A start that has come near
      no attractor in this span is given three spans more.
    - `key`: randomness of a map: member i draws from `fold_in(key, i)`, step after step through all spans, as `evolve` with
      that key would.
    - `closeness`: how near to an attractor counts as arrived, in units of the largest extent of the starts: attractors
      must be farther apart than that, and smaller structure is not seen.
    - `escape`: a state of larger norm, or one that is not finite, has escaped. So has a start that in each of four spans
      moved farther from all starts, the later ones by no less than the ones before.
    - `rtol`, `atol`: of a flow's adaptive steps.

    **Returns:** a `Basins`; `fates_of` asks it of other starts.

    **Raises:** `TypeError` for an SDE or a map of finite length; `ValueError` for neither or both of states and region.

    **Example:** the double well, damped: by symmetry each well has half of the plane.

    >>> import jax.numpy as jnp, numpy as np, separatrix as sx
    >>> well = sx.as_flow(lambda x: jnp.stack([x[1], x[0] - x[0] ** 3 - 0.5 * x[1]]))
    >>> found = sx.basins(well, region=((-2.0, -2.0), (2.0, 2.0)), resolution=20)
    >>> np.sort(found.attractors[:, 0].round(6)).tolist(), found.stability.tolist()
    ([-1.0, 1.0], [0.5, 0.5])

    **Reference:** Menck, Heitzig, Marwan & Kurths, *How basin stability complements the linear-stability paradigm* (2013);
    Datseris & Wagemakers, *Effortless estimation of basins of attraction* (2022), for attractors found along the way;
    Wilson, *Probable inference, the law of succession, and statistical inference* (1927).
    """
    kind = _check(system, states, region, closeness)
    points, shape, made = starts_of(states, region, resolution, embed)
    form = jax.tree.map(lambda leaf: leaf[0], asarrays(states)) if region is None else asarrays(made(points[0]))
    coordinates = embedded(points, made)
    extent = float(np.max(np.ptp(coordinates, axis=0))) or max(1.0, float(np.max(np.abs(coordinates))))
    run = _runner(system, form, kind, steps, times, key, (rtol, atol), batch_of(*coordinates.shape))
    centre = coordinates.mean(axis=0)
    reach = float(np.max(np.linalg.norm(coordinates - centre, axis=1))) or extent
    empty = Finder(run, (), (), (), jnp.asarray(centre), reach, float(escape), float(closeness) * extent)
    fates, finder, turns, unsearched, steady = search(empty, coordinates)
    clouds = [np.asarray(cloud) for cloud in finder.clouds]
    d, known = coordinates.shape[1], finder.attractors()
    thin = [cloud[:: len(cloud) // _DRAWN][:_DRAWN] for cloud in clouds]
    dtype = coordinates.dtype
    return Basins(
        jnp.asarray(points), jnp.asarray(coordinates), jnp.asarray(fates),
        jnp.asarray(np.array([cloud[-1] for cloud in clouds], dtype).reshape(-1, d)),
        jnp.asarray(np.array(thin, dtype).reshape(-1, _DRAWN, d)),
        jnp.asarray(np.array([one.period for one in known], dtype)),
        jnp.asarray(attracting(finder)), jnp.asarray(turns), jnp.asarray(steady), unsearched, kind, shape, finder, made,
    )  # fmt: skip


def wilson(counts: Any, total: int, z: float = 1.959963984540054) -> np.ndarray:
    """Wilson's interval of shares, shape (A, 2)."""
    share = np.asarray(counts) / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * np.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2) / (1 + z**2 / total)
    return np.stack([middle - half, middle + half], axis=-1)


def _check(system: Any, states: Any, region: Any, closeness: float) -> str:
    kind = kind_of(system)
    if kind == "sde" or isinstance(system, FiniteMap):
        got, do = type(system).__name__, "Noise leaves every basin, layers end: ask sx.as_flow(sde.drift), or iterate."
        raise TypeError(explain("basins: system", got, "a Flow, or a Map without end", do))
    if (states is None) == (region is None):
        got = "neither" if states is None else "both"
        do = "Pass states=, or region=(low, high) with resolution=."
        raise ValueError(explain("basins: states and region", got, "one of them", do))
    if not 0 < closeness < 1:
        do = "Give it in units of the extent of the starts: closeness=1e-3."
        raise ValueError(explain("basins: closeness", closeness, "a number between 0 and 1", do))
    return kind


def _runner(
    system: Any, form: Any, kind: str, steps: Any, times: Any, key: Any, tolerances: tuple[Any, Any], batch: int
) -> Runner:
    """The span of a run, checked."""
    dtype = float_dtype(form)
    steps = 1000 if steps is None else steps
    if kind == "map" and (times is not None or not isinstance(steps, int) or steps < 2 * TAIL):
        got, do = f"steps={steps}, times={times}", "Take steps=1000."
        raise ValueError(explain("basins: length of a run", got, f"at least {2 * TAIL} steps, for a map", do))
    span = jnp.asarray((0.0, 100.0) if times is None else times, dtype)
    if span.ndim != 1 or span.shape[0] < 2 or not bool(span[-1] > span[0]):
        raise ValueError(explain("basins: times", times, "(t0, t1), increasing", "Pass times=(0.0, 100.0)."))
    return Runner(system, form, (span[0], span[-1]), key, tolerances, steps, batch)


def _kind(period: float, kind: str) -> str:
    if np.isnan(period):
        return "other"
    if period == (1.0 if kind == "map" else 0.0):
        return "fixed point"
    return f"cycle of period {period:.6g}"


def _listed(numbers: np.ndarray) -> str:
    text = ", ".join(str(i) for i in numbers[:_LISTED])
    return text + (f", ... ({len(numbers)} in all)" if len(numbers) > _LISTED else "")
