"""Series: values at times that need not be regular, of one experiment or of several.

    run  t     x     y
    a    0.0   1.0   2.0                 experiment a:  times (0, 0.1, 0.4),  values of shape (3, 2)
    a    0.1   1.1   1.9        ->
    b    0.0   5.0   0.1                 experiment b:  times (0, 0.2),       values of shape (2, 2)
    a    0.4   1.4   ...

Within an experiment the rows keep their order, and times increase. Dates become counts of their unit from one origin,
exactly: the origin is taken away as a whole number before anything is a float.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from separatrix.data.dates import UNITS
from separatrix.data.files import refusal
from separatrix.data.table import Table


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """One experiment.

    - `times`: shape (n,), increasing. `values`: shape (n, columns), NaN where one is missing; `present` says where.
    """

    name: str
    times: Float[np.ndarray, " n"]
    values: Float[np.ndarray, "n columns"]
    present: Bool[np.ndarray, "n columns"]

    def __len__(self) -> int:
        return len(self.times)


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """Experiments of the same quantities.

    - `names`: of the columns of the values. `unit`: of the times, where they were dates; `origin`: the date of time 0.
    """

    experiments: tuple[Experiment, ...]
    names: tuple[str, ...]
    unit: str = ""
    origin: str = ""

    def __len__(self) -> int:
        return len(self.experiments)

    def __iter__(self) -> Iterator[Experiment]:
        return iter(self.experiments)

    def __getitem__(self, which: int) -> Experiment:
        return self.experiments[which]

    def __repr__(self) -> str:
        rows = ", ".join(str(len(experiment)) for experiment in self.experiments[:8])
        more = ", ..." if len(self) > 8 else ""
        since = f"; {self.unit} since {self.origin}" if self.unit else ""
        return f"Series({len(self)} experiments of {rows}{more} times; {', '.join(self.names[:20])}{since})"


def series(table: Table, times: str, *, experiment: str | None = None, values: Sequence[str] | None = None) -> Series:
    """Split a table into experiments.

    **Arguments:**

    - `table`: its rows. `times`: the column of the times: numbers or dates.
    - `experiment`: the column that says which experiment a row belongs to; by default all are of one.
    - `values`: the columns of the values; all others by default.

    **Returns:** a `Series`, its experiments in the order in which the table begins them.

    **Raises:** `DataError` (a `ValueError`), naming the row, where times are missing or do not increase, or a row
    belongs to no experiment.

    **Example:**

    >>> table = Table({"run": np.array([1, 2, 1]), "t": np.array([0, 0, 3]), "x": np.array([5.0, 6, 7])}, "here")
    >>> found = series(table, "t", experiment="run")
    >>> [(one.name, one.times.tolist(), one.values.ravel().tolist()) for one in found]
    [('1', [0.0, 3.0], [5.0, 7.0]), ('2', [0.0], [6.0])]
    """
    aside = {times} if experiment is None else {times, experiment}
    chosen = tuple(values) if values is not None else tuple(name for name in table.names if name not in aside)
    if not chosen:
        raise refusal(f"{table.source}: values", "no columns", "at least one", "Name the columns of the values.")
    instants, unit, origin = _instants(table, times)
    names, which = _experiments(table, experiment)
    matrix = table.matrix(*chosen)
    order = np.argsort(which, kind="stable")
    groups = np.split(order, np.searchsorted(which[order], np.arange(1, len(names))))
    found = []
    for name, rows in zip(names, groups, strict=True):
        _require_increasing(table, times, name if experiment is not None else "", rows, table[times])
        found.append(Experiment(name, instants[rows], matrix[rows], ~np.isnan(matrix[rows])))
    return Series(tuple(found), chosen, unit, origin)


def _instants(table: Table, times: str) -> tuple[Float[np.ndarray, " rows"], str, str]:
    """The times as floats, their unit and their origin."""
    gaps = np.flatnonzero(~table.present(times))
    if len(gaps):
        where, do = f"{table.source}: column {times!r}, row {gaps[0] + 1}", "Leave such rows out with missing='drop'."
        raise refusal(where, "a missing time", "a time", do)
    column = table[times]
    if column.dtype.kind != "M":
        return table.matrix(times)[:, 0], "", ""
    origin = column.min()
    since = dataclasses.replace(table, columns={times: (column - origin).astype(np.int64)})
    return since.matrix(times)[:, 0], UNITS[np.datetime_data(column.dtype)[0]], str(origin)


def _experiments(table: Table, experiment: str | None) -> tuple[list[str], Int[np.ndarray, " rows"]]:
    """The experiments' names, in the order in which they begin, and which one each row belongs to."""
    if experiment is None:
        return [table.source], np.zeros(len(table), int)
    gaps = np.flatnonzero(~table.present(experiment))
    if len(gaps):
        where = f"{table.source}: column {experiment!r}, row {gaps[0] + 1}"
        raise refusal(where, "no experiment", "the name of one", "Fill it in.")
    column = table.words(experiment) if table.kind(experiment) == "category" else table[experiment].tolist()
    order = {name: number for number, name in enumerate(dict.fromkeys(column))}
    return list(map(str, order)), np.array([order[name] for name in column])


def _require_increasing(
    table: Table, times: str, name: str, rows: Int[np.ndarray, " n"], column: Shaped[np.ndarray, " rows"]
) -> None:
    rises = column[rows][1:] > column[rows][:-1]
    if not rises.all():
        at = int(np.argmin(rises))
        of = f" of experiment {name}" if name else ""
        where = f"{table.source}: column {times!r}, row {rows[at + 1] + 1}{of}"
        got, do = f"{column[rows[at + 1]]} after {column[rows[at]]}", "Sort the rows by time and drop repeats."
        raise refusal(where, got, "times that increase", do)
