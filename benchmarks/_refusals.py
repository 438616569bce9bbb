"""A disk that refuses: at each of its calls in turn, and for real, full and read-only."""

import contextlib
import dataclasses
import errno
import itertools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _children import CHILDREN
from _kills import state_at

from separatrix.training.run import DISK, CannotWrite, Files, Run, load_model, save

CALLS = ("open", "write", "sync", "rename", "remove")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES)


def failing(call: str, at: int, number: int, board: dict[str, int]) -> Files:
    """A disk whose `at`-th call of this name fails, and all later ones too; a write takes half before that."""
    good = getattr(DISK, call)

    def broken(*arguments: Any) -> Any:
        board["calls"] += 1
        if board["calls"] < at:
            return good(*arguments)
        board["refused"] = 1
        if call == "write" and board["calls"] == at and len(arguments[1]) > 1:
            good(arguments[0], arguments[1][: len(arguments[1]) // 2])
        raise OSError(number, os.strerror(number))

    return dataclasses.replace(DISK, **{call: broken})


def work(path: Path, files: Files) -> str:
    """Go on with a run by two saves, on this disk; what became of it."""
    try:
        with Run.reopen(path, files=files) as run:
            saved = run.restore()
            first = 0 if saved is None else saved.step or 0
            for step in (first + 1, first + 2):
                run.log(step, {"loss": 1 / step})
                run.save(step, {"model": state_at(step)})
    except CannotWrite:
        return "told"
    return "done"


def refuse_each(folder: Path, errors: tuple[int, ...] = ERRORS) -> Iterator[tuple[str, str]]:
    """Every call failing in turn with each of these errors: which, and what is wrong with what is left; "" for nothing."""
    case = 0
    for number, call in itertools.product(errors, CALLS):
        for at in range(1, 100):
            path, case = folder / f"refused{case}", case + 1
            with Run.create(path) as run:
                run.log(1, {"loss": 1.0})
                run.save(1, {"model": state_at(1)})
            board = {"calls": 0, "refused": 0}
            said = work(path, failing(call, at, number, board))
            if not board["refused"]:
                break
            yield call, wrong_with(path, said)


def wrong_with(path: Path, said: str) -> str:
    """What is wrong with a run after a refusal; empty where nothing is."""
    run = Run.open(path)
    latest = run.latest()
    if said != "told":
        return "the refusal was not told"
    if latest.passed_over or not np.array_equal(latest.tree["model"], state_at(latest.step or 0)):
        return "a checkpoint is not whole"
    if list(path.rglob("*.tmp")):
        return "a temporary file is left"
    if work(path, DISK) != "done" or list(run.steps) != list(range(1, (latest.step or 0) + 3)):
        return "the run does not go on"
    return ""


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[Path | None]:
    """A disk of so many bytes; None where we may not mount one."""
    folder = Path(tempfile.mkdtemp())
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def full_disk() -> str:
    """A run and a model on a disk that fills up; what was wrong, or which part could not be tried."""
    with small_disk(1 << 20) as folder:
        if folder is None:
            return "not tried: mounting takes root"
        model = {"weights": np.arange(40_000, dtype=np.float64)}  # 320 kB: two fit, a third does not
        path = folder / "model.safetensors"
        save(path, model)
        (folder / "filler").write_bytes(b"\0" * 600_000)
        for _ in range(3):
            if not told(lambda: save(path, {"weights": np.zeros(40_000)})):
                return "a full disk was not told"
            if not np.array_equal(load_model(path)["weights"], model["weights"]):
                return "the old model is lost"
        if len(list(folder.iterdir())) != 2:
            return "something is left"
    return ""


def read_only() -> str:
    """A folder that may not be written; what was wrong."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    run = folder / "run"
    with Run.create(run) as made:
        made.save(1, {"model": state_at(1)})
    run.chmod(0o555)
    (run / "lock").chmod(0o444)

    code = CHILDREN.wait(CHILDREN.start("read_only_child", str(folder)))
    run.chmod(0o755)
    return {0: "", 3: "a read-only folder was not told", 4: "it cannot be read"}.get(code, f"ended with {code}")


def read_only_child(where: str) -> None:
    """Try to write there, as nobody."""
    folder = Path(where)
    run = folder / "run"
    # What is imported on first use may lie where nobody may read.
    with tempfile.TemporaryDirectory() as warm, Run.create(Path(warm) / "run") as first:
        first.save(1, {"model": state_at(1)}, wait=True)
    Run.open(run).latest()
    told(lambda: save(folder / "nowhere" / "m", {}))
    if os.getuid() == 0:
        os.setgroups([])
        os.setuid(65534)
    refused = [lambda: Run.reopen(run), lambda: save(folder / "m", {}), lambda: Run.create(folder / "new")]
    if not all(told(call) for call in refused if call is refused[0] or os.getuid() == 65534):
        os._exit(3)
    if not np.array_equal(Run.open(run).latest().tree["model"], state_at(1)):
        os._exit(4)


def told(call: Callable[[], Any]) -> bool:
    """Whether it ends in our words for a disk that refuses."""
    try:
        call()
    except CannotWrite as error:
        return "cannot be written" in str(error)
    return False
