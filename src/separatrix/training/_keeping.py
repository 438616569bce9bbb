"""The run folder of a training: what is written there and when, and how an unfinished one is gone on with.

A checkpoint holds the model, the state of the training map, the rows measured so far, and the best model if there is
validation: all that the next step and the end need.
"""

import time
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from separatrix._errors import explain
from separatrix.systems import ranges
from separatrix.training.run import OtherRun, Run, fingerprint
from separatrix.training.trackers import Told, Tracker

# Without save_every a state is saved at the first border after so many seconds.
_SECONDS = 5.0


class FoundRun(NamedTuple):
    """What a folder holds: the step of its checkpoint, state, rows, and the best so far with its place (None for none)."""

    step: int
    state: Any
    rows: dict[str, Any]
    best: Any
    patience: dict[str, Any] | None
    events: list[dict[str, Any]]


class Keeper:
    """Writes a run; where there is no folder, or its run is finished, it writes nothing. Trackers are told of it."""

    def __init__(self, run: Run | None, save_every: int | None, done: Run | None = None, follows: bool = False) -> None:
        self._run, self._every, self._done = run, save_every, done
        self._saved, self._at = time.monotonic(), -1
        self._told, self._follows = Told(()), follows

    def tell(self, trackers: Sequence[Tracker], about: Mapping[str, Any]) -> None:
        """Tell trackers of the run from now on; a run that is finished is told to nobody."""
        if trackers and self._done is None:
            run = self._run
            known = {} if run is None else {"run": str(run.path), "recipe": run.recipe, "spec": run.spec}
            self._told = Told(trackers)
            self._told.start({name: value for name, value in (dict(about) | known).items() if value is not None})

    @property
    def every(self) -> int | None:
        """Steps between checkpoints, where that was said."""
        return self._every if self._run is not None or self._follows else None

    def found(self, like: Any, best_like: Any) -> FoundRun | None:
        """Go back to the newest good checkpoint, its state in the form of a template; None where there is none."""
        run = self._run or self._done
        if run is None or not run.checkpoints:
            return None
        saved = run.restore() if self._done is None else run.latest()
        if saved is None:
            return None
        step = int(saved.step or 0)
        self._at = step
        state = run.load(like, at="state", step=step).tree
        best = run.load(best_like, at="best", step=step).tree if "best" in saved.tree else None
        happened = [event for event in run.events if event["event"] in ("skip", "roll_back") and event["step"] <= step]
        events = [{name: value for name, value in event.items() if name != "time"} for event in happened]
        return FoundRun(step, state, saved.tree["rows"], best, saved.tree.get("patience"), events)

    def log(self, step: int, metrics: dict[str, Any]) -> None:
        """Note what was measured."""
        if self._run is not None:
            self._run.log(step, metrics)
        self._told.record(step, metrics)

    def event(self, event: dict[str, Any]) -> None:
        """Note what happened."""
        if self._run is not None:
            self._run.event(event["event"], **{name: value for name, value in event.items() if name != "event"})

    def forget(self, after: int) -> None:
        """Leave out what was measured after a step."""
        if self._run is not None:
            self._run.forget(after)

    def is_due(self, n: int, *, least: bool = False) -> bool:
        """Whether a state is to be saved at this border; `least`: `every` steps after the last at the earliest."""
        if self._run is None or n == self._at:
            return False
        if not self._every:
            return time.monotonic() - self._saved > _SECONDS
        return n - max(self._at, 0) >= self._every if least else n % self._every == 0

    def save(self, n: int, tree: Any, key: Any, cursor: Any, *, wait: bool = False, again: bool = False) -> None:
        """Save a checkpoint, once a step unless asked again."""
        if self._run is not None and (n != self._at or again):
            self._run.save(n, tree, key=key, cursor=cursor, wait=wait)
            self._saved, self._at = time.monotonic(), n

    def save_best(self, step: int, model: Any) -> None:
        """Keep the best model under its own name, as the file `best.safetensors`."""
        if self._run is not None:
            self._run.save(step, {"model": model}, name="best", wait=True)

    def finish(self, status: str, **fields: Any) -> None:
        """Say how it ended, and give the folder back."""
        if self._run is not None:
            self._run.finish(status, **fields)
        self._told.finish(status)

    def give_up(self, error: BaseException) -> None:
        """Give the folder back after an error."""
        if self._run is not None:
            self._run.__exit__(type(error), error, None)
        self._told.finish("failed")


def keeper_of(run: Any, spec: dict[str, Any], save_every: Any, end: int) -> Keeper:
    """Take a run's folder: a new one, or one that this very call made.

    **Raises:** `OtherRun` for a folder that another call made, saying what differs; `RunLocked` where it is being written.
    """
    if save_every is not None:
        save_every = ranges.whole("fit: save_every", save_every, "Leave it out for about every five seconds.")
        if run is None:
            do = "Pass run=, the folder to save in."
            raise ValueError(explain("fit: save_every", save_every, "none, without a run folder", do))
    if run is None or isinstance(run, Run):
        return Keeper(run, save_every)
    if not isinstance(run, str | PathLike):
        raise TypeError(explain("fit: run", type(run).__name__, "a path, or a Run open for writing", "Pass a folder."))
    path = Path(run)
    # The length is no part of what a run is: a longer one goes on from a shorter one.
    identity = {name: value for name, value in spec.items() if name not in ("steps", "every")}
    own = fingerprint({"fit": identity})
    if not (path / "run.json").exists():
        return Keeper(Run.create(path, spec={"fit": spec}, fingerprint=own), save_every)
    there = Run.open(path)
    _require_same(there, identity, own)
    taken = there.checkpoints[-1] if there.checkpoints else 0
    require_not_past(there, taken, end)
    early = any(event.get("early") for event in there.events if event["event"] == "end")
    if there.status == "finished" and (taken == end or early):
        return Keeper(None, save_every, there)
    return Keeper(Run.reopen(path, fingerprint=own), save_every)


def follow(run: Any, spec: dict[str, Any], save_every: Any, end: int) -> Keeper:
    """The folder of a run that another process writes: what it held when that process took it."""
    path = run.path if isinstance(run, Run) else run
    there = Run.open(path) if path is not None and (Path(path) / "run.json").exists() else None
    return Keeper(None, save_every if run is not None else None, there, follows=run is not None)


def require_not_past(run: Any, taken: int, end: int) -> None:
    """Refuse a run that has taken more steps than it is asked for."""
    if taken > end:
        do = "Ask for as many, or for more; or read it by Run.open(path)."
        raise ValueError(explain(f"fit: run {run.path}", f"a run of {taken} steps", f"one of at most {end}", do))


def _require_same(run: Run, identity: dict[str, Any], own: str) -> None:
    if run.fingerprint == own:
        return
    before = run.spec.get("fit", {}) if isinstance(run.spec, dict) else {}
    differs = [name for name in identity if name not in before or before[name] != identity[name]]
    got = f"a run of the recipe {run.recipe}" if run.recipe else f"a run with another {' and '.join(differs) or 'call'}"
    do = "Make the call that made it, give another folder, or read it by Run.open(path)."
    raise OtherRun(explain(f"fit: run {run.path}", got, "the run of this call", do))


def rows_of_numpy(tree: Any) -> Any:
    """A row as NumPy arrays."""
    import jax

    return jax.tree.map(np.asarray, tree)
