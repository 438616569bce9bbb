r"""Columns of a table as features of a network, settled on the training rows alone.

    number, date    (x - mean)/scale, mean where x is missing
    category        1 for its word and 0 for the others, the frequency of each word where it is missing
    with gaps       one more feature: 1 where the value is missing

Mean, scale and frequencies are of the training rows; they are written into the recipe, so that another table is later
read in the same way. The scale of a column that never changes is 1.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from separatrix._errors import DataError, explain, unknown
from separatrix.data import Table, column_names, parquet_names, read_csv, read_npz, read_parquet

SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")
_MOST_WORDS = 1_000


@dataclasses.dataclass(frozen=True)
class Column:
    """How one column becomes features."""

    name: str
    """What the file calls it."""
    kind: Literal["number", "category", "date"] = "number"
    """What it holds."""
    words: tuple[str, ...] = ()
    """Of a category: the words, a feature each."""
    unit: str = ""
    """Of a date: NumPy's unit."""
    fills: tuple[float, ...] = (0.0,)
    """What a missing value becomes: the training mean of each feature."""
    scale: float = 1.0
    """What a number is divided by, less its mean."""
    gaps: bool = False
    """Whether there is a feature that says where a value is missing."""

    @property
    def features(self) -> tuple[str, ...]:
        """What its features are called."""
        own = tuple(f"{self.name}={word}" for word in self.words) or (self.name,)
        return (*own, f"{self.name} missing") if self.gaps else own


def read_table(path: Path, delimiter: str | None = None, columns: tuple[Column, ...] | None = None) -> Table:
    """Read a table; with columns, those alone, of the kinds they had.

    **Raises:** `DataError`, `DataMissing` as the readers; `ValueError` for a file that is no table.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        expected = f"a table ending in {', '.join(SUFFIXES)}"
        got, do = f"suffix {suffix!r}", "Convert or rename the file."
        if path.is_dir():
            got, do = "a folder", "Name a file."
        raise ValueError(explain(f"--data {path}", got, expected, do))
    if delimiter is not None and suffix not in (".csv", ".tsv"):
        raise ValueError(explain("delimiter", repr(delimiter), f"none for a {suffix} file", "Leave it out."))
    if suffix == ".npz":
        return _chosen(_arrays_as_table(path), columns)
    options: dict[str, Any] = {"missing": "keep", "kinds": "infer"}
    if columns is not None:
        options |= {"columns": [c.name for c in columns], "kinds": {c.name: c.kind for c in columns}}
    if suffix == ".parquet":
        return read_parquet(path, **options)
    return read_csv(path, delimiter=delimiter or ("\t" if suffix == ".tsv" else ","), **options)


def names_of(path: Path, delimiter: str | None = None) -> tuple[str, ...]:
    """The names of the columns of a table.

    **Raises:** as `read_table`.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return parquet_names(path)
    if suffix in (".csv", ".tsv"):
        return column_names(path, delimiter=delimiter or ("\t" if suffix == ".tsv" else ","))
    return read_table(path, delimiter).names


def settle(table: Table, train: Table, names: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of these names, settled on the rows of `train`; all of `table` says which have gaps."""
    return tuple(_settled(table, train, name) for name in names)


def matrix_of(columns: tuple[Column, ...], table: Table) -> tuple[Float[np.ndarray, "rows features"], list[str]]:
    """The features of a table as float32, and what must be reported of it: gaps and words that were not seen before.

    **Raises:** `DataError` where a number is too far from those of training for float32.
    """
    blocks, notes = [], []
    for column in columns:
        values, said = _features(column, table)
        with np.errstate(over="ignore"):  # told below
            fits = np.isfinite(values.astype(np.float32)).all()
        if not fits:
            where, do = f"{table.source}: column {column.name!r}", "Repair the column, or leave it out."
            raise DataError(explain(where, "a number that float32 cannot hold", "numbers like those of training", do))
        blocks.append(values)
        notes += said
    return np.concatenate(blocks, axis=1).astype(np.float32), notes


def _settled(table: Table, train: Table, name: str) -> Column:
    kind = table.kind(name)
    if kind == "category" and len(table.vocabularies[name]) > _MOST_WORDS:
        where, got = f"{table.source}: column {name!r}", f"{len(table.vocabularies[name])} different words"
        do = f"Leave the column out: --drop {name}"
        raise DataError(explain(where, got, f"at most {_MOST_WORDS}", do))
    gaps = not bool(table.present(name).all())
    words = table.vocabularies.get(name, ())
    unit = np.datetime_data(table[name].dtype)[0] if kind == "date" else ""
    column = Column(name, kind, words, unit, (0.0,) * max(1, len(words)), 1.0, gaps)
    values, there = _raw(column, train)
    if not there.any():
        where, do = f"{table.source}: column {name!r}", f"Leave the column out: --drop {name}"
        raise DataError(explain(where, "no value in the training rows", "some", do))
    known = values[there]
    if kind == "category":
        return dataclasses.replace(column, fills=tuple(float(mean) for mean in known.mean(axis=0)))
    mean, spread = float(known.mean()), float(known.std())
    return dataclasses.replace(column, fills=(mean,), scale=spread if spread > 0 else 1.0)


def _features(column: Column, table: Table) -> tuple[np.ndarray, list[str]]:
    raw, there = _raw(column, table)
    if column.kind == "category":
        values = np.where(there[:, None], raw, np.asarray(column.fills))
    else:
        values = np.where(there[:, None], (raw - column.fills[0]) / column.scale, 0.0)
    absent = int(np.sum(~there))
    strange = (
        sorted({word for word in table.words(column.name) if word is not None} - set(column.words))
        if (column.kind == "category")
        else []
    )
    notes = [f"column {column.name!r}: {absent} missing, filled by the training mean"] if absent else []
    notes += [f"column {column.name!r}: {word!r} was not seen in training, taken as missing" for word in strange[:5]]
    if not column.gaps:
        return values, notes
    return np.concatenate([values, ~there[:, None]], axis=1), notes


def _raw(column: Column, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Values of the features before scaling, (rows, features), and where there is one."""
    there = table.present(column.name)
    if column.kind == "category":
        place = {word: i for i, word in enumerate(column.words)}
        codes = np.array([place.get(word, -1) if word is not None else -1 for word in table.words(column.name)], int)
        return np.eye(len(column.words) + 1)[codes][:, : len(column.words)], codes >= 0
    if column.kind == "date":
        dates = table[column.name].astype(f"datetime64[{column.unit}]")
        counts = np.where(there, dates.astype(np.int64), 0).astype(np.float64)
        return counts[:, None], there
    return np.where(there, table.matrix(column.name)[:, 0], 0.0)[:, None], there


def _arrays_as_table(path: Path) -> Table:
    """Arrays of an .npz file as columns: a matrix gives one for each of its own."""
    found: dict[str, np.ndarray] = {}
    for name, array in read_npz(path).items():
        if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
            got = f"{name} of shape {array.shape} and dtype {array.dtype}"
            do = "Save vectors and matrices of numbers, one row an example."
            raise DataError(explain(str(path), got, "arrays (rows,) or (rows, columns)", do))
        columns = {name: array} if array.ndim == 1 else {f"{name}[{i}]": array[:, i] for i in range(array.shape[1])}
        found |= columns
    lengths = {len(values) for values in found.values()}
    if len(lengths) != 1 or 0 in lengths:
        got = f"arrays of {', '.join(map(str, sorted(lengths)))} rows"
        raise DataError(explain(str(path), got, "arrays of one length", "Save one row for each example."))
    bad = next((name for name, values in found.items() if np.isinf(values).any()), None)
    if bad is not None:
        raise DataError(explain(f"{path}: {bad}", "infinity", "finite numbers", "Repair the array."))
    return Table(found, str(path))


def _chosen(table: Table, columns: tuple[Column, ...] | None) -> Table:
    if columns is None:
        return table
    for column in columns:
        if column.name not in table.columns:
            do = "Name the arrays as in training."
            raise DataError(unknown(f"{table.source}: array", column.name, table.columns, do))
    return table
