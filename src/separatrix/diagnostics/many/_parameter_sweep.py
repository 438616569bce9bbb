r"""Points of an attractor, past a transient, and whether they repeat.

A flow's points are where e(x(t)) crosses zero upwards (e = -dy/dt at maxima of y). With e and y and their derivatives
along the flow at both ends of a step, cubic Hermite interpolation finds the crossing and y there to fourth order.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from separatrix._types import Function, Key, State
from separatrix.calculus.discretization import discretize
from separatrix.calculus.methods import RK4
from separatrix.diagnostics.parameter import Family
from separatrix.evolution.any_system import evolve
from separatrix.evolution.save import Save
from separatrix.linear.coordinates import as_vector, rate
from separatrix.systems.clock import MapFrom
from separatrix.systems.map import Map

_ROOT_STEPS = 4


class Recorded(NamedTuple):
    """Points (keep, 2): what is observed, and a number that tells states apart; the last state; whether it diverged."""

    points: Any
    final: Any
    diverged: Any


class Iterates(eqx.Module):
    """The points x[n], n past the transient, of a map."""

    family: Family
    state: State
    key: Key | None
    observe: Function | None
    transient: int = eqx.field(static=True)
    keep: int = eqx.field(static=True)
    escape: Any

    @property
    def length(self) -> int:
        """Steps of one value."""
        return self.transient + self.keep - 1

    def __call__(self, value: Any, state: State, begin: Any = 0) -> Recorded:
        """Record at one value of the parameter, from a state at step `begin`."""
        map = MapFrom(self.family(value), begin, self.key)
        settled = evolve(map, state, steps=self.transient, save="last")
        kept = Save("all", lambda x: jnp.stack([observed(self.observe, x), mark(x)]))
        path = evolve(map, settled.final, steps=self.keep - 1, start=self.transient, save=kept)
        lost = ~(settled.outcome.completed & path.outcome.completed) | _escaped(path.states, self.escape)
        return Recorded(path.states, path.final, lost)


class Crossings(eqx.Module):
    """What is observed of a flow where it crosses a section, or at its maxima."""

    family: Family
    state: State
    observe: Function | None
    section: Function | None
    method: Any
    step_size: Any
    transient: int = eqx.field(static=True)
    keep: int = eqx.field(static=True)
    window: int = eqx.field(static=True)
    escape: Any

    @property
    def length(self) -> int:
        """Steps of one value."""
        return self.transient + self.window

    def __call__(self, value: Any, state: State, begin: Any = 0) -> Recorded:
        """Record at one value of the parameter, from a state at step `begin`."""
        system = self.family(value)
        dtype = as_vector(state).dtype
        step_size = jnp.asarray(self.step_size, dtype)
        map = MapFrom(discretize(system, self.method or RK4(), step_size), begin, None)
        settled = evolve(map, state, steps=self.transient, save="last")
        kept = Save("all", lambda x: self._rates(system, x))
        path = evolve(map, settled.final, steps=self.window, start=self.transient, save=kept)
        lost = ~(settled.outcome.completed & path.outcome.completed) | _escaped(path.states, self.escape)
        found = crossings(path.states, step_size, self.keep)
        return Recorded(jnp.stack([found, jnp.zeros_like(found)], axis=1), path.final, lost)

    def _rates(self, system: Any, x: State) -> Float[Array, "4"]:
        """(y, dy/dt, e, de/dt) along the flow."""
        flow = lambda x: rate(system, x)  # noqa: E731
        y = lambda x: observed(self.observe, x)  # noqa: E731
        slope = lambda x: jax.jvp(y, (x,), (flow(x),))[1]  # noqa: E731
        e = (lambda x: -slope(x)) if self.section is None else self.section
        return jnp.stack([y(x), slope(x), *jax.jvp(e, (x,), (flow(x),))])


class ParameterSweep(Map):
    """(x, points) -> (where it ends at the next value, its points): each value from where and when the one before ended."""

    record: Any
    values: Float[Array, " P"]

    def step(self, n: Any, state: State, *, key: Key | None = None) -> State:
        found = self.record(self.values[n], state[0], n * self.record.length)
        restart = jax.tree.map(lambda new, old: jnp.where(found.diverged, old, new), found.final, self.record.state)
        # A loop over maps ends where a state is not finite: what diverged, or was not met, is told beside the points.
        missing = ~jnp.isfinite(found.points)
        return restart, jnp.where(missing, 0, found.points), missing, found.diverged


@eqx.filter_jit
def sweep(record: Any, values: Float[Array, " P"]) -> tuple[Array, Array]:
    """Points (P, keep, 2), NaN where fewer were met or the orbit diverged, and whether it did (P,); all from one state."""
    found = jax.vmap(lambda value: record(value, record.state))(values)
    return jnp.where(found.diverged[:, None, None], jnp.nan, found.points), found.diverged


@eqx.filter_jit
def follow(record: Any, values: Float[Array, " P"]) -> tuple[Array, Array]:
    """The same, each value from the end of the one before."""
    empty = jnp.zeros((record.keep, 2), as_vector(record.state).dtype)
    start = (record.state, empty, jnp.zeros((record.keep, 2), bool), jnp.asarray(False))
    path = evolve(ParameterSweep(record, values), start, steps=len(values), save=lambda state: state[1:])
    points, missing, diverged = jax.tree.map(lambda leaf: leaf[1:], path.states)
    return jnp.where(missing | diverged[:, None, None], jnp.nan, points), diverged


def observed(observe: Function | None, state: State) -> Float[Array, ""]:
    """The observed number of a state; its first coordinate by default."""
    return as_vector(state)[0] if observe is None else jnp.asarray(observe(state)).reshape(())


def mark(state: State) -> Float[Array, ""]:
    """A fixed projection that tells apart states which look alike to an observer."""
    x = as_vector(state)
    return jnp.mean(x * jnp.cos(jnp.arange(len(x), dtype=x.dtype)))


def crossings(rows: Float[Array, "T 4"], step_size: Any, keep: int) -> Float[Array, " keep"]:
    """The last `keep` values of y where e crosses zero upwards, in order; NaN before the first."""
    e = rows[:, 2]
    crosses = (e[:-1] < 0) & (e[1:] >= 0)
    (places,) = jnp.nonzero(crosses, size=len(e) - 1, fill_value=-1)
    count = jnp.sum(crosses)
    last = count - keep + jnp.arange(keep)
    index = places[jnp.clip(last, 0, len(places) - 1)]
    here, there = rows[index], rows[index + 1]
    part = _hermite_root(here[:, 2], there[:, 2], here[:, 3] * step_size, there[:, 3] * step_size)
    value = _hermite(part, here[:, 0], there[:, 0], here[:, 1] * step_size, there[:, 1] * step_size)
    return jnp.where(last >= 0, value, jnp.nan)


def _hermite(s: Array, a: Array, b: Array, da: Array, db: Array) -> Array:
    """The cubic with values a, b and slopes da, db at s = 0 and 1."""
    return a + s * (da + s * (3 * (b - a) - 2 * da - db + s * (2 * (a - b) + da + db)))


def _hermite_root(a: Array, b: Array, da: Array, db: Array) -> Array:
    """Its zero in (0, 1), from that of the chord by Newton's method."""
    s = a / (a - b)
    for _ in range(_ROOT_STEPS):
        value, slope = jax.jvp(lambda s: _hermite(s, a, b, da, db), (s,), (jnp.ones_like(s),))
        s = jnp.clip(s - value / jnp.where(slope > 0, slope, jnp.inf), 0, 1)
    return s


def _escaped(rows: Array, escape: Any) -> Bool[Array, ""]:
    return jnp.any(~(jnp.abs(rows[:, 0]) <= jnp.asarray(escape, rows.dtype)))


@functools.partial(jax.jit, static_argnums=2)
def repetitions(
    points: Float[Array, "P keep 2"], diverged: Any, max_period: int, closeness: Any
) -> tuple[Array, Array]:
    """The smallest k with |y[n+k] - y[n]| below tolerance throughout, and whether the orbit still settles; each shape (P,).

    It does where it repeats after no k, but its nearest repetition is worse by 3 % or more in the first half of the rows
    than in the second, as even at a bifurcation, where the distance falls as a power of n; a torus or chaos repeats no
    better later. And where it repeats after k, but its distances over fewer steps shrink: below a period doubling an orbit
    that alternates around a fixed point nearly repeats after two steps.
    """
    # Time first, so that a shift moves whole rows; the two columns apart, so that nothing is reduced over a pair.
    y, other = jnp.moveaxis(points, (2, 1), (0, 1))
    known = jnp.isfinite(y) & jnp.isfinite(other)  # (keep, P)
    size = 1 + jnp.max(jnp.where(known, jnp.abs(y), 0), axis=0)
    columns = [jnp.where(known, column / size[None], jnp.nan) for column in (y, other)]
    length, half = len(y), len(y) // 2
    ahead = [jnp.pad(column, ((0, max_period), (0, 0)), constant_values=jnp.nan) for column in columns]

    def distances(k: Array) -> Array:
        later = [jax.lax.dynamic_slice_in_dim(column, k, length) for column in ahead]
        gap = jnp.maximum(*[jnp.abs(there - here) for there, here in zip(later, columns, strict=True)])
        both = gap == gap
        gap = jnp.where(both, gap, 0)
        worst = jnp.stack([jnp.max(gap[:half], axis=0), jnp.max(gap[half:], axis=0)])
        return jnp.where((jnp.sum(both, axis=0) >= k)[None], worst, jnp.inf)

    counts = jnp.arange(1, max_period + 1)
    table = jax.lax.map(distances, counts)  # (k, 2, P)
    bound = jnp.asarray(closeness, table.dtype)
    repeats = jnp.all(table < bound, axis=1)
    period = jnp.where(jnp.any(repeats, axis=0), 1 + jnp.argmax(repeats, axis=0), 0)
    best = jnp.argmin(jnp.max(table, axis=1), axis=0)
    first, second = jnp.take_along_axis(table, best[None, None], axis=0)[0]
    nearing = (first < 0.1) & (second < 0.97 * first)
    shrinking = jnp.any((counts[:, None] < period[None]) & (table[:, 0] - table[:, 1] > bound), axis=0)
    settling = jnp.where(period == 0, nearing, shrinking)
    period = jnp.where(jnp.sum(known, axis=0) < 2, -2, jnp.where(settling, 0, period))
    return jnp.where(diverged, -1, period), settling & ~diverged
