r"""The loop over maps: x[n+1] = F(n, x[n]), n = start, ..., start + steps - 1.

A state that stops being finite freezes the orbit at its last good state, so that the outcome can say when it broke. Called
with concrete values, a loop of traced length runs in chunks with the host at their borders: progress, an early stop, and
rows that leave it, at constant memory however long the orbit. Under `jit`, `grad` or `vmap` one scan runs whole.
"""

import functools
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
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.optax_maps import finite_part
from separatrix.systems.trajectory import Outcome, OutcomeKind, Trajectory, finite_until, outcome_parts

Progress = Callable[[int, int], None]

# A chunk is long enough that its dispatch (about 0.1 ms) is lost in it, and its rows fit in a cache-friendly 64 MB.
_CHUNK_STEPS = 1 << 18
_CHUNK_BYTES = 1 << 26
_PROGRESS_REPORTS = 100
_FEW = 256
_HOST = (np.ndarray, np.generic)
# Short runs all have room for so many rows, if these are small.
_ROOM, _ROOM_BYTES = 128, 1 << 20


class Orbit(NamedTuple):
    """Where an orbit is: its state, the number of the next step, and whether all so far was finite."""

    state: State
    n: Any
    alive: Any


class Segment(NamedTuple):
    """Rows of one chunk: the steps to each from the one before, and whether they are kept."""

    strides: np.ndarray
    keeps: bool


def evolve_map(
    map: Map,
    state: State,
    *,
    steps: int,
    save: Save,
    key: Key | None = None,
    start: int = 0,
    progress: Progress | None = None,
    memory: str = "linear",
) -> Trajectory:
    """Run a map for a number of steps; `evolve` says what the arguments mean."""
    targets = saved_steps(save.at, start, steps)
    if memory == "reversible":
        return _reversible(map, state, steps, key, save, start, targets)
    if is_traced(map, state, key, save.fn):
        return _evolve_traced(map, state, steps, key, save.fn, start, targets, memory)
    orbit = Orbit(state, jnp.asarray(start), np.asarray(True))
    row_bytes = _row_bytes(save.fn, state)
    segments = list(_chunks(targets, start, steps, row_bytes, progress))
    room = _room(max((len(segment.strides) for segment in segments), default=1), row_bytes)
    first, pieces, done, led = None, [], 0, False
    for segment in segments:
        leading = first is None and segment.keeps and bool(targets[0] == start)
        orbit, before, rows = _run_chunk(map, orbit, key, save.fn, segment, room, leading)
        if is_traced(orbit):
            # A function that closes over a traced value does not show it: only what comes out of it is traced.
            return _evolve_traced(map, state, steps, key, save.fn, start, targets, memory)
        first, led = before if first is None else first, led or leading
        done += int(segment.strides.sum())
        pieces += [rows] if segment.keeps else []
        if progress is not None:
            progress(done, steps)
        if not bool(orbit.alive):
            break
    first = _first_row(save.fn, state) if first is None else jax.tree.map(lambda leaf: _on_host(leaf)[None], first)
    pieces = [first, *pieces] if targets[0] == start and not led else pieces
    rows = _pad(_concatenate(pieces), len(targets)) if pieces else _blank(first, len(targets))
    return _trajectory(map, orbit, rows, targets, start, np.asarray(True))


def _evolve_traced(
    map: Map,
    state: State,
    steps: int,
    key: Any,
    fn: Function,
    start: int,
    targets: np.ndarray,
    memory: str,
) -> Trajectory:
    """The same as one scan, of a static length, which can be differentiated."""
    # A traced state may be broken from the start: a known one was looked at.
    whole = all_finite(finite_part(state)) if is_traced(state) else np.asarray(True)
    orbit = Orbit(state, jnp.asarray(start), jnp.asarray(whole))
    stride = int(np.gcd.reduce(targets - start)) or max(steps, 1)
    rows, tail = divmod(steps, stride)
    pieces = [_first_row(fn, state)]
    if rows:
        orbit, kept = _run(map, orbit, key, fn, rows, stride, memory)
        pieces.append(kept)
    if tail:
        orbit, _ = _run(map, orbit, key, fn, 1, tail, memory)
    rows = take_rows(_concatenate(pieces), (targets - start) // stride)
    return _trajectory(map, orbit, rows, targets, start, whole)


def _trajectory(map: Map, orbit: Orbit, rows: PyTree, targets: np.ndarray, start: int, whole: Any) -> Trajectory:
    """What an orbit gave; it broke at the first step whose result is not finite, or was never whole."""
    n, alive, known = orbit.n, orbit.alive, not is_traced(map, orbit, whole)
    if known:
        # On the host: there each of these small things would be a program of its own.
        n, alive, whole = np.asarray(n), np.asarray(alive), np.asarray(whole)
    broken = times_of_steps(map, n + whole.astype(n.dtype), orbit.state)
    counts = {"steps": n - start, "start": np.asarray(start, n.dtype)}
    numbers = (times_of_steps(map, targets, orbit.state), times_of_steps(map, n, orbit.state), counts)
    if known:
        # All at once: what is handed over costs as much for one number as for ten.
        kind = OutcomeKind.COMPLETED if alive else OutcomeKind.NON_FINITE
        ended = outcome_parts(kind, np.nan if alive else broken)
        (times, last_time, stats), ended = _as_jax((numbers, ended))
        return Trajectory(times, rows, orbit.state, last_time, Outcome(*ended), stats)
    times, last_time, stats = _as_jax(numbers)
    return Trajectory(times, rows, orbit.state, last_time, finite_until(alive, broken), stats)


def _run_chunk(
    map: Map, orbit: Orbit, key: Key | None, fn: Function, segment: Segment, room: int, leading: bool
) -> tuple[Orbit, PyTree, PyTree]:
    """One chunk, with the row before it where it is `leading`.

    It first runs unguarded, and again step by step if anything in it was not finite.
    """
    count = len(segment.strides)
    every = bool(segment.strides.sum() == count)
    strides = np.zeros(1 if every else room, np.int32)
    strides[: 1 if every else count] = 1 if every else segment.strides
    given = (map, orbit, key, fn, room, every, np.asarray(count, np.int32), strides)
    after, first, rows, fine = _advance(*given, guarded=False)
    if not is_traced(fine) and not bool(fine):
        after, first, rows, _ = _advance(*given, guarded=True)
    return after, first, _rows_between(rows, 0 if leading else 1, count + 1)


def _room(rows: int, row_bytes: int) -> int:
    """Rows rounded up to three binary digits: runs of nearly the same length share a program, and all that are short."""
    least = min(_ROOM, _ROOM_BYTES // max(row_bytes, 1)) if rows > 1 else 1
    unit = 1 << max(rows.bit_length() - 3, 0)
    return max(-(-rows // unit) * unit, least)


def _rows_between(rows: PyTree, begin: int, end: int) -> PyTree:
    """Some of the rows, cut out on the host."""
    whole = lambda leaf: begin == 0 and leaf.shape[0] == end  # noqa: E731
    return jax.tree.map(lambda leaf: leaf if whole(leaf) else _on_host(leaf)[begin:end], rows)


def _on_host(leaf: Any) -> Any:
    """An array as one of NumPy's, whose slices and joins are not compiled for each length; traced ones and keys stay."""
    stays = is_traced(leaf) or jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return leaf if stays else np.asarray(leaf)


@eqx.filter_jit
def _advance(
    map: Map,
    orbit: Orbit,
    key: Key | None,
    fn: Function,
    room: int,
    every: bool,
    rows: Any,
    strides: Any,
    *,
    guarded: bool,
) -> tuple[Orbit, PyTree, PyTree, Any]:
    """(the orbit after some rows, the row before them, that and a row after each stride, whether all states were finite).

    All counts are traced, so that one program serves runs of any length; `room` rows are there to be written. Guarded, the
    orbit stops at its last good state. Unguarded, a sum of 0 x[n] stays zero as long as all x[n] are finite, and is NaN
    from then on.
    """
    check_step_form(map, orbit.state, key)

    def following(n: Any, state: State) -> State:
        return map.step(n, state, key=None if key is None else jax.random.fold_in(key, n))

    def free(_: Any, carry: Any) -> Any:
        n, state, seen = carry
        state = following(n, state)
        watched = eqx.filter(finite_part(state), is_inexact)
        return n + 1, state, jax.tree.map(lambda sum, leaf: sum + _zeros_of(leaf), seen, watched)

    def careful(_: Any, carry: Any) -> Any:
        n, state, alive = carry
        new = following(n, state)
        good = alive & all_finite(finite_part(new))
        return n + good.astype(n.dtype), where(good, new, state), good

    step = careful if guarded else free

    def row(i: Any, carry: Any) -> Any:
        inner, kept = carry
        inner = step(i, inner) if every else jax.lax.fori_loop(0, strides[i], step, inner)
        new = jax.tree.map(jnp.asarray, fn(inner[1]))
        new = poison(inner[2], new) if guarded else new
        return inner, jax.tree.map(lambda all, one: jax.lax.dynamic_update_index_in_dim(all, one, i + 1, 0), kept, new)

    def seen() -> Any:
        watched = eqx.filter(finite_part(orbit.state), is_inexact)
        return jax.tree.map(lambda leaf: 0 * _zeros_of(leaf), watched)

    before = jax.tree.map(jnp.asarray, fn(orbit.state))
    kept = jax.tree.map(lambda one: jnp.broadcast_to(one, (room + 1, *one.shape)), before)
    first = (orbit.n, orbit.state, orbit.alive if guarded else seen())
    (n, state, mark), kept = jax.lax.fori_loop(0, rows, row, (first, kept))
    fine = mark if guarded else all_finite(mark) & orbit.alive
    return Orbit(state, n, fine if guarded else orbit.alive), before, kept, fine


def _zeros_of(leaf: Any) -> Any:
    # A few numbers are cheaper to add up than to reduce.
    return 0 * leaf if leaf.size <= _FEW else jnp.sum(0 * leaf)


@eqx.filter_jit
def _run(
    map: Map, orbit: Orbit, key: Key | None, fn: Function, rows: int, stride: int, memory: str
) -> tuple[Orbit, PyTree]:
    """Advance by rows * stride steps in a scan that can be differentiated; return a row after each stride."""
    check_step_form(map, orbit.state, key)

    def step(orbit: Orbit, _: Any) -> tuple[Orbit, None]:
        here = None if key is None else jax.random.fold_in(key, orbit.n)
        following = map.step(orbit.n, orbit.state, key=here)
        good = orbit.alive & all_finite(finite_part(following))
        return Orbit(where(good, following, orbit.state), orbit.n + good.astype(orbit.n.dtype), good), None

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


def _chunks(
    targets: np.ndarray, start: int, steps: int, row_bytes: int, progress: Progress | None
) -> Iterator[Segment]:
    """All steps in chunks that the host waits for; what comes after the last row is one more."""
    longest = min(_CHUNK_STEPS, max(1, math.ceil(steps / _PROGRESS_REPORTS))) if progress else _CHUNK_STEPS
    strides = np.diff(targets, prepend=start)
    strides = strides[1:] if strides[0] == 0 else strides
    most = max(1, _CHUNK_BYTES // max(row_bytes, 1))
    at, even = 0, len(strides) == int(targets[-1]) - start
    while at < len(strides):
        if strides[at] > longest:
            yield from _parts(int(strides[at]), longest, True)
            at += 1
            continue
        fit = longest if even else int(np.searchsorted(np.cumsum(strides[at : at + longest]), longest, "right"))
        end = at + min(max(fit, 1), most)
        yield Segment(strides[at:end], True)
        at = end
    tail = start + steps - int(targets[-1])
    if tail:
        yield from _parts(tail, longest, False)


def _parts(steps: int, longest: int, keeps: bool) -> Iterator[Segment]:
    """A stride in equal parts; its row comes with the last."""
    count = math.ceil(steps / longest)
    length = math.ceil(steps / count)
    for part in range(count):
        last = part == count - 1
        yield Segment(np.array([steps - part * length if last else length]), keeps and last)


@eqx.filter_jit
def _first_row(fn: Function, state: State) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], fn(state))


def _row_bytes(fn: Function, state: State) -> int:
    arrays, rest = eqx.partition((fn, state), eqx.is_array)
    others, structure = jax.tree.flatten(rest)
    row = _row_of.eval_shape(tuple(others), structure, arrays)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(row))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _row_of(others: tuple[Any, ...], structure: Any, arrays: Any) -> PyTree:
    """fn(state); its shapes are traced once for each form."""
    fn, state = eqx.combine(arrays, jax.tree.unflatten(structure, others))
    return jax.tree.map(jnp.asarray, fn(state))


def _as_jax(numbers: Any) -> Any:
    """Arrays of JAX; those of NumPy are handed over as they are, all at once, and nothing is compiled."""

    def cast(leaf: Any) -> Any:
        return np.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype)) if isinstance(leaf, _HOST) else leaf

    cast_all = jax.tree.map(cast, numbers)
    return cast_all if is_traced(cast_all) else jax.device_put(cast_all)


def _concatenate(pieces: list[PyTree]) -> PyTree:
    def join(*leaves: Any) -> Any:
        if len(leaves) == 1:
            return _as_jax(leaves[0])
        parts = [_on_host(leaf) for leaf in leaves]
        host = all(isinstance(part, np.ndarray) for part in parts)
        return jax.device_put(np.concatenate(parts)) if host else jnp.concatenate(leaves)

    return jax.tree.map(join, *pieces)


def _pad(rows: PyTree, count: int) -> PyTree:
    """Rows past an early stop: NaN, or the last value of an integer leaf."""

    def pad(leaf: Any) -> Any:
        missing = count - leaf.shape[0]
        if missing <= 0:
            return leaf
        fill = jnp.full_like(leaf[-1:], jnp.nan) if is_inexact(leaf) else leaf[-1:]
        return jnp.concatenate([leaf, jnp.broadcast_to(fill, (missing, *leaf.shape[1:]))])

    return jax.tree.map(pad, rows)


def _blank(like: PyTree, count: int) -> PyTree:
    """Rows of an orbit that broke before the first of them."""
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(
            jnp.full_like(leaf, jnp.nan) if is_inexact(leaf) else leaf, (count, *leaf.shape[1:])
        ),
        like,
    )


def times_of_steps(map: Map, numbers: Any, state: State) -> Any:
    """Step numbers of a map; n h of a near-identity map. Of numbers that the host knows, on the host."""
    if not isinstance(map, NearIdentityMap):
        return numbers
    dtype = float_dtype(state)
    if isinstance(numbers, _HOST) and not is_traced(map.step_size):
        return np.asarray(numbers, dtype) * np.asarray(map.step_size, dtype)
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
