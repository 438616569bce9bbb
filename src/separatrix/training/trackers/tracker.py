r"""Trackers: what a run measures, told to a program that the team already watches.

One protocol of three calls:

    start(about)            once, with what was asked, as plain values
    record(step, values)    each measurement: numbers by name
    finish(outcome)         once: "finished", "interrupted", "diverged" or "failed"

The run folder's own `metrics.jsonl` is always written and is the record; a tracker is a copy. A tracker must never hold a
run up or end it. So its calls are made in a thread beside the run: what it raises, and that it does not answer, is reported
once as a warning, and from then on the run goes on without it.
"""

import contextlib
import math
import queue
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from separatrix._errors import explain

_WAIT = 15.0  # seconds that the end of a run waits for a tracker
_MOST = 10_000  # calls that wait for a tracker; more are left out


@runtime_checkable
class Tracker(Protocol):
    """What a tracker is; see the head of this page."""

    def start(self, about: Mapping[str, Any]) -> None:
        """A run begins, or is gone on with."""
        ...

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step."""
        ...

    def finish(self, outcome: str) -> None:
        """The run has ended."""
        ...


class Told:
    """Tells trackers beside the run; one that fails or hangs is left out, and that is said once."""

    def __init__(self, trackers: Sequence[Tracker], wait: float = _WAIT) -> None:
        self._lines = [_Line(tracker, wait) for tracker in trackers]

    def start(self, about: Mapping[str, Any]) -> None:
        """Begin to tell."""
        for line in self._lines:
            line.call("start", dict(about))

    def record(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Tell the numbers among the metrics; an array of n numbers is n of them."""
        if self._lines:
            values = flat_numbers(metrics)
            for line in self._lines:
                line.call("record", step, values)

    def finish(self, outcome: str) -> None:
        """Tell the end, and wait until it is told, for so long."""
        for line in self._lines:
            line.call("finish", outcome)
        for line in self._lines:
            line.close()


class _Line:
    """The calls to one tracker, in order, in a thread of its own."""

    def __init__(self, tracker: Tracker, wait: float) -> None:
        self._tracker, self._wait = tracker, wait
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(_MOST)
        self._error: str | None = None
        self._said = False
        self._thread = threading.Thread(target=self._work, name="separatrix tracker", daemon=True)
        self._thread.start()

    def call(self, name: str, *args: Any) -> None:
        """Ask for a call; say what went wrong with an earlier one."""
        if self._error is None:
            try:
                self._calls.put_nowait(lambda: getattr(self._tracker, name)(*args))
            except queue.Full:
                self._error = "it is too slow"
        self._say()

    def close(self) -> None:
        """Wait for the calls that were asked for."""
        if self._error is None:
            until = time.monotonic() + self._wait
            with contextlib.suppress(queue.Full):
                self._calls.put(None, timeout=self._wait)
            self._thread.join(max(0.0, until - time.monotonic()))
            if self._thread.is_alive() and self._error is None:
                self._error = f"it did not answer within {self._wait:.0f} s"
        self._say()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException as error:
                text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
                self._error = f"{type(error).__name__}: {text}"[:200]
                return

    def _say(self) -> None:
        if self._error is not None and not self._said:
            self._said = True
            do = "The run goes on without it; its folder keeps every number."
            message = explain(
                f"tracker {type(self._tracker).__name__}", self._error, "a tracker that takes the numbers", do
            )
            warnings.warn(message, RuntimeWarning, stacklevel=4)


def flat_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name, of arrays and trees one a place.

    >>> flat_numbers({"loss": np.array([1.0, 2.0]), "size": 3})
    {'loss.0': 1.0, 'loss.1': 2.0, 'size': 3.0}
    """
    found: dict[str, float] = {}
    for name, value in metrics.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            array = np.asarray(leaf)
            if array.dtype.kind not in "fiub":
                continue
            full = name + jax.tree_util.keystr(path, simple=True, separator=".").join(("." if path else "", ""))
            for i, number in enumerate(array.reshape(-1)):
                found[full if array.ndim == 0 else f"{full}.{i}"] = float(number)
    return found


def plain_or_none(number: float) -> float | None:
    """A number as JSON has it: what is not finite is None."""
    return number if math.isfinite(number) else None


def trackers_of(tracker: Any) -> tuple[Tracker, ...]:
    """One tracker, or several, checked.

    **Raises:** `TypeError` for what has not the three calls.
    """
    several = tuple(tracker) if isinstance(tracker, tuple | list) else () if tracker is None else (tracker,)
    for one in several:
        for name in ("start", "record", "finish"):
            if not callable(getattr(one, name, None)) or isinstance(one, type):
                do = 'Pass for example TensorBoard("logs"), or an object with these three calls.'
                got = f"{one.__name__}, a class" if isinstance(one, type) else f"{type(one).__name__} without {name}"
                raise TypeError(explain("fit: tracker", got, "start, record and finish", do))
    return several
