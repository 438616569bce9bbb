"""Files of series: the table of a recipe, and which of its columns holds the times."""

from pathlib import Path
from typing import Any

from separatrix._errors import DataError, explain, unknown
from separatrix.data import Series, Table, locate, read_csv, read_parquet, series
from separatrix.data.loading import named_set

_CALLED = ("time", "times", "t", "year", "date", "day", "hour", "seconds")


def table_at(data: Path) -> Table:
    """The table in a file, or of a named set, with gaps where values are missing.

    **Raises:** `ValueError` for a suffix that is none of a table.
    """
    path = data
    if named_set(path) is not None:
        path = Path(str(locate(str(path))).partition(": ")[2] or str(locate(str(path))))
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet"):
        expected, do = "a series ending in .csv, .tsv, .parquet", "Convert or rename the file."
        raise ValueError(explain(f"--data {data}", f"suffix {path.suffix!r}", expected, do))
    if suffix == ".parquet":
        return read_parquet(path, missing="keep", kinds="infer")
    return read_csv(path, missing="keep", kinds="infer", delimiter="\t" if suffix == ".tsv" else ",")


def series_at(data: Path, times: str | None, values: tuple[str, ...], experiment: str | None) -> tuple[Series, str]:
    """The series in a file, and the column of its times: the one called so, else the first.

    **Raises:** `DataError` for a column that is not there, and as `series`.
    """
    table = table_at(data)
    when = times or next((name for name in table.names if name.lower() in _CALLED), table.names[0])
    for name in (when, *values, *([experiment] if experiment else [])):
        if name not in table.columns:
            raise DataError(unknown(f"{table.source}: column", name, table.columns, "Name a column of the file."))
    return series(table, when, experiment=experiment, values=values or None), when


def require_changing(data: Any, columns: tuple[str, ...], spread: Any) -> None:
    """Refuse a column that has one value in every row."""
    flat = next((name for name, size in zip(columns, spread, strict=True) if not size > 0), None)
    if flat is not None:
        do = "Leave it out: name the others by --values."
        raise DataError(explain(f"{data}: column {flat!r}", "one value in every row", "values that change", do))
