"""From the cells of one column of text to numbers, codes or dates.

What is no number is refused, not guessed: `1_000`, `0x10`, `1,5`, digits of other scripts, `inf`; a whole column of the
like of `1,5` also where words are inferred. So is what a number
type cannot hold: a whole number beyond 64 bits, or beyond 2^53 beside fractions, and a number that would become zero.
The words `nan`, `NA`, `null`, `none`, `?`, `-` and the like are missing values.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Int, Shaped

from separatrix._errors import DataError
from separatrix.data.dates import parse_dates
from separatrix.data.exact import EXACT
from separatrix.data.table import Kind

Refuse: TypeAlias = Callable[[int, str, str, str], DataError]  # row, got, expected, do

_NUMBER = re.compile(r"[ \t]*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[ \t]*", re.ASCII)
_WHOLE = re.compile(r"[ \t]*[+-]?\d+[ \t]*", re.ASCII)
_DIGIT = re.compile("[1-9]")
_COMMA = re.compile(r"[+-]?\d{1,3}(,\d+|(,\d{3})+(\.\d+)?|(\.\d{3})+(,\d+)?|\d*,\d+)", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?", re.ASCII)
# A word such as "none" or "-" may be a category; these never are.
_GAPS = frozenset({"", "na", "n/a", "nan", "null", "<na>", "#n/a", "nat", "?"})
_NO_NUMBER = _GAPS | {"none", "-", ".", "--", "n.a."}


def is_missing(cell: str, kind: Kind) -> bool:
    """Whether a cell of such a column says that its value is missing."""
    return cell.strip().lower() in (_GAPS if kind == "category" else _NO_NUMBER)


def is_number(cell: str) -> bool:
    """Whether a cell says a number, finite or not."""
    return _NUMBER.fullmatch(cell) is not None or _INFINITE.fullmatch(cell.strip()) is not None


def infer(cells: Sequence[str], refuse: Refuse) -> Kind:
    """The kind that all cells of a column have; a cell of another kind than those before it is refused."""
    kind: Kind | None = None
    for row, cell in enumerate(cells):
        if is_missing(cell, "number"):
            continue
        here: Kind = "number" if is_number(cell) else "date" if _DATE.fullmatch(cell.strip()) else "category"
        if kind is not None and here != kind:
            do = "Repair that cell, or say what the column is: kinds={name: 'category'}."
            raise refuse(row, repr(cell.strip()), f"a {kind}, as in the rows before", do)
        kind = here
    if kind == "category":
        _require_no_commas(cells, refuse)
    return kind or "number"


def _require_no_commas(cells: Sequence[str], refuse: Refuse) -> None:
    """Refuse words that are all numbers with commas: as categories they would be lost without a word."""
    said = [(row, cell.strip()) for row, cell in enumerate(cells) if not is_missing(cell, "number")]
    if all(_COMMA.fullmatch(cell) for _, cell in said):
        row, cell = said[0]
        do = (
            "Write decimal points and no signs between thousands, or say that they are words: kinds={name: 'category'}."
        )
        raise refuse(row, repr(cell[:80]), "a number without commas", do)


def plain_numbers(columns: Mapping[str, Sequence[str]]) -> dict[str, Shaped[np.ndarray, " rows"]]:
    """Those columns whose cells Python reads as numbers and which need no second look: int64, or float64.

    It is for text of ASCII without underscores, where Python reads as a number only what `to_numbers` does.
    """
    found = {}
    for name, cells in columns.items():
        try:
            found[name] = np.array(list(map(int, cells)), np.int64)
            continue
        except (ValueError, OverflowError):
            pass
        try:
            values = np.array(list(map(float, cells)), np.float64)
        except ValueError:
            continue
        if np.all(np.abs(values) < EXACT) and _is_zero(cells, values):  # false for NaN too
            found[name] = values
    return found


def to_numbers(cells: Sequence[str], missing: Literal["refuse", "keep"], refuse: Refuse) -> Shaped[np.ndarray, " rows"]:
    """A column as int64 (uint64 where it must be) if every cell is a whole number, as float64 otherwise.

    **Arguments:**

    - `missing`: a gap becomes NaN ("keep") or an error.
    """
    if all(map(_WHOLE.fullmatch, cells)):
        whole = _to_whole(cells)
        if whole is not None:
            return whole
    values = np.array([_one(row, cell, missing, refuse) for row, cell in enumerate(cells)], np.float64)
    return _held(values, cells, refuse)


def to_codes(
    cells: Sequence[str], known: tuple[str, ...] | None, missing: Literal["refuse", "keep"], refuse: Refuse
) -> tuple[Int[np.ndarray, " rows"], tuple[str, ...]]:
    """A column of words as int32 codes and their vocabulary, which is sorted unless it is `known`; -1 for a gap."""
    words = [None if is_missing(cell, "category") else cell.strip() for cell in cells]
    vocabulary = known if known is not None else tuple(_sorted({word for word in words if word is not None}))
    code = {word: i for i, word in enumerate(vocabulary)}
    for row, (cell, word) in enumerate(zip(cells, words, strict=True)):
        if word is None and missing == "refuse":
            raise _gap(row, cell, "a category", refuse)
        if word is not None and word not in code:
            do = "Repair that row, or read all files with the vocabulary of them all."
            raise refuse(row, repr(word), "a category of the vocabulary that was given", do)
    return np.array([-1 if word is None else code[word] for word in words], np.int32), vocabulary


def to_dates(cells: Sequence[str], missing: Literal["refuse", "keep"], refuse: Refuse) -> Shaped[np.ndarray, " rows"]:
    """A column of ISO dates as `datetime64`, NaT for a gap."""
    texts = [None if is_missing(cell, "date") else cell for cell in cells]
    if missing == "refuse" and None in texts:
        row = texts.index(None)
        raise _gap(row, cells[row], "a date", refuse)
    do = "Write dates as 2024-03-01 or 2024-03-01T12:30:05, all with a zone or none."
    return parse_dates(texts, lambda row, got: refuse(row, got, "a date of ISO 8601", do))


def _to_whole(cells: Sequence[str]) -> Shaped[np.ndarray, " rows"] | None:
    """The column as 64-bit whole numbers, or None where it is not that."""
    try:
        values = [int(cell) for cell in cells]
    except ValueError:
        return None
    least, most = min(values), max(values)
    if least >= -(2**63) and most < 2**63:
        return np.array(values, np.int64)
    return np.array(values, np.uint64) if least >= 0 and most < 2**64 else None


def _one(row: int, cell: str, missing: str, refuse: Refuse) -> float:
    """The number of one cell."""
    if is_missing(cell, "number"):
        if missing == "keep":
            return np.nan
        raise _gap(row, cell, "a number", refuse)
    if _INFINITE.fullmatch(cell.strip()):
        raise refuse(row, repr(cell), "a finite number", "Repair that row.")
    if not _NUMBER.fullmatch(cell):
        do = "Write numbers with a decimal point, or leave it out with columns=[...], or take words by kinds='infer'."
        raise refuse(row, repr(cell[:80]), "a number", do)
    value = float(cell)
    if not np.isfinite(value):
        raise refuse(row, repr(cell[:80]), "a finite number that a float64 can be", "Repair that row.")
    return value


def _held(values: Shaped[np.ndarray, " rows"], cells: Sequence[str], refuse: Refuse) -> Shaped[np.ndarray, " rows"]:
    """The floats, once no whole number was rounded and none became zero."""
    for row in np.flatnonzero(np.abs(values) >= EXACT).tolist():
        if _WHOLE.fullmatch(cells[row]) and int(cells[row]) != int(values[row]):
            do = "Fill gaps and write the whole column as whole numbers below 2^63, or subtract a number near it."
            raise refuse(row, cells[row].strip(), "a whole number that a float64 can be", do)
    for row in np.flatnonzero(values == 0).tolist():
        if not _is_zero([cells[row]], values[[row]]):
            raise refuse(row, cells[row].strip(), "a number that a float64 can be", "Write it in a larger unit.")
    return values


def _is_zero(cells: Sequence[str], values: Shaped[np.ndarray, " rows"]) -> bool:
    """Whether the cells whose value is zero say zero, and not a number too small."""
    return not any(_DIGIT.search(cells[row].lower().partition("e")[0]) for row in np.flatnonzero(values == 0).tolist())


def _gap(row: int, cell: str, expected: str, refuse: Refuse) -> DataError:
    do = "Fill it in, leave such rows out with missing='drop', or keep gaps with missing='keep'."
    return refuse(row, f"a missing value {cell.strip()!r}", expected, do)


def _sorted(words: set[str]) -> list[str]:
    """In the order of their numbers where all are whole numbers, in that of the alphabet otherwise."""
    whole = all(_WHOLE.fullmatch(word) and len(word) < 20 for word in words)
    return sorted(words, key=lambda word: (int(word), word)) if whole else sorted(words)
