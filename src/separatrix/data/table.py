"""A table: named columns of equal length, which are numbers, categories or dates.

| kind | values | a missing value is |
|---|---|---|
| number | booleans, whole numbers or floats, as they were written | NaN |
| category | codes 0, 1, ... into the column's vocabulary | -1 |
| date | NumPy's `datetime64`, which keeps its unit | NaT |

`features` turns a table into what a model takes: a matrix of floats, a mask of what is there, and a target.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Shaped

from separatrix._errors import DataError, unknown
from separatrix.data.dates import unit_of
from separatrix.data.exact import EXACT, to_float
from separatrix.data.files import refusal

Kind: TypeAlias = Literal["number", "category", "date"]
Kinds: TypeAlias = Literal["numbers", "infer"] | Mapping[str, Kind]
Missing: TypeAlias = Literal["refuse", "drop", "keep"]

# One-hot columns of a category: past this many, what is meant is a text or a name of the row.
_MOST_CATEGORIES = 1_000


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """What a model takes of a table.

    - `inputs`: shape (rows, features), NaN where a value is missing. `present`: the same shape, True where one is there.
    - `targets`: shape (rows,) for one target, its numbers as they are and a category as int32 codes; float64, shape
      (rows, targets), for several; or None.
    - `names`: of the features, "colour=red" for one category of a column. `classes`: of a target that is a category.
    - `units`: of the features that are dates, by name.
    """

    inputs: Float[np.ndarray, "rows features"]
    present: Bool[np.ndarray, "rows features"]
    targets: Shaped[np.ndarray, "rows ..."] | None
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Named columns of equal length, as read from a CSV or Parquet file, or taken from a data frame.

    - `columns`: the values by name (see the module). `source`: where they were read.
    - `vocabularies`: for each column that is a category, the words that its codes mean.
    - `index`: the column without a name that a data frame writes before the others, which is no feature; or None.
    - `dropped`: how many rows were left out because a value was missing.

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
    vocabularies: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    index: Shaped[np.ndarray, " rows"] | None = None
    dropped: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the order of the file."""
        return tuple(self.columns)

    def kind(self, name: str) -> Kind:
        """Whether a column holds numbers, categories or dates."""
        if name in self.vocabularies:
            return "category"
        return "date" if self[name].dtype.kind == "M" else "number"

    def present(self, name: str) -> Bool[np.ndarray, " rows"]:
        """Where a column has a value.

        **Example:**

        >>> Table({"x": np.array([1.0, np.nan])}, source="here").present("x").tolist()
        [True, False]
        """
        values = self[name]
        if name in self.vocabularies:
            return values >= 0
        if values.dtype.kind == "M":
            return ~np.isnat(values)
        return ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)

    def words(self, name: str) -> list[str | None]:
        """A category's values as the words of its vocabulary, None where one is missing."""
        vocabulary = self.vocabularies.get(self._known(name))
        if vocabulary is None:
            raise refusal(f"{self.source}: words of column {name!r}", self.kind(name), "a category", "Read it as one.")
        return [vocabulary[code] if code >= 0 else None for code in self[name]]

    def matrix(self, *names: str) -> Float[np.ndarray, "rows columns"]:
        """The named columns (all by default) side by side as float64, shape (rows, columns); codes of categories too.

        **Raises:** `DataError` where a whole number has no float64 of its own, naming the column and the row.
        """
        return np.stack(self._blocks(names or self.names), axis=1)

    def features(
        self, targets: str | Sequence[str] | None = None, *, categories: Literal["one-hot", "codes"] = "one-hot"
    ) -> Features:
        """Inputs, mask and targets for a model.

        **Arguments:**

        - `targets`: the column or columns to predict; the others are the inputs.
        - `categories`: each category of an input as a column of 0 and 1, or its code as a number, where the order of
          the vocabulary means something.

        **Raises:** `DataError` for a missing target, and for a category of more than 1,000 words among the inputs.

        **Example:**

        >>> table = Table({"x": np.array([1.0, np.nan]), "y": np.array([0, 1])}, source="here")
        >>> found = table.features("y")
        >>> found.inputs.tolist(), found.present.tolist(), found.targets.tolist()
        ([[1.0], [nan]], [[True], [False]], [0, 1])
        """
        wanted = [targets] if isinstance(targets, str) else list(targets or ())
        inputs = self.without(*wanted)
        if not inputs.names:
            got = f"all columns ({', '.join(wanted)})"
            raise refusal(f"{self.source}: targets", got, "some of them", "Leave one for the inputs.")
        words = [name for name in inputs.names if name in self.vocabularies] if categories == "one-hot" else []
        hot = {name: self._one_hot(name) for name in words}
        plain = [name for name in inputs.names if name not in hot]
        parts = hot | {name: [(name, values)] for name, values in zip(plain, self._blocks(plain), strict=True)}
        named = [part for name in inputs.names for part in parts[name]]
        matrix = np.stack([values for _, values in named], axis=1)
        return Features(
            matrix,
            ~np.isnan(matrix),
            self._target(targets) if isinstance(targets, str) else self._targets(wanted),
            tuple(name for name, _ in named),
            self.vocabularies.get(targets, ()) if isinstance(targets, str) else (),
            {name: unit_of(self[name]) for name in inputs.names if self.columns[name].dtype.kind == "M"},
        )

    def without(self, *names: str) -> "Table":
        """The table less the named columns."""
        left_out = {self._known(name) for name in names}
        kept = {name: column for name, column in self.columns.items() if name not in left_out}
        words = {name: known for name, known in self.vocabularies.items() if name in kept}
        return dataclasses.replace(self, columns=kept, vocabularies=words)

    def rows(self, which: Shaped[np.ndarray, " some"]) -> "Table":
        """The table of some rows: their numbers, or a mask."""
        index = None if self.index is None else self.index[which]
        columns = {name: values[which] for name, values in self.columns.items()}
        return dataclasses.replace(self, columns=columns, index=index)

    def missing(self) -> dict[str, int]:
        """How many values are missing in each column that has a gap."""
        counts = {name: int(np.sum(~self.present(name))) for name in self.names}
        return {name: count for name, count in counts.items() if count}

    def __getitem__(self, name: str) -> Shaped[np.ndarray, " rows"]:
        return self.columns[self._known(name)]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __repr__(self) -> str:
        shown = [self._told(name) for name in self.names[:20]]
        more = [f"and {len(self.names) - 20} columns more"] if len(self.names) > 20 else []
        gone = f", {self.dropped} with gaps left out" if self.dropped else ""
        aside = "; an index" if self.index is not None else ""
        return f"Table({Path(self.source).name}: {len(self)} rows{gone}{aside}; {', '.join(shown + more)})"

    def _told(self, name: str) -> str:
        kind = self.kind(name)
        gaps = int(np.sum(~self.present(name)))
        said = {
            "number": [],
            "category": [f"{len(self.vocabularies.get(name, ()))} categories"],
            "date": [unit_of(self[name])] if kind == "date" else [],
        }[kind] + ([f"{gaps} missing"] if gaps else [])
        return f"{name} ({', '.join(said)})" if said else name

    def _known(self, name: str) -> str:
        if name not in self.columns:
            raise DataError(unknown(f"{self.source}: column", name, self.columns, "Name a column of the file."))
        return name

    def _blocks(self, names: Sequence[str]) -> list[Float[np.ndarray, " rows"]]:
        """The columns as float64; most need no look at each number."""
        blocks = []
        for name in names:
            values = self.columns.get(name)
            if values is None or not (values.dtype.kind in "fb" or _is_small(values)) or name in self.vocabularies:
                blocks.append(self._floats(self._known(name)))
            else:
                blocks.append(values.astype(np.float64))
        return blocks

    def _floats(self, name: str) -> Float[np.ndarray, " rows"]:
        values = to_float(self[name], partial(_no_float, f"{self.source}: column {name!r}"))
        return np.where(self.present(name), values, np.nan) if name in self.vocabularies else values

    def _one_hot(self, name: str) -> list[tuple[str, Float[np.ndarray, " rows"]]]:
        """A column of 0 and 1 for each word of a category, NaN where it is missing."""
        present, vocabulary = self.present(name), self.vocabularies[name]
        if len(vocabulary) > _MOST_CATEGORIES:
            where, got = f"{self.source}: column {name!r}", f"{len(vocabulary)} categories"
            do = "Leave the column out, or pass categories='codes'."
            raise refusal(where, got, f"at most {_MOST_CATEGORIES}, a feature for each", do)
        hot = (np.where(present, self[name] == code, np.nan) for code in range(len(vocabulary)))
        return [(f"{name}={word}", values) for word, values in zip(vocabulary, hot, strict=True)]

    def _targets(self, names: list[str]) -> Float[np.ndarray, "rows targets"] | None:
        return np.stack([self._target(name) for name in names], axis=1).astype(float) if names else None

    def _target(self, name: str) -> Shaped[np.ndarray, " rows"]:
        gaps = np.flatnonzero(~self.present(name))
        if len(gaps):
            where, do = f"{self.source}: column {name!r}, row {gaps[0] + 1}", "Leave such rows out with missing='drop'."
            raise refusal(where, "a missing target", "a value to predict", do)
        kind, values = self.kind(name), self[name]
        return self._floats(name) if kind == "date" else values.astype(np.int32) if kind == "category" else values


def _is_small(values: Shaped[np.ndarray, " rows"]) -> bool:
    """Whether every value is a whole number below 2^53 in size."""
    return values.dtype.kind in "iu" and (values.size == 0 or bool(values.min() >= -EXACT and values.max() <= EXACT))


def _no_float(where: str, row: int, got: str) -> DataError:
    do = "Take the column as whole numbers by table[name], or subtract a number near it first."
    return refusal(f"{where}, row {row + 1}", got, "a number that a float64 can be", do)
