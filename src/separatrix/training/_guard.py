r"""A loss that is not finite breaks the step that meets it.

    l*(theta) = c l(theta) + (c - 1) theta_1,     c = 1 where l is finite, NaN where not.

So value and gradient are those of l, bit for bit, or both NaN; and with them what any optimiser makes of them. A clip,
a sign, a finite slope of an infinite loss, or no slope at all would let the run go on, and say that it completed. theta_1
is the smallest array of the parameters, of each player in a game.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import is_inexact
from separatrix._types import Function, Key, State
from separatrix.systems.base import System
from separatrix.systems.map import Map
from separatrix.systems.objective import Objective, require_scalar
from separatrix.training.sampling import ModelLoss


class Guarded(Objective):
    """An objective that is NaN, with its gradient, where it is not finite; times a weight where there is one."""

    objective: Objective
    alone: bool = eqx.field(static=True)  # one loss and no game, which is refused in words where it is no scalar
    weight: float | None = eqx.field(static=True, default=None)

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        return self._guarded(self.objective(parameters, key=key), parameters)

    def with_layers(self, parameters: State, *, key: Key | None = None) -> tuple[Any, Any]:
        """Return (the loss, what the model's layers carry on)."""
        loss, layers = self.objective.with_layers(parameters, key=key)  # pyright: ignore[reportAttributeAccessIssue]
        return self._guarded(loss, parameters), layers

    def _guarded(self, loss: Any, parameters: State) -> Any:
        if self.alone:
            loss = require_scalar(loss)
        players = parameters if isinstance(parameters, tuple) and not self.alone else (parameters,)
        touched = [min(_inexact(player), key=jnp.size) for player in players if _inexact(player)]
        return jax.tree.map(lambda own: self._weighted(poison(own, touched)), loss)

    def _weighted(self, loss: Any) -> Any:
        return loss if self.weight is None else loss * jnp.asarray(self.weight, loss.dtype)


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


def of_one_loss(map: Map) -> bool:
    """Whether a map descends on one loss: it holds it itself, or in a system. A game holds several, and is no system."""

    def ends(node: Any) -> bool:
        return isinstance(node, Objective) or (isinstance(node, eqx.Module) and not isinstance(node, System))

    return any(isinstance(node, Objective) for node in jax.tree.leaves(map, is_leaf=ends))


def changed(map: Any, change: Function) -> Any:
    """The map with its objective, wherever it stands in it, changed; inside of its guard where it has one."""

    def of(node: Any) -> Any:
        if isinstance(node, Guarded):
            return dataclasses.replace(node, objective=of(node.objective))
        return change(node) if isinstance(node, Objective) else node

    return jax.tree.map(of, map, is_leaf=lambda node: isinstance(node, Objective))


def objective_of(map: Any) -> Any:
    """The objective of a map: the first in it, without its guard."""
    nodes = jax.tree.leaves(map, is_leaf=lambda node: isinstance(node, Objective))
    found = next((node for node in nodes if isinstance(node, Objective)), None)
    return found.objective if isinstance(found, Guarded) else found


def guarded(map: Map) -> Map:
    """The map with its objective guarded."""
    alone = of_one_loss(map)
    return changed(map, lambda objective: Guarded(objective, alone))


def weighted(map: Any, weight: float) -> Any:
    """A guarded map with its losses multiplied."""

    def of(node: Any) -> Any:
        return dataclasses.replace(node, weight=weight) if isinstance(node, Guarded) else node

    return jax.tree.map(of, map, is_leaf=lambda node: isinstance(node, Guarded))


def alone(map: Map) -> Map:
    """The map of one loss, whose pairs are (loss, what else there is); a game as it is."""
    if not of_one_loss(map):
        return map

    def of(objective: Any) -> Any:
        return objective.called(alone=True) if isinstance(objective, ModelLoss) else objective

    return changed(map, of)
