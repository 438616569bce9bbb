"""Training, validation and test parts of a set: by key, by time, or by file.

| by | for | how |
|---|---|---|
| key | rows that do not depend on each other | a permutation that the key alone decides; rows of one group stay together |
| time | series | the first rows train, the last test; what happened at one time is not split |
| file | sets that come in parts | each part is read with the words and classes of the first |

Every row is in exactly one part. The permutation ranks the words of a counter-based generator, whose stream is fixed: it is
the same on every machine and in every version.

**Reference:** Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox).
"""

import dataclasses
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Int, Shaped

from separatrix._errors import explain
from separatrix.data.dataset import DataSet
from separatrix.data.files import refusal
from separatrix.data.own import read_own
from separatrix.data.table import Table

Rows = TypeVar("Rows", DataSet, Table)


@dataclasses.dataclass(frozen=True, eq=False)
class Split(Generic[Rows]):
    """The parts of a set; None for a part that was not asked for."""

    train: Rows
    validation: Rows | None
    test: Rows | None

    def __repr__(self) -> str:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return f"Split({', '.join(f'{name} {len(part)}' for name, part in parts.items() if part is not None)})"


def split(
    rows: Rows,
    fractions: tuple[float | int, float | int, float | int] = (0.8, 0.1, 0.1),
    *,
    key: Any = None,
    times: str | Shaped[np.ndarray, " rows"] | None = None,
    groups: str | Shaped[np.ndarray, " rows"] | None = None,
) -> Split[Rows]:
    """Split a `DataSet` or `Table` by key or by time.

    **Arguments:**

    - `rows`: what is split, along its first axis.
    - `fractions`: of training, validation and test; they add up to 1, and a part of 0 is not made. A `DataSet` that has a
      test part already keeps it: give it none here.
    - `key`: a whole number, or a key of JAX: shuffle by it.
    - `times`: the column of times, or the times of the rows: the first train, the last test.
    - `groups`: with `key`, the column or the values that say which rows belong together, as of one patient.

    **Returns:** a `Split`.

    **Raises:** `ValueError` without exactly one of `key` and `times`, for fractions that do not add up to 1, and for a part
    that would be empty.

    **Example:**

    >>> table = Table({"t": np.arange(10)}, "here")
    >>> split(table, times="t")
    Split(train 8, validation 1, test 1)
    >>> split(table, (0.7, 0.3, 0), key=0)
    Split(train 7, validation 3)

    **Reference:** see the module.
    """
    _require_fractions(rows, fractions)
    if (key is None) == (times is None):
        got, do = "neither" if key is None else "both", "Pass key= to shuffle, or times= for a series."
        raise ValueError(explain("split: key and times", got, "one of them", do))
    if times is not None and groups is not None:
        raise ValueError(explain("split: groups", "groups and times", "groups with a key", "Leave one out."))
    n = len(rows)
    if times is not None:
        stamps = _column(rows, times, "times")
        order = np.argsort(stamps, kind="stable")
        ends = _between_times(stamps[order], _ends(n, fractions))
    elif groups is not None:
        order, ends = _grouped(_column(rows, groups, "groups"), key, fractions)
    else:
        order, ends = permutation(key, n), _ends(n, fractions)
    parts = [np.sort(part) for part in np.split(order, ends)]
    for name, part, fraction in zip(("train", "validation", "test"), parts, fractions, strict=True):
        if fraction > 0 and not len(part):
            do = "Give more rows, a larger fraction for this part, or 0 for no such part."
            raise ValueError(explain(f"split: {name}", f"no row of {n}", "at least one", do))
    kept = _own_test(rows)
    whole = rows if kept is None else dataclasses.replace(rows, test_inputs=None, test_targets=None)
    made = [whole.rows(part) if len(part) else None for part in parts]
    return Split(made[0], made[1], made[2] if fractions[2] else kept)  # type: ignore[arg-type]


def split_files(
    train: str | PathLike[str],
    validation: str | PathLike[str] | None = None,
    test: str | PathLike[str] | None = None,
    **options: Any,
) -> Split[DataSet]:
    """Load a set that comes in files or folders of its own for training, validation and test.

    **Arguments:**

    - `train`, `validation`, `test`: files or folders of your own, as `load` takes them; `options`: those of `load`.

    **Returns:** a `Split`. The words, classes and characters of the training part are those of all parts.

    **Raises:** as `load`; and `DataError` for a part whose rows have another shape, or a word that training has not.

    **Example:**

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, words in (("a", "red,1\\nblue,2"), ("b", "red,3")):
    ...         _ = pathlib.Path(folder, f"{name}.csv").write_text(f"colour,x\\n{words}\\n")
    ...     parts = split_files(f"{folder}/a.csv", test=f"{folder}/b.csv", kinds="infer")
    >>> parts.train.names, parts.test.inputs.tolist()
    (('colour=blue', 'colour=red', 'x'), [[0.0, 1.0, 3.0]])
    """
    first, like = read_own(train, options, None)
    others: list[DataSet | None] = []
    for path in (validation, test):
        part = None if path is None else read_own(path, options, like)[0]
        if part is not None and (part.inputs.shape[1:] != first.inputs.shape[1:] or part.names != first.names):
            got, expected = f"rows of shape {part.inputs.shape[1:]}", f"{first.inputs.shape[1:]}, as for training"
            raise refusal(f"split_files: {path}", got, expected, "Check that the files belong together.")
        others.append(part)
    return Split(first, *others)


def permutation(key: Any, n: int) -> Int[np.ndarray, " n"]:
    """The order of 0, ..., n - 1 that a key decides."""
    words = np.random.Philox(key=_number(key)).random_raw(n)
    return np.argsort(words, kind="stable")


def _number(key: Any) -> int:
    """A key as one number below 2^128."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and 0 <= key < 2**128:
        return int(key)
    try:
        import jax

        given: Any = key
        data = np.asarray(jax.random.key_data(key) if jax.numpy.issubdtype(given.dtype, jax.dtypes.prng_key) else key)
        words = [int(word) for word in data.ravel()]
        if data.dtype != np.uint32 or data.ndim != 1 or not 1 <= len(words) <= 4:
            raise TypeError
    except (TypeError, AttributeError, ValueError) as error:
        expected, do = "a whole number of at most 128 bits, or one key of JAX", "Pass key=0, or jax.random.key(0)."
        raise TypeError(explain("split: key", repr(key)[:80], expected, do)) from error
    return sum(word << (32 * place) for place, word in enumerate(reversed(words)))


def _require_fractions(rows: Any, fractions: Sequence[float | int]) -> None:
    good = len(fractions) == 3 and all(0 <= f <= 1 for f in fractions) and fractions[0] > 0
    if not good or abs(sum(fractions) - 1) > 1e-9:
        expected = "three numbers from 0 to 1 that add up to 1, the first not 0"
        raise ValueError(explain("split: fractions", tuple(fractions), expected, "Give training, validation, test."))
    if fractions[2] and _own_test(rows) is not None:
        do = "Give fractions such as (0.9, 0.1, 0): the test part is kept."
        raise ValueError(explain("split: fractions", tuple(fractions), "no test part: the set has its own", do))


def _own_test(rows: Any) -> Any:
    """The test part that a set has already, as a set."""
    if getattr(rows, "test_inputs", None) is None:
        return None
    parts = {"inputs": rows.test_inputs, "targets": rows.test_targets, "test_inputs": None, "test_targets": None}
    return dataclasses.replace(rows, **parts)


def _ends(n: int, fractions: Sequence[float | int]) -> list[int]:
    """Where training and validation end: the nearest whole numbers."""
    if fractions[2] == 0:
        return [round(n * fractions[0]), n]
    return [round(n * fractions[0]), round(n * (fractions[0] + fractions[1]))]


def _between_times(stamps: Shaped[np.ndarray, " n"], ends: list[int]) -> list[int]:
    """The same ends, moved back to the first row of their time."""
    return [end if end in (0, len(stamps)) else int(np.searchsorted(stamps, stamps[end], "left")) for end in ends]


def _grouped(groups: Shaped[np.ndarray, " rows"], key: Any, fractions: Sequence[float | int]) -> tuple[Any, list[int]]:
    """Rows in the order of their groups, and the ends between groups that are nearest to the fractions."""
    named, which = np.unique(groups, return_inverse=True)
    rank = np.empty(len(named), int)
    rank[permutation(key, len(named))] = np.arange(len(named))
    order = np.argsort(rank[which], kind="stable")
    borders = np.concatenate([[0], np.cumsum(np.bincount(rank[which]))])
    return order, [int(borders[np.argmin(np.abs(borders - end))]) for end in _ends(len(groups), fractions)]


def _column(rows: Any, given: Any, what: str) -> Shaped[np.ndarray, " rows"]:
    """A column by name, or values given: one a row, none missing."""
    if isinstance(given, str):
        values = _by_name(rows)(given)
    else:
        values = np.asarray(given)
    if values.shape != (len(rows),):
        do = "Give one value for each row."
        raise ValueError(explain(f"split: {what}", f"shape {values.shape}", f"shape ({len(rows)},)", do))
    gaps = np.isnat(values) if values.dtype.kind == "M" else np.isnan(values) if values.dtype.kind == "f" else None
    if gaps is not None and gaps.any():
        do = "Fill it in, or leave such rows out."
        raise ValueError(
            explain(f"split: {what}", f"a gap at row {int(np.argmax(gaps)) + 1}", "a value for each row", do)
        )
    return values


def _by_name(rows: Any) -> Callable[[str], Any]:
    if isinstance(rows, Table):
        return lambda name: rows[name]
    places = {name: place for place, name in enumerate(rows.names)}
    if not places:
        do = "Pass the values themselves, one for each row."
        raise ValueError(explain("split", "the name of a column", "values: this set has no named columns", do))
    named = Table({name: rows.inputs[:, place] for name, place in places.items()}, rows.name)
    return lambda name: named[name]
