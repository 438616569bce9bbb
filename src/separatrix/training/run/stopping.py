r"""Being asked to stop: the first signal is a wish, the second is an order.

    first SIGINT or SIGTERM     a flag: the step is finished, the state saved, the run ended
    second                      goes to whoever handled it before: at once, the last checkpoint whole

Python hands signals on between two instructions of its own; a program that steps in chunks looks at the flag at their
borders. The command line adds a patience of its own, after which the process ends however long the chunk.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

_EXITS = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stop:
    """Whether somebody asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def asked(self) -> bool:
        """Whether somebody did."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, 0 otherwise."""
        return 0 if self.signal is None else _EXITS[signal.Signals(self.signal)]


@contextlib.contextmanager
def stop_asked() -> Iterator[Stop]:
    """A `Stop` that signals set while the block runs. Outside the main thread nobody can ask.

    **Example:**

    >>> import os, signal
    >>> with stop_asked() as stop:
    ...     os.kill(os.getpid(), signal.SIGINT)
    ...     print(stop.asked, stop.exit_code)
    True 130
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {}

    def ask(number: int, _: Any) -> None:
        if stop.signal is None:
            stop.signal = number
            return
        _restore(before)
        signal.raise_signal(number)

    before.update({number: signal.signal(number, ask) for number in _EXITS})
    try:
        yield stop
    finally:
        _restore(before)


def _restore(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
