r"""A loss that is not finite breaks the step that meets it.

    l*(theta) = l(theta) c,     c = 1 where l is finite, NaN where not.

So value and gradient are those of l, bit for bit, or both NaN; and with them what any optimiser makes of them. A clip or
a finite slope of an infinite loss would let the run go on, and say that it completed.
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
        return jax.tree.map(poison, require_scalar(loss) if self.alone else loss)


def poison(loss: Any) -> Any:
    """A loss; where it is not finite NaN, and so is its derivative."""
    loss = jnp.asarray(loss)
    return loss * jnp.where(jnp.isfinite(loss), 1, jnp.nan).astype(loss.dtype) if is_inexact(loss) else loss


def guarded(map: Map) -> Map:
    """The map with its objective, wherever it stands in it, guarded."""
    # A map of one loss calls it its objective, and one of several its game.
    alone = isinstance(getattr(map, "objective", None), Objective)

    def is_objective(node: Any) -> bool:
        return isinstance(node, Objective)

    return jax.tree.map(lambda node: Guarded(node, alone) if is_objective(node) else node, map, is_leaf=is_objective)
