r"""Recurrent cells of other libraries as open maps: x[n+1] = F(x[n], u[n])."""

from typing import Any, cast

import equinox as eqx
from jaxtyping import PyTree

from separatrix._errors import explain
from separatrix._types import Function, Key, State, StepIndex
from separatrix.systems.driving import drive
from separatrix.systems.map import Map
from separatrix.systems.open import OpenMap
from separatrix.systems.signature import as_pytree, positional_count


class CellMap(OpenMap):
    """x[n+1] = cell(u[n], x[n]): equinox's order of arguments, and that of plain functions."""

    cell: Function

    def step(self, n: StepIndex, state: State, inputs: PyTree, *, key: Key | None = None) -> State:
        return self.cell(inputs, state)


class LinenCellMap(OpenMap):
    """x[n+1] of a Flax linen cell, `cell.apply(variables, x, u) -> (x', y)`."""

    cell: Any = eqx.field(static=True)
    variables: PyTree

    def step(self, n: StepIndex, state: State, inputs: PyTree, *, key: Key | None = None) -> State:
        return self.cell.apply(self.variables, state, inputs)[0]


class NNXCellMap(OpenMap):
    """x[n+1] of a Flax NNX cell, `cell(x, u) -> (x', y)`; its variables are leaves."""

    graph: Any = eqx.field(static=True)
    variables: PyTree

    def step(self, n: StepIndex, state: State, inputs: PyTree, *, key: Key | None = None) -> State:
        from flax import nnx

        return nnx.merge(self.graph, self.variables)(state, inputs)[0]


def as_cell(cell: Any, *, variables: PyTree = None) -> OpenMap:
    r"""Make an `OpenMap` of a recurrent cell: x[n+1] = F(x[n], u[n]).

    **Arguments:**

    - `cell`: an equinox cell or any function of (input, state); a Flax linen cell with its `variables`; a Flax NNX cell.
    - `variables`: what `cell.init` returned, for linen.

    **Returns:** an `OpenMap`, to be closed by `drive` (inputs) or `close_loop` (feedback).

    **Raises:** `ValueError` for a linen cell without variables; `TypeError` for what cannot be called.

    **Example:**

    >>> import jax, jax.numpy as jnp, equinox as eqx, separatrix as sx
    >>> cell = sx.as_cell(eqx.nn.GRUCell(2, 3, key=jax.random.key(0)))
    >>> cell.step(0, jnp.zeros(3), jnp.zeros(2)).shape
    (3,)
    """
    if isinstance(cell, OpenMap):
        return cell
    home = next((kind.__module__ for kind in type(cell).__mro__ if kind.__module__.startswith("flax.")), "")
    if home.startswith("flax.linen"):
        if variables is None:
            raise ValueError(
                explain(
                    "from_cell: variables",
                    "None",
                    "the variables of a Flax linen cell",
                    "Pass variables=cell.init(key, state, input).",
                )
            )
        return LinenCellMap(cell, variables)
    if home.startswith("flax.nnx"):
        from flax import nnx

        graph, leaves = nnx.split(cell)
        return NNXCellMap(graph, leaves)
    if not callable(cell):
        raise TypeError(
            explain(
                "from_cell: cell",
                type(cell).__name__,
                "a function of (input, state)",
                "Pass an equinox or Flax cell, or such a function.",
            )
        )
    if not isinstance(cell, eqx.Module):
        positional_count(cell, (2,), "f(input, state)")
    return CellMap(as_pytree(cell))


def from_cell(cell: Any, inputs: PyTree, *, variables: PyTree = None) -> Map:
    r"""Make a map of a recurrent cell and a sequence of inputs: x[n+1] = F(x[n], u[n]).

    **Arguments:**

    - `cell`: as in `as_cell`.
    - `inputs`: arrays with a leading axis of length T, for a `FiniteMap` of T steps; or a function u(n).
    - `variables`: of a Flax linen cell.

    **Returns:** a `Map` on the hidden state.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> total = sx.from_cell(lambda u, x: x + u, jnp.arange(5.0))
    >>> sx.evolve(total, 0.0).final.item()
    10.0
    """
    return cast(Map, drive(as_cell(cell, variables=variables), inputs))
