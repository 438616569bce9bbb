r"""Files that are whole or not there, also after a power cut.

    create a temporary name -> write -> fsync -> rename to the final name -> fsync the folder

Renaming is atomic: a reader sees the old file or the new one. The first fsync puts the content on the disk before its
name, the second puts the name there before anyone is told that the file is saved. All that touches the disk goes through
the five functions of `Files`, so that a test can let any of them fail.
"""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from separatrix._errors import explain
from separatrix.training.run._process import Process
from separatrix.training.run.errors import CannotWrite

# Windows opens files as text unless told otherwise, and cannot open a folder.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)

_COUNTER = itertools.count()
_STRAY = re.compile(r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d*)-\d+\.tmp")


def _sync(handle: int) -> None:
    """fsync; on macOS that only reaches the drive's cache, and F_FULLFSYNC reaches the disk."""
    try:
        import fcntl

        full = fcntl.F_FULLFSYNC  # pyright: ignore[reportAttributeAccessIssue]
    except (ImportError, AttributeError):
        os.fsync(handle)
    else:
        fcntl.fcntl(handle, full)


@dataclasses.dataclass(frozen=True)
class Files:
    """The five functions that touch the disk."""

    open: Callable[..., int] = os.open
    write: Callable[..., int] = os.write
    sync: Callable[..., None] = _sync
    rename: Callable[..., None] = os.replace
    remove: Callable[..., None] = os.unlink


DISK = Files()


def write_whole(path: Path, chunks: Iterable[Any], files: Files = DISK) -> None:
    """Write the chunks as one file that appears whole, or not at all.

    **Raises:** `CannotWrite` where the disk refuses; what bore the name before is then as it was.
    """
    path = Path(os.path.realpath(path))  # a link keeps pointing where it points
    temporary = path.with_name(f".{path.name}.{_token()}.tmp")
    with told(path), _removed_on_error(temporary):
        handle = files.open(temporary, _CREATE, 0o666)
        try:
            for chunk in chunks:
                write_all(handle, chunk, files)
            files.sync(handle)
        finally:
            os.close(handle)
        files.rename(temporary, path)
        sync_folder(path.parent, files)


@contextlib.contextmanager
def _removed_on_error(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_all(handle: int, data: Any, files: Files = DISK) -> None:
    """Write all bytes: one call may take fewer than it was given."""
    rest = memoryview(data)
    rest = rest.cast("B") if rest.nbytes else rest[:0]
    while rest.nbytes:
        rest = rest[files.write(handle, rest) :]


def sync_folder(folder: Path, files: Files = DISK) -> None:
    """Put the names in a folder on the disk. A file system that knows no such thing has nothing to do."""
    if os.name == "nt":
        return
    handle = files.open(folder, _FOLDER, 0)
    try:
        files.sync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path, files: Files = DISK) -> None:
    """Make a folder and those above it, where they are not there, and put their names on the disk.

    **Raises:** `CannotWrite`.
    """
    with told(folder):
        new = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in new:
            sync_folder(path.parent, files)


def remove(path: Path, files: Files = DISK) -> None:
    """Remove a file, which may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(path)


def clear_strays(folder: Path, name: str | None = None, *, alone: bool = False) -> list[Path]:
    """Remove temporary files that a dead process left; return them.

    **Arguments:**

    - `folder`: where to look. `name`: only those of this file.
    - `alone`: the caller knows that nobody else writes here, so that all are strays.
    """
    cleared = []
    for path in sorted(folder.glob(".*.tmp")):
        found = _STRAY.fullmatch(path.name)
        if found is None or (name is not None and found["name"] != name):
            continue
        owner = Process(int(found["pid"]), int(found["start"] or 0) or None)
        if alone or (found["host"] == _host() and not owner.alive()):
            with contextlib.suppress(OSError):
                path.unlink()
                cleared.append(path)
    return cleared


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """What the system refuses in the block is told in our words.

    **Raises:** `CannotWrite`.
    """
    try:
        yield
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: OSError) -> CannotWrite:
    do = "Free some space, or check that the folder is there and may be written. What was saved before is whole."
    got = (error.strerror or str(error)).lower()
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return CannotWrite(explain(f"{path}: cannot be written", "a file of this name", "a folder", "Choose another."))
    return CannotWrite(explain(f"{path}: cannot be written", got, "a disk that takes it", do))


def _token() -> str:
    here = Process.current()
    return f"{_host()}-{here.pid}-{here.start or ''}-{next(_COUNTER)}"


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
