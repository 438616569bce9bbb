r"""What a run was asked to do, as plain values, so that the same call is known again.

Arrays count by their numbers, functions by their code and by what they hold (closures, defaults), so that another learning
rate is another run. Names of files, places in memory and what functions look up in their modules do not count. Of data
that are long, some thousand examples spread evenly stand for all.
"""

import functools
import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

_EXAMPLES = 4096
_SHOWN = 16  # hexadecimal digits


def digest_of(value: Any) -> str:
    """A short text that is equal for what is built alike."""
    whole = hashlib.sha256()
    for part in _parts(value, {}):
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.hexdigest()[:_SHOWN]


def digest_of_data(data: Any) -> str:
    """The same of data, of which a part stands for all."""

    def part(leaf: Any) -> Any:
        count = leaf.shape[0] if getattr(leaf, "shape", ()) else 0
        places = np.unique(np.linspace(0, max(count - 1, 0), min(count, _EXAMPLES)).astype(np.int64))
        return (tuple(getattr(leaf, "shape", ())), np.asarray(leaf[places]) if count else np.asarray(leaf))

    return digest_of([part(leaf) for leaf in jax.tree.leaves(data)])


def _parts(value: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield f"{type(value).__name__}:{value!r}".encode()
    elif isinstance(value, jax.Array | np.ndarray | np.generic):
        yield from _array(value)
    elif id(value) in seen:
        yield b"again"
    else:
        seen[id(value)] = value  # held, so that nothing else takes its place in memory
        yield from _inside(value, seen)


def _inside(value: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    yield type(value).__qualname__.encode()
    if isinstance(value, types.CodeType):
        yield value.co_code
        yield repr(value.co_names).encode()
        parts: Any = value.co_consts
    elif isinstance(value, types.FunctionType):
        yield value.__qualname__.encode()
        cells = [_held(cell) for cell in value.__closure__ or ()]
        parts = [value.__code__, cells, value.__defaults__, value.__kwdefaults__]
    elif isinstance(value, types.MethodType):
        parts = [value.__func__, value.__self__]
    elif isinstance(value, functools.partial | eqx.Partial):
        parts = [value.func, value.args, value.keywords]
    elif isinstance(value, Mapping):
        parts = [part for key in sorted(value, key=str) for part in (str(key), value[key])]
    elif isinstance(value, tuple | list):
        parts = value
    elif isinstance(value, set | frozenset):
        parts = sorted(map(repr, value))
    elif hasattr(value, "__wrapped__"):
        parts = [value.__wrapped__]
    else:
        parts = _of_object(value)
    for part in parts:
        yield from _parts(part, seen)


def _of_object(value: Any) -> list[Any]:
    """What else an object is: the leaves of a tree, what a dataclass or a plain object holds; a name otherwise."""
    leaves = jax.tree.leaves(value, is_leaf=lambda node: node is not value)
    if not (len(leaves) == 1 and leaves[0] is value):
        held = [getattr(value, name) for name in getattr(value, "__dataclass_fields__", ()) if hasattr(value, name)]
        return held or leaves
    if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType) or not hasattr(value, "__dict__"):
        return [getattr(value, "__qualname__", getattr(value, "__name__", ""))]
    return [vars(value)]


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _array(value: Any) -> Iterator[bytes]:
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.ascontiguousarray(value)
    yield f"{array.dtype}{array.shape}".encode()
    yield array.tobytes()
