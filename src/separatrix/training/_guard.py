r"""A loss that is not finite breaks the step that meets it.

    l*(theta) = c l(theta) + (c - 1) theta_1,     c = 1 where l is finite, NaN where not.

So value and gradient are those of l, bit for bit, or both NaN; and with them what any optimiser makes of them. A clip,
a sign, a finite slope of an infinite loss, or no slope at all would let the run go on, and say that it completed. theta_1
is the smallest array of the parameters, of each player in a game.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import is_inexact
from separatrix._types import Key, State
from separatrix.systems.map import Map
from separatrix.systems.objective import Objective, require_scalar


class Guarded(Objective):
    """An objective that is NaN, with its gradient, where it is not finite."""

    objective: Objective
    alone: bool = eqx.field(static=True)  # one loss and no game, which is refused in words where it is no scalar

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        loss = self.objective(parameters, key=key)
        if self.alone:
            loss = require_scalar(loss)
        players = parameters if isinstance(parameters, tuple) and not self.alone else (parameters,)
        touched = [min(_inexact(player), key=jnp.size) for player in players if _inexact(player)]
        return jax.tree.map(lambda own: poison(own, touched), loss)


def poison(loss: Any, touched: list[Any]) -> Any:
    """A loss; where it is not finite NaN, and so is its derivative in what is touched."""
    loss = jnp.asarray(loss)
    if not is_inexact(loss):
        return loss
    factor = jnp.where(jnp.isfinite(loss), 1, jnp.nan).astype(loss.dtype)
    return loss * factor + sum(
        jnp.sum((factor - 1).astype(leaf.dtype) * leaf).real.astype(loss.dtype) for leaf in touched
    )


def _inexact(tree: State) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if is_inexact(leaf) and jnp.size(leaf)]


def guarded(map: Map) -> Map:
    """The map with its objective, wherever it stands in it, guarded."""
    # A map of one loss calls it its objective, and one of several its game.
    alone = isinstance(getattr(map, "objective", None), Objective)

    def is_objective(node: Any) -> bool:
        return isinstance(node, Objective)

    return jax.tree.map(lambda node: Guarded(node, alone) if is_objective(node) else node, map, is_leaf=is_objective)
