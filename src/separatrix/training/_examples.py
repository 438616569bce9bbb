"""Examples: a tree of arrays whose first axis counts them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._types import Checked
from separatrix.systems import ranges


def examples_of(data: Any, what: str) -> tuple[Any, int]:
    """Return the data as a tree of arrays, and how many examples it holds.

    A data set with `inputs` and `targets` becomes their pair (the inputs alone where it has no targets).
    """
    data = pair_of(data)
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(data)]
    counts = {shape[0] if shape else 0 for shape in shapes}
    if len(counts) != 1 or 0 in counts:
        got = " and ".join(map(str, shapes)) or "no array"
        do = "Put the examples on the first axis."
        raise ValueError(explain(what, got, "arrays of one length >= 1", do))
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        found = ranges.first_not_finite(leaf)
        if found is not None:
            name, do = f"{what}{jax.tree_util.keystr(path)}{list(found[1])}", "Drop or fill missing values first."
            raise ValueError(explain(name, found[0], "a finite number", do))
    return jax.tree.map(jnp.asarray, data), counts.pop()


def pair_of(data: Any) -> Any:
    """(inputs, targets) of a data set, or its inputs alone; a tree that holds more than these stays as it is."""
    if not hasattr(data, "inputs"):
        return data
    targets = getattr(data, "targets", None)
    parts = jax.tree.leaves(data, is_leaf=lambda node: node is not data)
    if not all(any(part is known for known in (data, data.inputs, targets)) for part in parts):
        return data
    return data.inputs if targets is None else (data.inputs, targets)


def check_batch_size(batch_size: Checked[int | None], count: int, what: str) -> None:
    """Refuse a batch that is empty or larger than the data."""
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if batch_size is not None and not (whole and 1 <= batch_size <= count):
        do = "Take a smaller batch, or batch_size=None for all."
        raise ValueError(explain(what, batch_size, f"1 to {count}, the number of examples", do))


def drawn(key: Any, batch_size: int, count: int) -> Any:
    """Places of examples that are drawn with replacement."""
    return jax.random.randint(key, (batch_size,), 0, count)
