r"""What a manifest says of a tree: one entry a leaf.

A path is a list of steps: a text for an attribute or a key of a dictionary, a number for a place in a list, and a number
in brackets of its own for a key of a dictionary that is a number. What the leaf at a path is:

    array    numbers of a dtype and a shape; `weak` where JAX promotes them like a Python number
    key      typed random keys of an implementation, their data as uint32
    value    a bool, int, float, complex or str, as text
    empty    None, or a list, tuple or dictionary with nothing in it
    given    a function: not kept, to be given by the template

Names of classes and modules are not kept, let alone looked up.
"""

import dataclasses
from typing import Any

from separatrix.training.run._container import Tensor

Step = str | int | tuple[int]
Path = tuple[Step, ...]

KEYS = ("threefry2x32", "rbg", "unsafe_rbg")
SCALARS = {"bool": bool, "int": int, "float": float, "complex": complex, "str": str}
EMPTY: dict[str, Any] = {"None": None, "dict": {}, "list": [], "tuple": ()}


@dataclasses.dataclass(frozen=True)
class TensorEntry:
    """One leaf: its path, its kind, the name of its dtype, implementation or type, and what that kind needs."""

    path: Path
    kind: str
    of: str
    shape: tuple[int, ...] = ()
    text: str = ""
    tensor: str = ""
    weak: bool = False

    def __str__(self) -> str:
        """What the leaf is, in words that are equal where two leaves can stand for each other."""
        shape = f"({', '.join(map(str, self.shape))}{',' if len(self.shape) == 1 else ''})"
        return {
            "array": f"{self.of}{shape}",
            "key": f"keys of {self.of}{shape}",
            "value": f"a value of type {self.of}",
            "empty": self.of if self.of == "None" else f"an empty {self.of}",
            "given": f"the function {self.of}",
        }[self.kind]

    def to_json(self) -> dict[str, Any]:
        """The entry in the manifest; what is as usual is left out."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        return fields | {"path": [list(step) if isinstance(step, tuple) else step for step in self.path]}

    @staticmethod
    def from_json(fields: Any, tensors: dict[str, Tensor]) -> "TensorEntry":
        """The entry of a manifest, all of it checked.

        **Raises:** an exception of any kind where something is not as `to_json` writes it.
        """
        entry = TensorEntry(**(fields | {"path": path_of(fields["path"]), "shape": tuple(fields.get("shape", ()))}))
        if (
            not all(isinstance(word, str) for word in (entry.of, entry.text, entry.tensor))
            or type(entry.weak) is not bool
        ):
            raise TypeError("an entry of other types")
        right = {"array": _right_array, "key": _right_key, "value": value_of, "empty": lambda e, _: EMPTY[e.of],
                 "given": lambda e, _: True}[entry.kind](entry, tensors)  # fmt: skip
        if right is False and entry.kind in ("array", "key"):
            raise ValueError(f"the leaf {shown(entry.path)[:80]} and its tensor differ")
        return entry


def _right_array(entry: TensorEntry, tensors: dict[str, Tensor]) -> bool:
    tensor = tensors[entry.tensor]
    return (tensor.dtype, tensor.shape) == (entry.of, entry.shape)


def _right_key(entry: TensorEntry, tensors: dict[str, Tensor]) -> bool:
    tensor = tensors[entry.tensor]
    words = {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4}[entry.of]
    return (tensor.dtype, tensor.shape) == ("uint32", (*entry.shape, words))


def value_of(entry: TensorEntry, _: Any = None) -> Any:
    """The Python value of an entry."""
    match entry.of:
        case "bool":
            return {"True": True, "False": False}[entry.text]
        case "int":
            return int(entry.text, 16)
        case "float":
            return float.fromhex(entry.text)
        case "complex":
            real, imaginary = entry.text.split(" ")
            return complex(float.fromhex(real), float.fromhex(imaginary))
        case "str":
            return entry.text
    raise ValueError(f"a value of type {entry.of[:40]!r}")


def text_of(value: Any) -> str:
    """The text of a Python value, exact."""
    match value:
        case bool() | str():
            return str(value)
        case int():
            return hex(value)
        case float():
            return value.hex()
    return f"{value.real.hex()} {value.imag.hex()}"


def path_of(steps: Any) -> Path:
    """A path as it was written in JSON."""
    path = tuple(tuple(step) if isinstance(step, list) else step for step in steps)
    for step in path:
        inner = step[0] if isinstance(step, tuple) and len(step) == 1 else step
        if type(inner) not in ((int,) if isinstance(step, tuple) else (int, str)):
            raise TypeError(f"a step {str(step)[:40]!r} of a path")
    return path


def shown(path: Any) -> str:
    """A path in words: `.layers[0].weight`."""
    return "".join(f".{step}" if isinstance(step, str) else f"[{step[0] if isinstance(step, tuple) else step}]"
                   for step in path)  # fmt: skip


def nested(leaves: list[tuple[Path, Any]]) -> Any:
    """Leaves as dictionaries and lists by their paths.

    **Raises:** `ValueError` where one leaf lies inside another.
    """
    if [path for path, _ in leaves] == [()]:
        return leaves[0][1]
    root: dict[Any, Any] = {}
    for path, leaf in leaves:
        node = root
        for step in path[:-1]:
            node = node.setdefault(step, {})
            if isinstance(node, _Leaf):
                raise ValueError(f"a leaf inside the leaf at {shown(path)[:80]}")
        if not path or path[-1] in node:
            raise ValueError(f"two leaves at {shown(path)[:80]}")
        node[path[-1]] = _Leaf(leaf)
    return _plain(root)


@dataclasses.dataclass(frozen=True)
class _Leaf:
    value: Any


def _plain(node: Any) -> Any:
    if isinstance(node, _Leaf):
        return node.value
    places = sorted(step for step in node if isinstance(step, int))
    if len(places) == len(node) and places == list(range(len(node))):
        return [_plain(node[place]) for place in places]
    return {step[0] if isinstance(step, tuple) else step: _plain(inner) for step, inner in node.items()}
