"""Columns of Apache Arrow into a table: what a Parquet file holds, and every data frame gives.

pandas, polars, DuckDB, pyarrow and others hand out their columns through one protocol, `__arrow_c_stream__`; no library
is asked for by name. Each type becomes the kind that it is: numbers keep their dtype, strings and dictionaries are
categories, dates and timestamps are `datetime64` in the coarsest unit that holds them (in UTC where they have a zone).

**Reference:** the Arrow PyCapsule interface, https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from separatrix._errors import DataError, DataMissing, explain, unknown
from separatrix.data.arrow_columns import convert, gaps_of, whole
from separatrix.data.files import refusal, sound
from separatrix.data.table import Kinds, Missing, Table

INDEX = "__index_level_0__"  # what pandas calls an index without a name


def from_arrow(
    frame: Any,
    *,
    columns: Sequence[str] | None = None,
    missing: Missing = "refuse",
    kinds: Kinds = "infer",
    like: Table | None = None,
) -> Table:
    """Take a data frame as a table: of pandas, polars, pyarrow, or whatever else has `__arrow_c_stream__`.

    **Arguments:**

    - `frame`: the data frame.
    - `columns`, `missing`, `like`: as for `read_csv`.
    - `kinds`: "infer" (the default): each column is what its type says. Or "numbers", which refuses all others; or the
      kind of some columns by name.

    **Returns:** a `Table`.

    **Raises:** `TypeError` for what is no data frame; `DataMissing` without pyarrow; `DataError` (a `ValueError`),
    naming the column and the first bad row, for missing or non-finite values and for types that are no such kind.

    **Example:**

    >>> import pyarrow
    >>> table = from_arrow(pyarrow.table({"x": [1.5, None], "c": ["red", "blue"]}), missing="keep")
    >>> table["x"].tolist(), table["c"].tolist(), table.vocabularies["c"]
    ([1.5, nan], [1, 0], ('blue', 'red'))

    **Reference:** see the module.
    """
    if not hasattr(frame, "__arrow_c_stream__"):
        expected, do = "an object with __arrow_c_stream__", "Pass a data frame of pandas, polars or pyarrow."
        raise TypeError(explain("from_arrow", type(frame).__name__, expected, do))
    pyarrow = require_pyarrow("from_arrow")
    where = f"a {type(frame).__module__.split('.')[0]} {type(frame).__name__}"
    with sound(where, "Check the data frame."):
        found = pyarrow.RecordBatchReader.from_stream(frame).read_all()
        return to_table(found, where, columns, missing, kinds, like)


def require_pyarrow(what: str) -> Any:
    """The package, or the line that installs it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        do = 'Try: pip install "separatrix[data]"'
        raise DataMissing(explain(what, "no pyarrow", "pyarrow installed", do)) from error
    return pyarrow


def to_table(
    found: Any,
    source: str,
    columns: Sequence[str] | None,
    missing: Missing,
    kinds: Kinds,
    like: Table | None,
    unordered: Collection[str] = (),
) -> Table:
    """The table of a `pyarrow.Table`; `unordered` are dictionaries whose order says nothing."""
    there = dict.fromkeys(found.schema.names)
    require_distinct(source, found.schema.names)
    index = found.column(INDEX) if columns is None and has_index(found.schema) else None
    wanted = list(columns if columns is not None else (name for name in there if index is None or name != INDEX))
    for name in [*wanted, *([] if isinstance(kinds, str) else kinds)]:
        if name not in there:
            raise DataError(unknown(f"{source}: column", name, there, "Name columns of the file."))
    rows, chosen = found.num_rows, {name: whole(found.column(name)) for name in wanted}
    if missing == "drop":
        import pyarrow

        kept = pyarrow.array(~np.any([gaps_of(column) for column in chosen.values()], axis=0))
        chosen = {name: column.filter(kept) for name, column in chosen.items()}
        index = None if index is None else index.filter(kept)
    left = min((len(column) for column in chosen.values()), default=0)
    if left == 0:
        raise refusal(source, "no rows of data", "at least one", "Check the file.")
    values, words = {}, {}
    for name, column in chosen.items():
        values[name], vocabulary = convert(source, name, column, missing, kinds, like, name in unordered)
        if vocabulary is not None:
            words[name] = vocabulary
    return Table(values, source, words, None if index is None else index.to_numpy(), rows - left)


def require_distinct(source: str, names: Sequence[str]) -> None:
    """Refuse two columns of one name: one of them would be lost."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise refusal(f"{source}: column {name!r}", "the name twice", "a name for every column", "Rename one.")
        seen.add(name)


def has_index(schema: Any) -> bool:
    """Whether pandas says that the column without a name is an index."""
    try:
        return INDEX in schema.names and INDEX in json.loads(schema.metadata[b"pandas"])["index_columns"]
    except (KeyError, ValueError, TypeError):
        return False
