"""How a model is split for training: parameters, what its layers carry, and what stays; and put together again.

    model = (parameters, layers, rest)

Parameters are moved by the optimiser. Layers' own state (running statistics, caches, streams of random numbers) is what a
call of the model leaves behind: it is part of the state of the training map, and no optimiser sees it. The rest
(activation functions, sizes, whole numbers) stays.

- a tree of arrays, an `equinox.Module`: the floating-point arrays are parameters, and nothing is carried;
- modules of Flax NNX: `nnx.Param` are parameters, all other Variables are carried: a call changes them;
- variables of Flax linen, `{"params": ..., "batch_stats": ...}`: the loss returns (loss, the collections that changed);
- `equinox.nn.State`, as (model, state): the loss returns (loss, state).
"""

import sys
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Key, State
from separatrix.systems.signature import Frozen, freeze
from separatrix.training._models import has_collections, require_stateless

if TYPE_CHECKING:
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class ModelForm(eqx.Module):
    """The part of a model that no optimiser moves, and how the model is put together from it."""

    layers: AbstractVar[Any]

    @abstractmethod
    def model(self, parameters: State, *, key: Key | None = None) -> Any:
        """Return the model, its own streams of random numbers turned by the key where one is given."""

    @abstractmethod
    def evaluated(self, parameters: State) -> Any:
        """Return the model in evaluation mode, where it knows one."""

    @abstractmethod
    def after(self, model: Any, more: Any, *, seeded: bool) -> Any:
        """Return what the layers carry on: from the model that was called, and what the loss returned beside the loss."""


class PlainForm(ModelForm):
    """A tree whose floating-point arrays are trained; nothing is carried."""

    frozen: Frozen
    layers: None = None

    def model(self, parameters: State, *, key: Key | None = None) -> Any:
        return eqx.combine(parameters, self.frozen.thaw())

    def evaluated(self, parameters: State) -> Any:
        return eqx.nn.inference_mode(self.model(parameters))

    def after(self, model: Any, more: Any, *, seeded: bool) -> Any:
        return None


class NnxForm(ModelForm):
    """A tree with modules of Flax NNX at some of its places; a graph, and what it carries, at each of these."""

    frozen: Frozen
    layers: tuple[Any, ...]
    graphs: tuple[Any, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)

    def model(self, parameters: State, *, key: Key | None = None) -> Any:
        layers = self.layers if key is None else _turned(self.layers, key)
        parts = zip(self.graphs, self.structure.flatten_up_to(parameters), layers, self.frozen.thaw(), strict=True)
        return self.structure.unflatten([_merged(*part) for part in parts])

    def evaluated(self, parameters: State) -> Any:
        model = self.model(parameters)
        for graph, module in zip(self.graphs, self.structure.flatten_up_to(model), strict=True):
            if graph is not None:
                module.eval()
        return model

    def after(self, model: Any, more: Any, *, seeded: bool) -> Any:
        nnx, modules = _nnx(), self.structure.flatten_up_to(model)
        pairs = zip(self.graphs, modules, strict=True)
        left = tuple(None if graph is None else nnx.split(module, nnx.Param, ...)[2] for graph, module in pairs)
        # The streams themselves stay: the key of each step turns them anew.
        return _with_keys_of(self.layers, left) if seeded else left


class LinenForm(ModelForm):
    """A dictionary of collections of Flax linen; all but `params` are carried."""

    frozen: Frozen
    layers: dict[str, Any]

    def model(self, parameters: State, *, key: Key | None = None) -> Any:
        return {"params": eqx.combine(parameters, self.frozen.thaw()), **self.layers}

    def evaluated(self, parameters: State) -> Any:
        return self.model(parameters)

    def after(self, model: Any, more: Any, *, seeded: bool) -> Any:
        if not isinstance(more, Mapping) or not set(more) <= set(self.layers):
            got = f"a loss with {_named(more)} beside it"
            do = f"Apply with mutable={sorted(self.layers)}, and return what that returns beside the output."
            raise TypeError(explain("fit: objective", got, "(loss, the collections that changed)", do))
        return self.layers | dict(more)


class EquinoxForm(ModelForm):
    """A tree with one `equinox.nn.State` in it, which is carried."""

    frozen: Frozen
    layers: Any

    def model(self, parameters: State, *, key: Key | None = None) -> Any:
        # A fresh copy: a state refuses to be used again once it was written to.
        return eqx.combine(parameters, self.frozen.thaw(), jax.tree.map(lambda leaf: leaf, self.layers))

    def evaluated(self, parameters: State) -> Any:
        return eqx.nn.inference_mode(self.model(parameters))

    def after(self, model: Any, more: Any, *, seeded: bool) -> Any:
        if not isinstance(more, eqx.nn.State):
            got = f"a loss with {_named(more)} beside it"
            do = "Return (loss, state) with the state that the model returned."
            raise TypeError(explain("fit: objective", got, "(loss, state) for a model with equinox.nn.State", do))
        return jax.tree.map(lambda old: more if _is_state(old) else None, self.layers, is_leaf=_is_state)


def split(initial: Any, what: str) -> tuple[State, ModelForm]:
    """Return the parameters of a model and the form of the rest.

    **Raises:** `TypeError` for layers with state that could not be carried.
    """
    if any(map(_is_module, jax.tree.leaves(initial, is_leaf=_is_module))):
        return _split_nnx(initial, what)
    if has_collections(initial):
        require_stateless(initial["params"], what)
        parameters, rest = eqx.partition(initial["params"], eqx.is_inexact_array)
        return parameters, LinenForm(freeze(rest), {name: initial[name] for name in initial if name != "params"})
    states = [leaf for leaf in jax.tree.leaves(initial, is_leaf=_is_state) if _is_state(leaf)]
    if len(states) == 1:
        return _split_equinox(initial)
    require_stateless(initial, what)
    parameters, rest = eqx.partition(initial, eqx.is_inexact_array)
    return parameters, PlainForm(freeze(rest))


def _split_nnx(initial: Any, what: str) -> tuple[State, ModelForm]:
    nnx = _nnx()
    # What stands beside the modules has no state of its own.
    require_stateless(jax.tree.map(lambda leaf: None if _is_module(leaf) else leaf, initial, is_leaf=_is_module), what)
    places, structure = jax.tree.flatten(initial, is_leaf=_is_module)
    parameters, layers, graphs, rest = [], [], [], []
    for place in places:
        if _is_module(place):
            graph, own, carried = nnx.split(place, nnx.Param, ...)
        else:
            graph, own, carried = None, place if eqx.is_inexact_array(place) else None, None
        parameters.append(own)
        layers.append(carried)
        graphs.append(graph)
        rest.append(place if graph is None and own is None else None)
    return structure.unflatten(parameters), NnxForm(freeze(rest), tuple(layers), tuple(graphs), structure)


def _split_equinox(initial: Any) -> tuple[State, ModelForm]:
    def is_whole(node: Any) -> bool:
        return _is_state(node) or isinstance(node, eqx.nn.StateIndex)

    parameters, layers, rest = (
        jax.tree.map(lambda leaf, chosen=chosen: leaf if chosen(leaf) else None, initial, is_leaf=is_whole)
        for chosen in (
            eqx.is_inexact_array,
            _is_state,
            lambda leaf: not (eqx.is_inexact_array(leaf) or _is_state(leaf)),
        )
    )
    return parameters, EquinoxForm(freeze(rest), layers)


def _merged(graph: Any, own: Any, carried: Any, rest: Any) -> Any:
    if graph is None:
        return rest if own is None else own
    # Fresh variables: a call changes them in place.
    own, carried = jax.tree.map(lambda leaf: leaf, (own, carried))
    return _nnx().merge(graph, own, carried)


def _turned(layers: Any, key: Key) -> Any:
    """Layers, each random key in them folded with 32 bits of a key."""
    leaves, structure = jax.tree.flatten(layers)
    bits = jax.random.bits(key, (max(len(leaves), 1),), jnp.uint32)
    return structure.unflatten(
        [jax.random.fold_in(leaf, bits[i]) if _is_key(leaf) else leaf for i, leaf in enumerate(leaves)]
    )


def _with_keys_of(before: Any, after: Any) -> Any:
    """The tree `after` with the random keys of `before`; as it is where layers appeared or went, which is refused later."""
    old, new = jax.tree.flatten(before), jax.tree.flatten(after)
    if old[1] != new[1]:
        return after
    return new[1].unflatten([a if _is_key(a) else b for a, b in zip(old[0], new[0], strict=True)])


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_state(node: Any) -> bool:
    return isinstance(node, eqx.nn.State)


def _is_module(node: Any) -> bool:
    nnx = _nnx()
    return nnx is not None and isinstance(node, nnx.Module)


def _nnx() -> Any:
    return sys.modules.get("flax.nnx")


def _named(more: Any) -> str:
    return "nothing" if more is None else type(more).__name__
