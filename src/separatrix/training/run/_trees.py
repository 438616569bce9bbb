"""A pytree taken apart into entries and arrays."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from separatrix._errors import explain
from separatrix.training.run._container import storable
from separatrix.training.run._entries import EMPTY, KEYS, SCALARS, Path, Step, TensorEntry, shown, text_of

_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Flat:
    """Entries of the manifest, the array of each tensor, and what modules hold beside their leaves, as [path, text]."""

    entries: list[TensorEntry]
    arrays: dict[str, Any]
    static: list[tuple[Path, str]]


def take_apart(tree: Any, what: str) -> Flat:
    """Entries and arrays of a tree. An array that occurs twice is held once.

    **Raises:** `TypeError` for a leaf that cannot be kept, naming its path.
    """
    entries, arrays, names = [], {}, {}
    for path, leaf in leaves_of(tree):
        entry, array = entry_of(path, leaf, f"{what}{shown(path)}")
        if array is not None:
            if not hasattr(array, "nbytes"):
                do = "Save the arrays themselves."
                raise TypeError(explain(f"{what}{shown(path)}", "a shape and a dtype alone", "an array", do))
            if id(leaf) not in names:
                names[id(leaf)] = _unused(path, arrays)
                arrays[names[id(leaf)]] = array
            entry = dataclasses.replace(entry, tensor=names[id(leaf)])
        entries.append(entry)
    return Flat(entries, arrays, static_of(tree))


def leaves_of(tree: Any) -> list[tuple[Path, Any]]:
    """Leaves with their paths; what is None or empty is a leaf too."""
    import jax

    found = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_empty)[0]
    return [(tuple(map(_step, path)), leaf) for path, leaf in found]


def put_together(like: Any, leaves: list[Any]) -> Any:
    """The tree of the form of `like` with these leaves."""
    import jax

    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like, is_leaf=_is_empty), leaves)


def entry_of(path: Path, leaf: Any, where: str) -> tuple[TensorEntry, Any]:
    """What the manifest says of a leaf, and the array of its numbers (None where it has none)."""
    if isinstance(leaf, np.ndarray | np.generic):
        return _array_entry(path, leaf, where), np.asarray(leaf)
    if _is_empty(leaf):
        return TensorEntry(
            path, "empty", next(name for name, empty in EMPTY.items() if isinstance(leaf, type(empty)))
        ), None
    if type(leaf) in SCALARS.values():
        return TensorEntry(path, "value", type(leaf).__name__, text=text_of(leaf)), None
    import jax

    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return _jax_entry(path, leaf, where)
    if callable(leaf):
        return TensorEntry(path, "given", _named(leaf)), None
    expected = "arrays, random keys, None, bool, int, float, complex, str, functions, and trees of these"
    raise TypeError(explain(where, type(leaf).__name__, expected, "Make it an array or a static field of its module."))


def _jax_entry(path: Path, leaf: Any, where: str) -> tuple[TensorEntry, Any]:
    """An array of JAX, or its shape and dtype alone in a template."""
    import jax

    from separatrix._tree import is_traced

    if is_traced(leaf):
        do = "Save outside of jit and vmap."
        raise TypeError(explain(where, "a traced value", "an array with numbers in it", do))
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        do = "Gather it first, or save its parts with Orbax."
        raise TypeError(explain(where, "an array spread over several hosts", "an array of this host", do))
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return dataclasses.replace(_array_entry(path, leaf, where), weak=bool(getattr(leaf, "weak_type", False))), leaf
    implementation = next((name for name, dtype in _key_dtypes().items() if dtype == leaf.dtype), None)
    if implementation is None:
        raise TypeError(explain(where, str(leaf.dtype), f"keys of {', '.join(KEYS)}", "Make another key."))
    data = jax.random.key_data(leaf) if isinstance(leaf, jax.Array) else leaf
    return TensorEntry(path, "key", implementation, tuple(leaf.shape)), data


@functools.cache
def _key_dtypes() -> dict[str, Any]:
    import jax

    return {name: jax.random.key(0, impl=name).dtype for name in KEYS}


def _array_entry(path: Path, array: Any, where: str) -> TensorEntry:
    if not storable(array.dtype):
        do = "Convert it to numbers of such a dtype, or keep it out of the tree."
        raise TypeError(explain(where, f"dtype {array.dtype}", "bool, integers, floats or complex numbers of JAX", do))
    return TensorEntry(path, "array", np.dtype(array.dtype).name, tuple(array.shape))


def static_of(tree: Any) -> list[tuple[Path, str]]:
    """What modules hold beside their leaves: sizes, flags, functions by name; what has no plain words is left out."""
    found = []
    for path, node in _nodes(tree, ()):
        if dataclasses.is_dataclass(node) and not isinstance(node, type):
            inside = {steps[0] for steps, _ in _children(node)}
            for field in dataclasses.fields(node):
                told = None if field.name in inside else _told(getattr(node, field.name, _ABSENT))
                if told is not None:
                    found.append(((*path, field.name), told))
    return found


def _told(value: Any) -> str | None:
    if value is None or type(value) in SCALARS.values():
        return hex(value) if type(value) is int and abs(value) > 2**63 else repr(value)
    if isinstance(value, tuple | list):
        inner = [_told(item) for item in value]
        return None if None in inner else f"({', '.join(map(str, inner))})"
    return f"the function {_named(value)}" if callable(value) and not dataclasses.is_dataclass(value) else None


def _named(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _nodes(tree: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    yield path, tree
    for steps, child in _children(tree):
        yield from _nodes(child, (*path, *steps))


def _children(node: Any) -> list[tuple[Path, Any]]:
    import jax

    found = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda inner: inner is not node)[0]
    return [(tuple(map(_step, path)), child) for path, child in found if path]


def _is_empty(node: Any) -> bool:
    return node is None or (isinstance(node, dict | list | tuple) and not node)


def _step(key: Any) -> Step:
    """A step of JAX's path in plain words."""
    if hasattr(key, "name"):
        return str(key.name)
    if hasattr(key, "idx"):
        return int(key.idx)
    inner = key.key
    if type(inner) not in (str, int):
        raise TypeError(
            explain("a dictionary", f"the key {inner!r}", "keys that are texts or whole numbers", "Rename.")
        )
    return (inner,) if type(inner) is int and type(key).__name__ == "DictKey" else inner


def _unused(path: Path, taken: Any) -> str:
    """A name for the tensor at a path, such as `layers.0.weight`."""
    name = ".".join(str(step[0] if isinstance(step, tuple) else step) for step in path) or "value"
    free, number = name, 1
    while free in taken or free == "__metadata__":
        number += 1
        free = f"{name}#{number}"
    return free
