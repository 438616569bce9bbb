"""One line of progress: how far, how fast, how long yet, and what was measured last."""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_SHARE = 0.01  # of the run between two plain lines


def teller(progress: Any, steps: int) -> "Silent":
    """What `fit` tells of its progress: to a function, to the screen, or nobody."""
    if progress is True:
        return ProgressLine(steps)
    return Called(progress, steps) if callable(progress) else Silent()


class Silent:
    """Tells nobody."""

    def say(self, done: int, metrics: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


class Called(Silent):
    """Calls progress(done, total)."""

    def __init__(self, function: Callable[[int, int], Any], steps: int) -> None:
        self._function, self._steps = function, steps

    def say(self, done: int, metrics: dict[str, Any]) -> None:
        self._function(done, self._steps)


class ProgressLine(Silent):
    """One line that is written over in a terminal, by rich; elsewhere a plain line for each hundredth."""

    def __init__(self, steps: int) -> None:
        self._steps, self._begun, self._first, self._told = steps, time.monotonic(), None, -1.0
        self._bar = _bar() if sys.stderr.isatty() else None

    def say(self, done: int, metrics: dict[str, Any]) -> None:
        now = time.monotonic()
        if self._first is None:
            # Compiling is no step: the rate counts from here.
            self._first, self._begun = done, now
        text = self._text(done, now - self._begun, metrics)
        if self._bar is not None:
            self._bar.update(_plain(text))
        elif done == self._steps or done / max(self._steps, 1) >= self._told + _SHARE:
            self._told = done / max(self._steps, 1)
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _text(self, done: int, seconds: float, metrics: dict[str, Any]) -> str:
        rate = (done - (self._first or 0)) / seconds if seconds > 0 else 0.0
        left = f"{_clock((self._steps - done) / rate)} left" if rate else "..."
        told = "  ".join(f"{name} {short(value)}" for name, value in metrics.items())
        return f"{done / max(self._steps, 1):4.0%}  {done}/{self._steps}  {rate:.3g} steps/s  {left}  {told}".rstrip()


def short(value: Any) -> str:
    """The first two numbers of a measurement."""
    import jax

    numbers = [number for leaf in jax.tree.leaves(value) for number in np.ravel(leaf)[:2]]
    return ", ".join(f"{float(number):.3g}" for number in numbers)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _plain(text: str) -> Any:
    """The text as it is: rich takes brackets for its own words."""
    from rich.text import Text

    return Text(text)


def _bar() -> Any:
    from rich.console import Console
    from rich.live import Live

    live = Live(console=Console(stderr=True), refresh_per_second=8)
    live.start()
    return live
