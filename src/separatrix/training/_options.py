"""What `fit` was asked: checked, and completed by what follows from it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain, unknown
from separatrix.systems import ranges
from separatrix.training.averaging import PowerAverage

DIVERGENCE = ("stop", "roll_back", "skip")
LAST_BATCH = ("keep", "drop")
DRAW = ("replacement", "epochs")


class Length(NamedTuple):
    """How many steps, the number of the first, and how many lie between measurements."""

    steps: int
    start: int
    every: int

    @property
    def end(self) -> int:
        """The number of the step after the last."""
        return self.start + self.steps


def length(steps: Any, epochs: Any, per_epoch: int | None, start: Any, every: Any) -> Length:
    """The length of a run, said in steps or in epochs.

    **Raises:** `ValueError` unless one of them is given.
    """
    if (steps is None) == (epochs is None):
        got = "neither steps nor epochs" if steps is None else f"steps={steps} and epochs={epochs}"
        do = "Say steps=1000, or epochs=10 for so many times through the data."
        raise ValueError(explain("fit: steps", got, "one of them", do))
    if epochs is not None:
        epochs = ranges.whole("fit: epochs", epochs, "Say how many: epochs=10.", least=0)
        if per_epoch is None:
            do = "Pass data as arrays, or say steps=."
            raise ValueError(explain("fit: epochs", epochs, "steps, where no data is gone through", do))
        steps = epochs * per_epoch
    steps = ranges.whole("fit: steps", steps, "Say how many: steps=1000.", least=0)
    start = ranges.whole("fit: start", start, "Pass the number of the first step.", least=0)
    if every is not None:
        every = ranges.whole("fit: every", every, "Leave it out for a hundredth of the run.")
    return Length(steps, start, every or max(1, steps // 100))


def word(name: str, value: Any, words: tuple[str, ...]) -> str:
    """One of several words.

    **Raises:** `ValueError` with the nearest.
    """
    if value not in words:
        raise ValueError(unknown(f"fit: {name}", value, words, f'Say {name}="{words[0]}".'))
    return value


def decay(average: Any) -> Any:
    """The factor of a running average, below 1, or a profile."""
    if average is None or isinstance(average, PowerAverage):
        return average
    ranges.nonnegative("fit: average", average, "Pass for example average=0.999.")
    ranges.ordered("fit: average", average, 1.0, "Pass for example average=0.999.", strictly=True)
    return jnp.asarray(average)


def callable_or_none(name: str, value: Any, do: str) -> Callable[..., Any] | None:
    """A function, or nothing."""
    if value is not None and not callable(value):
        raise TypeError(explain(f"fit: {name}", type(value).__name__, "a function", do))
    return value


def patience(value: Any, validation: Any) -> int | None:
    """How many measurements without a lower validation are waited for."""
    if value is None:
        return None
    if validation is None:
        do = "Pass validation=0.1 or validation=(inputs, targets)."
        raise ValueError(explain("fit: patience", value, "none, without validation", do))
    return ranges.whole("fit: patience", value, "Say how many measurements may pass without a lower validation.")


def is_share(validation: Any) -> bool:
    """Whether validation is given as a share of the data."""
    return isinstance(validation, int | float | np.integer | np.floating)
