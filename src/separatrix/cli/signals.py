"""Ctrl-C and SIGTERM: work stops, what is finished stays, and the process is gone within five seconds.

Python hands a signal to its handler only between two instructions of its own, and a compiled program may run for
hours between them. So the number of each signal is also written to a pipe, by the interpreter's C handler at once; a
thread that waits there ends the process if the orderly way has not ended it in time. A second Ctrl-C ends it at once.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

PATIENCE = 4.0  # seconds; the promise is five
_EXITS = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Terminated(BaseException):
    """SIGTERM, as an exception: `finally` blocks run."""


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Turn signals into exceptions while the block runs. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        yield
        return
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


def _raise(number: int, _: Any) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _watch(source: int) -> None:
    """Wait for a signal, then for its end; the sink closed without one means that all is done."""
    import select

    first = os.read(source, 1)
    if not first or first[0] not in _EXITS:
        os.close(source)
        return
    readable, _, _ = select.select([source], [], [], PATIENCE)
    if not readable or os.read(source, 1):
        os.write(2, b"separatrix: stopped inside a compiled program; what was finished is kept\n")
        os._exit(_EXITS[signal.Signals(first[0])])
    os.close(source)
