"""What a data set is: inputs, targets, and a card.

$$\\{(x_i, y_i)\\}_{i=1}^{n}$$

with x_i along the first axis of `inputs` and y_i along that of `targets`. Values are finite, the two lengths are equal,
and neither is empty: a `DataSet` that exists can be trained on.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import explain

FIELDS = ("inputs", "targets", "test_inputs", "test_targets")
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

    **Raises:** `ValueError` where a field is empty, holds a value that is not finite (the message names the field and
    the index), or where inputs and targets differ in length.
    """

    name: str
    inputs: Shaped[np.ndarray, "..."]
    targets: Shaped[np.ndarray, "..."] | None
    test_inputs: Shaped[np.ndarray, "..."] | None
    test_targets: Shaped[np.ndarray, "..."] | None
    card: Card

    def __post_init__(self) -> None:
        for field, array in self.arrays().items():
            require_sound(f"data set {self.name!r}: {field}", field, array)
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
        )

    def take(self, n: int, test: int | None = None) -> "DataSet":
        """The first `n` pairs for training and the first `test` for testing (all of them by default).

        **Raises:** `ValueError` where there are fewer.
        """
        kept = {"": n, "test_": test}
        changes = {}
        for prefix, count in kept.items():
            for field in (f"{prefix}inputs", f"{prefix}targets"):
                array = getattr(self, field)
                if array is not None and count is not None:
                    changes[field] = _first(f"take from {self.name!r}", array, count, field)
        return dataclasses.replace(self, **changes)

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{field} {array.dtype}{array.shape}" for field, array in self.arrays().items())
        return f"DataSet({self.name!r}: {shapes})"


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Named columns of equal length, as read from a CSV or Parquet file.

    **Example:**

    >>> import numpy as np
    >>> table = Table({"t": np.array([0.0, 1.0]), "x": np.array([3, 4])}, source="here")
    >>> table["x"]
    array([3, 4])
    >>> table.matrix("x", "t").shape
    (2, 2)
    """

    columns: Mapping[str, Shaped[np.ndarray, " rows"]]
    source: str

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the order of the file."""
        return tuple(self.columns)

    def matrix(self, *names: str) -> Shaped[np.ndarray, "rows columns"]:
        """The named columns (all by default) side by side as float64, shape (rows, columns)."""
        return np.stack([np.asarray(self[name], float) for name in names or self.names], axis=1)

    def without(self, *names: str) -> "Table":
        """The table less the named columns."""
        for name in names:
            self[name]
        return Table({name: column for name, column in self.columns.items() if name not in names}, self.source)

    def __getitem__(self, name: str) -> Shaped[np.ndarray, " rows"]:
        if name not in self.columns:
            raise ValueError(
                explain(
                    f"{self.source}: column",
                    repr(name),
                    f"one of {', '.join(self.names)}",
                    "Name a column of the file.",
                )
            )
        return self.columns[name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __repr__(self) -> str:
        return f"Table({Path(self.source).name}: {len(self)} rows; {', '.join(self.names)})"


def build(card: Card, fields: Fields) -> DataSet:
    """The data set of a card: its fields, None for those that are not there."""
    values: dict[str, Any] = {field: fields.get(field) for field in FIELDS}
    return DataSet(name=card.name, card=card, **values)


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


def require_sound(what: str, field: str, array: Shaped[np.ndarray, "..."]) -> None:
    """Refuse an array that is empty, not numeric, or not finite, naming the field and the first bad index."""
    if array.dtype.kind not in "biuf":
        raise ValueError(explain(what, f"dtype {array.dtype}", "real numbers", "Convert it to numbers first."))
    if array.ndim == 0 or array.size == 0:
        raise ValueError(explain(what, f"shape {array.shape}", "at least one row", "Check the file or the selection."))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f"{field}[{', '.join(map(str, index))}]"
        raise ValueError(
            explain(
                what, f"{place} = {array[index]}", "finite values", "Repair or leave out that row, then load again."
            )
        )


def _require_pairs(name: str, inputs: str, targets: str, arrays: Mapping[str, Any]) -> None:
    if inputs in arrays and targets in arrays and len(arrays[inputs]) != len(arrays[targets]):
        got = f"{len(arrays[inputs])} {inputs} and {len(arrays[targets])} {targets}"
        raise ValueError(
            explain(f"data set {name!r}", got, "one target for each input", "Check that both belong together.")
        )


def _first(what: str, array: Any, count: int, field: str) -> Any:
    if not 1 <= count <= len(array):
        raise ValueError(explain(what, count, f"1 to {len(array)} ({field})", "Ask for no more than there is."))
    return array[:count]
