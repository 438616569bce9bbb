"""Parquet files, by pyarrow where it is installed.

Pages are compared with their checksums where the file has them, and what the file says it holds is compared with its
length before anything is unpacked.

**Reference:** Apache Parquet, file format, section "Checksumming".
"""

from base64 import b64decode
from collections.abc import Sequence
from itertools import zip_longest
from os import PathLike
from typing import Any

from separatrix._errors import DataError, listed, unknown
from separatrix.data.arrow import require_distinct, require_pyarrow, to_table
from separatrix.data.files import first_line, refusal, require_file, require_unpacked, sound
from separatrix.data.table import Kinds, Missing, Table

_DO = "Write it again."
_TEXT = ("string", "large_string", "string_view")  # read as dictionaries: a word that is repeated is unpacked once


def read_parquet(
    path: str | PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    missing: Missing = "refuse",
    kinds: Kinds = "numbers",
    like: Table | None = None,
    max_bytes: int | None = None,
) -> Table:
    """Read columns of a Parquet file.

    **Arguments:**

    - `path`: the file.
    - `columns`: which columns, in which order; all by default, because a column of text is better refused than lost.
    - `missing`, `kinds`, `like`: as for `read_csv`; a column is of the kind that its type says.
    - `max_bytes`: the most bytes that the columns may take; by default 256 MiB, or 128 times the file where that is more.

    **Returns:** a `Table`.

    **Raises:** `DataMissing` if there is no such file or no pyarrow; `DataError` (a `ValueError`) for a damaged file, a
    column that holds no numbers, a missing or non-finite value; each names the column and its first bad row.

    **Example:**

    >>> import pathlib, tempfile
    >>> import pyarrow, pyarrow.parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.parquet")
    ...     pyarrow.parquet.write_table(pyarrow.table({"x": [1.0, 2.0]}), path)
    ...     read_parquet(path)["x"]
    array([1., 2.])

    **Reference:** see the module.
    """
    file = require_file("read_parquet", path)
    pyarrow = require_pyarrow("read_parquet")
    where = f"{file}: not a sound Parquet file"
    with sound(where, _DO):
        try:
            with pyarrow.parquet.ParquetFile(file) as opened:
                schema, about = opened.schema_arrow, opened.metadata
            _require_one_schema(where, schema, about)
            wanted = _wanted(str(file), schema, columns)
            require_unpacked(where, 8 * about.num_rows * len(wanted), file.stat().st_size, max_bytes)
            words = [field.name for field in schema if field.name in wanted and str(field.type) in _TEXT]
            options = {"page_checksum_verification": True, "read_dictionary": words}
            with pyarrow.parquet.ParquetFile(file, **options) as opened:
                found = opened.read(columns=wanted, use_threads=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise refusal(where, first_line(error), "a whole file", _DO) from error
        if found.num_rows != about.num_rows:
            raise refusal(where, f"{found.num_rows} rows", f"{about.num_rows}, as it says", _DO)
        found.validate(full=True)
        return to_table(found, str(file), columns, missing, kinds, like, words)


def parquet_names(path: str | PathLike[str]) -> tuple[str, ...]:
    """The names of the columns of a Parquet file. Its values are not looked at.

    **Raises:** as `read_parquet`.
    """
    file = require_file("read_parquet", path)
    pyarrow = require_pyarrow("read_parquet")
    with sound(f"{file}: not a sound Parquet file", _DO), pyarrow.parquet.ParquetFile(file) as opened:
        return tuple(opened.schema_arrow.names)


def _require_one_schema(where: str, schema: Any, about: Any) -> None:
    """Compare the columns' names with those of the Arrow schema, which most writers put beside: no checksum covers them."""
    import pyarrow

    written = (about.metadata or {}).get(b"ARROW:schema")
    names = schema.names if written is None else pyarrow.ipc.read_schema(pyarrow.py_buffer(b64decode(written))).names
    if names != schema.names:
        got = listed(name for name, other in zip_longest(schema.names, names, fillvalue="") if name != other)
        raise refusal(where, f"columns {got} that its two schemas name differently", "one name for a column", _DO)


def _wanted(where: str, schema: Any, columns: Sequence[str] | None) -> list[str]:
    """The columns to read, each once."""
    require_distinct(where, schema.names)
    there = dict.fromkeys(schema.names)
    for name in columns or ():
        if name not in there:
            raise DataError(unknown(f"{where}: column", name, there, "Name columns of the file."))
    return list(there if columns is None else dict.fromkeys(columns))
