r"""Data larger than memory: the host reads the batches of the steps ahead while the machine takes those before.

    steps c K, ..., c K + K - 1  ->  places  ->  examples, read beside the computation  ->  (K, B, ...) on the device

K is as many as fit in 64 MB. Which examples step n takes is what it is in memory, so the numbers are too.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix.systems import _ranges
from separatrix.training._batches import Batches, Source

_BYTES = 1 << 26
_MOST_STEPS = 1024


class View:
    """Some examples of an array that is mapped into memory, in another order, read when they are asked for."""

    def __init__(self, whole: Any, places: np.ndarray) -> None:
        self._whole, self._places = whole, places
        self.shape, self.dtype = (len(places), *whole.shape[1:]), whole.dtype
        self.ndim, self.nbytes = whole.ndim, len(places) * (whole.nbytes // max(len(whole), 1))

    def __getitem__(self, places: Any) -> np.ndarray:
        return self._whole[self._places[places]]

    def __len__(self) -> int:
        return len(self._places)


def is_mapped(leaf: Any) -> bool:
    """Whether an array lies in a file that is mapped into memory, or is a part of such a one."""
    while leaf is not None:
        if isinstance(leaf, np.memmap | View):
            return True
        leaf = getattr(leaf, "base", None) if isinstance(leaf, np.ndarray) else None
    return False


def is_on_disk(data: Any) -> bool:
    """Whether any array of the data lies on the disk."""
    return any(map(is_mapped, jax.tree.leaves(data)))


def lengths_on_disk(data: Any, what: str) -> int:
    """How many examples data on disk hold; no value is looked at.

    **Raises:** `ValueError` for unequal lengths.
    """
    counts = {leaf.shape[0] if leaf.shape else 0 for leaf in jax.tree.leaves(data)}
    if len(counts) != 1 or 0 in counts:
        got = " and ".join(str(leaf.shape) for leaf in jax.tree.leaves(data))
        raise ValueError(explain(what, got, "arrays of one length >= 1", "Put the examples on the first axis."))
    return counts.pop()


def examples_at(data: Any, places: np.ndarray) -> Any:
    """Examples at places of any shape, as arrays of the device.

    **Raises:** `ValueError` for a number that is not finite, naming its example.
    """

    def of(path: Any, leaf: Any) -> Any:
        found = np.asarray(leaf[places.reshape(-1)])
        wrong = _ranges.first_not_finite(found)
        if wrong is not None:
            example = int(places.reshape(-1)[wrong[1][0]])
            name = f"fit: data{jax.tree_util.keystr(path)}{[example, *wrong[1][1:]]}"
            do = "Drop or fill missing values first."
            raise ValueError(explain(name, wrong[0], "a finite number", do))
        return jnp.asarray(found.reshape(*places.shape, *found.shape[1:]))

    return jax.tree_util.tree_map_with_path(of, data)


class Feeder:
    """Hands out the batches of the steps around one, and reads those after them beside the computation."""

    def __init__(self, data: Any, batches: Batches, end: int) -> None:
        self._data, self._batches, self._end = data, batches, end
        example = sum(leaf.nbytes // leaf.shape[0] for leaf in jax.tree.leaves(data))
        self._steps = int(np.clip(_BYTES // max(1, example * batches.size), 1, min(_MOST_STEPS, max(end, 1))))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="separatrix reader")
        self._ahead: dict[int, Future[Source]] = {}
        self._here: tuple[int, Source | None] = (-1, None)

    def source(self, n: int) -> tuple[Source, int]:
        """The batches that hold step n, and the number of the first step that they do not hold."""
        chunk = n // self._steps
        if self._here[0] != chunk:
            future = self._ahead.pop(chunk, None) or self._pool.submit(self._read, chunk)
            self._cancel()
            self._here = chunk, future.result()
            if (chunk + 1) * self._steps < self._end:
                self._ahead[chunk + 1] = self._pool.submit(self._read, chunk + 1)
        source = self._here[1]
        assert source is not None
        return source, (chunk + 1) * self._steps

    def close(self) -> None:
        """Read no more."""
        self._cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _cancel(self) -> None:
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()

    def _read(self, chunk: int) -> Source:
        first = chunk * self._steps
        numbers = first + jnp.arange(self._steps)
        places = np.asarray(self._batches.of_steps(numbers))
        return Source(jnp.asarray(first), examples_at(self._data, places))
