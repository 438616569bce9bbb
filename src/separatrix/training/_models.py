"""What an objective by itself is made of: the floating-point arrays of a tree, all of them weights.

Layers that change state of their own as they run (running statistics, streams of random numbers, caches) keep it among
those arrays or beside them. `fit` carries that state (`_forms`). Where nothing carries it, it would be trained as if it
were a weight, or stay what it was at the first step, so that every step draws one and the same dropout mask: such a model
is refused.
"""

import sys
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax

from separatrix._errors import explain

_MERGE = "the module itself to fit(loss, ..., initial=module), with a loss l(model, batch), which carries them"
_REMEDIES = {
    "BatchStat": ("running statistics, which would be trained as weights", f"Use nnx.LayerNorm; or pass {_MERGE}."),
    "RngState": (
        "a stream of random numbers, which would stay at its first mask",
        "Call model.eval(); or build layers without rngs and pass rngs=nnx.Rngs(key) in a loss that takes key=.",
    ),
    "": ("which layers change as they run, and training would not carry", f"Pass {_MERGE}."),
}


def require_stateless(model: Any, what: str) -> None:
    """Refuse a model of Flax or equinox that holds state of its own; see the head of this page."""
    _refuse_nnx(model, what)
    _refuse_linen(model, what)
    _refuse_equinox(model, what)


def _refuse_nnx(model: Any, what: str) -> None:
    nnx: Any = sys.modules.get("flax.nnx")
    if nnx is None:
        return
    quiet = _quiet(model, nnx)
    for path, leaf in _leaves(model, nnx.Variable):
        if not isinstance(leaf, nnx.Variable) or isinstance(leaf, nnx.Param) or id(leaf) in quiet:
            continue
        kind = next((kind.__name__ for kind in type(leaf).__mro__ if kind.__name__ in _REMEDIES), "")
        why, do = _REMEDIES[kind]
        got = f"{type(leaf).__name__} of Flax NNX, {why}"
        raise TypeError(explain(f"{what}{jax.tree_util.keystr(path)}", got, "nnx.Param alone", do))


def _quiet(model: Any, nnx: Any) -> set[int]:
    """Variables of layers that draw nothing: dropout of rate 0, or in evaluation mode."""
    roots = [leaf for _, leaf in _leaves(model, nnx.Module) if isinstance(leaf, nnx.Module)]
    layers = [layer for root in roots for _, layer in nnx.iter_modules(root)]
    still = [layer for layer in layers if isinstance(layer, nnx.Dropout) and (layer.deterministic or layer.rate == 0)]
    return {id(leaf) for layer in still for _, leaf in _leaves(layer, nnx.Variable)}


def _refuse_linen(model: Any, what: str) -> None:
    if "flax" not in sys.modules:
        return
    for path, leaf in _leaves(model, Mapping, has_collections):
        if has_collections(leaf):
            names = ", ".join(sorted(set(leaf) - {"params"}))
            got = f"a collection {names} beside params, which would be trained or stay as it is"
            do = "Pass fit initial=variables, not inside of another tree, and a loss that returns (loss, what changed)."
            raise TypeError(explain(f"{what}{jax.tree_util.keystr(path)}", got, "params alone", do))


def has_collections(node: Any) -> bool:
    """Whether a node is a dictionary of variables of Flax linen with more than parameters in it."""
    if not isinstance(node, Mapping) or "params" not in node or len(node) < 2:
        return False
    return all(isinstance(part, Mapping) for part in node.values()) and any(
        node[name] for name in set(node) - {"params"}
    )


def _refuse_equinox(model: Any, what: str) -> None:
    for path, leaf in _leaves(model, eqx.nn.State | eqx.nn.StateIndex):
        name = f"{what}{jax.tree_util.keystr(path)}"
        if isinstance(leaf, eqx.nn.State):
            do = "Pass fit initial=(model, state), one state, and a loss that returns (loss, state)."
            raise TypeError(explain(name, "eqx.nn.State, which training would not carry", "a model without", do))
        if isinstance(leaf, eqx.nn.StateIndex) and not _in_inference(model, path):
            do = "Pass fit initial=(model, state); or fix its state by eqx.nn.inference_mode(model)."
            raise TypeError(explain(name, "a layer with state, which training would not carry", "layers without", do))


def _in_inference(model: Any, path: tuple[Any, ...]) -> bool:
    """Whether the layer that owns the leaf at a path runs in inference mode."""
    owner = model
    for key in path[:-1]:
        owner = getattr(owner, key.name) if hasattr(key, "name") else owner[key.idx if hasattr(key, "idx") else key.key]
    return bool(getattr(owner, "inference", False))


def _leaves(tree: Any, kind: Any, is_kind: Any = None) -> list[tuple[Any, Any]]:
    test = is_kind or (lambda node: isinstance(node, kind))
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=test)
