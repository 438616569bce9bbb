"""Which process: a number that the system gives again, and when it began, which tells two of one number apart."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Process:
    """A process of this machine: its number, and a number for when it began (None where the system does not tell)."""

    pid: int
    start: int | None

    @staticmethod
    def current() -> "Process":
        """The process that asks."""
        told = _told(os.getpid())
        return Process(os.getpid(), None if told is None else told[1])

    def alive(self) -> bool:
        """Whether it still runs. One that began at another time is another process; a dead one that its parent has
        not asked about yet is dead. What the system does not tell counts as alive."""
        if not _exists(self.pid):
            return False
        told = _told(self.pid)
        if told is None:
            return True
        state, start = told
        return state not in "ZX" and self.start in (None, start)


def boot() -> str:
    """What changes when the machine starts anew; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def namespace() -> str:
    """In which numbering of processes we are: a container has its own; empty where the system does not tell."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _told(pid: int) -> tuple[str, int] | None:
    """State and start of a process, in the system's words."""
    try:
        if sys.platform == "linux":
            # The name of the program, in brackets, may hold anything; numbers follow the last bracket.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return fields[0], int(fields[19])
        command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
        state, _, start = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition(" ")
        return state[:1], int.from_bytes(hashlib.sha256(start.strip().encode()).digest()[:6], "big")
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None
