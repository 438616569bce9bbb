"""Ctrl-C and SIGTERM: work stops, what is finished stays, and the process is gone within five seconds.

Python hands a signal to its handler only between two instructions of its own, and a compiled program may run for
hours between them. So the number of each signal is also written to a pipe, by the interpreter's C handler at once; a
thread that waits there ends the process if the orderly way has not ended it in time. A second Ctrl-C ends it at once.

The orderly way is an exception, raised once: it may meet a library that swallows it or turns it into another, or the
interpreter's own end, which waits for threads and for devices. The thread watches over all of these, until the process is
gone, and nothing of them is printed.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

PATIENCE = 3.0  # seconds; the promise is five, on a busy machine too
_EXITS = {signal.SIGINT: 130, signal.SIGTERM: 143}
_came: list[int] = []
_run: list[Any] = []  # the folder of the run that is carried out


class Terminated(BaseException):
    """SIGTERM, as an exception: `finally` blocks run."""


def came() -> int | None:
    """The exit code of the signal that came, or None."""
    return _EXITS[signal.Signals(_came[0])] if _came else None


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Turn signals into exceptions while the block runs. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        yield
        return
    _came.clear()
    _run.clear()
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    old = {number: signal.signal(number, _raise) for number in _EXITS}
    woken = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(source,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in old.items():
            signal.signal(number, handler)
        os.close(sink)


def carrying_out(folder: Any) -> None:
    """From here on who is ended says how this run goes on, once there is something of it."""
    _run[:] = [folder]


def quiet_end() -> None:
    """From here on a signal ends the process without a word of Python's."""
    if threading.current_thread() is threading.main_thread() and os.name == "posix":
        for number in _EXITS:
            signal.signal(number, signal.SIG_DFL)


def _raise(number: int, _: Any) -> None:
    """Raise once: a second signal is the watching thread's."""
    if _came:
        return
    _came.append(number)
    sys.unraisablehook = threading.excepthook = _say_nothing
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _say_nothing(*_: Any) -> None:
    """What is interrupted on its way may fail in many places; none of it is news."""


def _watch(source: int) -> None:
    """Wait for a signal, then for the end; the sink closed without one means that all is done."""
    import select

    first = os.read(source, 1)
    if not first or first[0] not in _EXITS:
        os.close(source)
        return
    deadline = time.monotonic() + PATIENCE
    readable, _, _ = select.select([source], [], [], PATIENCE)
    ended = bool(readable) and not os.read(source, 1)
    os.close(source)
    # The command has ended: what is left is the interpreter's own end, which is none where a program called the command.
    while ended and threading.main_thread().is_alive():
        time.sleep(0.05)
    if ended:
        time.sleep(max(0.0, deadline - time.monotonic()))
    else:
        kept = [folder for folder in _run if os.path.exists(os.path.join(folder, "run.json"))]
        more = "".join(f"\n  Go on: separatrix resume {folder}" for folder in kept)
        os.write(2, f"separatrix: stopped inside a compiled program; what was finished is kept{more}\n".encode())
    os._exit(_EXITS[signal.Signals(first[0])])
