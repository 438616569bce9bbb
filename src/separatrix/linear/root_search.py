r"""Roots from many starts at once, and minima of the speed where there is no root.

    q(z) = |r(z)|^2 / 2 falls by damped steps (Levenberg and Marquardt) until they are short;
    r(z) = 0        then by Newton's method,       or, where that does not lower |r|,
    grad q(z) = 0   by Newton's method

`newton` has the steps. Above 256 unknowns a damped step is found by conjugate gradients, cut off early, and only what has
come near a root is polished: a matrix for each step of each start would be nearly all of the work. Problems whose small
singular values are noise go by Newton's method with backtracking from the start.

A descent ends where it has come to nothing: at a minimum of q that is no root, where |r + J d| is not much less than |r|,
and where q has not fallen to a quarter within 16 steps, as on the way to infinity.

All starts are one array program with a few slots. A start that has ended leaves its slot to the next one, so that none
waits for the slowest, and any number of starts is the same program up to the next power of two. A value counts as a root
if |r| is small and the next Newton step is too: where r fades away at infinity the step stays large.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix.linear.newton import (
    FORMED,
    backtracked,
    damped_by_products,
    damped_steps,
    matrices_of,
    newton_steps,
    shortest_steps,
    steps_by_products,
)

# As in `linear_stability`: beyond this no matrix is given.
DENSE = 512
# Numbers that the Jacobians of all slots may hold, and how many slots there are.
_NUMBERS, _FEWEST, _MOST = 1 << 17, 8, 256
# Above this damped steps go by products, and so many starts at once.
_BY_PRODUCTS, _ROWS = 256, 256
# A descent goes on while q falls to this part within so many steps, and is hopeless where a step promises less than this.
_FALLEN, _WITHIN, _HOPELESS = 0.25, 16, 0.1
# A Newton step at a double root is half its error, which is the root of the residual.
_STEP_POWER = 0.25
# After a step this short (a power of rounding) the error of a simple root is below rounding.
_LAST_POWER = 0.6
# Damped steps stop at steps of this size, where Newton's method goes on (those by products are of few digits); and how far
# from there a minimum may be.
_HANDED_ON, _HANDED_ON_EARLY, _POLISHED = 1e-5, 1e-3, 1e-2
# Steps of Newton's method after damped ones, at most.
_POLISHING = 48
# Near a singular Jacobian Newton's steps are long and little of them is of use: so many parts so small in a row end it. And
# so many whole steps each of which is hardly shorter than the one before: at a root of multiplicity m it is by 1/m.
_SHORT, _SHORTER, _PATIENCE = 0.1, 0.95, 3
# mu at first, in units of the mean square of J's columns, and what ends it.
_DAMPING, _STIFF = 1e-3, 1e12


class Endings(NamedTuple):
    """Where each start ended: z, |r| and the size of the next Newton step, both relative to max(1, |z|)."""

    values: Any  # (S, n)
    residuals: Any  # (S,)
    steps: Any  # (S,)


class Slots(NamedTuple):
    """The starts under way: their numbers (that of nobody is past the last), z, what a method remembers, work done."""

    numbers: Any  # (B,)
    values: Any  # (B, n)
    memory: Any
    spent: Any  # (B,)


class Advanced(NamedTuple):
    """What one step made of the slots: z, |r| and |d| relative to max(1, |z|), the memory, its cost, and who has ended."""

    values: Any
    residuals: Any
    steps: Any
    memory: Any
    cost: Any
    ended: Any


# (z, extra, memory, which slots are taken) -> what one step makes of them.
Method = Callable[..., Advanced]


def find_roots(equations: Any, starts: Any, extra: Any, max_steps: int, cutoff: float | None = None) -> Endings:
    """Roots of equations(z, extra) from each start, else minima of |r|^2; `extra` has the same leading axis.

    Every evaluation of the equations that is not for a derivative counts as a step. Singular values of the Jacobian below
    `cutoff` times the largest are noise: nothing moves along them.
    """
    if np.shape(starts)[1] <= _BY_PRODUCTS or cutoff is not None:
        return _padded(_roots, equations, starts, extra, jnp.asarray(max_steps), cutoff)
    low = _padded(_lowered, equations, starts, extra, jnp.asarray(max_steps))
    near = np.flatnonzero(np.isfinite(low.steps))
    own = jax.tree.map(lambda leaf: jnp.asarray(leaf)[near], extra)
    ended = _padded(_polished_at_last, equations, low.values[near], own, jnp.asarray(max_steps))
    for whole, part in zip(low, ended, strict=True):
        whole[near] = part
    return low


def newton_from(equations: Any, starts: Any, extra: Any) -> Endings:
    """Whole steps of Newton's method from starts that are near a root, while |r| falls."""
    return _padded(_near_by, equations, starts, extra)


def find_minima(equations: Any, starts: Any, extra: Any, max_steps: int) -> Endings:
    """Local minima of |r|^2/2 near where `find_roots` ended; `steps` holds the size of a Newton step on the gradient."""
    return _padded(_minima, equations, starts, extra, jnp.asarray(max_steps))


def jacobians(equations: Any, values: Any, extra: Any) -> np.ndarray:
    """J at each row, shape (S, n, n), of at most 512 unknowns."""
    return _padded(_jacobians, equations, values, extra)


def converged(found: Endings, tol: float) -> np.ndarray:
    """Which starts ended at a root."""
    eps = float(jnp.finfo(found.values.dtype).eps)
    with np.errstate(invalid="ignore"):
        good = (np.asarray(found.residuals) <= tol) & (np.asarray(found.steps) <= eps**_STEP_POWER)
    return good & np.isfinite(np.asarray(found.values)).all(axis=1)


def default_tolerance(dtype: Any) -> float:
    """Residual below which a point is a root: 4e-10 in float64, 7e-5 in float32."""
    return float(jnp.finfo(dtype).eps) ** 0.6


def merged(
    vectors: np.ndarray, residuals: np.ndarray, radii: np.ndarray, orbits: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that stand for all others, the smallest residual first, and for each row which one it is.

    Rows are one where their distance is at most the radius times max(1, |x|); with the `orbits` of all rows, shape
    (S, k, d), where a row is that near to any point of the other's orbit.
    """
    orbits = vectors[:, None] if orbits is None else orbits
    owner, chosen = np.full(len(vectors), -1), []
    for row in np.argsort(residuals, kind="stable"):
        if owner[row] >= 0:
            continue
        reach = radii[row] * max(1.0, float(np.linalg.norm(vectors[row])))
        open_rows = np.flatnonzero(owner < 0)
        apart = [np.linalg.norm(vectors[open_rows] - point, axis=1) for point in orbits[row]]
        owner[open_rows[np.min(apart, axis=0) <= reach]] = len(chosen)
        owner[row] = len(chosen)
        chosen.append(row)
    return np.asarray(chosen, int), owner


def _padded(program: Any, equations: Any, rows: Any, extra: Any, *options: Any) -> Any:
    """The program on a power of two of rows, so that it is compiled for few numbers of them; the answers of those given."""
    count = len(rows)
    if not count:
        size = np.shape(rows)[1]
        dtype = np.result_type(rows)
        none = np.zeros(0, dtype)
        return np.zeros((0, size, size), dtype) if program is _jacobians else Endings(np.asarray(rows), none, none)
    room = 1 << (count - 1).bit_length()
    if room > count:
        places = np.minimum(np.arange(room), count - 1)
        rows, extra = jax.tree.map(lambda leaf: jnp.asarray(leaf)[places], (rows, extra))
    found = program(equations, jnp.asarray(rows), extra, jnp.asarray(count), *options)
    return jax.tree.map(lambda leaf: np.array(leaf)[:count], found)


@eqx.filter_jit
def _roots(equations: Any, starts: Array, extra: Any, count: Any, max_steps: Any, cutoff: float | None) -> Endings:
    if cutoff is not None:
        return _backtracking(equations, starts, extra, count, max_steps, cutoff)
    low = _descended(equations, starts, extra, count, max_steps).values
    return _polished(equations, low, extra, count, jnp.minimum(max_steps, _POLISHING))


@eqx.filter_jit
def _lowered(equations: Any, starts: Array, extra: Any, count: Any, max_steps: Any) -> Endings:
    return _descended(equations, starts, extra, count, max_steps)


@eqx.filter_jit
def _polished_at_last(equations: Any, starts: Array, extra: Any, count: Any, max_steps: Any) -> Endings:
    most = jnp.minimum(max_steps, _POLISHING)
    if starts.shape[1] <= FORMED:
        return _polished(equations, starts, extra, count, most)
    return _backtracking(equations, starts, extra, count, most, None)


@eqx.filter_jit
def _near_by(equations: Any, starts: Array, extra: Any, count: Any) -> Endings:
    return _polished(equations, starts, extra, count, _POLISHING)


@eqx.filter_jit
def _minima(equations: Any, starts: Array, extra: Any, count: Any, max_steps: Any) -> Endings:
    slope, size = SpeedGradient(equations), starts.shape[1]
    if size > FORMED:
        starts = _descended(equations, starts, extra, count, max_steps).values
        ended = _backtracking(slope, starts, extra, count, _POLISHING, None)
    else:
        ended = _polished(slope, starts, extra, count, _POLISHING)
    near = jnp.linalg.norm(ended.values - starts, axis=1) <= _POLISHED * _size(starts)
    values = jnp.where(near[:, None], ended.values, starts)
    each = lambda row: jnp.linalg.norm(equations(*row))  # noqa: E731
    residuals = jax.lax.map(each, (values, extra), batch_size=_slots_of(starts))
    return Endings(values, residuals / _size(values), jnp.where(near, ended.steps, jnp.inf))


@eqx.filter_jit
def _jacobians(equations: Any, values: Array, extra: Any, count: Any) -> Array:
    one = lambda row: jax.jacfwd(equations)(row[0], row[1])  # noqa: E731
    return jax.lax.map(one, (values, extra), batch_size=_slots_of(values))


class SpeedGradient(eqx.Module):
    """J^T r, the gradient of |r|^2/2."""

    equations: Any

    def __call__(self, z: Array, extra: Any) -> Array:
        value, pull = jax.vjp(lambda z: self.equations(z, extra), z)
        return pull(value)[0]


def _backtracking(equations: Any, starts: Array, extra: Any, count: Any, max_steps: Any, cutoff: Any) -> Endings:
    """Newton's method, as much of each step as lowers |r|."""
    last = float(jnp.finfo(starts.dtype).eps) ** _LAST_POWER

    def advance(values: Array, extra: Any, short: Array, taken: Array) -> Advanced:
        if cutoff is None:
            found = steps_by_products(equations, values, extra, taken)
        else:
            found = shortest_steps(equations, values, extra, cutoff)
        moved = backtracked(equations, values, extra, found, taken)
        steps = jnp.linalg.norm(found.steps, axis=1) / _size(values)
        residuals = jnp.linalg.norm(moved.residuals, axis=1) / _size(moved.values)
        short = jnp.where(moved.parts < _SHORT, short + 1, 0)
        # A step that is not finite, or along which nothing falls, leads nowhere: at a root it is rounding.
        ended = (moved.parts == 0) | (steps <= last) | (short >= _PATIENCE)
        return Advanced(moved.values, residuals, steps, short, moved.trials, ended)

    return _in_slots(advance, starts, extra, jnp.zeros(len(starts), int), count, max_steps)


def _polished(equations: Any, starts: Array, extra: Any, count: Any, max_steps: Any) -> Endings:
    """Whole steps of Newton's method while |r| falls."""
    last = float(jnp.finfo(starts.dtype).eps) ** _LAST_POWER

    def advance(values: Array, extra: Any, memory: Any, taken: Array) -> Advanced:
        previous, idle = memory
        found = newton_steps(equations, values, extra, taken)
        there = values + found.steps
        residuals = jax.vmap(equations)(there, extra)
        before, after = (jnp.linalg.norm(part, axis=1) for part in (found.residuals, residuals))
        fell = after < before
        steps = jnp.linalg.norm(found.steps, axis=1) / _size(values)
        values = jnp.where(fell[:, None], there, values)
        residuals = jnp.where(fell, after, before) / _size(values)
        idle = jnp.where(steps > _SHORTER * previous, idle + 1, 0)
        ended = ~fell | (steps <= last) | (idle >= _PATIENCE)
        return Advanced(values, residuals, steps, (steps, idle), jnp.ones(len(values), int), ended)

    memory = jnp.full(len(starts), jnp.inf, starts.dtype), jnp.zeros(len(starts), int)
    return _in_slots(advance, starts, extra, memory, count, max_steps)


class _Damping(NamedTuple):
    """mu, by what it grows where |r|^2 does not fall, |r|^2 some steps ago, and how many steps."""

    mu: Any
    growth: Any
    reference: Any
    age: Any


def _descended(equations: Any, starts: Array, extra: Any, count: Any, max_steps: Any) -> Endings:
    """Damped steps: mu falls where |r|^2 does as the linearisation says, and grows by 2, 4, 8, ... where not (Nielsen).

    The step of a start that came to nothing is infinite.
    """
    eps, by_products = float(jnp.finfo(starts.dtype).eps), starts.shape[1] > _BY_PRODUCTS
    handed_on = _HANDED_ON_EARLY if by_products else _HANDED_ON

    def advance(values: Array, extra: Any, memory: _Damping, taken: Array) -> Advanced:
        mu, growth, reference, age = memory
        if by_products:
            residuals, damped = jax.vmap(lambda *row: damped_by_products(equations, *row))(values, extra, mu)
        else:
            residuals, matrices = matrices_of(equations, values, extra)
            damped = damped_steps(matrices, residuals, mu)
        there = values + damped.steps
        before, after = (jnp.sum(part**2, axis=1) for part in (residuals, jax.vmap(equations)(there, extra)))
        fell = (after < before) & (damped.expected > 0)
        gain = (before - after) / jnp.where(damped.expected > 0, damped.expected, 1)
        new = mu * jnp.where(fell, jnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3), growth)
        values, now = jnp.where(fell[:, None], there, values), jnp.where(fell, after, before)
        size = _size(values)
        steps = jnp.linalg.norm(damped.steps, axis=1) / size
        residuals = jnp.sqrt(now) / size
        flat = jnp.linalg.norm(damped.slopes, axis=1) <= eps**_LAST_POWER * damped.sizes * jnp.sqrt(before)
        reference, looked = jnp.where(age == 0, before, reference), age + 1 == _WITHIN
        idle = looked & (now > _FALLEN * reference)
        # A step that is short because mu is large says nothing.
        arrived = (fell & (steps <= handed_on) & (mu <= 1e-2)) | flat | (residuals <= 10 * eps)
        ended = arrived | idle | ~(new < _STIFF) | ~jnp.isfinite(before)
        hopeless = idle | (damped.expected <= _HOPELESS * before) if by_products else idle
        steps = jnp.where(hopeless & (residuals > 10 * eps), jnp.inf, steps)
        memory = _Damping(new, jnp.where(fell, 2.0, 2 * growth), reference, jnp.where(looked, 0, age + 1))
        return Advanced(values, residuals, steps, memory, jnp.ones(len(values), int), ended)

    one = jnp.ones(len(starts), starts.dtype)
    memory = _Damping(_DAMPING * one, 2.0 * one, one, jnp.zeros(len(starts), int))
    return _in_slots(advance, starts, extra, memory, count, max_steps, _ROWS if by_products else None)


def _in_slots(
    advance: Method, starts: Array, extra: Any, memory: Any, count: Any, max_steps: Any, most: int | None = None
) -> Endings:
    """Run a method from every start in a few slots, each refilled as soon as what it held has ended."""
    total = len(starts)
    slots = _slots_of(starts) if most is None else min(total, most)
    loads = lambda numbers: jax.tree.map(  # noqa: E731
        lambda leaf: leaf[jnp.minimum(numbers, total - 1)], (starts, memory)
    )

    def step(state: Any) -> Any:
        here, following, answers = state
        own = jax.tree.map(lambda leaf: leaf[jnp.minimum(here.numbers, total - 1)], extra)
        made = advance(here.values, own, here.memory, here.numbers < total)
        spent = here.spent + made.cost
        new = Endings(made.values, made.residuals, made.steps)
        answers = jax.tree.map(lambda row, value: row.at[here.numbers].set(value, mode="drop"), answers, new)
        free = made.ended | (spent >= max_steps) | (here.numbers >= total)
        numbers = following + jnp.cumsum(free) - 1
        numbers = jnp.where(free, jnp.where(numbers < count, numbers, total), here.numbers)
        values, memory = jax.tree.map(
            lambda old, new: jnp.where(free.reshape(-1, *[1] * (old.ndim - 1)), new, old),
            (made.values, made.memory),
            loads(numbers),
        )
        slots = Slots(numbers, values, memory, jnp.where(free, 0, spent))
        return slots, following + jnp.sum(free), answers

    first = jnp.where(jnp.arange(slots) < count, jnp.arange(slots), total)
    begun = Slots(first, loads(first)[0], loads(first)[1], jnp.zeros(slots, int))
    unknown = jnp.full(total, jnp.inf, starts.dtype)
    state = (begun, jnp.asarray(slots), Endings(starts, unknown, unknown))
    return jax.lax.while_loop(lambda state: jnp.any(state[0].numbers < total), step, state)[2]


def _slots_of(starts: Array) -> int:
    """How many rows are worked on at once."""
    total, size = starts.shape
    return min(total, max(_FEWEST, min(_MOST, _NUMBERS // size**2)))


def _size(values: Array) -> Array:
    return jnp.maximum(jnp.linalg.norm(values, axis=1), 1)
