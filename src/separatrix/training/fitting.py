r"""`fit`: training is the evolution of an optimiser on mini-batches.

    theta[n+1] = F(theta[n]; B[n]),    B[n] a function of (key, n),

one loop in pieces, the host only between them. Nothing here is a loop: `fit` builds a map of objective, data and
optimiser, has it evolve, asks for metrics every k steps, and says how it ended. What an optimiser is stays open: an optax
transformation, or any function that makes a map of an objective, so that descent with a limit, games and score models
train through the same door.

A step is good where its loss, its gradient and what the optimiser makes of them are finite. The first that is not ends the
run and is named, or is dealt with as `divergence` says.
"""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import equinox as eqx
import jax

from separatrix._errors import Diverged, explain
from separatrix._types import Checked, Function
from separatrix.systems.trajectory import Outcome, OutcomeKind, outcome
from separatrix.training._binding import Metrics as Metrics, map_of as map_of
from separatrix.training._setting import Setting, set_up
from separatrix.training._stages import travel, watched_or_traced
from separatrix.training.result import Fit as Fit


def fit(
    objective: Checked[Function | Sequence[Function]],
    optimizer: Any,
    data: Any = None,
    *,
    initial: Any = None,
    steps: Checked[int | None] = None,
    epochs: Checked[int | None] = None,
    batch_size: Checked[int | None] = None,
    key: Any = None,
    metrics: Checked[Mapping[str, Function] | None] = None,
    every: Checked[int | None] = None,
    validation: Any = None,
    patience: Checked[int | None] = None,
    average: Any = None,
    divergence: Checked[str] = "stop",
    draw: Checked[str | None] = None,
    last_batch: Checked[str] = "keep",
    callback: Checked[Function | None] = None,
    run: Checked[str | PathLike[str] | Any] = None,
    save_every: Checked[int | None] = None,
    progress: Checked[Function | bool | None] = None,
    monitor: Any = None,
    tracker: Any = None,
    devices: Any = None,
    state: Any = None,
    start: Checked[int] = 0,
    throw: Checked[bool] = False,
) -> Fit:
    r"""Train a model: evolve an optimiser on mini-batches.

    **Arguments:** every option is used, or refused with the reason.

    - `objective`: with data, a loss l(model, batch) or l(model, batch, *, key); without, L(model) or L(model, *, key); or
      what `supervised` makes, which holds model and data. It returns a number, or (number, more), of which more is not
      kept. For a game: a tuple of such losses, one a player, or one that returns a tuple; the model is then the tuple of
      players.
    - `optimizer`: an optax transformation; or a function that makes a map of an objective, as
      `lambda loss: sx.optimization.GradientDescent(loss, 0.1)`.
    - `data`: arrays with the examples on the first axis (a tree of them), or a data set. Arrays that lie in a file
      (`np.memmap`, `sx.read_npy(path, mmap=True)`) stay there: batches are read ahead.
    - `initial`: the model to start from: any tree, whose floating-point arrays are trained. Modules of Flax NNX go in and
      come out as they are: their `nnx.Param` are trained, all else is carried. So for variables of Flax linen, with a loss
      that returns (loss, the collections that changed), and (model, state) of equinox, with (loss, state). An objective
      that holds `initial` needs none.
    - `steps` or `epochs`: how many steps, or how many times through the data. `batch_size`: examples a step; None for all.
    - `draw`: "replacement", examples drawn independently (the default with `steps`), or "epochs", shuffled anew for each
      time through the data (the default with `epochs`). `last_batch`: "keep" the smaller batch at the end of an epoch,
      its loss weighted by its share of a full one, or "drop" it.
    - `key`: randomness of batches and losses. Step n draws from `fold_in(key, n)`, epoch e is shuffled by (key, e), resumed
      or not. None: no randomness.
    - `metrics`: name to function of the model, measured every `every` steps (a hundredth of the run by default) and at the
      last, beside "loss", the objective on one fixed batch.
    - `validation`: data like `data`, or a share of it to hold out by the key. The loss on it, of the model in evaluation
      mode, is the metric "validation". `patience`: stop after so many measurements without a lower one.
    - `average`: the factor d of a running average a <- d a + (1 - d) theta of the parameters, which validation is then of;
      or a `training.PowerAverage`, whose memory grows with the run.
    - `divergence`: at a step that is not finite, "stop"; "skip" it, up to 10 in a row; or "roll_back" to the last
      measurement that was sound and go on with updates half as large, up to 8 times.
    - `callback`: called as callback(step, model, metrics) every `every` steps; True stops the run. One with an argument
      `averaged` is given the averaged model too, None without `average`.
    - `run`: a folder that keeps the run. The same call goes on with what is there, and gives what is finished; also a `Run`
      that is open for writing. `save_every`: steps between its checkpoints, every five seconds or so by default.
    - `progress`: True for a line with rate, time left and metrics; or called as `progress(done, total)` now and then.
    - `monitor`: looks on at borders between pieces of the run, as a `StabilityMonitor` does; metrics are then measured at
      every so many of its intervals.
    - `tracker`: told each measurement, beside the run: `sx.training.trackers.TensorBoard("logs")`, or several. One that
      fails is reported once, and the run goes on.
    - `devices`: how many devices share each batch, or "all", or a list of them; those of all processes, if there are
      several. The numbers are those of one device up to rounding. Their count should divide `batch_size`.
    - `state`, `start`: go on from an earlier `Fit.state` at its step number.
    - `throw`: raise `Diverged` instead of warning where training stops being finite.

    Ctrl-C ends the run after the steps under way and returns what there is; twice, it raises.

    Learning rates are swept by `jax.vmap` of a function that calls `fit`; nothing is then said of a run that diverges, but
    by its `outcome`.

    **Returns:** a `Fit`.

    **Raises:** `ValueError` or `TypeError` for data, model or optimiser that cannot be used, before anything is compiled.
    `Diverged` where `throw` is set; while tracing, the same as an error at run time. `OtherRun` for a folder of another
    call, `RunLocked` where another process writes in it.

    **Example:** the mean of some numbers, by Adam.

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> loss = lambda centre, points: jnp.mean((points - centre) ** 2)
    >>> found = sx.fit(loss, optax.adam(0.1), jnp.array([1.0, 3.0]), initial=jnp.array(0.0), steps=300)
    >>> round(float(found.model), 3)
    2.0
    """
    setting = set_up(
        Setting(
            objective=objective, optimizer=optimizer, data=data, initial=initial, steps=steps, epochs=epochs,
            batch_size=batch_size, key=key, metrics=metrics, every=every, validation=validation, patience=patience,
            average=average, divergence=divergence, draw=draw, last_batch=last_batch, callback=callback, run=run,
            save_every=save_every, progress=progress, monitor=monitor, tracker=tracker, devices=devices,
            state=state, start=start,
        )
    )  # fmt: skip
    found = watched_or_traced(setting) if setting.is_whole else travel(setting)
    last = _tell(found.state, found.stopped_at, found.outcome, throw)
    return found if last is found.state else eqx.tree_at(lambda fit: fit.state, found, last)


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
