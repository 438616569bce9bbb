"""Delimited text (CSV, TSV) into named columns, or a message that names the first bad line and column.

The first line that is neither blank nor a comment names the columns; where all its cells are numbers it is data, and the
names are those of a comment just above it (`# t,x`, as NumPy writes them), else "0", "1", ... Columns of whole numbers
become int64, other numbers float64; words and dates are read where they are asked for.

A comment is a line that begins with `#`: any such line above the names, and below them one with a space after the `#`,
so that neither a column named `#` nor a row that begins with `#1` is lost. A first column without a name is a data
frame's index: it is kept aside. Lines are counted as an editor counts them, from 1, so that a message leads to the place.

**Reference:** RFC 4180, with comments and a choice of delimiter added.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Shaped

from separatrix._errors import DataError, explain, unknown
from separatrix.data.cells import Refuse, infer, is_missing, is_number, plain_numbers, to_codes, to_dates, to_numbers
from separatrix.data.files import first_line, refusal, require_file, sound
from separatrix.data.table import Kind, Kinds, Missing, Table

_OTHER_DELIMITERS = (",", ";", "\t", "|")
_NAME = re.compile(r"[^\W\d]\w*(\s?[\[(][^\])]*[\])])?")  # a name, perhaps with a unit: mass [kg]

_Row: TypeAlias = tuple[int, list[str]]  # line number in the file, cells


def read_csv(
    path: str | PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    times: str | None = None,
    delimiter: str = ",",
    missing: Missing = "refuse",
    kinds: Kinds = "numbers",
    like: Table | None = None,
) -> Table:
    """Read columns of a delimited text file.

    **Arguments:**

    - `path`: the file, in UTF-8.
    - `columns`: which columns, in which order; all by default, because a column of text is better refused than lost.
    - `times`: the column that must increase from row to row, if one must.
    - `delimiter`: the sign between columns.
    - `missing`: "refuse" a missing value (the default: a gap is a decision of yours), "drop" the rows that have one, or
      "keep" it: as NaN in numbers, -1 in categories, NaT in dates.
    - `kinds`: "numbers" (the default) refuses a column of anything else. "infer" takes a column whose cells are all
      numbers, all ISO dates or all words as what it is, and refuses a mixed one. Or the kind of some columns by name:
      "number", "category" or "date"; the others are numbers.
    - `like`: a table read before, whose vocabularies and kinds hold here too, as for the test part of a set.

    **Returns:** a `Table` of the wanted columns.

    **Raises:** `DataMissing` if there is no such file; `DataError` (a `ValueError`), naming the first bad line and
    column, for NUL bytes, text that is not UTF-8, ragged rows, another delimiter, missing, non-numeric or non-finite
    values, numbers that 64 bits cannot hold, and times that do not increase.

    **Example:**

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.csv")
    ...     _ = path.write_text("t,x\\n0,1.5\\n1,2.5\\n")
    ...     read_csv(path, times="t")["x"]
    array([1.5, 2.5])

    **Reference:** see the module.
    """
    _require_delimiter_sign(delimiter)
    file = require_file("read_csv", path)
    with sound(f"{file}", "Is it delimited text in UTF-8? Fetch or write it again."):
        text = _text(file, delimiter)
        header, rows, index = _named(file, _rows(file, text, delimiter), delimiter)
        cells = {name: position for position, name in enumerate(header)}
        if index:
            cells.pop("")
        for name in [*(columns or ()), *([] if times is None else [times])]:
            if name not in cells:
                raise DataError(unknown(f"{file}: column", name, cells, "Name columns of the file."))
        wanted = list(cells if columns is None else columns)
        needed = dict.fromkeys(wanted if times is None else [*wanted, times])
        reading = _Reading(file, rows, cells, text.isascii() and "_" not in text)
        found = reading.kinds({name: cells[name] for name in needed}, kinds, like)
        if missing == "drop":
            reading.drop({cells[name]: kind for name, kind in found.items()})
        if not reading.rows:
            raise refusal(f"{file}", "no rows of data", "at least one", "Check the file.")
        values, words = reading.columns(found, "keep" if missing == "keep" else "refuse", like)
        if times is not None:
            reading.require_increasing(values[times], times)
        kept = {name: known for name, known in words.items() if name in wanted}
        aside = reading.index() if index else None
        table = {name: values[name] for name in wanted}
        return Table(table, str(file), kept, aside, len(rows) - len(reading.rows))


def column_names(path: str | PathLike[str], *, delimiter: str = ",") -> tuple[str, ...]:
    """The names of the columns of a delimited text file, less that of an index. Its values are not looked at.

    **Raises:** as `read_csv`.
    """
    _require_delimiter_sign(delimiter)
    file = require_file("read_csv", path)
    with sound(f"{file}", "Is it delimited text in UTF-8? Fetch or write it again."):
        first = itertools.islice(_rows(file, _text(file, delimiter), delimiter), 1)
        names, _, index = _named(file, first, delimiter)
        return tuple(names[1:] if index else names)


class _Reading:
    """The rows of a file on their way to columns."""

    def __init__(self, file: Path, rows: list[_Row], positions: Mapping[str, int], plain: bool) -> None:
        self.file, self.rows, self.positions, self.plain = file, rows, positions, plain

    def kinds(self, wanted: Mapping[str, int], kinds: Kinds, like: Table | None) -> dict[str, Kind]:
        """The kind of each wanted column."""
        if isinstance(kinds, str) and kinds not in ("numbers", "infer"):
            do = "Leave it out for numbers alone."
            raise ValueError(explain("read_csv: kinds", repr(kinds), '"numbers", "infer" or a kind by name', do))
        said: dict[str, Kind] = {} if isinstance(kinds, str) else dict(kinds)
        for name, kind in said.items():
            if name not in self.positions:
                raise DataError(unknown(f"{self.file}: kinds of column", name, self.positions, "Name columns of it."))
            if kind not in ("number", "category", "date"):
                expected = '"number", "category" or "date"'
                raise ValueError(explain(f"read_csv: kinds[{name!r}]", repr(kind), expected, "Give one of these."))
        known: dict[str, Kind] = (
            {} if like is None else {name: like.kind(name) for name in like.names if name in wanted}
        )
        if kinds != "infer":
            return {name: said.get(name, known.get(name, "number")) for name in wanted}
        return {
            name: known[name] if name in known else infer(self.cells(position), self.refuse(name))
            for name, position in wanted.items()
        }

    def drop(self, kinds: Mapping[int, Kind]) -> None:
        """Leave out the rows that miss a value of a wanted column."""
        chosen = list(kinds.items())
        self.rows = [row for row in self.rows if not any(is_missing(row[1][i], kind) for i, kind in chosen)]

    def columns(self, kinds: Mapping[str, Kind], missing: Any, like: Table | None) -> tuple[dict, dict]:
        """The values of each column, and the vocabularies of those that have one."""
        values, words = {}, {}
        columns = list(zip(*(row[1] for row in self.rows), strict=True))
        wanted = {name: columns[self.positions[name]] for name in kinds}
        easy = plain_numbers({name: wanted[name] for name, kind in kinds.items() if kind == "number" and self.plain})
        for name, kind in kinds.items():
            if name in easy:
                values[name] = easy[name]
            elif kind == "category":
                known = None if like is None else like.vocabularies.get(name)
                values[name], words[name] = to_codes(wanted[name], known, missing, self.refuse(name))
            elif kind == "date":
                values[name] = to_dates(wanted[name], missing, self.refuse(name))
            else:
                values[name] = to_numbers(wanted[name], missing, self.refuse(name))
        return values, words

    def cells(self, position: int) -> list[str]:
        return [row[1][position] for row in self.rows]

    def refuse(self, name: str) -> Refuse:
        label = f"{self.positions[name] + 1} ({name[:80]!r})"
        return lambda row, got, expected, do: _bad(self.file, self.rows[row][0], label, got, expected, do)

    def require_increasing(self, times: Shaped[np.ndarray, " rows"], name: str) -> None:
        rises = times[1:] > times[:-1]  # false beside a gap too
        if not rises.all():
            at = int(np.argmin(rises)) + 1
            got, expected = f"{times[at]} after {times[at - 1]}", "times that increase"
            raise self.refuse(name)(at, got, expected, "Sort the rows by time and drop repeats.")

    def index(self) -> Shaped[np.ndarray, " rows"]:
        """The column without a name: whole numbers where it holds these, else its words."""
        cells = self.cells(0)
        try:
            return np.array([int(cell) for cell in cells], np.int64)
        except (ValueError, OverflowError):
            return np.array(cells)


def _require_delimiter_sign(delimiter: str) -> None:
    if len(delimiter) != 1 or delimiter in '\r\n"#' or delimiter.isalnum():
        do = "Give the sign between two columns."
        raise ValueError(explain("read_csv: delimiter", repr(delimiter), "one sign, such as ',' or ';' or a tab", do))


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
    """Line number and cells of every row that is not blank; first, where there is one, a comment that may hold names."""
    above: list[str] = []
    reader = csv.reader(_lines(text, delimiter, above), delimiter=delimiter, strict=True, skipinitialspace=True)
    first = True
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if first and above and all(map(is_number, cells)):
                    names = [name.strip() for name in above[-1].lstrip("# \t").rstrip("\r\n").split(delimiter)]
                    if 1 < len(names) == len(cells) and all(map(_NAME.fullmatch, names)):
                        yield reader.line_num, names
                first = False
                yield reader.line_num, cells
    except csv.Error as error:
        got = f"a row that cannot be read ({first_line(error)})"
        raise _bad(file, reader.line_num, 1, got, "a row", "Check its quotes.") from error


def _lines(text: str, delimiter: str, above: list[str]) -> Iterator[str]:
    """The lines, comments blank. Those above the first row are kept in `above`."""
    quoted = begun = False
    for line in io.StringIO(text, newline=""):
        if not quoted and line.startswith("#") and _is_comment(line, delimiter, begun):
            if not begun:
                above.append(line)
            yield ""
            continue
        quoted ^= line.count('"') % 2 == 1
        begun = begun or bool(line.strip())
        yield line


def _is_comment(line: str, delimiter: str, begun: bool) -> bool:
    """Whether a line that begins with # says nothing: not if # is the name or value of its first cell."""
    after = line[1:2]
    if after == delimiter and delimiter != " ":
        return False
    return not begun or after in (" ", "\t", "", "\r", "\n")


def _named(file: Path, rows: Iterator[_Row], delimiter: str) -> tuple[list[str], list[_Row], bool]:
    """The columns' names, the rows, all of one length, and whether the first column is an index without a name."""
    first = next(rows, None)
    if first is None:
        raise refusal(f"{file}", "no rows", "a line of names and rows of data", "Check the file.")
    line, cells = first
    names = [cell.strip() for cell in cells]
    _require_delimiter(file, line, names, delimiter)
    headed = not all(map(is_number, names))
    kept = list(rows) if headed else [first, *rows]
    names = names if headed else [str(i) for i in range(len(names))]
    _require_distinct(file, line, names)
    for row in kept:
        _require_length(file, row, names)
    return names, kept, not names[0]


def _require_delimiter(file: Path, line: int, names: list[str], delimiter: str) -> None:
    """A single column whose name holds another delimiter was split by the wrong one."""
    found = [other for other in _OTHER_DELIMITERS if other != delimiter and other in names[0]]
    if len(names) == 1 and found:
        got, expected = f"one column {names[0][:80]!r}", f"columns split by {delimiter!r}"
        raise _bad(file, line, 1, got, expected, f"Pass delimiter={found[0]!r}.")


def _require_distinct(file: Path, line: int, names: list[str]) -> None:
    """Each name once; only the first column may have none, where there are others."""
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen or (not name and (i > 0 or len(names) == 1)):
            got = f"the name {name[:80]!r} again" if name else "a column without a name"
            raise _bad(file, line, i + 1, got, "a name of its own for every column", "Edit the first line.")
        seen.add(name)


def _require_length(file: Path, row: _Row, names: list[str]) -> None:
    line, cells = row
    if len(cells) != len(names):
        at = min(len(cells), len(names)) + 1
        raise _bad(file, line, at, f"{len(cells)} values", f"{len(names)}, as in the first line", "Repair that row.")


def _bad(file: Path, line: int, column: int | str, got: str, expected: str, do: str) -> DataError:
    return refusal(f"{file}: line {line}, column {column}", got, expected, do)
