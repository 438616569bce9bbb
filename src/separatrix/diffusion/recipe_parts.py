"""Of the parts of a data set, as much as a question needs (a pair of examples and their classes, or None); of a table, what
can be learned from."""

from pathlib import Path
from typing import Any

import numpy as np

from separatrix._errors import DataError, explain

_LEAST = 32  # examples for validation, where there are so many


def validated_part(part: tuple[Any, Any], used: int) -> tuple[Any, Any]:
    """Of the part for validation as much as costs a tenth of a training that uses so many examples, at most 500."""
    # A run is validated a hundred times, without the two thirds of a step that its derivative takes.
    return spread_over(part, min(max(_LEAST, used // 320), 500))


def spread_over(part: tuple[Any, Any], count: int) -> tuple[Any, Any]:
    """About so many examples, spread over a part: one of each so many."""
    return cut_of(part, slice(None, None, max(1, len(part[0]) // count)))


def cut_of(part: tuple[Any, Any], cut: slice) -> tuple[Any, Any]:
    """The examples of a cut, with their classes."""
    return part[0][cut], None if part[1] is None else part[1][cut]


def nearest_distances(drawn: Any, examples: Any) -> Any:
    """Root mean square distance of each sample from the nearest example."""
    first, second = (np.asarray(a, float).reshape(len(a), -1) for a in (drawn, examples))
    squares = np.sum(first**2, 1)[:, None] + np.sum(second**2, 1)[None] - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0).min(axis=1) / first.shape[1])


def column_of(table: Any, name: str) -> list[Any]:
    """A column, words as words."""
    words = table.vocabularies.get(name)
    return [words[code] for code in table[name]] if words else list(table[name])


def words_of(path: Path, table: Any, name: str) -> list[str]:
    """The classes of a column of words or whole numbers, as words."""
    values = column_of(table, name)
    for row, value in enumerate(values, 1):
        if isinstance(value, float | np.floating) and not float(value).is_integer():
            where, do = f"{path}: column {name!r}, row {row}", "Name a column of classes, or leave --labels out."
            raise DataError(explain(where, f"{value:g}", "a word or a whole number, as a class", do))
    return [word_of(value) for value in values]


def require_all_classes(where: str, parts: Any) -> None:
    """Refuse a class without an example to learn it from."""
    words = parts.settled["classes"]
    there = set() if parts.train[1] is None else set(np.asarray(parts.train[1]).tolist())
    for code, word in enumerate(words):
        if code not in there:
            do = "Give it more examples, leave it out, or take another --seed."
            raise DataError(explain(f"{where}: class {word!r}", "no example in the part for training", "some", do))


def word_of(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def require_numbers(path: Path, table: Any, wanted: list[str], labels: str | None = None) -> None:
    """Refuse gaps, NaN, and columns of words, naming column and row."""
    for name in wanted:
        if not (there := table.present(name)).all():
            at = int(np.argmin(there)) + 1
            do = f"Fill it, or leave the column out: --drop {name}"
            raise DataError(explain(f"{path}: column {name!r}, row {at}", "no number", "a value in every row", do))
        if name != labels and table.kind(name) != "number":
            do = f"Leave it out: --drop {name}, or make it the class: --labels {name}"
            raise DataError(explain(f"{path}: column {name!r}", f"a {table.kind(name)}", "numbers", do))
        if name != labels and not np.isfinite(np.asarray(table[name], float)).all():
            at = int(np.argmin(np.isfinite(np.asarray(table[name], float)))) + 1
            raise DataError(explain(f"{path}: column {name!r}, row {at}", "no finite number", "one", "Repair it."))
