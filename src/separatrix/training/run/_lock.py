r"""One process writes in a folder.

The file `lock` says who: pid, start of the process, host, boot and numbering of processes. Who wants it reads it while
holding the system's lock on that file, which serialises all takers of one machine, and takes it where

- it is free: empty, or torn, since its writer died while writing it;
- or its holder is proven dead: of this host, and the machine has been started anew, or no process has this number, or the
  one that has it began at another time.

A holder of another host, or in a container of its own, cannot be proven dead: it is refused, unless forced.
"""

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from separatrix._errors import explain
from separatrix.training.run._disk import DISK, Files, told, write_all
from separatrix.training.run._process import Process, boot, namespace
from separatrix.training.run.errors import RunLocked, StorageError

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_MOST = 4096  # bytes
_PATIENCE = 5.0  # seconds


class Lock:
    """The right to write in a folder, held until `release`.

    **Raises:** `RunLocked` where somebody else holds it; `CannotWrite` where the folder cannot be written.
    """

    def __init__(self, path: Path, *, force: bool = False, files: Files = DISK) -> None:
        here = Process.current()
        self.path = path
        self._mine = {
            "pid": here.pid, "start": here.start, "host": socket.gethostname(), "boot": boot(),
            "namespace": namespace(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "token": uuid.uuid4().hex,
        }  # fmt: skip
        with told(path), _alone(path) as handle:
            holder = _read(handle)
            if holder is not None and not force and not proven_dead(holder):
                raise RunLocked(_words(path, holder))
            _write(path, handle, json.dumps(self._mine).encode(), files)

    def held(self) -> bool:
        """Whether it is still ours: somebody may have taken it by force, and a forked copy of us is somebody else."""
        return os.getpid() == self._mine["pid"] and (holder_of(self.path) or {}).get("token") == self._mine["token"]

    def require(self) -> None:
        """Refuse to write once the folder was taken from us."""
        if not self.held():
            raise RunLocked(_words(self.path, holder_of(self.path) or {}))

    def release(self) -> None:
        """Give it back; a lock that is no longer ours stays with its holder."""
        with contextlib.suppress(OSError, StorageError), _alone(self.path, create=False) as handle:
            if os.getpid() == self._mine["pid"] and (_read(handle) or {}).get("token") == self._mine["token"]:
                os.ftruncate(handle, 0)


def holder_of(path: Path) -> dict[str, Any] | None:
    """What the lock says of its holder, dead or alive; None where it is free."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        return _read(handle)
    finally:
        os.close(handle)


def proven_dead(holder: dict[str, Any]) -> bool:
    """Whether a holder is of this host, and no longer among the living."""
    if holder["host"] != socket.gethostname():
        return False
    if holder["boot"] != boot():
        return True
    return holder["namespace"] == namespace() and not Process(holder["pid"], holder["start"]).alive()


@contextlib.contextmanager
def _alone(path: Path, *, create: bool = True) -> Iterator[int]:
    """The file, opened, for one at a time. Where the system has no such locks, as on Windows, there is a gap of
    microseconds between reading and writing."""
    with told(path):
        handle = os.open(path, _OPEN if create else _OPEN & ~os.O_CREAT, 0o666)
    try:
        _wait_for(handle)
        yield handle
    finally:
        os.close(handle)


def _wait_for(handle: int) -> None:
    """Wait for the system's lock, which is held for an instant; not for ever, for its holder may be stopped."""
    with contextlib.suppress(ImportError):
        import fcntl

        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # a file system without locks
                return
        do = "Look for a stopped process that is taking this folder."
        raise RunLocked(explain("lock", f"a lock held for {_PATIENCE} s", "one writer", do))


def _read(handle: int) -> dict[str, Any] | None:
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        holder = json.loads(os.read(handle, _MOST))
        numbers = type(holder["pid"]) is int and type(holder["start"]) in (int, type(None))
        texts = all(isinstance(holder[name], str) for name in ("host", "boot", "namespace", "since", "token"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return holder if numbers and texts else None


def _write(path: Path, handle: int, text: bytes, files: Files) -> None:
    """In place, over what was there: a reader never sees an empty file in between."""
    with told(path):
        try:
            os.lseek(handle, 0, os.SEEK_SET)
            write_all(handle, text, files)
            os.ftruncate(handle, len(text))
            files.sync(handle)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
            raise


def _words(path: Path, holder: dict[str, Any]) -> str:
    who = ", ".join(f"{name} {holder[name]}" for name in ("pid", "host") if name in holder)
    since = f", since {holder['since']}" if "since" in holder else ""
    here = holder.get("host") == socket.gethostname()
    do = "Wait for it, or stop it." if here else "Make sure that it is dead, then pass force=True."
    if holder.get("pid") == os.getpid() and here:
        do = "Close the run that this process holds."
    got = f"a folder in which another process writes ({who}{since})" if who else "a folder taken by another process"
    return explain(str(path.parent), got, "one writer", do)
