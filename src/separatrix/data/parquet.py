"""Parquet files, by pyarrow where it is installed.

The columns that are asked for become NumPy arrays; a missing value is refused, never turned into a number.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import DataMissing, explain
from separatrix.data.dataset import Table, require_sound
from separatrix.data.files import require_file


def read_parquet(path: str | PathLike[str], *, columns: Sequence[str] | None = None) -> Table:
    """Read numeric columns of a Parquet file.

    **Arguments:**

    - `path`: the file.
    - `columns`: which columns, in which order; all by default, because a column of text is better refused than lost.

    **Returns:** a `Table`.

    **Raises:** `DataMissing` where there is no such file or no pyarrow; `ValueError` for a damaged file, a column that
    holds no numbers, a missing or non-finite value; each names the column and its first bad row.

    **Example:**

    >>> import pathlib, tempfile
    >>> import pyarrow, pyarrow.parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.parquet")
    ...     pyarrow.parquet.write_table(pyarrow.table({"x": [1.0, 2.0]}), path)
    ...     read_parquet(path)["x"]
    array([1., 2.])
    """
    file = require_file("read_parquet", path)
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataMissing(
            explain("read_parquet", "no pyarrow", "pyarrow installed", 'Try: pip install "separatrix[data]"')
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            wanted = _known(str(file), columns, opened.schema_arrow.names)
            table = opened.read(columns=wanted)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            explain(f"{file}: not a sound Parquet file", str(error).splitlines()[0], "a whole file", "Write it again.")
        ) from error
    return Table({name: _column(f"{file}: column {name!r}", name, table.column(name)) for name in wanted}, str(file))


def _known(where: str, columns: Sequence[str] | None, there: list[str]) -> list[str]:
    wanted = there if columns is None else list(columns)
    for name in wanted:
        if name not in there:
            raise ValueError(
                explain(f"{where}: column", repr(name), f"one of {', '.join(there)}", "Name columns of the file.")
            )
    return wanted


def _column(where: str, name: str, column: Any) -> Shaped[np.ndarray, " rows"]:
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise ValueError(explain(where, f"a missing value at row {row + 1}", "a number", "Fill it in or drop the row."))
    array = column.to_numpy()
    if array.dtype.kind not in "biuf":
        raise ValueError(explain(where, f"values of type {column.type}", "numbers", "Leave it out with columns=[...]."))
    require_sound(where, name, array)
    return array
