"""Validation: the loss on other data, in evaluation mode, and what is decided by it."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import numpy as np

from separatrix._errors import explain
from separatrix.systems import ranges
from separatrix.training._course import with_layers
from separatrix.training._feeding import View, is_mapped

# Examples that are validated at once.
_SLICE = 4096
_SPLIT_STREAM = 2**31 - 3


class Validation:
    """The mean loss over data, slice by slice.

    Slices hold a few thousand examples, weighted by their lengths, so that the value is that of a mean over all of them.
    """

    def __init__(self, objective: Any, data: Any, key: Any) -> None:
        objective = dataclasses.replace(objective, evaluating=True)
        self._objective, self._data, self._key = objective, data, key
        self._count = jax.tree.leaves(data)[0].shape[0]

    def __call__(self, parameters: Any, layers: Any) -> float:
        total = 0.0
        for first in range(0, self._count, _SLICE):
            part = jax.tree.map(lambda leaf, first=first: jax.numpy.asarray(leaf[first : first + _SLICE]), self._data)
            size = min(_SLICE, self._count - first)
            total += float(_loss(self._objective.on_batch(part), parameters, layers, self._key)) * size
        return total / self._count


@eqx.filter_jit
def _loss(objective: Any, parameters: Any, layers: Any, key: Any) -> Any:
    return with_layers(objective, layers)(parameters, key=key)


class Patience:
    """The lowest validation so far, where it was, and how many measurements ago."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.lowest, self.step, self.since = np.inf, None, 0

    def sees(self, step: int, value: float) -> bool:
        """Take a value; return whether it is the lowest. NaN never is."""
        if value < self.lowest:
            self.lowest, self.step, self.since = value, step, 0
            return True
        self.since += 1
        return False

    def to_save(self) -> dict[str, Any]:
        """Where it stands, for a checkpoint."""
        return {"lowest": float(self.lowest), "step": self.step, "since": self.since}

    def take_up(self, saved: dict[str, Any]) -> None:
        """Go on from where it stood."""
        self.lowest, self.step, self.since = saved["lowest"], saved["step"], saved["since"]

    @property
    def is_over(self) -> bool:
        """Whether there were too many measurements without a lower one."""
        return self.patience is not None and self.since >= self.patience


def held_out(data: Any, count: int, share: float, key: Any) -> tuple[Any, Any]:
    """Split examples by a key: (those to train on, those to validate on), each in an order of its own.

    **Raises:** `ValueError` where one of them would be empty.
    """
    ranges.finite("fit: validation", share, "Give a share such as 0.1, or data.")
    size = round(float(share) * count)
    if not 0 < size < count:
        got, do = f"{share} of {count} examples", "Give a share such as 0.1, or data."
        raise ValueError(explain("fit: validation", got, "a share that leaves examples on both sides", do))
    if key is None:
        do = "Pass key=jax.random.key(0), by which examples are held out, or pass the data to validate on."
        raise ValueError(explain("fit: key", f"None with validation={share}", "a PRNG key", do))
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, _SPLIT_STREAM), count))
    return at_places(data, order[size:]), at_places(data, order[:size])


def at_places(data: Any, places: np.ndarray) -> Any:
    """Examples at some places; of a file that is mapped into memory a view that reads them when they are asked for."""
    return jax.tree.map(lambda leaf: View(leaf, places) if is_mapped(leaf) else leaf[places], data)
