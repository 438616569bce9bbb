r"""Nets of cells: in layers, forth and back, over sequences of unequal length, and with gradients cut off.

    Stacked         x1' = F1(x1, u),  x2' = F2(x2, h(x1')), ...                 (h: what is read of a state)
    Bidirectional   y[n] = (h of F forth after u[0..n], h of G back after u[T-1..n])
    Masked          x' = F(x, u) where u is there, x where it is not
    truncated       x' = F(n, x), with d x[n]/d x[n-1] put to 0 at each k-th step

A state that waits is a state like any other: the last of a padded sequence is that of the sequence. Truncated
backpropagation is the gradient of the map whose derivative is cut every k steps (k_1 = k_2 = k): values are the same.

**Reference:** Pascanu et al., *How to construct deep recurrent neural networks* (2014), section 3.3; Schuster &
Paliwal, *Bidirectional recurrent neural networks* (1997); Williams & Peng (1990) for truncated backpropagation.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_traced
from separatrix._types import Checked, Key, State, StepIndex
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.cells import from_cell
from separatrix.systems.map import FiniteMap, Map


class Stacked(eqx.Module):
    r"""Cells on top of one another: each hears the new state of the one below.

    **Arguments:** cells, the first of which hears the input; the input size of each is the hidden size of the one
    below.

    Its state is the list of theirs, `rest(cell)` their zeros; what is read is that of the topmost.

    **Raises:** `ValueError` for no cells, or sizes that do not fit, naming the layer.

    **Example:**

    >>> import jax, jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> keys = jax.random.split(jax.random.key(0))
    >>> net = sx.recurrent.Stacked([eqx.nn.GRUCell(2, 4, key=keys[0]), sx.recurrent.Elman(4, 3, key=keys[1])])
    >>> path = sx.evolve(sx.from_cell(net, jnp.ones((5, 2))), sx.recurrent.rest(net))
    >>> sx.recurrent.exposed(path.final).shape
    (3,)
    """

    cells: list[Any]

    def __init__(self, cells: Checked[Sequence[Any]]):
        self.cells = list(cells)
        if not self.cells:
            raise ValueError(explain("Stacked: cells", "none", "at least one", "Pass a list of cells."))
        for number, (below, above) in enumerate(zip(self.cells, self.cells[1:], strict=False), 1):
            size, heard = cell_size(below, "hidden_size"), cell_size(above, "input_size")
            if size != heard:
                do = "Let each cell hear the one below."
                raise ValueError(explain(f"Stacked: input_size of cell {number}", heard, size, do))

    @property
    def input_size(self) -> int:
        """That of the first cell."""
        return cell_size(self.cells[0], "input_size")

    @property
    def hidden_size(self) -> int:
        """That of the last cell, which is read."""
        return cell_size(self.cells[-1], "hidden_size")

    def __call__(self, inputs: Any, state: Any) -> list[Any]:
        """Return the list of new states from u and the list of old ones."""
        after = []
        for cell, old in zip(self.cells, state, strict=True):
            after.append(cell(inputs, old))
            inputs = exposed(after[-1])
        return after


class Masked(eqx.Module):
    r"""x' = F(x, u) where the input is there, x where it is not; called with inputs (u, present).

    **Arguments:** a cell.

    **Example:** a sum over what is there.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> total = sx.recurrent.Masked(lambda u, x: x + u)
    >>> inputs = (jnp.array([1.0, 2.0, 4.0]), jnp.array([True, False, True]))
    >>> sx.evolve(sx.from_cell(total, inputs), 0.0).final.item()
    5.0
    """

    cell: Any

    @property
    def input_size(self) -> int:
        """That of the cell."""
        return cell_size(self.cell, "input_size")

    @property
    def hidden_size(self) -> int:
        """That of the cell."""
        return cell_size(self.cell, "hidden_size")

    def __call__(self, inputs: Any, state: Any) -> Any:
        """Return x' or x."""
        values, present = inputs
        after = require_kept("Masked: cell", self.cell, values, state)
        return jax.tree.map(lambda new, old: jnp.where(present, new, old), after, state)


class Bidirectional(eqx.Module):
    r"""Two cells, one that reads forth and one that reads back; called with inputs (T, input_size).

    **Arguments:** `forth`, `back`: cells of the same input size.

    Called with a mask of shape (T,) too, each waits where nothing is. It returns shape (T, sum of hidden sizes): at n
    what is known of u[0..n] and of u[n..T-1].

    **Raises:** `ValueError` for unequal input sizes, or a mask that hides all.

    **Example:** a sum from each end.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.Elman(1, 2, key=jax.random.key(0))
    >>> net = sx.recurrent.Bidirectional(cell, cell)
    >>> found = net(jnp.array([[1.0], [2.0], [1.0]]))
    >>> bool(jnp.allclose(found[:, :2], found[::-1, 2:]))
    True
    """

    forth: Any
    back: Any

    def __check_init__(self) -> None:
        sizes = [cell_size(cell, "input_size") for cell in (self.forth, self.back)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                explain("Bidirectional: input sizes", sizes, "equal ones", "Pass cells that hear the same.")
            )

    def __call__(self, inputs: Float[Array, "time inputs"], mask: Any = None) -> Float[Array, "time hidden"]:
        """Return both states at each step."""
        there = (
            jnp.ones(inputs.shape[0], bool) if mask is None else checked_mask("Bidirectional", mask, inputs.shape[0])
        )
        first = states_of(self.forth, inputs, there)
        last = states_of(self.back, inputs[::-1], there[::-1])
        return jnp.concatenate([first, last[::-1]], axis=-1)


class TruncatedMap(Map):
    """A map whose derivative is cut off every k steps."""

    map: Map
    every: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.map.step(n, _cut(n, state, self.every), key=key)


class FiniteTruncatedMap(FiniteMap):
    """A map of so many steps whose derivative is cut off every k of them."""

    map: FiniteMap
    every: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        return self.map.step(n, _cut(n, state, self.every), key=key)


def truncated(map: Map, every: Checked[int]) -> Map:
    r"""Return the map whose derivative is cut off every k steps: truncated backpropagation through time.

    **Arguments:** `map`, any `Map`; `every`: k >= 1.

    **Returns:** a `Map`, finite where `map` is. Values are those of the map. A gradient goes back to the last step number
    that k divides, and no further.

    **Raises:** `ValueError` for k that is not a whole number of at least 1.

    **Example:** nothing goes back past the cut at step 0.

    >>> import jax, separatrix as sx
    >>> halving = sx.recurrent.truncated(sx.as_map(lambda x: 0.5 * x), 3)
    >>> jax.grad(lambda x: sx.evolve(halving, x, steps=2).final)(1.0).item()
    0.0

    **Reference:** Williams & Peng, *An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories* (1990).
    """
    every = ranges.whole("truncated: every", every, "Say after how many steps gradients are cut.")
    return FiniteTruncatedMap(map, every, map.length) if isinstance(map, FiniteMap) else TruncatedMap(map, every)


def _cut(n: StepIndex, state: State, every: int) -> State:
    cut = jnp.asarray(n) % every == 0
    return jax.tree.map(lambda leaf: jnp.where(cut, jax.lax.stop_gradient(leaf), leaf), state)


def states_of(cell: Any, inputs: Any, mask: Bool[Array, " time"], initial: Any = None) -> Float[Array, "time hidden"]:
    """What is read of the states after each step of a masked sequence."""
    first = rest(cell) if initial is None else initial
    return evolve(masked_drive(cell, inputs, mask), first, save=exposed).states[1:]


def masked_drive(cell: Any, inputs: Any, mask: Bool[Array, " time"]) -> Map:
    """A cell driven by a padded sequence. What is not there may be NaN: it is put to 0, and no gradient comes from it."""
    there = mask.reshape(-1, *[1] * (jnp.ndim(inputs) - 1))
    return from_cell(Masked(cell), (jnp.where(there, inputs, jnp.zeros_like(inputs)), mask))


def mask_of(lengths: Any, longest: Checked[int]) -> Bool[Array, "... time"]:
    r"""Return which steps are there in sequences of these lengths: n < length.

    **Arguments:** `lengths`: integers from 1 to `longest`, any shape.

    **Returns:** shape (..., longest).

    **Raises:** `ValueError` for a known length outside that range; `TypeError` for what are no integers.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.recurrent.mask_of(jnp.array([1, 3]), 3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    longest = ranges.whole("mask_of: longest", longest, "Pass the length of the padded sequences.")
    lengths = jnp.asarray(lengths)
    ranges.indices("mask_of: lengths, less 1", lengths - 1, longest, "Leave out sequences that are empty or too long.")
    steps = jnp.arange(longest).reshape((1,) * lengths.ndim + (longest,))
    return steps < lengths[..., None]


def checked_mask(what: str, mask: Any, length: int) -> Bool[Array, " time"]:
    """A mask of the right form that leaves something, as far as that can be seen."""
    mask = jnp.asarray(mask)
    if mask.shape != (length,) or mask.dtype != bool:
        got, do = f"shape {mask.shape} and dtype {mask.dtype}", "Make it by mask_of(lengths, longest)."
        raise ValueError(explain(f"{what}: mask", got, f"shape ({length},) and dtype bool", do))
    if not is_traced(mask) and not np.asarray(mask).any():
        raise ValueError(
            explain(f"{what}: mask", "one that hides all", "a step that is there", "Leave the sequence out.")
        )
    return mask


def exposed(state: State) -> Any:
    """The part of a cell's state that is read: h of an LSTM's (h, c), that of the topmost of stacked cells, else all
    of it."""
    if isinstance(state, list):
        return exposed(state[-1])
    return state[0] if isinstance(state, tuple) else state


def require_kept(what: str, cell: Any, inputs: Any, state: Any) -> Any:
    """The next state of a cell, refused where its form is another."""
    after = cell(inputs, state)
    forms = [jax.tree.map(jnp.shape, one) for one in (after, state)]
    if forms[0] != forms[1]:
        do = "Let the cell return a state of the form that it takes."
        raise ValueError(explain(what, f"a new state of shape {forms[0]}", f"{forms[1]}, as before", do))
    return after


def rest(cell: Any) -> State:
    """Return the zero state of a cell: a pair (h, c) for an LSTM, a list for stacked cells."""
    if isinstance(cell, Stacked):
        return [rest(part) for part in cell.cells]
    if isinstance(cell, Masked):
        return rest(cell.cell)
    # In the dtype of the weights: a number such as a leak, which a cell casts as it steps, does not decide.
    weights = eqx.filter(cell, lambda leaf: eqx.is_inexact_array(leaf) and leaf.ndim > 0)
    zeros = jnp.zeros(cell_size(cell, "hidden_size"), float_dtype(weights))
    return (zeros, zeros) if isinstance(cell, eqx.nn.LSTMCell) else zeros


def cell_size(cell: Any, name: str) -> int:
    """The `input_size` or `hidden_size` that a cell says."""
    size = getattr(cell, name, None)
    if not isinstance(size, int):
        do = "Pass Elman, eqx.nn.GRUCell, eqx.nn.LSTMCell, or a module with that field."
        raise TypeError(explain("sequence model: cell", type(cell).__name__, f"a cell that says its {name}", do))
    return size
