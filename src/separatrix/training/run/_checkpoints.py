r"""The checkpoints of a run: the last good ones, the newest first to be asked.

    step-000000000100.safetensors    by their step; a name is given by renaming, so that each is whole

A newest one that turns out damaged is passed over, named, and put aside as `*.damaged`, so that it is not counted among
those that are kept.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

from separatrix._errors import explain
from separatrix.training.run._container import Container, read_words
from separatrix.training.run._disk import DISK, Files, remove, sync_folder, told
from separatrix.training.run.checkpoint import Saved, Snapshot, load_tree, missing
from separatrix.training.run.errors import DamagedFile, OtherRun, StorageError

_NAME = re.compile(r"step-(\d{12,18})\.safetensors")


class Checkpoints:
    """The checkpoints in a folder."""

    def __init__(self, folder: Path, files: Files = DISK) -> None:
        self.folder, self._files = folder, files

    def steps(self) -> list[int]:
        """The steps that are there, from the oldest."""
        with read_words(self.folder):
            names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.folder / f"step-{step:012d}.safetensors"

    def write(self, step: int, snapshot: Snapshot, keep: int) -> None:
        """Save a step; then drop what is of a later, abandoned future, and all but the `keep` newest."""
        snapshot.write(self.path(step), self._files)
        steps = self.steps()
        past = [before for before in steps if before <= step]
        for dropped in [later for later in steps if later > step] + past[:-keep]:
            self._drop(self.path(dropped))

    def abandon(self, after: int) -> None:
        """Drop what is of a later step: the run goes on from `after`."""
        for step in self.steps():
            if step > after:
                self._drop(self.path(step))

    def read(self, step: int | None, expected: dict[str, Any], **asked: Any) -> Saved:
        """The checkpoint of a step; None for the newest that is good.

        **Raises:** `DamagedFile` where none is, saying of each what is wrong; `OtherModel` for another one.
        """
        if step is not None:
            return self._read(step, expected, asked)
        passed_over: dict[str, str] = {}
        while rest := [step for step in reversed(self.steps()) if self.path(step).name not in passed_over]:
            path = self.path(rest[0])
            try:
                saved = self._read(rest[0], expected, asked)
            except (DamagedFile, OtherRun) as error:
                passed_over[path.name] = str(error)
            except StorageError as error:
                # Dropped by its writer between our looking and our opening: look again.
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
            else:
                return dataclasses.replace(saved, passed_over=passed_over)
        if not passed_over:
            raise missing(self.folder, "a checkpoint")
        told = "; ".join(f"{name}: {_reason(text)}" for name, text in passed_over.items())
        raise DamagedFile(
            explain(str(self.folder), told, "a good checkpoint", "Take a copy of the run, or begin anew.")
        )

    def put_aside(self, names: Any) -> None:
        """Rename damaged files, so that they are not counted."""
        with told(self.folder):
            for name in names:
                self._files.rename(self.folder / name, self.folder / f"{name}.damaged")
            if names:
                sync_folder(self.folder, self._files)

    def verify(self, step: int) -> None:
        """Read the whole of a checkpoint, and forget it.

        **Raises:** `DamagedFile`.
        """
        with Container(self.path(step)) as container:
            container.verify()

    def _read(self, step: int, expected: dict[str, Any], asked: dict[str, Any]) -> Saved:
        path = self.path(step)
        saved = load_tree(path, **(expected | asked))
        if saved.step != step and not asked.get("force"):
            do = "Give the file its own name back."
            raise DamagedFile(explain(str(path), f"the checkpoint of step {saved.step}", f"that of step {step}", do))
        return saved

    def _drop(self, path: Path) -> None:
        with told(path):
            remove(path, self._files)


def _reason(text: str) -> str:
    """The middle of a message in three parts: what was got."""
    return text.split("\n")[1].strip().removeprefix("got ").split(", expected")[0] if "\n" in text else text
