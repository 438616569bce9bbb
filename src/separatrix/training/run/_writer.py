"""Work beside the computation: one thing at a time, and what goes wrong is told to the next who asks."""

import threading
from collections.abc import Callable


class Writer:
    """Runs functions in a thread of its own, at most one at once.

    The thread outlives the end of the main program for as long as its function takes, so that what was begun is finished.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def wait(self) -> None:
        """Wait for what is under way.

        **Raises:** what went wrong since somebody asked last.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what went wrong, without waiting."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def start(self, work: Callable[[], None]) -> None:
        """Begin a function. `wait` first: what is under way may use the same memory."""
        self._thread = threading.Thread(target=self._do, args=(work,), name="separatrix writer")
        self._thread.start()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error
