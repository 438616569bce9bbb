"""Delimited text (CSV, TSV) into columns of numbers, or a message that names the first bad line and column.

Lines that are blank or begin with `#` are skipped. The first line left names the columns; where all its cells are
numbers it is data, and the columns are named "0", "1", ... Whole-number columns become int64, all others float64.
Lines are counted as an editor counts them, from 1, so that a message leads to the place.

**Reference:** RFC 4180, with comments and a choice of delimiter added.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import explain
from separatrix.data.dataset import Table
from separatrix.data.files import require_file

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-", "."})
_WHOLE = re.compile(r"\s*[+-]?\d{1,18}\s*")
_OTHER_DELIMITERS = (",", ";", "\t", "|")

_Row = tuple[int, list[str]]  # line number in the file, cells


def read_csv(
    path: str | PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    times: str | None = None,
    delimiter: str = ",",
    missing: Literal["refuse", "drop"] = "refuse",
) -> Table:
    """Read numeric columns of a delimited text file.

    **Arguments:**

    - `path`: the file, in UTF-8.
    - `columns`: which columns, in which order; all by default, because a column of text is better refused than lost.
    - `times`: the column that must increase from row to row, if one must.
    - `delimiter`: what parts the columns.
    - `missing`: "refuse" a missing value (the default: a gap is a decision of yours), or "drop" the rows that have one.

    **Returns:** a `Table` of the wanted columns.

    **Raises:** `DataMissing` where there is no such file; `ValueError`, naming the first bad line and column, for NUL
    bytes, text that is not UTF-8, ragged rows, another delimiter, missing, non-numeric or non-finite values, and times
    that do not increase.

    **Example:**

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.csv")
    ...     _ = path.write_text("t,x\\n0,1.5\\n1,2.5\\n")
    ...     read_csv(path, times="t")["x"]
    array([1.5, 2.5])

    **Reference:** see the module.
    """
    file = require_file("read_csv", path)
    header, rows = _named(file, _rows(file, _text(file, delimiter), delimiter), delimiter)
    wanted = {name: _position(file, header, name) for name in (columns if columns is not None else header)}
    if missing == "drop":
        rows = [row for row in rows if not any(_is_missing(row[1][i]) for i in wanted.values())]
    if not rows:
        raise ValueError(explain(f"{file}", "no rows of data", "at least one", "Check the file."))
    table = {name: _numbers(file, rows, position, name) for name, position in wanted.items()}
    if times is not None:
        _require_increasing(file, rows, _position(file, header, times), times)
    return Table(table, str(file))


def _text(file: Path, delimiter: str) -> str:
    """The file's text; NUL bytes and what is not UTF-8 are refused."""
    raw = file.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _bad(file, 1, 1, "UTF-16 text", "UTF-8", "Save the file as UTF-8.")
    if (at := raw.find(b"\0")) >= 0:
        raise _bad(file, *_place(raw, at, delimiter), "a NUL byte", "text", "Is this a binary file? Fetch it again.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"byte {raw[error.start]:#04x}, which is not UTF-8"
        raise _bad(file, *_place(raw, error.start, delimiter), got, "UTF-8", "Save the file as UTF-8.") from error


def _place(raw: bytes, at: int, delimiter: str) -> tuple[int, int]:
    """Line and column of a byte, both from 1."""
    start = raw.rfind(b"\n", 0, at) + 1
    return raw.count(b"\n", 0, at) + 1, raw.count(delimiter.encode(), start, at) + 1


def _rows(file: Path, text: str, delimiter: str) -> Iterator[_Row]:
    """Line number and cells of every row that is neither blank nor a comment."""
    lines = ("" if line.startswith("#") else line for line in io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise _bad(
            file, reader.line_num, 1, f"a row that cannot be read ({error})", "a row", "Check its quotes."
        ) from error


def _named(file: Path, rows: Iterator[_Row], delimiter: str) -> tuple[list[str], list[_Row]]:
    """The columns' names, and the rows, all of one length."""
    first = next(rows, None)
    if first is None:
        raise ValueError(explain(f"{file}", "no rows", "a line of names and rows of data", "Check the file."))
    line, cells = first
    names = [cell.strip() for cell in cells]
    _require_delimiter(file, line, names, delimiter)
    headed = not all(_number(name) is not None for name in names)
    kept = list(rows) if headed else [first, *rows]
    names = names if headed else [str(i) for i in range(len(names))]
    _require_distinct(file, line, names)
    for row in kept:
        _require_length(file, row, names)
    return names, kept


def _require_delimiter(file: Path, line: int, names: list[str], delimiter: str) -> None:
    """A single column whose name holds another delimiter was parted by the wrong one."""
    found = [other for other in _OTHER_DELIMITERS if other != delimiter and other in names[0]]
    if len(names) == 1 and found:
        got, expected = f"one column {names[0]!r}", f"columns parted by {delimiter!r}"
        raise _bad(file, line, 1, got, expected, f"Pass delimiter={found[0]!r}.")


def _require_distinct(file: Path, line: int, names: list[str]) -> None:
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            got = f"the name {name!r} again" if name else "a column without a name"
            raise _bad(file, line, i + 1, got, "a name of its own for every column", "Edit the first line.")


def _require_length(file: Path, row: _Row, names: list[str]) -> None:
    line, cells = row
    if len(cells) != len(names):
        at = min(len(cells), len(names)) + 1
        raise _bad(file, line, at, f"{len(cells)} values", f"{len(names)}, as in the first line", "Repair that row.")


def _position(file: Path, header: list[str], name: str) -> int:
    if name not in header:
        expected = f"one of {', '.join(header)}"
        raise ValueError(explain(f"{file}: column", repr(name), expected, "Name columns of the file."))
    return header.index(name)


def _numbers(file: Path, rows: list[_Row], position: int, name: str) -> Shaped[np.ndarray, " rows"]:
    """One column as int64 where every cell is a whole number, as finite float64 otherwise."""
    cells = [row[1][position] for row in rows]
    if all(_WHOLE.fullmatch(cell) for cell in cells):
        return np.array([int(cell) for cell in cells], np.int64)
    values = [_number(cell) for cell in cells]
    for (line, _), cell, value in zip(rows, cells, values, strict=True):
        _require_number(file, line, position, name, cell, value)
    return np.array(values, np.float64)


def _require_number(file: Path, line: int, position: int, name: str, cell: str, value: float | None) -> None:
    label = f"{position + 1} ({name!r})"
    if _is_missing(cell):
        do = "Fill it in, or pass missing='drop' to leave such rows out."
        raise _bad(file, line, label, f"a missing value {cell.strip()!r}", "a number", do)
    if value is None:
        do = "Write numbers with a decimal point, or leave the column out with columns=[...]."
        raise _bad(file, line, label, repr(cell), "a number", do)
    if not np.isfinite(value):
        raise _bad(file, line, label, repr(cell), "a finite number", "Repair that row.")


def _number(cell: str) -> float | None:
    """The number that a cell says, or None. Python's `1_000` is no number in a file."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _require_increasing(file: Path, rows: list[_Row], position: int, name: str) -> None:
    times = _numbers(file, rows, position, name)
    falls = np.flatnonzero(np.diff(times) <= 0)
    if len(falls):
        at = int(falls[0]) + 1
        got, expected = f"{times[at]:g} after {times[at - 1]:g}", "times that increase"
        do = "Sort the rows by time and drop repeats."
        raise _bad(file, rows[at][0], f"{position + 1} ({name!r})", got, expected, do)


def _bad(file: Path, line: int, column: int | str, got: str, expected: str, do: str) -> ValueError:
    return ValueError(explain(f"{file}: line {line}, column {column}", got, expected, do))
