r"""The bifurcation diagram: where a system settles, against a parameter.

    map    points x[n] for n past a transient, at each value of the parameter
    flow   an observable y(x(t)) at its maxima, or where the orbit crosses a section

A point that repeats after k is a k-cycle; a smear is chaos or a torus; where nothing is drawn the orbit went away.
All values of the parameter are evolved in one compiled call.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from separatrix._errors import explain
from separatrix._tree import asarrays
from separatrix._types import Function
from separatrix.calculus.dependence import depends_on
from separatrix.diagnostics.many._parameter_sweep import Crossings, Iterates, follow, repetitions, sweep
from separatrix.diagnostics.parameter import cast, scalar_family
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import as_vector, kind_of, rate


class BifurcationDiagram(Result):
    """Points of the attractor at each of P values of a parameter.

    - `values`, shape (P,). `points`, shape (P, keep): in the order of time, NaN where the orbit diverged or fewer were met.
    - `diverged`, shape (P,).
    - `periods`, shape (P,): the smallest k with |y[n+k] - y[n]| below tolerance throughout; 0 for none up to
      `max_period`, or none yet; -1 diverged, -2 fewer than two points. Looked for when asked.
    - `settling`, shape (P,): whether the orbit still nears a cycle: the transient is not over. Looked for when asked.
    """

    derived = ("periods", "settling")

    values: Float[Array, "*batch P"]
    points: Float[Array, "*batch P keep"]
    diverged: Bool[Array, "*batch P"]
    parameter: str = eqx.field(static=True)
    observed: str = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)
    _marks: Float[Array, "*batch P keep"]
    _closeness: Any
    _longest: int = eqx.field(static=True)

    @property
    def periods(self) -> Int[Array, "*batch P"]:
        """The smallest k after which all points repeat; 0 for none, -1 diverged, -2 fewer than two points."""
        return self._repetitions[0]

    @property
    def settling(self) -> Bool[Array, "*batch P"]:
        """Whether the orbit still nears a cycle."""
        return self._repetitions[1]

    @property
    def _repetitions(self) -> tuple[Array, Array]:
        both = jnp.stack([self.points, self._marks], axis=-1)
        flat = both.reshape(-1, *both.shape[-2:])
        found = repetitions(flat, self.diverged.ravel(), self._longest, jnp.ravel(self._closeness)[0])
        return found[0].reshape(self.diverged.shape), found[1].reshape(self.diverged.shape)

    def changes(self) -> list[tuple[float, float, int, int]]:
        """Return (value, next value, period, next period) wherever the period changes."""
        periods, values = np.asarray(self.periods), np.asarray(self.values)
        places = np.flatnonzero(np.diff(periods))
        return [(float(values[i]), float(values[i + 1]), int(periods[i]), int(periods[i + 1])) for i in places]

    def rows(self) -> list[Row]:
        low, high = float(np.min(self.values)), float(np.max(self.values))
        periods, counts = np.unique(np.asarray(self.periods), return_counts=True)
        names = {0: "no short period", -1: "diverged", -2: "fewer than two points"}
        told = [f"{names.get(int(k), f'period {k}')}: {count}" for k, count in zip(periods, counts, strict=True)]
        return [
            Row(self.parameter, f"{low:.6g} to {high:.6g}, {np.size(self.values)} values"),
            Row("points", f"{self.points.shape[-1]} at each, {self.observed}"),
            *[Row("values with", text) for text in told],
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found, (periods, settling) = [], (np.asarray(part) for part in self._repetitions)
        if settling.any():
            first = ", ".join(f"{value:.6g}" for value in np.asarray(self.values)[settling][:4])
            found.append(
                f"the transient is not over at {int(settling.sum())} values (from {first}): near a bifurcation orbits "
                "settle slowly; raise transient"
            )
        if (periods == -2).any():
            found.append("fewer than two points at some values: the orbit rests there, or raise window")
        if self.single_precision:
            found.append("float32: cycles of chaotic maps are too coarse to tell from long periods")
        return tuple(found)


def bifurcation_diagram(
    system: Any,
    parameter: Any,
    values: Any,
    state: Any,
    *,
    transient: int | None = None,
    keep: int = 128,
    key: Any = None,
    observe: Function | None = None,
    follow_attractor: bool = False,
    max_period: int = 32,
    closeness: float | None = None,
    escape: float = 1e6,
    step_size: Any = 0.01,
    method: Any = None,
    window: int | None = None,
    section: Function | None = None,
) -> BifurcationDiagram:
    r"""Return what a system settles on at each value of a parameter.

    **Arguments:**

    - `system`, `parameter`: as for `at_parameter`; or a function value -> system and a label.
    - `values`: shape (P,). Another P compiles anew, other values do not.
    - `state`: where every orbit starts.
    - `transient`: steps that are dropped: 1,000 of a map, 20,000 of a flow by default.
    - `keep`: points kept, at least twice `max_period` for a period of that length to be told.
    - `key`: for random systems; the same noise at every value, but that a sweep which follows goes on with it.
    - `observe`: a number of the state; by default its first coordinate.
    - `follow_attractor`: start each value where the one before it ended (from `state` again after a divergence), so that
      sweeps up and down show hysteresis. One after the other, still in one call; step numbers and noise go on too.
    - `max_period`, `closeness`: what counts as a period; points y closer than `closeness`, relative to 1 + |y|, are one. By
      default it is eps^0.4 (5e-7 in float64) for a map and ten times that for a flow, whose points are interpolated.
    - `escape`: an orbit whose observed number exceeds it has diverged.
    - `step_size`, `method`: of flows, fixed steps; `RK4()` by default.
    - `window`: steps of a flow in which points are looked for; by default as many as the transient.
    - `section`: of flows, a function of the state: points are where it crosses zero upwards; by default the maxima of
      `observe`. Both are interpolated to fourth order.

    **Returns:** a `BifurcationDiagram`.

    **Raises:** `ValueError` for an unknown parameter, values that are no vector, counts that do not fit, or a flow that
    depends on time; `TypeError` for an SDE.

    **Example:** the logistic map doubles its period at 3 and has a window of period 3 past 1 + sqrt 8.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> from separatrix.catalogue.maps import Logistic
    >>> logistic = sx.as_map(Logistic())
    >>> sx.bifurcation_diagram(logistic, "r", jnp.array([2.9, 3.2, 3.5, 3.7, 3.835]), jnp.array(0.3)).periods.tolist()
    [1, 2, 4, 0, 3]

    **Reference:** Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapter 4; May, *Simple mathematical models
    with very complicated dynamics* (1976).
    """
    made = scalar_family(system, parameter)
    state = asarrays(state)
    dtype = as_vector(state).dtype
    values = jnp.asarray(values)
    if values.ndim != 1 or not values.size:
        do = "Pass for example jnp.linspace(2.5, 4.0, 400)."
        raise ValueError(explain("bifurcation_diagram: values", f"shape {values.shape}", "a vector", do))
    values = cast(values, made.value(), dtype)
    kind = kind_of(made(values[0]))
    if kind == "sde":
        do = "Discretise it, and sweep that map with a key."
        raise TypeError(explain("bifurcation_diagram: system", "an SDE", "a Map or Flow", do))
    if kind == "flow" and depends_on(lambda t: rate(made(values[0]), state, at=t), jnp.zeros((), dtype)):
        do = "Add the phase of what drives it to the state, or discretise it to a map over one period."
        raise ValueError(explain("bifurcation_diagram: system", "a flow that depends on time", "an autonomous one", do))
    transient = transient if transient is not None else (1000 if kind == "map" else 20_000)
    window = transient if window is None else window
    _check(transient, keep, max_period, window, kind, section)
    eps = float(jnp.finfo(dtype).eps)
    closeness = closeness if closeness is not None else eps**0.4 * (1 if kind == "map" else 10)
    if kind == "map":
        record: Any = Iterates(made, state, key, observe, transient, keep, escape)
    else:
        record = Crossings(made, state, observe, section, method, step_size, transient, keep, window, escape)
    run = follow if follow_attractor else sweep
    points, diverged = run(record, values)
    observed = "observed by a function" if observe is not None else "first coordinate"
    told = " at every step" if kind == "map" else " on a section" if section is not None else " at its maxima"
    return BifurcationDiagram(
        values, points[..., 0], diverged, made.name, observed + told, eps > 1e-10, points[..., 1],
        np.asarray(closeness, dtype), max_period,
    )  # fmt: skip


def _check(transient: int, keep: int, max_period: int, window: int, kind: str, section: Any) -> None:
    if min(transient, window) < 1 or max_period < 1 or keep < 2 * max_period:
        got = f"transient={transient}, keep={keep}, max_period={max_period}, window={window}"
        do = "Keep more points, or ask for shorter periods."
        raise ValueError(explain("bifurcation_diagram", got, "counts >= 1, with keep >= 2 max_period", do))
    if kind == "map" and section is not None:
        do = "Leave it out: every step of a map is a point."
        raise ValueError(explain("bifurcation_diagram: section", "a function", "none, for a map", do))
