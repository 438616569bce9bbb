"""Words for what is no fault of ours: the user's own code, and the files and disks that a command meets."""

import contextlib
import errno
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import separatrix
from separatrix._errors import explain
from separatrix.cli.signals import Terminated, came

_DO = "Repair it there. See the traceback with --debug."
_OURS = str(Path(separatrix.__file__).parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})

# errno -> what to do
_OS: dict[int, str] = {
    errno.ENOSPC: "The disk is full: free some space, or name a folder on another disk.",
    errno.EDQUOT: "Your quota of the disk is full: free some space, or name a folder on another disk.",
    errno.EROFS: "The disk is read-only: name a folder that can be written to.",
    errno.EACCES: "You may not: change its permissions, or name a folder of your own.",
    errno.EPERM: "You may not: change its permissions, or name a folder of your own.",
    errno.EISDIR: "Name a file in it.",
    errno.ENOTDIR: "A part of the path is a file: name a folder there.",
    errno.EEXIST: "A file has this name: name another folder, or move it away.",
    errno.ENAMETOOLONG: "Give it a shorter name.",
    errno.ENOENT: "Check the path; make its folder first.",
    errno.ELOOP: "The path leads through links to itself: repair the links.",
    errno.EMFILE: "Too many files are open: raise the limit with ulimit -n.",
    errno.ENFILE: "Too many files are open on this machine: close some programs.",
    errno.EIO: "The disk failed: check it, or name a folder on another one.",
    errno.EFBIG: "The file would be larger than is allowed: name a folder on another disk.",
    errno.EBUSY: "Something else holds it: try again, or name another.",
}


EVERY = object()


class TheirFault(Exception):
    """An error in the user's own code, in words: exit code 2."""


def os_words(error: OSError) -> str:
    """An error of the operating system as got, expected, do this."""
    place = error.filename2 or error.filename or "a file"
    place = place.decode(errors="replace") if isinstance(place, bytes) else str(place)
    got = error.strerror or text_of(error) or type(error).__name__
    do = _OS.get(error.errno or 0, "Check the path and the disk, and try again.")
    return explain(place[:200], got[:1].lower() + got[1:], "a file or folder that can be used", do)


@contextlib.contextmanager
def their_code(where: str, home: Any = EVERY) -> Iterator[None]:
    """Tell what the user's own code raises as the user's, with its file and line.

    **Arguments:**

    - `where`: what was asked of it.
    - `home`: where ours calls theirs and theirs ours: the module they live in. An error is then the user's if the last
      frame that is ours or the user's is the user's. By default every error is.
    """
    try:
        yield
    except Exception as raised:
        # Ours may have told it in words of its own.
        cause = raised.__cause__
        error = cause if isinstance(cause, Exception) and _is_theirs(cause, home) else raised
        if isinstance(error, TheirFault) or (home is not EVERY and not _is_theirs(error, home)):
            raise
        raise TheirFault(_told(where, error, home)) from error
    except (KeyboardInterrupt, Terminated) as error:
        if came() is not None:
            raise
        raise TheirFault(_told(where, error, home)) from error
    except BaseException as error:  # SystemExit: the module wanted to end the program
        raise TheirFault(_told(where, error, home)) from error


def text_of(error: BaseException) -> str:
    """What an error says, in one line."""
    try:
        text = " ".join(str(error).split())
    except Exception as failure:
        text = f"its own text fails with {type(failure).__name__}"
    return text if len(text) <= 300 else f"{text[:300]}..."


def _told(where: str, error: BaseException, home: Any) -> str:
    text = error.msg if isinstance(error, SyntaxError) else text_of(error)
    got = f"{type(error).__name__}{f': {text}' if text else ''}{_place(error, home)}"
    expected = "your code to run" if not isinstance(error, SystemExit) else "your code to leave the program running"
    return explain(where, got, expected, _DO)


def _place(error: BaseException, home: Any) -> str:
    """The file and line where the user's own code was last."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" in {error.filename}, line {error.lineno}"
    frames = [
        frame for frame in _frames(error) if not _is_library(frame.filename, home) and not _is_ours(frame.filename)
    ]
    return f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _is_theirs(error: BaseException, home: Any) -> bool:
    """Whether the last frame that is no library's is the user's; a system of the catalogue has none."""
    told = [frame.filename for frame in _frames(error) if not _is_library(frame.filename, home)]
    return home is not None and bool(told) and not _is_ours(told[-1])


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS)


def _is_library(filename: str, home: Any) -> bool:
    """Whether a file is Python's or an installed package's, other than the user's own module."""
    own = getattr(home, "__file__", None)
    if own and (filename == own or (filename.startswith(f"{Path(own).parent}/") and Path(own).name == "__init__.py")):
        return False
    return filename.startswith(("<frozen", "<__array_function__")) or (
        not _is_ours(filename) and filename.startswith(_LIBRARIES)
    )
