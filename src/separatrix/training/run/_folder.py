"""The folder of a run: what lies in it, what it says of itself, and what its writer holds."""

import time
import uuid
import weakref
from pathlib import Path
from typing import Any

from separatrix._errors import explain
from separatrix.training.run._canonical import decode, digest, encode, fingerprint as fingerprint_of, plain
from separatrix.training.run._container import read_file, read_words
from separatrix.training.run._disk import Files, write_whole
from separatrix.training.run._lock import Lock
from separatrix.training.run._log import Log
from separatrix.training.run._writer import Writer
from separatrix.training.run.checkpoint import Room, versions
from separatrix.training.run.errors import StorageError

ABOUT, LOCK, METRICS, EVENTS, CHECKPOINTS = "run.json", "lock", "metrics.jsonl", "events.jsonl", "checkpoints"


class Hand:
    """What a writer holds: the lock, the open files, the thread, and the memory for copies."""

    def __init__(self, path: Path, lock: Lock, keep: int, files: Files) -> None:
        self.lock, self.keep = lock, keep
        self.metrics, self.events = Log(path / METRICS, files), Log(path / EVENTS, files)
        self.writer, self.room = Writer(), Room()
        # A run that is forgotten, as by an error in a notebook, gives its folder back.
        self._forgotten = weakref.finalize(self, lock.release)

    def close(self) -> None:
        self.metrics.close()
        self.events.close()
        self._forgotten()


def about_new(spec: Any, recipe: str | None, fingerprint: str | None) -> dict[str, Any]:
    """What a new run says of itself.

    **Raises:** `TypeError` or `ValueError` for a spec that is not plain, naming the place.
    """
    about = {
        "id": uuid.uuid4().hex, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "recipe": recipe,
        "spec": plain(spec, "Run.create: spec"), "versions": versions(),
    }  # fmt: skip
    return about | {"fingerprint": fingerprint or fingerprint_of({"recipe": recipe, "spec": about["spec"]})}


def write_about(path: Path, about: dict[str, Any], files: Files) -> None:
    """Write it, with its digest."""
    write_whole(path / ABOUT, [encode({"run": about, "sha256": digest(encode(about))}).encode()], files)


def read_about(path: Path) -> dict[str, Any]:
    """What a run says of itself, verified.

    **Raises:** `StorageError` where there is none; `DamagedFile`.
    """
    if not (path / ABOUT).exists():
        do = "Check the path; a run is a folder with run.json in it."
        raise StorageError(explain(str(path), "no run there", "the folder of a run", do))
    with read_words(path / ABOUT):
        text = read_file(path / ABOUT)
        whole = decode(text)
        about = whole["run"]
        if digest(encode(about)) != whole["sha256"]:
            raise ValueError("the digest of run.json differs")
        texts = [about[name] for name in ("id", "created", "fingerprint")]
        if not all(isinstance(word, str) for word in texts) or not isinstance(about["recipe"], str | None):
            raise TypeError("fields of other types")
        return about


def require_empty(path: Path) -> None:
    if (path / ABOUT).exists():
        do = "Resume it, or choose another folder."
        raise StorageError(explain(str(path), "a folder that holds a run", "a new or empty one", do))
    ours = {LOCK, CHECKPOINTS}
    with read_words(path):
        others = sorted(p.name for p in path.iterdir() if p.name not in ours and not p.name.endswith(".tmp"))
    if others:
        raise StorageError(
            explain(str(path), f"a folder that holds {others[0]!r}", "a new or empty one", "Choose another.")
        )


def recipe_of(run: Any) -> Any:
    """The recipe that made a run, with what was asked of it. Recipes are found by the names they registered under."""
    if run.recipe is None:
        do = f"Read it by model_like(template); go on by the call that made it, sx.fit(..., run={str(run.path)!r})."
        raise StorageError(explain(str(run.path), "a run made in Python", "one that a recipe made", do))
    from separatrix.training.recipes import recipe_from

    return recipe_from(run.recipe, run.spec)
