r"""Shooting: a flow fitted to orbits as they come, with uneven times, gaps, several experiments, and states half seen.

An orbit is cut into segments s = 1, ..., S. From a start a_s the flow is evolved over the instants of its segment, and
what is observed of it, y = g(x), is compared with what was seen, where it was seen (m = 1, else 0):

    L = sum_sjk m_sjk (g(x(t_sj; a_s))_k - y_sjk)^2 / sum_sjk m_sjk

Where each segment starts from its own observation, the a_s are data (`trajectory_loss`). Where states are missing, noisy
or only partly seen, the a_s are unknowns beside the model, held together by matching conditions (`shooting_loss`):

    L + w mean_s |x(t_s+1; a_s) - a_s+1|^2

One segment an experiment is single shooting: no matching, and as many local minima as the orbit has turns. Short segments
keep the loss close to convex; w -> infinity leads from many to one.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked, Function
from separatrix.calculus import on_grid
from separatrix.calculus.methods import RK4
from separatrix.data import Series
from separatrix.evolution import evolve
from separatrix.evolution.memory import by_batches
from separatrix.systems import ranges


class Segments(NamedTuple):
    """Pieces of orbits, the segment first.

    - `times`: (S, n + 1). A piece that is shorter than others repeats its last instant.
    - `states`: (S, n + 1, d). `present`: the same shape, false where nothing was seen (the state is 0 there); None where
      all was. `follows`: (S,), whether the next segment starts where this one ends.
    """

    times: Any
    states: Any
    present: Any = None
    follows: Any = None


class ShootingModel(eqx.Module):
    """A model, and the states that its segments start from, shape (S, d): what `shooting_loss` trains."""

    model: Any
    starts: Any


def segments(
    times: Any, states: Any = None, length: Checked[int | None] = None, *, stride: Checked[int] = 1
) -> Segments:
    """Cut orbits into segments.

    **Arguments:**

    - `times`: shape (T,), increasing, evenly spaced or not; or a `Series` of `sx.data.series`, whose experiments may differ
      in length and times, and `states` is then left out.
    - `states`: shape (T, d), or (orbits, T, d) for several at the same instants. NaN stands for what was not seen.
    - `length`: how many intervals a segment has, 1 to T - 1; all of an orbit by default.
    - `stride`: from the start of a segment to that of the next, in instants; 1 makes all of them, `length` lets each
      begin where the last one ends, as `shooting_loss` wants it.

    **Returns:** `Segments`, data for `fit`. With a stride of 1 there are T - length of them for each orbit; with a longer
    one the last segment of an orbit may be shorter, and is filled up.

    **Raises:** `ValueError` for shapes that do not fit, infinite values, instants that do not increase (the row is named),
    a column in which nothing was seen, or another length or stride.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.residual.segments(jnp.arange(5.0), jnp.zeros((5, 2)), 2).states.shape
    (3, 3, 2)
    >>> sx.residual.segments(jnp.array([0.0, 0.5, 2.0, 2.1, 3.0]), jnp.zeros((5, 2)), 2, stride=2).times.tolist()
    [[0.0, 0.5, 2.0], [2.0, 2.1, 3.0]]
    """
    orbits = _orbits_of(times, states)
    longest = max(len(instants) for instants, _ in orbits) - 1
    if length is None:
        length = stride = longest
    length = ranges.whole("segments: length", length, "Count intervals, not instants.", most=longest)
    stride = ranges.whole("segments: stride", stride, "Take 1 for all segments.", most=length)
    if is_traced(orbits):
        return _cut_traced(orbits, length, stride)
    _require_seen(orbits)
    parts = [_cut(np.asarray(t), np.asarray(x), length, stride) for t, x in orbits]
    joined = Segments(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    whole = bool(joined.present.all())
    return Segments(
        jnp.asarray(joined.times), jnp.asarray(joined.states), None if whole else jnp.asarray(joined.present),
        jnp.asarray(joined.follows) if stride == length else None,
    )  # fmt: skip


def trajectory_loss(
    flow_of: Function,
    *,
    substeps: Checked[int] = 1,
    method: Any = None,
    observe: Function | None = None,
    memory: Any = None,
    at_once: Checked[int | None] = None,
) -> Function:
    """Return the multiple-shooting loss l(model, segments): the mean squared distance of evolved and observed states.

    **Arguments:**

    - `flow_of`: model -> `Flow`.
    - `substeps`: steps of the method between two instants, >= 1. `method`: fixed-step; `RK4()` by default.
    - `observe`: g(x), what is seen of a state; all of it by default. Where it is less than the state, the start is not
      known and belongs to the unknowns: see `shooting_loss`.
    - `memory`: of the gradient, as in `evolve`. `at_once`: how many segments are evolved side by side, all by default;
      fewer need less memory, in the gradient too, and more time.

    **Returns:** l(model, batch) for `fit`, with a batch of `Segments`. It is NaN if a segment does not get to its end. A
    segment whose first state was not seen whole counts for nothing, since it has no start.

    **Raises:** `ValueError` for substeps that are not a whole number of at least 1.

    **Example:** the rate of an exponential decay.

    >>> import jax.numpy as jnp, optax, separatrix as sx
    >>> times = jnp.linspace(0.0, 1.0, 11)
    >>> data = sx.residual.segments(times, jnp.exp(-2.0 * times)[:, None], length=3)
    >>> loss = sx.residual.trajectory_loss(lambda rate: sx.as_flow(lambda x: -rate * x))
    >>> found = sx.fit(loss, optax.adam(0.1), data, initial=jnp.array(1.0), steps=200)
    >>> round(float(found.model), 3)
    2.0

    **Reference:** Bock, *Recent advances in parameter identification techniques for O.D.E.* (1983), without
    its matching conditions: each segment starts where it was observed.
    """
    follow = _follower("trajectory_loss", flow_of, substeps, method, observe, memory, at_once)

    def loss(model: Any, batch: Segments) -> Any:
        present, starts = batch.present, batch.states[:, 0]
        if present is not None:
            known = present[:, 0].all(axis=1)
            present = present & known[:, None, None]
            # A segment without a start follows another's: where it goes does not count, but it must not break there.
            starts = jnp.where(known[:, None], starts, starts[jnp.argmax(known)][None])
        squares, _ = follow(model, batch.times, starts, batch.states, present)
        return squares

    return loss


def shooting_loss(
    flow_of: Function,
    *,
    matching: float = 1.0,
    substeps: Checked[int] = 1,
    method: Any = None,
    observe: Function | None = None,
    memory: Any = None,
    at_once: Checked[int | None] = None,
) -> Function:
    r"""Return the loss l(shooting, segments) of a model and of the starts of all its segments.

        l = mean of (g(x(t_j; a_s)) - y_sj)^2 over what was seen  +  w mean_s |x(t_s+1; a_s) - a_s+1|^2

    **Arguments:**

    - `flow_of`: model -> `Flow`. `matching`: w >= 0, in the square of a state's unit; 0 leaves the segments apart.
    - `substeps`, `method`, `observe`, `memory`, `at_once`: as in `trajectory_loss`.

    **Returns:** l(shooting, batch) for `fit`, with `initial=start_shooting(model, data)` and `data` from `segments` with a
    stride of its length, whole (no `batch_size`: the starts belong to all segments). It is NaN if a segment does not get to
    its end.

    **Raises:** `ValueError` for a matching below 0 or substeps below 1; when it is called, for segments that overlap or
    starts of another number.

    **Example:** an oscillator of which the place alone is seen, and not at every instant.

    >>> import jax.numpy as jnp, numpy as np, optax, separatrix as sx
    >>> times = np.array([0.0, 0.3, 0.9, 1.4, 1.5, 2.2, 2.8, 3.0])
    >>> seen = np.cos(2.0 * times)[:, None]
    >>> seen[3] = np.nan
    >>> data = sx.residual.segments(times, seen, length=3, stride=3)
    >>> flow_of = lambda w: sx.as_flow(lambda x: jnp.stack([x[1], -(w**2) * x[0]]))
    >>> loss = sx.residual.shooting_loss(flow_of, matching=10.0, observe=lambda x: x[:1], substeps=8)
    >>> first = sx.residual.start_shooting(jnp.array(1.5), data, width=2)
    >>> found = sx.fit(loss, optax.lbfgs(1.0, memory_size=20, linesearch=None), data, initial=first, steps=100)
    >>> round(float(found.model.model), 2)
    2.0

    **Reference:** Bock, *Recent advances in parameter identification techniques for O.D.E.* (1983), section 3; Voss,
    Timmer & Kurths, *Nonlinear dynamical system identification from uncertain and indirect measurements* (2004), section 4.
    """
    ranges.nonnegative("shooting_loss: matching", matching, "Take 0 to leave the segments apart.")
    follow = _follower("shooting_loss", flow_of, substeps, method, observe, memory, at_once)

    def loss(shooting: ShootingModel, batch: Segments) -> Any:
        starts = shooting.starts
        if batch.follows is None:
            got, do = "segments that overlap", "Cut them by segments(..., length=n, stride=n)."
            raise ValueError(explain("shooting_loss", got, "segments that begin where the last one ends", do))
        if starts.shape[0] != batch.times.shape[0]:
            got = f"{starts.shape[0]} starts for {batch.times.shape[0]} segments"
            raise ValueError(explain("shooting_loss", got, "one start for each", "Pass all data, without batch_size."))
        squares, ends = follow(shooting.model, batch.times, starts, batch.states, batch.present)
        gaps = jnp.where(batch.follows[:-1, None], ends[:-1] - starts[1:], 0)
        count = jnp.maximum(jnp.sum(batch.follows), 1).astype(gaps.dtype)
        return squares + jnp.asarray(matching, gaps.dtype) * jnp.sum(gaps**2) / count

    return loss


def start_shooting(model: Any, data: Segments, *, width: Checked[int | None] = None) -> ShootingModel:
    """Return a model with a start for each segment: what was seen there, by straight lines where nothing was.

    **Arguments:**

    - `model`: the first guess. `data`: of `segments` with a stride of its length.
    - `width`: the dimension d of a state, if more than what is seen: the others start at 0.

    **Returns:** a `ShootingModel`: `initial` of `fit` with `shooting_loss`; `.model` of the result is the trained model.

    **Raises:** `ValueError` for a width below what is seen.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> data = sx.residual.segments(jnp.array([0.0, 1.0, 4.0]), jnp.array([[0.0], [1.0], [4.0]]), 1, stride=1)
    >>> sx.residual.start_shooting(None, data, width=2).starts.tolist()
    [[0.0, 0.0], [1.0, 0.0]]
    """
    states = np.array(data.states, float)
    seen = np.ones(states.shape, bool) if data.present is None else np.asarray(data.present)
    count, columns = states.shape[0], states.shape[2]
    width = ranges.whole("start_shooting: width", columns if width is None else width, "Leave it out.", least=columns)
    times = np.asarray(data.times, float)
    starts = np.zeros((count, width))
    for first, last in _experiments_of(data):
        for k in range(columns):
            mask = seen[first:last, :, k]
            if mask.any():
                order = np.argsort(times[first:last][mask], kind="stable")
                known = times[first:last][mask][order], states[first:last, :, k][mask][order]
                starts[first:last, k] = np.interp(times[first:last, 0], *known)
    return ShootingModel(model, jnp.asarray(starts, data.states.dtype))


def fine_grid(times: Any, substeps: int) -> Any:
    """Times with so many even steps between each two of them, shape (substeps (T - 1) + 1,)."""
    parts = jnp.linspace(0.0, 1.0, substeps, endpoint=False, dtype=times.dtype)
    grid = times[:-1, None] + jnp.diff(times)[:, None] * parts[None]
    return jnp.append(grid.ravel(), times[-1])


def _follower(where: str, flow_of: Any, substeps: Any, method: Any, observe: Any, memory: Any, at_once: Any) -> Any:
    """The function (model, times, starts, seen, present) -> mean square over what was seen, and the last states."""
    substeps = ranges.whole(f"{where}: substeps", substeps, "Leave it out for 1.")
    if at_once is not None:
        at_once = ranges.whole(f"{where}: at_once", at_once, "Leave it out for all segments.")
    method = RK4() if method is None else method

    def follow(model: Any, times: Any, starts: Any, seen: Any, present: Any) -> tuple[Any, Any]:
        flow = flow_of(model)

        def one(piece: Any) -> tuple[Any, Any]:
            instants, start = piece
            steps = on_grid(flow, method, fine_grid(instants, substeps))
            path = evolve(steps, start, save=substeps, memory=memory)
            known = path.states if observe is None else jax.vmap(observe)(path.states)
            return jnp.where(path.outcome.reached, known, jnp.nan), path.final

        if at_once is None:
            known, ends = jax.vmap(one)((times, starts))
        else:
            known, ends = by_batches(one, (times, starts), at_once)
        if known.shape != seen.shape:
            got = f"{known.shape[-1]} values a state"
            do = "Say what is seen by observe=, and start_shooting(..., width=) for a longer state."
            raise ValueError(explain(where, got, f"{seen.shape[-1]}, as the data have", do))
        if present is None:
            return jnp.mean((known - seen) ** 2), ends
        # A break must show even where nothing was seen after it, in segments that count.
        broken = jnp.any(jnp.isnan(known) & present.any(axis=(1, 2), keepdims=True))
        total = jnp.sum(jnp.where(present, known - seen, 0) ** 2) / jnp.maximum(jnp.sum(present), 1).astype(seen.dtype)
        return jnp.where(broken, jnp.nan, total), ends

    return follow


def _orbits_of(times: Any, states: Any) -> list[tuple[Any, Any]]:
    """Instants (T,) and values (T, d) of each orbit, NaN where nothing was seen."""
    if isinstance(times, Series):
        if states is not None:
            raise ValueError(explain("segments: states", "a series and states", "one of both", "Leave states out."))
        short = next((one.name for one in times if len(one) < 2), None)
        if short is not None:
            raise ValueError(explain(f"segments: {short}", "one row", "at least two", "Leave this experiment out."))
        return [(one.times, one.values) for one in times]
    if states is None:
        raise ValueError(explain("segments: states", "none", "values at the times", "Pass times and states."))
    times, states = (value if is_traced(value) else np.asarray(value) for value in (times, states))
    if times.ndim != 1 or states.ndim not in (2, 3) or states.shape[-2] != times.shape[0] or len(times) < 2:
        got, do = f"times {times.shape} and states {states.shape}", "Put time on the axis before the last."
        raise ValueError(explain("segments", got, "times (T,) and states (T, d) or (orbits, T, d), T >= 2", do))
    if not is_traced(times):
        ranges.finite("segments: times", times, "Drop rows without a time.")
        rises = np.diff(times) > 0
        if not rises.all():
            row = int(np.argmin(rises)) + 1
            got = f"{times[row]:g} in row {row} after {times[row - 1]:g}"
            raise ValueError(explain("segments: times", got, "times that increase", "Sort them and drop repeats."))
    return [(times, orbit) for orbit in (states[None] if states.ndim == 2 else states)]


def _require_seen(orbits: list[tuple[Any, Any]]) -> None:
    values = np.concatenate([np.asarray(x) for _, x in orbits])
    endless = np.argwhere(np.isinf(values))
    if len(endless):
        row, column = (int(i) for i in endless[0])
        do = "Write NaN where nothing was seen."
        raise ValueError(explain("segments: states", f"inf at index [{row}, {column}]", "finite values or NaN", do))
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    if len(empty):
        raise ValueError(explain("segments: states", f"column {empty[0]} without a value", "one", "Leave it out."))


def _cut(times: Any, states: Any, length: int, stride: int) -> tuple[Any, Any, Any, Any]:
    """Times, states, what is present and what follows, of the segments of one orbit."""
    last = len(times) - 1
    begins = np.arange(max(last - length, 0) + 1) if stride == 1 else np.arange(0, last, stride)
    places = begins[:, None] + np.arange(length + 1)
    inside = places <= last
    places = np.minimum(places, last)
    present = ~np.isnan(states)[places] & inside[..., None]
    follows = np.append(np.ones(len(begins) - 1, bool), False)
    return times[places], np.where(present, states[places], 0), present, follows


def _cut_traced(orbits: list[tuple[Any, Any]], length: int, stride: int) -> Segments:
    """Segments of orbits that are traced, of one length and seen whole."""
    begins = np.arange(0, orbits[0][0].shape[0] - length, stride)
    places = begins[:, None] + np.arange(length + 1)
    times = jnp.concatenate([jnp.asarray(t)[places] for t, _ in orbits])
    follows = np.tile(np.append(np.ones(len(begins) - 1, bool), False), len(orbits))
    states = jnp.concatenate([jnp.asarray(x)[places] for _, x in orbits])
    return Segments(times, states, None, jnp.asarray(follows) if stride == length else None)


def _experiments_of(data: Segments) -> list[tuple[int, int]]:
    """First and last segment of each experiment."""
    count = data.times.shape[0]
    if data.follows is None:
        return [(0, count)]
    ends = (np.flatnonzero(~np.asarray(data.follows)) + 1).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))
