r"""`fit`: training is the evolution of an optimiser on mini-batches.

    theta[n+1] = F(theta[n]; B[n]),    B[n] drawn from fold_in(key, n),

one scan in chunks, the host only at their borders. Nothing here is a loop: `fit` builds a map of objective, data and
optimiser, asks `evolve` for metrics every k steps, and says how it ended. What an optimiser is stays open: an optax
transformation, or any function that makes a map of an objective, so that descent with a limit, games and score models
train through the same door.

A step is good where its loss, its gradient and what the optimiser makes of them are finite; the first that is not ends the
run, and is named.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax

from separatrix._errors import Diverged, explain
from separatrix._types import Checked, Function
from separatrix.systems.from_optax import from_optax
from separatrix.systems.map import Map
from separatrix.systems.trajectory import Outcome, OutcomeKind, outcome
from separatrix.training._binding import (
    Measure as Measure,
    bind,
    counts,
    first_state,
    initial_of,
    measure_of,
    parameters_of as parameters_of,
)
from separatrix.training._guard import guarded
from separatrix.training._running import judged, run, schedule, stopped_at
from separatrix.training.monitored import run_monitored, stride_of
from separatrix.training.result import Fit as Fit


def fit(
    objective: Checked[Function | Sequence[Function]],
    optimizer: Any,
    data: Any = None,
    *,
    initial: Any = None,
    steps: Checked[int],
    batch_size: Checked[int | None] = None,
    key: Any = None,
    metrics: Checked[Mapping[str, Function] | None] = None,
    every: Checked[int | None] = None,
    state: Any = None,
    start: Checked[int] = 0,
    progress: Function | None = None,
    monitor: Any = None,
    throw: bool = False,
) -> Fit:
    r"""Train a model: evolve an optimiser on mini-batches.

    **Arguments:**

    - `objective`: with data, a loss l(model, batch) or l(model, batch, *, key); without, L(model) or L(model, *, key); or
      what `supervised` makes, which holds model and data. For a game: a tuple of such losses, one a player, or one that
      returns a tuple; the model is then the tuple of players.
    - `optimizer`: an optax transformation; or a function that makes a map of an objective, as
      `lambda loss: sx.GradientDescent(loss, 0.1)`.
    - `data`: arrays with the examples on the first axis (a tree of them), or a data set.
    - `initial`: the model to start from: any tree, whose floating-point arrays are trained. An objective that holds
      `initial` needs none.
    - `steps`: how many. `batch_size`: examples a step, drawn with replacement by the key; None for all.
    - `key`: randomness of batches and losses. Step n draws from `fold_in(key, n)`, resumed or not. None: no randomness.
    - `metrics`: name to function of the model, measured every `every` steps (a hundredth of the run by default) and at the
      last, beside "loss", the objective on one fixed batch.
    - `state`, `start`: go on from an earlier `Fit.state` at its step number.
    - `progress`: called as `progress(done, total)` at chunk borders.
    - `monitor`: looks on at borders between pieces of the run, as a `StabilityMonitor` does; metrics are then measured at
      every so many of its intervals.
    - `throw`: raise `Diverged` instead of warning where training stops being finite.

    Learning rates are swept by `jax.vmap` of a function that calls `fit`; nothing is then said of a run that diverges, but
    by its `outcome`.

    **Returns:** a `Fit`.

    **Raises:** `ValueError` or `TypeError` for data, model or optimiser that cannot be used, before anything is compiled;
    so for a model with state of its own (running statistics, dropout with its own stream), which would not be carried.
    `Diverged` where `throw` is set; while tracing, the same as an error at run time.

    **Example:** the mean of some numbers, by Adam.

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> loss = lambda centre, points: jnp.mean((points - centre) ** 2)
    >>> found = sx.fit(loss, optax.adam(0.1), jnp.array([1.0, 3.0]), initial=jnp.array(0.0), steps=300)
    >>> round(float(found.model), 3)
    2.0
    """
    initial = initial_of(objective, initial)
    parameters, rest = eqx.partition(initial, eqx.is_inexact_array)
    bound = bind(objective, data, batch_size, rest, key)
    map = map_of(bound, optimizer)
    steps, start, every = counts(steps, start, every)
    first, measure, running = first_state(map, parameters, state), measure_of(bound, key, metrics, rest), guarded(map)
    settings = {"steps": steps, "key": key, "start": start, "progress": progress}
    if monitor is None:
        last, rows, ended = run(running, first, measure, every, settings)
    else:
        every = stride_of(monitor, every)
        last, rows, ended = run_monitored(running, first, measure, every, settings, monitor, map)
    ended = judged(ended, rows["loss"], start + steps, map)
    stopped = stopped_at(ended, map)
    last = _tell(last, stopped, ended, throw)
    model = eqx.combine(parameters_of(last), rest)
    return Fit(model, last, schedule(start, steps, every), rows, ended, stopped, map)


def map_of(objective: Any, optimizer: Any) -> Any:
    """The map of an optax transformation on an objective, or the one that a function makes of it."""
    if hasattr(optimizer, "update") and hasattr(optimizer, "init"):
        return from_optax(objective, optimizer)
    map = optimizer(objective) if callable(optimizer) and not isinstance(optimizer, Map) else None
    if not isinstance(map, Map) or not hasattr(map, "init"):
        got = type(optimizer).__name__ if map is None else f"a function that returns {type(map).__name__}"
        expected = "an optax transformation, or a function from an objective to a map with `init`"
        do = "Pass optax.adam(1e-3), or lambda loss: sx.GradientDescent(loss, 0.1)."
        raise TypeError(explain("fit: optimizer", got, expected, do))
    return map


def _tell(last: Any, stopped: Any, ended: Outcome, throw: bool) -> Any:
    """The last state; raise or warn where training did not get to its end."""
    if stopped is None:
        return last
    do = "Lower the learning rate, clip gradients, or go on from `state`, the last finite one."
    # While tracing a break has one kind and no number yet.
    kind, at = OutcomeKind.NON_FINITE, f" at step {stopped}" if isinstance(stopped, int) else ""
    with jax.ensure_compile_time_eval():
        got = f"{kind.name.lower()}{at}; {outcome(kind).advice}"
    message = explain("fit: training diverged", got, "finite losses and states", do)
    if not isinstance(stopped, int):
        return eqx.error_if(last, ~ended.completed, message) if throw else last
    if throw:
        raise Diverged(message)
    warnings.warn(message, RuntimeWarning, stacklevel=3)
    return last
