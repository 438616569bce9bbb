"""A power cut at every instant, on a disk that keeps only what it was told to keep.

What a file holds is on the disk once the file is synchronised; names, once their folder is. In between, the disk may have
kept nothing of it, all of it, or the beginning: every such disk is made, and the run on it is read.
"""

import os

import numpy as np
import pytest

from separatrix.training.run import DISK, Files, Run, StorageError


class Recorder:
    """Notes what is done to the disk, and does it. The lock is left out: after a power cut nobody holds it."""

    def __init__(self):
        self.done = []
        self.files = Files(open=self.open, write=self.write, sync=self.sync, rename=self.rename, remove=self.remove)

    def note(self, kind, path, *more):
        if not str(path).endswith("/lock"):
            self.done.append((kind, str(path), *more))

    def open(self, path, flags, mode=0o777):
        if flags & os.O_CREAT and not os.path.exists(path):
            self.note("create", path)
        return DISK.open(path, flags, mode)

    def write(self, handle, data):
        self.note("write", os.readlink(f"/proc/self/fd/{handle}"), bytes(data))
        return DISK.write(handle, data)

    def sync(self, handle):
        self.note("sync", os.readlink(f"/proc/self/fd/{handle}"))

    def rename(self, source, target):
        self.note("rename", source, str(target))
        DISK.rename(source, target)

    def remove(self, path):
        self.note("remove", path)
        DISK.remove(path)


def disks(done):
    """The disks that a cut after these operations may leave: name to content."""
    names, kept_names, pending = {}, {}, []  # name to the number of its file
    written, kept = [], []
    for operation in done:
        kind, path = operation[:2]
        if kind == "write":
            written[names[path]] += operation[2]
            continue
        if kind == "sync" and path in names:
            kept[names[path]] = written[names[path]]
            continue
        if kind == "sync":
            mine = [change for change in pending if os.path.dirname(change[1]) == path]
            kept_names = changed(kept_names, mine)
            pending = [change for change in pending if change not in mine]
            continue
        if kind == "create":
            written.append(b"")
            kept.append(b"")
            operation = (*operation, len(written) - 1)
        names = changed(names, [operation])
        pending.append(operation)
    choices = [pending[:n] for n in range(len(pending) + 1)] + [[change] for change in pending[1:]]
    for choice in choices:
        left = changed(kept_names, choice)
        for share in (0.0, 0.5, 1.0):
            yield {path: partly(kept[file], written[file], share) for path, file in left.items()}


def partly(kept, written, share):
    extra = written[len(kept) :]
    return kept + extra[: round(share * len(extra))]


def changed(names, changes):
    names = dict(names)
    for kind, path, *more in changes:
        if kind == "create":
            names[path] = more[0]
        elif kind == "remove":
            names.pop(path, None)
        elif path in names:
            names[more[0]] = names.pop(path)
    return names


def run_recorded(folder):
    """A run of four saves: what was done to the disk, and after how many operations each save was promised."""
    recorder, promised = Recorder(), []
    run = Run.create(folder / "run", spec={"a": 1}, files=recorder.files)
    promised.append((len(recorder.done), 0))
    for step in range(1, 5):
        run.log(step, {"loss": 1.0 / step})
        run.save(step, {"x": np.arange(20) * step}, wait=True)
        promised.append((len(recorder.done), step))
    run.finish()
    return recorder.done, promised


def wrong_after(folder, done, promised, where):
    """What is wrong on the disks that a cut at each instant leaves."""
    found = []
    for instant in range(promised[0][0], len(done) + 1):
        least = max(step for count, step in promised if count <= instant)
        for number, disk in enumerate(disks(done[:instant])):
            found += [(instant, number, said) for said in [judged(disk, where, least, folder)] if said]
        if found:
            break
    return found


def judged(disk, where, least, folder):
    for path in sorted(where.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (where / "run" / "checkpoints").mkdir(parents=True)
    for path, content in disk.items():
        (where / os.path.relpath(path, folder)).write_bytes(content)
    try:
        run = Run.open(where / "run")
        if not run.checkpoints:
            return "no checkpoint" if least else ""
        saved = run.latest()
    except (StorageError, RuntimeWarning) as error:
        return str(error)
    if saved.step < least or saved.tree["x"].tolist() != (np.arange(20) * saved.step).tolist():
        return f"step {saved.step} where {least} was promised"
    return "" if run.steps.tolist()[: saved.step] == list(range(1, saved.step + 1)) else "measurements are missing"


def test_no_cut_loses_a_checkpoint_that_was_promised(tmp_path):
    (tmp_path / "cut").mkdir()
    done, promised = run_recorded(tmp_path)
    assert len(done) > 40
    assert wrong_after(tmp_path, done, promised, tmp_path / "cut") == []


@pytest.mark.parametrize("what", ["files", "folders"])
def test_without_a_synchronisation_something_is_lost(what, tmp_path):
    """The test above has teeth."""
    (tmp_path / "cut").mkdir()
    done, promised = run_recorded(tmp_path)
    folders = {str(path) for path in (tmp_path, *tmp_path.rglob("*")) if path.is_dir()}
    dropped = [kind == "sync" and (path in folders) == (what == "folders") for kind, path, *_ in done]
    counts = np.cumsum([not drop for drop in dropped])
    kept = [operation for operation, drop in zip(done, dropped, strict=True) if not drop]
    promised = [(int(counts[count - 1]), step) for count, step in promised]
    assert wrong_after(tmp_path, kept, promised, tmp_path / "cut") != []
