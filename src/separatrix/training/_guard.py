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
from separatrix.systems.objective import FunctionObjective, Objective, WrappedObjective, require_scalar


class Guard(eqx.Module):
    """The rule by which a loss is NaN, with its gradient, where it is not finite; times a weight where there is one."""

    alone: bool = eqx.field(static=True)  # one loss and no game, which is refused in words where it is no scalar
    weight: float | None = eqx.field(static=True, default=None)

    def __call__(self, ask: Function, parameters: State, key: Key | None) -> tuple[Any, Any]:
        loss, layers = ask(parameters, key)
        if self.alone:
            loss = require_scalar(loss)
        players = parameters if isinstance(parameters, tuple) and not self.alone else (parameters,)
        touched = [min(_inexact(player), key=jnp.size) for player in players if _inexact(player)]
        return jax.tree.map(lambda own: self._weighted(poison(own, touched)), loss), layers

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
        if is_guarded(node):
            return dataclasses.replace(node, objective=of(node.objective))
        return change(node) if isinstance(node, Objective) else node

    return jax.tree.map(of, map, is_leaf=lambda node: isinstance(node, Objective))


def objective_of(map: Any) -> Any:
    """The objective of a map: the first in it, without its guard."""
    nodes = jax.tree.leaves(map, is_leaf=lambda node: isinstance(node, Objective))
    found: Any = next((node for node in nodes if isinstance(node, Objective)), None)
    return found.objective if is_guarded(found) else found


def is_guarded(node: Any) -> bool:
    """Whether it is a guarded objective."""
    return isinstance(node, WrappedObjective) and isinstance(node.rule, Guard)


def guarded(map: Map) -> Map:
    """The map with its objective guarded."""
    alone = of_one_loss(map)
    return changed(map, lambda objective: WrappedObjective(objective, Guard(alone)))


def weighted(map: Any, weight: float) -> Any:
    """A guarded map with its losses multiplied."""

    def of(node: Any) -> Any:
        return dataclasses.replace(node, rule=Guard(node.rule.alone, weight)) if is_guarded(node) else node

    return jax.tree.map(of, map, is_leaf=is_guarded)


def alone(map: Map) -> Map:
    """The map of one loss, whose pairs are (loss, what else there is); a game as it is."""
    if not of_one_loss(map):
        return map

    def of(objective: Any) -> Any:
        return dataclasses.replace(objective, alone=True) if isinstance(objective, FunctionObjective) else objective

    return changed(map, of)
