"""What an evolution keeps: when, and which function of the state."""

import os
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from separatrix._errors import explain
from separatrix._types import Function, State
from separatrix.systems.signature import as_pytree

# Fewer rows than these are not worth the look.
_MANY_ROWS = 1_000_000


def identity(state: State) -> State:
    """The state itself."""
    return state


class Save(eqx.Module):
    """Keep `fn(state)` at some of the steps or times.

    **Arguments:**

    - `at`: `"all"`, `"last"`, a whole number k (every k-th step, fixed steps only), or an increasing array of step
      numbers (maps) or times (flows and SDEs).
    - `fn`: what to keep of a state; all of it by default. Only its values are stored.

    **Example:** the mean of an ensemble, every hundredth step.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> halving = sx.as_map(lambda x: 0.5 * x)
    >>> sx.evolve(halving, jnp.ones(3), steps=4, save=sx.Save(at=2, fn=jnp.sum)).states.tolist()
    [3.0, 0.75, 0.1875]
    """

    at: Any = eqx.field(default="all", static=False)
    fn: Function = identity


def resolve(save: Any) -> Save:
    """Read the `save` argument of `evolve`."""
    if isinstance(save, Save):
        return Save(_check_at(save.at), as_pytree(save.fn))
    if callable(save):
        return Save("all", as_pytree(save))
    return Save(_check_at(save), as_pytree(identity))


def _check_at(at: Any) -> Any:
    if isinstance(at, str):
        if at in ("all", "last"):
            return at
    elif isinstance(at, int | np.integer) and not isinstance(at, bool):
        if at >= 1:
            return int(at)
    elif np.ndim(at) == 1 and np.size(at) > 0:
        return at
    raise ValueError(
        explain(
            "evolve: save",
            repr(at),
            '"all", "last", every k >= 1, an increasing 1-D array, a function, or Save',
            "Choose one of these; sx.Save(at=..., fn=...) combines when and what.",
        )
    )


def saved_steps(at: Any, start: int, steps: int) -> np.ndarray:
    """The step numbers to keep, all in start, ..., start + steps.

    **Raises:** `ValueError` where they are not whole, not increasing, outside, or not known while tracing.
    """
    if isinstance(at, str):
        return np.arange(start, start + steps + 1) if at == "all" else np.array([start + steps])
    if isinstance(at, int):
        return np.arange(start, start + steps + 1, at)
    if isinstance(at, Tracer):
        raise TypeError(
            explain(
                "evolve: save",
                "traced step numbers",
                "step numbers known while tracing",
                "Pass a NumPy array or list, not an argument of the jitted function.",
            )
        )
    numbers = np.asarray(at)
    whole = np.rint(numbers).astype(np.int64)
    if not (np.all(whole == numbers) and np.all(np.diff(whole) > 0)):
        raise ValueError(explain("evolve: save", numbers, "increasing whole step numbers", "Sort them; drop repeats."))
    if whole[0] < start or whole[-1] > start + steps:
        raise ValueError(
            explain(
                "evolve: save",
                f"steps {whole[0]} to {whole[-1]}",
                f"step numbers within {start} to {start + steps}",
                "Take more steps, or save fewer.",
            )
        )
    return whole


def check_rows_fit(save: Save, steps: int, state: State, what: str) -> None:
    """Refuse to keep more rows than the machine has memory for."""
    rows = steps + 1 if isinstance(save.at, str) else steps // save.at + 1 if isinstance(save.at, int) else 0
    if rows <= _MANY_ROWS or save.at == "last":
        return
    shapes = eqx.filter_eval_shape(save.fn, state)
    row = sum(leaf.size * jax.numpy.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(shapes))
    if rows * max(row, 8) > _memory():
        got = f"{rows:.3g} rows of {row} bytes, more than the memory of this machine"
        do = f'Keep less: save="last", save={max(2, rows // 1000)} for a thousand rows, or a function of the state.'
        raise ValueError(explain(f"{what}: save", got, "rows that fit in memory", do))


def _memory() -> int:
    """Bytes of physical memory; 64 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 36


def take_rows(rows: PyTree, indices: np.ndarray) -> PyTree:
    """Rows of a tree of stacked values; the tree itself where all of them are meant."""
    count = jax.tree.leaves(rows)[0].shape[0] if jax.tree.leaves(rows) else 0
    if len(indices) == count and np.array_equal(indices, np.arange(count)):
        return rows
    return jax.tree.map(lambda leaf: leaf[indices], rows)
