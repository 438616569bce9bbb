r"""What a trajectory keeps: the drift of a function I(x) along it, and how sure the drift is.

    I(x(t)) = a + b t + oscillation,        ln |I(x(t))| = a' + b' t + oscillation

An oscillation that ends within a period tilts a least-squares line: its slope is wrong by about amplitude/(frequency T^2),
whatever the number of rows. So the line is fitted with weights

    w(s) = exp(-1/(s (1 - s))),   s = (t - t0)/T,

which vanish with all derivatives at both ends: what oscillates then drops out faster than any power of 1/T, and what is
left for the standard error is noise. That error is Newey and West's, which lets neighbouring rows depend on each other.
"""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import is_inexact
from separatrix.diagnostics.result import Result, Row
from separatrix.systems.signature import positional_count
from separatrix.systems.trajectory import OutcomeKind, Trajectory

# With fewer rows the weights leave too few to tell an oscillation from a slope.
_FEW = 32


class Invariants(Result):
    r"""Functions of the state along a trajectory of T rows, m of them, and how they drift.

    - `times`, shape (T,), and `values`, shape (T, m): each function at each row.
    - `drift`, shape (m,): the largest |I(t) - I(t0)|.
    - `rates`, `rate_errors`, shape (m,): slope b of the weighted line and its standard error, per unit of `times`.
    - `growth_rates`, `growth_errors`, shape (m,): the same of ln |I|; NaN where I changes sign.
    - `oscillations`, shape (m,): half the range of what the line leaves.
    - `bends`, shape (m,): slope of the second half less that of the first, in its standard errors: not much above 3
      where the line is the right form.
    - `kept`: the number of rows that are finite.

    All but `times`, `values` and `kept` are NaN along a trajectory that broke before its end, and where a function is not
    finite: a drift of the part before would say nothing of the whole. An event is an end; rows past it do not count.
    """

    times: Float[Array, " T"]
    values: Float[Array, "T m"]
    drift: Float[Array, " m"]
    rates: Float[Array, " m"]
    rate_errors: Float[Array, " m"]
    growth_rates: Float[Array, " m"]
    growth_errors: Float[Array, " m"]
    oscillations: Float[Array, " m"]
    bends: Float[Array, " m"]
    kept: Array
    names: tuple[str, ...] = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    def rows(self) -> list[Row]:
        found = []
        for i, name in enumerate(self.names):
            found += [
                Row(f"{name}: at the start", self.values[0, i]),
                Row(f"{name}: largest drift", self.drift[i]),
                Row(f"{name}: drift rate", self.rates[i], self.rate_errors[i]),
                Row(f"{name}: oscillation", self.oscillations[i]),
            ]
            if np.isfinite(self.growth_rates[i]):
                found.insert(-1, Row(f"{name}: rate of its logarithm", self.growth_rates[i], self.growth_errors[i]))
        return found

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        count, kept = len(self.times), int(self.kept)
        if np.isnan(self.drift).any():
            return (f"not known: only the first {kept} of {count} rows are finite; ask of a run that ends before",)
        if kept < count:
            found.append(f"the event came after {kept} of {count} rows: the fits are of those")
        if kept < _FEW:
            found.append(f"{kept} rows are few: below {_FEW} an oscillation and a slope look alike")
        for i, name in enumerate(self.names):
            if abs(self.bends[i]) > 4 and self.drift[i] > 0:
                found.append(
                    f"{name} does not drift along a line: its two halves differ by {abs(float(self.bends[i])):.2g} "
                    "standard errors; it bends, wanders, or grows exponentially"
                )
        if self.single_precision:
            found.append("float32: a drift below 1e-6 of the value in all is rounding")
        return tuple(found)


def invariants(trajectory: Any, fn: Any) -> Invariants:
    r"""Return how functions of the state drift along a trajectory.

        I(x(t)) = a + b t + oscillation

    **Arguments:**

    - `trajectory`: a `Trajectory` of T rows, at least 4; of a batch, one at a time under `jax.vmap`.
    - `fn`: I(x) or I(t, x), real, of any shape; or a dictionary of such functions.

    **Returns:** an `Invariants`. Rates are per unit of `trajectory.times`: a step of a map, time n h of a near-identity
    map.

    **Raises:** `TypeError` for anything but a trajectory and functions; `ValueError` for a batch or for too few rows.

    **Example:** explicit Euler multiplies the energy of the oscillator by 1 + h^2 a step.

    >>> import jax.numpy as jnp, numpy as np, separatrix as sx
    >>> flow = sx.as_flow(lambda x: jnp.stack([x[1], -x[0]]))
    >>> path = sx.evolve(flow, jnp.array([1.0, 0.0]), method=sx.Euler(), step_size=0.1, steps=200)
    >>> found = sx.invariants(path, {"energy": lambda x: jnp.sum(x**2) / 2})
    >>> round(float(found.growth_rates[0]), 6), round(float(np.log(1.01) / 0.1), 6)
    (0.099503, 0.099503)

    **Reference:** Das, Saiki, Sander & Yorke, *Quantitative quasiperiodicity* (2017), for the weights; Newey & West, *A
    simple, positive semi-definite, heteroskedasticity and autocorrelation consistent covariance matrix* (1987).
    """
    _check(trajectory)
    times = trajectory.times
    names, values = _evaluate(_named(fn), times, trajectory.states)
    if values.dtype == jnp.float32:
        warnings.warn("invariants: float32 values drift by rounding alone.", RuntimeWarning, stacklevel=2)
    times = times.astype(values.dtype)
    good = jnp.cumprod(jnp.isfinite(values).all(axis=1).astype(jnp.int32)).astype(bool)
    ended = trajectory.outcome
    # Rows past an event are NaN and none of those that are asked about.
    asked = jnp.where(ended == OutcomeKind.EVENT, times <= ended.at.astype(times.dtype), True)
    whole = ended.reached & jnp.all(good | ~asked)
    summary = jax.tree.map(lambda part: jnp.where(whole, part, jnp.nan), _summaries(times, values, good))
    return Invariants(
        times, values, *summary, kept=good.sum(), names=names, single_precision=values.dtype == jnp.float32
    )


def _check(trajectory: Any) -> None:
    if not isinstance(trajectory, Trajectory):
        do = "Pass what evolve returned."
        raise TypeError(explain("invariants: trajectory", type(trajectory).__name__, "a Trajectory", do))
    if trajectory.times.ndim != 1:
        shape, do = f"times of shape {trajectory.times.shape}", "Ask for each: jax.vmap(lambda path: ...)(paths)."
        raise ValueError(explain("invariants: trajectory", shape, "one trajectory", do))
    if len(trajectory) < 4:
        do = 'Keep more: evolve(..., save="all").'
        raise ValueError(explain("invariants: trajectory", f"{len(trajectory)} rows", "at least 4", do))


def _named(fn: Any) -> dict[str, Callable[..., Any]]:
    functions = fn if isinstance(fn, dict) else {getattr(fn, "__name__", "value").strip("<>"): fn}
    if not functions or not all(callable(one) for one in functions.values()):
        do = "Pass I(x), or a dictionary of such functions."
        raise TypeError(explain("invariants: fn", repr(fn), "a function of the state", do))
    return {str(name): one for name, one in functions.items()}


def _evaluate(functions: dict[str, Callable[..., Any]], times: Any, states: Any) -> tuple[tuple[str, ...], Any]:
    """Names and values (T, m), a component a column."""
    names, columns = [], []
    for name, function in functions.items():
        timed = positional_count(function, (1, 2), "I(x) or I(t, x)") == 2
        found = jax.vmap(function)(times, states) if timed else jax.vmap(function)(states)
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(found)]
        if not leaves or not all(is_inexact(leaf) and not jnp.iscomplexobj(leaf) for leaf in leaves):
            do = "Return a real floating-point number, or an array of them."
            raise TypeError(explain(f"invariants: {name}", [str(leaf.dtype) for leaf in leaves], "real values", do))
        flat = jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)
        names += [name] if flat.shape[1] == 1 else [f"{name}[{i}]" for i in range(flat.shape[1])]
        columns.append(flat)
    return tuple(names), jnp.concatenate(columns, axis=1)


@eqx.filter_jit
def _summaries(times: Any, values: Any, good: Any) -> tuple[Any, ...]:
    return jax.vmap(_summary, in_axes=(None, 1, None))(times, values, good)


def _summary(times: Any, values: Any, good: Any) -> tuple[Any, ...]:
    """(drift, b, its error, b', its error, oscillation, bend) of one function."""
    values = jnp.where(good, values, values[0])
    rate, error, rest = line(times, values, good)
    one_sign = jnp.all((values > 0) | ~good) | jnp.all((values < 0) | ~good)
    growth, growth_error, _ = line(times, jnp.log(jnp.where(one_sign, jnp.abs(values), 1.0)), good)
    nan = jnp.full_like(rate, jnp.nan)
    rest = jnp.where(good, rest, rest[0])
    return (
        jnp.max(jnp.abs(values - values[0])), rate, error, jnp.where(one_sign, growth, nan),
        jnp.where(one_sign, growth_error, nan), (jnp.max(rest) - jnp.min(rest)) / 2, _bend(times, values, good),
    )  # fmt: skip


def _bend(times: Any, values: Any, good: Any) -> Any:
    """(slope of the second half - slope of the first)/its standard error, no smaller than rounding."""
    place = jnp.cumsum(good)
    first = good & (place <= place[-1] // 2)
    early, late = line(times, values, first), line(times, values, good & ~first)
    span = jnp.max(jnp.where(good, times, times[0])) - times[0]
    rounding = 8 * float(jnp.finfo(values.dtype).eps) * jnp.max(jnp.abs(values)) / span
    return (late[0] - early[0]) / (jnp.sqrt(early[1] ** 2 + late[1] ** 2) + rounding)


def line(times: Any, values: Any, good: Any) -> tuple[Any, Any, Any]:
    """Slope of the weighted line through the good rows, its standard error, and what the line leaves."""
    first = jnp.min(jnp.where(good, times, jnp.inf))
    span = jnp.max(jnp.where(good, times, -jnp.inf)) - first
    place = jnp.clip((times - first) / span, 0.0, 1.0) * good.astype(times.dtype)
    inside = (place > 0) & (place < 1)
    weights = jnp.where(inside, jnp.exp(-1 / jnp.where(inside, place * (1 - place), 1.0)), 0.0)
    weights = weights / jnp.sum(weights)
    centred = times - jnp.sum(weights * times)
    spread = jnp.sum(weights * centred**2)
    mean = jnp.sum(weights * values)
    slope = jnp.sum(weights * centred * (values - mean)) / spread
    rest = values - mean - slope * centred
    # Rounding makes a random walk of its own, which no residual shows.
    walk = float(jnp.finfo(values.dtype).eps) * len(times) ** 0.5 * jnp.max(jnp.abs(values)) / span
    return slope, jnp.sqrt(_long_run(weights * centred * rest, weights) / spread**2 + walk**2), rest


def _long_run(scores: Any, weights: Any) -> Any:
    """Newey-West variance of a sum: sum_k (1 - |k|/L) sum_i g_i g_{i+k}, with L the square root of the number of rows."""
    reach = int(np.ceil(np.sqrt(scores.shape[0])))
    # The Bartlett sum is the mean square of sums over a moving window of L rows, hence never negative.
    padded = jnp.concatenate([jnp.zeros(1, scores.dtype), jnp.cumsum(jnp.pad(scores, (reach - 1, reach - 1)))])
    windows = padded[reach:] - padded[:-reach]
    # So many windows side by side have weight; the line took two of their degrees of freedom.
    effective = 1 / (jnp.sum(weights**2) * reach)
    return jnp.sum(windows**2) / reach * effective / jnp.maximum(effective - 2, 1.0)
