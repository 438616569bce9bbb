"""What a data set is: inputs, targets, and a card.

$$\\{(x_i, y_i)\\}_{i=1}^{n}$$

with x_i along the first axis of `inputs` and y_i along that of `targets`. Values are finite, the two lengths are equal,
and neither is empty: a `DataSet` that exists can be trained on.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Shaped

from separatrix._errors import explain
from separatrix.data.files import refusal

FIELDS = ("inputs", "targets", "test_inputs", "test_targets")
_BLOCK = 2**22  # values looked at in one go
Fields: TypeAlias = Mapping[str, Any]  # each an array, or None where it is not there


@dataclasses.dataclass(frozen=True)
class Card:
    """Where a data set comes from and how it is known again.

    - `name`, `summary`: what it is, in a word and in a line.
    - `source`: who made it; `licence`: under which terms; `found`: where this copy was read from.
    - `shapes`: the shape of each field.
    - `sha256`: digest of the decoded content (see `digest`), so that it is the same for a file and its compression.
    - `verified`: whether that is the digest recorded for the named set.
    """

    name: str
    summary: str
    source: str
    licence: str
    found: str
    shapes: Mapping[str, tuple[int, ...]]
    sha256: str
    verified: bool

    def to_dict(self) -> dict[str, Any]:
        """The card as plain values, for JSON."""
        plain = dataclasses.asdict(self)
        return plain | {"shapes": {field: list(shape) for field, shape in self.shapes.items()}}

    def __str__(self) -> str:
        shapes = ", ".join(f"{field} {' x '.join(map(str, shape))}" for field, shape in self.shapes.items())
        known = "as recorded" if self.verified else "not a recorded one"
        rows = {
            "shape": shapes,
            "source": self.source,
            "licence": self.licence,
            "found": self.found,
            "sha256": f"{self.sha256} ({known})",
        }
        return "\n".join([f"{self.name}: {self.summary}", *[f"  {key:<8} {value}" for key, value in rows.items()]])


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """Inputs and targets, split for training and testing where the set is split, and their card.

    - `inputs`: shape (n, ...), `targets`: shape (n, ...) or None where there are none.
    - `test_inputs`, `test_targets`: the same for testing, or None.
    - `present`: where gaps were kept, True at each input that is there; the others are NaN. None: all are there.
    - `names`: what the columns of the inputs are called, for a table. `classes`: what the codes of the targets mean, for
      words and folders. `vocabulary`: what the codes of the inputs mean, for a text.

    **Raises:** `DataError` (a `ValueError`) where a field is empty, holds a value that is not finite (the message names
    the field and the index), or where inputs and targets differ in length.
    """

    name: str
    inputs: Shaped[np.ndarray, "..."]
    targets: Shaped[np.ndarray, "..."] | None
    test_inputs: Shaped[np.ndarray, "..."] | None
    test_targets: Shaped[np.ndarray, "..."] | None
    card: Card
    present: Bool[np.ndarray, "..."] | None = None
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, array in self.arrays().items():
            present = self.present if field == "inputs" else None
            require_sound(f"data set {self.name!r}: {field}", field, array, present)
        for prefix in ("", "test_"):
            _require_pairs(self.name, f"{prefix}inputs", f"{prefix}targets", self.arrays())

    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """The fields that are there, by name."""
        return {field: getattr(self, field) for field in FIELDS if getattr(self, field) is not None}

    def flat(self) -> "DataSet":
        """The same set with each input as one vector: inputs of shape (n, features).

        **Example:**

        >>> from separatrix.data import load
        >>> load("lynx-hare").flat().inputs.shape
        (21, 1)
        """
        test = self.test_inputs
        return dataclasses.replace(
            self,
            inputs=self.inputs.reshape(len(self.inputs), -1),
            test_inputs=None if test is None else test.reshape(len(test), -1),
            present=None if self.present is None else self.present.reshape(len(self.inputs), -1),
        )

    def take(self, n: int, test: int | None = None) -> "DataSet":
        """The first `n` pairs for training and the first `test` for testing (all of them by default).

        **Raises:** `ValueError` where there are fewer.
        """
        kept = {"": n, "test_": test}
        changes: dict[str, Any] = {} if self.present is None else {"present": self.present[:n]}
        for prefix, count in kept.items():
            for field in (f"{prefix}inputs", f"{prefix}targets"):
                array = getattr(self, field)
                if array is not None and count is not None:
                    changes[field] = _first(f"take from {self.name!r}", array, count, field)
        return dataclasses.replace(self, **changes)

    def rows(self, which: Shaped[np.ndarray, " some"]) -> "DataSet":
        """The set of some training pairs: their numbers, or a mask. What is for testing stays.

        **Example:**

        >>> from separatrix.data import load
        >>> load("lynx-hare").rows(np.array([0, 2])).inputs.ravel().tolist()
        [1900.0, 1902.0]
        """
        changes: dict[str, Any] = {"inputs": self.inputs[which]}
        for field in ("targets", "present"):
            array = getattr(self, field)
            changes[field] = None if array is None else array[which]
        return dataclasses.replace(self, **changes)

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{field} {array.dtype}{array.shape}" for field, array in self.arrays().items())
        return f"DataSet({self.name!r}: {shapes})"


def build(card: Card, fields: Fields, **more: Any) -> DataSet:
    """The data set of a card: its fields, None for those that are not there."""
    values: dict[str, Any] = {field: fields.get(field) for field in FIELDS}
    return DataSet(name=card.name, card=card, **values, **more)


def shapes_of(fields: Fields) -> dict[str, tuple[int, ...]]:
    """The shape of each field that is there."""
    return {field: array.shape for field, array in fields.items() if array is not None}


def digest(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> str:
    """SHA-256 of named arrays: of each field's name, dtype, shape and little-endian bytes in C order, in turn."""
    total = hashlib.sha256()
    for field, array in arrays.items():
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        total.update(f"{field}:{plain.dtype.str}:{plain.shape}\n".encode())
        total.update(plain.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def require_sound(
    what: str, field: str, array: Shaped[np.ndarray, "..."], present: Bool[np.ndarray, "..."] | None = None
) -> None:
    """Refuse an array that is empty, not numeric, or not finite, naming the field and the first bad index."""
    if array.dtype.kind not in "biuf":
        raise refusal(what, f"dtype {array.dtype}", "real numbers", "Convert it to numbers first.")
    if array.ndim == 0 or array.size == 0:
        raise refusal(what, f"shape {array.shape}", "at least one row", "Check the file or the selection.")
    bad = None if array.dtype.kind != "f" else _first_not_finite(array, present)
    if bad is not None:
        place = f"{field}[{', '.join(map(str, bad))}]"
        do = "Repair or leave out that row, then load again."
        raise refusal(what, f"{place} = {array[bad]}", "finite values", do)


def _first_not_finite(array: Shaped[np.ndarray, "..."], present: Any) -> tuple[int, ...] | None:
    """The first index of a value that is there and not finite; by blocks of rows, for an array on disk."""
    block = max(1, _BLOCK // max(1, array[:1].size))
    for start in range(0, len(array), block):
        wrong = ~np.isfinite(array[start : start + block])
        if present is not None:
            wrong &= present[start : start + block]
        if wrong.any():
            row, *rest = (int(i) for i in np.argwhere(wrong)[0])
            return (start + row, *rest)
    return None


def _require_pairs(name: str, inputs: str, targets: str, arrays: Mapping[str, Any]) -> None:
    if inputs in arrays and targets in arrays and len(arrays[inputs]) != len(arrays[targets]):
        got = f"{len(arrays[inputs])} {inputs} and {len(arrays[targets])} {targets}"
        raise refusal(f"data set {name!r}", got, "one target for each input", "Check that both belong together.")


def _first(what: str, array: Any, count: int, field: str) -> Any:
    if not 1 <= count <= len(array):
        raise ValueError(explain(what, count, f"1 to {len(array)} ({field})", "Ask for no more than there is."))
    return array[:count]
