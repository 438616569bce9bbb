r"""A run on disk: what it is, where it stands, what was measured, and the right to go on with it.

    run.json        what was asked: recipe, spec, fingerprint, identity of the run
    checkpoints/    the last good states, each one whole
    metrics.jsonl   one line a measurement;  events.jsonl: one line for what happened
    lock            who writes

`Run.create` and `Run.reopen` give the one writer; `Run.open` reads, whether the run is alive, finished or killed. Resuming
from the checkpoint of step n gives what was there after step n: tree, key, cursor and metrics, as if nothing had happened.
"""

import contextlib
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from separatrix._errors import Diverged, explain
from separatrix.training.run._checkpoints import Checkpoints
from separatrix.training.run._disk import DISK, Files, clear_strays, make_folder
from separatrix.training.run._folder import (
    CHECKPOINTS,
    EVENTS,
    LOCK,
    METRICS,
    Hand,
    about_new,
    read_about,
    recipe_of,
    require_empty,
    write_about,
)
from separatrix.training.run._lock import Lock, holder_of, proven_dead
from separatrix.training.run._log import continued, plain_number, read_log
from separatrix.training.run._metrics import metrics_of
from separatrix.training.run.checkpoint import Saved, load_tree, snapshot
from separatrix.training.run.errors import CannotWrite, OtherRun, StorageError

ENDS = ("finished", "interrupted", "diverged", "failed")


class Run:
    r"""A run in a folder; see `Run.create`, `Run.reopen` and `Run.open`.

    - `path`, `id`: where, and which. `recipe`, `spec`, `fingerprint`: what was asked, by what name, and its hash.
    - `status`: "running", "finished", "killed", "interrupted", "diverged", or "failed".
    - `steps`, `metrics`, `times`: what was measured at which step and when; `events`: what happened.
    - `checkpoints`: the steps that can be gone back to; `latest()`, `load(...)`, `model_like(...)`: what they hold.

    **Example:**

    >>> import tempfile, pathlib, jax.numpy as jnp
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "halving"
    >>> with Run.create(path, spec={"start": 8.0}) as run:
    ...     x = jnp.asarray(8.0)
    ...     for n in range(1, 4):
    ...         x = x / 2
    ...         run.log(n, {"x": x})
    ...     run.save(3, {"model": x})
    >>> run = Run.open(path)
    >>> run.status, run.metrics["x"].tolist(), run.checkpoints
    ('finished', [4.0, 2.0, 1.0], [3])
    >>> float(run.model_like(jnp.asarray(0.0)))
    1.0
    """

    def __init__(self, path: Path, about: Mapping[str, Any], files: Files = DISK) -> None:
        self.path = path
        self.id: str = about["id"]
        self.recipe: str | None = about["recipe"]
        self.spec: Any = about["spec"]
        self.fingerprint: str = about["fingerprint"]
        self.created: str = about["created"]
        self._files = files
        self._checkpoints = Checkpoints(path / CHECKPOINTS, files)
        self._hand: Hand | None = None

    @classmethod
    def create(
        cls, path: Any, *, spec: Any = None, recipe: str | None = None, fingerprint: str | None = None, keep: int = 2,
        force: bool = False, files: Files = DISK,
    ) -> "Run":  # fmt: skip
        """Begin a run in a new or empty folder, and hold it for writing until `close`.

        **Arguments:**

        - `spec`: what was asked, as plain values; `recipe`: the name of the recipe that understands it.
        - `fingerprint`: what a checkpoint must agree with; by default the hash of recipe and spec.
        - `keep`: how many checkpoints stay, at least 2. `force`: take the folder from a holder on another host.

        **Raises:** `StorageError` for a folder that holds something; `RunLocked`, `CannotWrite`.
        """
        path = Path(path)
        _require_keep(keep)
        about = about_new(spec, recipe, fingerprint)
        make_folder(path, files)
        require_empty(path)  # before we leave a lock there, and again when it is ours
        lock = Lock(path / LOCK, force=force, files=files)
        try:
            require_empty(path)
            make_folder(path / CHECKPOINTS, files)
            clear_strays(path, alone=True)
            write_about(path, about, files)
            run = cls(path, about, files)
            run._hand = Hand(path, lock, keep, files)
        except BaseException:
            lock.release()
            raise
        run.event("start")
        return run

    @classmethod
    def reopen(
        cls, path: Any, *, fingerprint: str | None = None, keep: int = 2, force: bool = False, files: Files = DISK
    ) -> "Run":
        """Take up a run for writing: strays are cleared, torn lines cut off. Then `restore` gives the state to go on from.

        **Arguments:**

        - `fingerprint`: what the run must have been made with; None to take it as it is.
        - `force`: take it though it was made with something else, or is held by another host.

        **Raises:** `RunLocked` where another process writes; `OtherRun` for another fingerprint; `CannotWrite`.
        """
        run = cls.open(path)
        if fingerprint is not None and fingerprint != run.fingerprint and not force:
            do = "Resume with the settings it was made with, begin another run, or pass force=True."
            got = f"a run of fingerprint {run.fingerprint[:16]}"
            raise OtherRun(explain(str(run.path), got, f"{fingerprint[:16]}, of these settings", do))
        _require_keep(keep)
        lock = Lock(run.path / LOCK, force=force, files=files)
        try:
            for folder in (run.path, run.path / CHECKPOINTS):
                clear_strays(folder, alone=True)
            run = cls(run.path, read_about(run.path), files)
            run._hand = Hand(run.path, lock, keep, files)
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def open(cls, path: Any) -> "Run":
        """Read a run, alive, finished or killed. Nothing in the folder is touched.

        **Raises:** `StorageError` where there is none; `DamagedFile`.
        """
        path = Path(path)
        return cls(path, read_about(path))

    # What is asked of a run

    @property
    def status(self) -> str:
        """How it stands: its last word, or "running" while its writer lives, or "killed" where it died without a word."""
        holder = holder_of(self.path / LOCK)
        if self._hand is not None or (holder is not None and not proven_dead(holder)):
            return "running"
        ends = [event for event in self._read(EVENTS) if event.get("event") in ("start", "resume", "end")]
        said = ends[-1].get("status") if ends and ends[-1]["event"] == "end" else None
        return said if said in ENDS else "killed"

    @property
    def events(self) -> list[dict[str, Any]]:
        """What happened, in order: `{"event": name, "time": seconds, ...}`."""
        return [event for event in continued(self._read(EVENTS)) if isinstance(event.get("event"), str)]

    @property
    def steps(self) -> np.ndarray:
        """The steps at which something was measured."""
        return metrics_of(self._read(METRICS))[0]

    @property
    def times(self) -> np.ndarray:
        """When each measurement was taken, in seconds since 1970."""
        return metrics_of(self._read(METRICS))[1]

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """Name to values, one a step; NaN where a name was not measured at that step."""
        return metrics_of(self._read(METRICS))[2]

    @property
    def checkpoints(self) -> list[int]:
        """The steps of the checkpoints, from the oldest."""
        return self._checkpoints.steps()

    def latest(self) -> Saved:
        """The newest good checkpoint, as dictionaries and lists of arrays."""
        return self.load()

    def load(
        self, like: Any = None, *, at: Any = (), step: int | None = None, named: str | None = None, force: bool = False
    ) -> Saved:
        """What a checkpoint holds.

        **Arguments:**

        - `like`: a template of its form. `at`: the part of it, as "model" or ("state", 0); all of it by default.
        - `step`: which one; the newest good one by default. `named`: what `save(..., name=)` kept instead.
        - `force`: take it though it says that another run or function made it.

        **Returns:** a `Saved`; where newer ones are damaged it says so in `passed_over`, and a warning does.

        **Raises:** `DamagedFile`, `OtherModel`, `StorageError`.
        """
        place = (at,) if isinstance(at, str | int) else tuple(at)
        expected: dict[str, Any] = {"fingerprint": self.fingerprint, "run": self.id}
        asked: dict[str, Any] = {"like": like, "at": place, "force": force}
        if named is not None:
            return load_tree(self._named(named), **(expected | asked))
        saved = self._checkpoints.read(step, expected, **asked)
        for text in saved.passed_over.values():
            warnings.warn(f"went back to step {saved.step}: {text}", RuntimeWarning, stacklevel=2)
        return saved

    def model_like(
        self, template: Any, *, step: int | None = None, named: str | None = None, force: bool = False
    ) -> Any:
        """The model, in the form of a template: what was saved under "model"."""
        return self.load(template, at="model", step=step, named=named, force=force).tree

    @property
    def state(self) -> Any:
        """The state of the training map at the newest good checkpoint, as dictionaries and lists of arrays."""
        return self.load(at="state").tree

    @property
    def model(self) -> Any:
        """The model, its form given by the recipe. A run without one has `model_like`."""
        return self.model_like(recipe_of(self).template())

    def resume(self, **options: Any) -> Any:
        """Go on to the end, as the recipe says. A run without one is resumed by the script that made it."""
        return recipe_of(self).resume(self, **options)

    # What its writer says

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Note what was measured at a step: numbers or arrays by name."""
        hand = self._writing()
        hand.writer.check()
        record = {"step": int(step), "time": round(time.time(), 3)}
        for name, value in metrics.items():
            if name in record or name == "resumed":
                raise ValueError(
                    explain("Run.log: metrics", repr(name), "another name", f"{name!r} is taken: rename it.")
                )
            record[name] = plain_number(value)
        hand.metrics.append(record)

    def event(self, name: str, /, **fields: Any) -> None:
        """Note that something happened, with what belongs to it: numbers and texts."""
        hand = self._writing()
        hand.events.append(plain_number(fields) | {"event": name, "time": round(time.time(), 3)})

    def save(
        self, step: int, tree: Any, *, key: Any = None, cursor: Any = None, name: str | None = None, wait: bool = False
    ) -> None:
        """Save a checkpoint: copied now, written beside the computation.

        A save that is under way is waited for first. What went wrong with it is raised here, at `log`, or at `close`.

        **Arguments:**

        - `step`: how many steps are done; `tree`: what to go on from, as `{"model": ..., "state": ...}`.
        - `key`, `cursor`: the random key, and the place in the data as plain values.
        - `name`: keep it under a name of its own ("best") beside the checkpoints, replacing what bore it.
        - `wait`: be done when this returns.

        **Raises:** `CannotWrite`, `RunLocked` where the folder was taken by force, `TypeError` for what cannot be kept.
        """
        hand = self._writing()
        hand.writer.wait()
        hand.lock.require()
        taken = snapshot(tree, step=int(step), key=key, cursor=cursor, fingerprint=self.fingerprint, run=self.id,
                         room=hand.room, what="Run.save")  # fmt: skip
        path = None if name is None else self._named(name)

        def write() -> None:
            try:
                hand.metrics.sync()
                hand.events.sync()
                if path is None:
                    self._checkpoints.write(int(step), taken, hand.keep)
                else:
                    taken.write(path, self._files)
            except CannotWrite:  # a folder that was taken by force is cleared of what was half written
                hand.lock.require()
                raise

        hand.writer.start(write)
        if wait:
            hand.writer.wait()

    def restore(self, like: Any = None, *, step: int | None = None, force: bool = False) -> Saved | None:
        """Go back to a checkpoint, to go on from there: the newest good one, or that of a step.

        What lies beyond it, in checkpoints, metrics and events, is of an abandoned future and is left out from now on.

        **Returns:** what it holds; None where the run died before its first checkpoint, and begins anew.

        **Raises:** `DamagedFile` where no checkpoint is good, `OtherModel` for another template.
        """
        hand = self._writing()
        hand.writer.wait()
        saved = self.load(like, step=step, force=force) if self.checkpoints or step is not None else None
        at = -1 if saved is None or saved.step is None else saved.step
        if saved is not None:
            self._checkpoints.put_aside(saved.passed_over)
            self._checkpoints.abandon(at)
        for log in (hand.metrics, hand.events):
            log.append({"resumed": at})
        self.event("resume", at=max(at, 0), passed_over=[] if saved is None else sorted(saved.passed_over))
        return saved

    def forget(self, after: int) -> None:
        """Leave out from now on what was measured after a step: the run went back to it."""
        self._writing().metrics.append({"resumed": int(after)})

    def wait(self) -> None:
        """Wait until what was saved is on the disk."""
        self._writing().writer.wait()

    def finish(self, status: str = "finished", **fields: Any) -> None:
        """Wait for what is under way, say how the run ended, and give the folder back. It can still be read.

        **Raises:** what went wrong with the last save; the run has then "failed".
        """
        if status not in ENDS:
            raise ValueError(
                explain("Run.finish: status", repr(status), f"one of {', '.join(ENDS)}", "Use one of these.")
            )
        hand = self._writing()
        try:
            hand.writer.wait()
            self.event("end", status=status, **fields)
        except StorageError as error:
            with contextlib.suppress(StorageError):
                self.event("end", status="failed", error=str(error))
            raise
        finally:
            self._hand = None
            hand.close()

    def close(self) -> None:
        """Give the folder back; a run that is not finished is interrupted."""
        if self._hand is not None:
            self.finish("interrupted")

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if self._hand is None:
            return
        if error is None:
            self.finish()
            return
        try:
            self.finish(_end_of(error), error=type(error).__name__)
        except StorageError as second:
            error.add_note(f"and the run could not be closed: {second}")

    def __repr__(self) -> str:
        at = f" at step {self.checkpoints[-1]}" if self.checkpoints else ""
        return f"Run({str(self.path)!r}, {self.status}{at})"

    def _writing(self) -> "Hand":
        if self._hand is None:
            do = "Take it by Run.reopen, which lets one process write."
            raise StorageError(explain(str(self.path), "a run that is open for reading", "one for writing", do))
        return self._hand

    def _read(self, name: str) -> list[dict[str, Any]]:
        records, damaged = read_log(self.path / name)
        if damaged:
            lines = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
            warnings.warn(f"{self.path / name}: damaged lines {lines} are left out", RuntimeWarning, stacklevel=3)
        return records if name == EVENTS else continued(records)

    def _named(self, name: str) -> Path:
        if not name.isidentifier() or name == "lock":
            raise ValueError(explain("Run: name", repr(name), "letters, digits and underscores", "Rename it."))
        return self.path / f"{name}.safetensors"


def _require_keep(keep: int) -> None:
    if keep < 2:
        do = "Keep two: the newest may be the one that breaks."
        raise ValueError(explain("Run: keep", keep, "at least 2", do))


def _end_of(error: BaseException) -> str:
    if isinstance(error, Diverged):
        return "diverged"
    return "failed" if isinstance(error, Exception) else "interrupted"
