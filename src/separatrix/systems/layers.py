r"""Depth as time: a net phi_L o ... o phi_1 is the finite map x[l+1] = phi_l(x[l]).

Layers of one form are stacked, so that compile time does not grow with depth; layers of different form are chosen by
number. A state keeps its shape, so all layers must map one width to itself.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Function, Key, State, StepIndex
from separatrix.systems.map import FiniteMap
from separatrix.systems.signature import Frozen, accepts_key, as_pytree, freeze


class StackedLayers(FiniteMap):
    """x[l+1] = phi(theta[l], x[l]): one form of layer, parameters stacked along depth."""

    layers: Frozen
    takes_key: bool = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        layer = jax.tree.map(lambda leaf: leaf[n], self.layers)
        return layer(state, key=key) if self.takes_key else layer(state)


class ListedLayers(FiniteMap):
    """x[l+1] = phi_l(x[l]): layers of any form, chosen by number."""

    layers: tuple[Function, ...]
    takes_key: tuple[bool, ...] = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        pairs = zip(self.layers, self.takes_key, strict=True)
        branches = [(lambda x, f=f: f(x, key=key)) if takes else f for f, takes in pairs]
        return jax.lax.switch(jnp.asarray(n), [_checked(f, i) for i, f in enumerate(branches)], state)


class Activated(eqx.Module):
    """x -> sigma_i(layer(x)_i): one layer of a multilayer perceptron, whose activation may have weights for each unit."""

    layer: Function
    activation: Function

    def __call__(self, x: Any) -> Any:
        return eqx.filter_vmap(lambda unit, y: unit(y))(self.activation, self.layer(x))


def from_layers(net: Any) -> FiniteMap:
    r"""Make a `FiniteMap` of a feed-forward net: x[l+1] = phi_l(x[l]), l = 0, ..., L - 1.

    **Arguments:**

    - `net`: a sequence of functions, an `equinox.nn.Sequential` or `MLP`, or anything with a sequence `layers`.

    **Returns:** a `FiniteMap` of length L on the hidden state.

    **Raises:** `ValueError` for no layers, or layers that change the width, naming the layer; `TypeError` for anything
    that has no layers.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> net = sx.from_layers([jnp.tanh, lambda x: 2.0 * x])
    >>> sx.evolve(net, jnp.zeros(3)).final.tolist()
    [0.0, 0.0, 0.0]
    """
    layers = _layers_of(net)
    if not layers:
        raise ValueError(explain("from_layers", "no layers", "at least one", "Pass a non-empty sequence."))
    _check_widths(layers)
    keys = tuple(accepts_key(layer) for layer in layers)
    if len(layers) > 1 and _same_form(layers):
        arrays = [eqx.partition(layer, eqx.is_array) for layer in layers]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[a for a, _ in arrays])
        return StackedLayers(freeze(eqx.combine(stacked, arrays[0][1])), keys[0], len(layers))
    return ListedLayers(tuple(as_pytree(layer) for layer in layers), keys, len(layers))


def _layers_of(net: Any) -> list[Any]:
    if isinstance(net, eqx.nn.MLP):
        return _layers_of_perceptron(net)
    layers = net if isinstance(net, Sequence) else getattr(net, "layers", None)
    if not isinstance(layers, Sequence) or not all(callable(layer) for layer in layers):
        raise TypeError(
            explain(
                "from_layers",
                type(net).__name__,
                "a sequence of layers, or a net with `layers`",
                "Pass [phi_1, ..., phi_L], each a function of the hidden state.",
            )
        )
    return list(layers)


def _layers_of_perceptron(net: eqx.nn.MLP) -> list[Any]:
    """Linear layers with their activations, as `MLP.__call__` joins them: weights of an activation are (depth, width)."""
    if net.depth == 0:
        return list(net.layers)  # Its final activation is not applied.
    linear = list(net.layers)
    if net.scan:
        linear[1:-1] = [_row(linear[1], i) for i in range(net.depth - 1)]
    inner = [Activated(layer, _row(net.activation, i)) for i, layer in enumerate(linear[:-1])]
    return [*inner, Activated(linear[-1], net.final_activation)]


def _row(module: Any, i: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, module)


def _same_form(layers: list[Any]) -> bool:
    """Whether all layers are modules that differ in the values of arrays only."""
    if not all(isinstance(layer, eqx.Module) for layer in layers):
        return False
    parts = [eqx.partition(layer, eqx.is_array) for layer in layers]
    forms = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), arrays) for arrays, _ in parts]
    return all(form == forms[0] for form in forms) and all(bool(eqx.tree_equal(s, parts[0][1])) for _, s in parts)


def _check_widths(layers: list[Any]) -> None:
    """Refuse linear layers that change the width, naming the first."""
    for number, layer in enumerate(layers):
        linear = layer.layer if isinstance(layer, Activated) else layer
        if isinstance(linear, eqx.nn.Linear) and linear.in_features != linear.out_features:
            raise ValueError(_width_message(number, f"{linear.in_features} -> {linear.out_features}"))


def _checked(layer: Function, number: int) -> Function:
    def run(state: State) -> State:
        after = jax.eval_shape(layer, state)
        before = jax.eval_shape(lambda: state)
        if after != before:
            raise ValueError(_width_message(number, f"{eqx.tree_pformat(before)} -> {eqx.tree_pformat(after)}"))
        return layer(state)

    return run


def _width_message(number: int, widths: str) -> str:
    return explain(
        f"from_layers: layer {number} changes the width",
        widths,
        "one width along the depth",
        "Apply the first and last projection outside, and give the equal-width layers between.",
    )
