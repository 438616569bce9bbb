"""One column of Arrow into numbers, codes or dates, by its type.

Numbers keep their dtype, and become floats beside a gap, where every one of them must still be the same. What has no
kind here (lists, structs, binary, times of day) is refused with its type.
"""

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Int, Shaped

from separatrix.data.dates import coarsest
from separatrix.data.exact import first_inexact
from separatrix.data.files import refusal
from separatrix.data.table import Kind, Kinds, Missing, Table

_Found: TypeAlias = tuple[Shaped[np.ndarray, " rows"], tuple[str, ...] | None]  # values, vocabulary of a category

_PLURAL: dict[Kind, str] = {"number": "numbers", "category": "categories", "date": "dates"}


def convert(
    source: str, name: str, column: Any, missing: Missing, kinds: Kinds, like: Table | None, unordered: bool
) -> _Found:
    """Values of one column, and the vocabulary of a category."""
    import pyarrow

    where, types = f"{source}: column {name!r}", pyarrow.types
    if types.is_dictionary(column.type) and not _is_text(column.type.value_type):
        column = column.cast(column.type.value_type)
    given = _kind_of(column.type)
    asked = _asked(name, given, kinds, like)
    if given is None or (asked != given and not (asked == "category" and types.is_integer(column.type))):
        do = "Leave it out with columns=[...], or say kinds='infer' to take what each column is."
        told = column.type.value_type if unordered else column.type
        raise refusal(where, f"values of type {told}", _PLURAL[asked], do)
    gaps = gaps_of(column)
    if gaps.any() and missing != "keep":
        do = "Fill it in, leave such rows out with missing='drop', or keep gaps with missing='keep'."
        raise refusal(where, f"a missing value at row {np.argmax(gaps) + 1}", _PLURAL[asked], do)
    if asked == "category":
        known = None if like is None else like.vocabularies.get(name)
        return _category(where, column, known, unordered)
    return _dates(column) if asked == "date" else _numbers(where, name, column, gaps), None


def whole(column: Any) -> Any:
    """The column with its words in one buffer: of views on words Arrow can select no rows."""
    import pyarrow

    return column.cast(pyarrow.large_string()) if pyarrow.types.is_string_view(column.type) else column


def gaps_of(column: Any) -> Bool[np.ndarray, " rows"]:
    """Where a column is null or NaN."""
    import pyarrow

    gaps = column.is_null().to_numpy().astype(bool)
    if pyarrow.types.is_floating(column.type):
        gaps = gaps | np.isnan(column.to_numpy())
    return gaps


def _asked(name: str, given: Kind | None, kinds: Kinds, like: Table | None) -> Kind:
    """The kind that a column shall have."""
    if like is not None and name in like.columns:
        return like.kind(name)
    if kinds == "infer":
        return given or "number"
    return "number" if isinstance(kinds, str) else kinds.get(name, "number")


def _kind_of(kind: Any) -> Kind | None:
    """The kind of an Arrow type, or None."""
    import pyarrow

    types = pyarrow.types
    numbers = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    if any(is_such(kind) for is_such in numbers):
        return "number"
    if _is_text(kind) or types.is_dictionary(kind):
        return "category"
    return "date" if types.is_date(kind) or types.is_timestamp(kind) else None


def _is_text(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _numbers(where: str, name: str, column: Any, gaps: Bool[np.ndarray, " rows"]) -> Shaped[np.ndarray, " rows"]:
    """The numbers as they are; floats, every one the same, beside a gap."""
    import pyarrow

    types = pyarrow.types
    if types.is_null(column.type):
        return np.full(len(column), np.nan)
    if types.is_decimal(column.type):
        return _decimals(where, column)
    if not types.is_floating(column.type):
        return _wholes(where, column, gaps)
    values = column.to_numpy()
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        got, do = f"{name}[{infinite[0]}] = {values[infinite[0]]}", "Repair or leave out that row, then load again."
        raise refusal(where, got, "finite values", do)
    return values


def _wholes(where: str, column: Any, gaps: Bool[np.ndarray, " rows"]) -> Shaped[np.ndarray, " rows"]:
    import pyarrow

    if not gaps.any():
        return column.to_numpy()
    values = column.fill_null(False if pyarrow.types.is_boolean(column.type) else 0).to_numpy()
    row = first_inexact(values)
    if row is not None:
        do = "Leave the rows with gaps out with missing='drop', or subtract a number near it first."
        raise refusal(where, f"{values[row]} at row {row + 1}, beside gaps", "numbers that a float64 can be", do)
    return np.where(gaps, np.nan, values.astype(float))


def _decimals(where: str, column: Any) -> Shaped[np.ndarray, " rows"]:
    """Decimals as the nearest floats; a whole one must be that float."""
    exact = column.to_pylist()
    values = np.array([np.nan if value is None else float(value) for value in exact])
    for row, (value, decimal) in enumerate(zip(values, exact, strict=True)):
        if decimal is not None and decimal == decimal.to_integral_value() and decimal != int(value):
            do = "Subtract a number near it first."
            raise refusal(where, f"{decimal} at row {row + 1}", "a number that a float64 can be", do)
    return values


def _dates(column: Any) -> Shaped[np.ndarray, " rows"]:
    """Dates and timestamps, these in UTC; null is NaT."""
    import pyarrow

    types = pyarrow.types
    whole = types.is_date32(column.type)
    unit = "D" if whole else "ms" if types.is_date64(column.type) else column.type.unit
    counts = column.cast(pyarrow.int32() if whole else pyarrow.int64())
    gaps = counts.is_null().to_numpy().astype(bool)
    values = counts.fill_null(0).to_numpy().astype(np.int64).view(f"M8[{unit}]")
    return coarsest(np.where(gaps, np.datetime64("NaT", unit), values))


def _category(where: str, column: Any, known: tuple[str, ...] | None, unordered: bool) -> _Found:
    """Codes and vocabulary. A dictionary's order is kept where it was declared; words are sorted."""
    import pyarrow

    declared = pyarrow.types.is_dictionary(column.type)
    encoded = column if declared else column.dictionary_encode()
    single = encoded.unify_dictionaries().combine_chunks()
    single = single.chunk(0) if isinstance(single, pyarrow.ChunkedArray) else single
    words = single.dictionary.to_pylist()
    order = list(dict.fromkeys(word for word in words if word is not None))
    if known is None:
        chosen = tuple(map(str, order if declared and not unordered else sorted(order)))
    else:
        chosen = known
    code = {word: i for i, word in enumerate(chosen)}
    table = np.array([-1 if word is None else code.get(str(word), -2) for word in words] + [-1], np.int32)
    codes: Int[np.ndarray, " rows"] = table[single.indices.fill_null(-1).to_numpy()]
    strange = np.flatnonzero(codes == -2)
    if len(strange):
        got = f"{column[int(strange[0])].as_py()!r} at row {strange[0] + 1}"
        do = "Repair that row, or read all files with the vocabulary of them all."
        raise refusal(where, got, "a category of the vocabulary that was given", do)
    return codes, chosen
