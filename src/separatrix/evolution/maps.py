r"""The loop over maps: x[n+1] = F(n, x[n]), n = start, ..., start + steps - 1.

One scan advances; a state that stops being finite freezes the orbit at its last good state, so that the outcome can
say when it broke. Called with concrete values, the scan runs in chunks with the host at their borders: progress, an
early stop, and rows leaving the scan, at constant memory however long the orbit. Under `jit`, `grad` or `vmap` the
same scan runs whole.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from separatrix._errors import explain
from separatrix._tree import all_finite, float_dtype, is_inexact, is_traced, poison, where
from separatrix._types import Function, Key, State
from separatrix.evolution.checks import check_step_form
from separatrix.evolution.memory import checkpointed_scan, iterate_reversibly
from separatrix.evolution.save import Save, saved_steps, take_rows
from separatrix.systems.from_optax import finite_part
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.trajectory import Trajectory, finite_until

Progress = Callable[[int, int], None]

# A chunk is long enough that its dispatch (about 0.1 ms) is lost in it, and its rows fit in a cache-friendly 64 MB.
_CHUNK_STEPS = 1 << 16
_CHUNK_BYTES = 1 << 26
_PROGRESS_REPORTS = 100
_FEW = 256


class Orbit(NamedTuple):
    """Where an orbit is: its state, the number of the next step, and whether all so far was finite."""

    state: State
    n: Any
    alive: Any


class Segment(NamedTuple):
    """`rows` rows, `stride` steps apart, not going past step `stop` (None: exactly rows * stride steps).

    `is_whole` says that `stop` cuts nothing off.
    """

    rows: int
    stride: int
    stop: int | None
    keeps: bool
    is_whole: bool = False


def evolve_map(
    map: Map,
    state: State,
    *,
    steps: int,
    key: Key | None,
    save: Save,
    start: int,
    progress: Progress | None,
    memory: str,
) -> Trajectory:
    """Run a map for a number of steps; `evolve` says what the arguments mean."""
    targets = saved_steps(save.at, start, steps)
    if memory == "reversible":
        return _reversible(map, state, steps, key, save, start, targets)
    # Only a traced state may be broken from the start: a known one was looked at.
    whole = all_finite(finite_part(state)) if is_traced(state) else jnp.asarray(True)
    orbit = Orbit(state, jnp.asarray(start), whole)
    stride = _stride(targets - start, steps)
    traced = is_traced(map, state, key, save.fn)
    pieces = [_first_row(save.fn, state)]
    plan = _whole(steps, stride) if traced else _chunks(steps, stride, start, _bytes(pieces[0]), progress)
    for segment in plan:
        orbit, rows = _run_segment(map, orbit, key, save.fn, segment, memory, traced)
        pieces += [rows] if segment.keeps else []
        if progress is not None and segment.stop is not None:
            progress(segment.stop - start, steps)
        if not is_traced(orbit) and not bool(orbit.alive):
            break
    rows = _pad(_concatenate(pieces), int(targets[-1] - start) // stride + 1)
    rows = take_rows(rows, (targets - start) // stride)
    return _trajectory(map, orbit, rows, targets, start, whole)


def _trajectory(map: Map, orbit: Orbit, rows: PyTree, targets: np.ndarray, start: int, whole: Any) -> Trajectory:
    """What an orbit gave; it broke at the first step whose result is not finite, or was never whole."""
    ended = finite_until(orbit.alive, times_of_steps(map, jnp.where(whole, orbit.n + 1, orbit.n), orbit.state))
    stats = {"steps": orbit.n - start, "start": jnp.asarray(start)}
    times, last_time = times_of_steps(map, targets, orbit.state), times_of_steps(map, orbit.n, orbit.state)
    return Trajectory(times, rows, orbit.state, last_time, ended, stats)


def _run_segment(
    map: Map, orbit: Orbit, key: Key | None, fn: Function, segment: Segment, memory: str, traced: bool
) -> tuple[Orbit, PyTree]:
    """One segment. A whole one first runs unguarded, and is run again step by step if anything in it was not finite."""
    stop = None if segment.stop is None else jnp.asarray(segment.stop)
    if not traced and segment.stop is not None and segment.is_whole:
        after, rows, fine = _run_unguarded(map, orbit, key, fn, segment.rows, segment.stride)
        if not is_traced(fine) and bool(fine):
            return after, rows
    return _run(map, orbit, stop, key, fn, segment.rows, segment.stride, memory)


@eqx.filter_jit
def _run_unguarded(
    map: Map, orbit: Orbit, key: Key | None, fn: Function, rows: int, stride: int
) -> tuple[Orbit, PyTree, Any]:
    """(the orbit after rows * stride steps, a row after each stride, whether all states on the way were finite).

    A sum of 0 x[n] stays zero as long as all x[n] are finite, and is NaN from then on.
    """
    check_step_form(map, orbit.state, key)

    def zeros_of(leaf: Any) -> Any:
        # A few numbers are cheaper to add up than to reduce.
        return 0 * leaf if leaf.size <= _FEW else jnp.sum(0 * leaf)

    def step(carry: Any, _: Any) -> tuple[Any, None]:
        n, state, seen = carry
        state = map.step(n, state, key=None if key is None else jax.random.fold_in(key, n))
        watched = eqx.filter(finite_part(state), is_inexact)
        return (n + 1, state, jax.tree.map(lambda sum, leaf: sum + zeros_of(leaf), seen, watched)), None

    def row(carry: Any, _: Any) -> tuple[Any, PyTree]:
        carry = step(carry, None)[0] if stride == 1 else jax.lax.scan(step, carry, length=stride)[0]
        return carry, jax.tree.map(jnp.asarray, fn(carry[1]))

    seen = jax.tree.map(lambda leaf: 0 * zeros_of(leaf), eqx.filter(finite_part(orbit.state), is_inexact))
    (n, state, seen), kept = jax.lax.scan(row, (orbit.n, orbit.state, seen), length=rows)
    return Orbit(state, n, orbit.alive), kept, all_finite(seen) & orbit.alive


@eqx.filter_jit
def _run(
    map: Map, orbit: Orbit, stop: Any, key: Key | None, fn: Function, rows: int, stride: int, memory: str
) -> tuple[Orbit, PyTree]:
    """Advance by rows * stride steps, or to `stop` where that is nearer; return a row after each stride."""
    check_step_form(map, orbit.state, key)

    def step(orbit: Orbit, _: Any) -> tuple[Orbit, None]:
        here = None if key is None else jax.random.fold_in(key, orbit.n)
        following = map.step(orbit.n, orbit.state, key=here)
        active = orbit.alive if stop is None else orbit.alive & (orbit.n < stop)
        finite = all_finite(finite_part(following))
        good = active & finite
        state = where(good, following, orbit.state)
        return Orbit(state, orbit.n + good.astype(orbit.n.dtype), orbit.alive & (finite | ~active)), None

    def row(orbit: Orbit, _: Any) -> tuple[Orbit, PyTree]:
        inner = memory if rows == 1 else "linear"
        orbit, _ = step(orbit, None) if stride == 1 else checkpointed_scan(step, orbit, length=stride, memory=inner)
        return orbit, (orbit.alive, jax.tree.map(jnp.asarray, fn(orbit.state)))

    if rows == 1:
        orbit, (alive, only) = row(orbit, None)
        return orbit, jax.tree.map(lambda leaf: leaf[None], poison(alive, only))
    orbit, (alive, kept) = checkpointed_scan(row, orbit, length=rows, memory=memory)
    # Rows of a frozen orbit are blanked all at once, and only if there are any.
    return orbit, jax.lax.cond(orbit.alive, lambda alive, kept: kept, jax.vmap(poison), alive, kept)


def _stride(offsets: np.ndarray, steps: int) -> int:
    """Largest stride on whose multiples all rows lie."""
    return int(np.gcd.reduce(offsets)) or max(steps, 1)


def _whole(steps: int, stride: int) -> Iterator[Segment]:
    """All steps at once, for a scan that is being traced."""
    rows, tail = divmod(steps, stride)
    if rows:
        yield Segment(rows, stride, None, True)
    if tail:
        yield Segment(1, tail, None, False)


def _chunks(steps: int, stride: int, start: int, row_bytes: int, progress: Progress | None) -> Iterator[Segment]:
    """All steps in chunks of one shape, so that one compiled scan serves them all."""
    longest = min(_CHUNK_STEPS, max(1, math.ceil(steps / _PROGRESS_REPORTS))) if progress else _CHUNK_STEPS
    if steps and stride > longest:
        yield from _parts_of_strides(steps, stride, start, longest)
        return
    rows = math.ceil(steps / stride)
    most = max(1, min(longest // stride, _CHUNK_BYTES // max(row_bytes, 1)))
    count = math.ceil(rows / max(1, math.ceil(rows / most)))
    for first in range(0, rows, max(count, 1)):
        whole = (first + count) * stride <= steps
        yield Segment(count, stride, start + min(steps, (first + count) * stride), True, whole)


def _parts_of_strides(steps: int, stride: int, start: int, longest: int) -> Iterator[Segment]:
    """Chunks shorter than a stride; the one that ends a stride keeps its row."""
    length = math.ceil(stride / math.ceil(stride / longest))
    done = 0
    while done < steps:
        border = min(steps, (done // stride + 1) * stride)
        before, done = done, min(done + length, border)
        yield Segment(1, length, start + done, done == border and done % stride == 0, done - before == length)


@eqx.filter_jit
def _first_row(fn: Function, state: State) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], fn(state))


def _bytes(rows: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(rows))


def _concatenate(pieces: list[PyTree]) -> PyTree:
    return pieces[0] if len(pieces) == 1 else jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *pieces)


def _pad(rows: PyTree, count: int) -> PyTree:
    """Rows past an early stop: NaN, or the last value of an integer leaf."""

    def pad(leaf: Any) -> Any:
        missing = count - leaf.shape[0]
        if missing <= 0:
            return leaf
        fill = jnp.full_like(leaf[-1:], jnp.nan) if is_inexact(leaf) else leaf[-1:]
        return jnp.concatenate([leaf, jnp.broadcast_to(fill, (missing, *leaf.shape[1:]))])

    return jax.tree.map(pad, rows)


def times_of_steps(map: Map, numbers: Any, state: State) -> Any:
    """Step numbers of a map; n h of a near-identity map."""
    if not isinstance(map, NearIdentityMap):
        return jnp.asarray(numbers)
    dtype = float_dtype(state)
    return jnp.asarray(numbers).astype(dtype) * jnp.asarray(map.step_size, dtype)


def _reversible(
    map: Map, state: State, steps: int, key: Key | None, save: Save, start: int, targets: np.ndarray
) -> Trajectory:
    """The end of an orbit whose gradient walks it backwards by the inverse, at constant memory."""
    if save.at != "last":
        raise ValueError(
            explain(
                "evolve: memory",
                'memory="reversible" with rows to keep',
                'save="last"',
                'Keep the end only, or take memory="sqrt".',
            )
        )
    state, n = iterate_reversibly(map, state, steps, key=key, start=start)
    whole = all_finite(finite_part(state))
    orbit = Orbit(state, n, (n == start + steps) & whole)
    rows = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], poison(orbit.alive, save.fn(state)))
    return _trajectory(map, orbit, rows, targets, start, whole)
