"""Parquet: what pyarrow writes is read back; gaps, words and damage are named by column and row."""

import sys
from pathlib import Path

import numpy as np
import pytest

from separatrix._errors import DataMissing
from separatrix.data import read_parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def test_columns_come_back_in_the_asked_order_with_their_types(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {"a": np.arange(5), "b": np.linspace(0, 1, 5, dtype=np.float32), "c": np.array(list("vwxyz"))}
    pq.write_table(pa.table(columns), path)
    table = read_parquet(path, columns=["b", "a"])
    assert table.names == ("b", "a")
    for name in table.names:
        assert table[name].dtype == columns[name].dtype
        np.testing.assert_array_equal(table[name], columns[name])


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([1.0, None, 2.0], ["column 'x'", "a missing value at row 2"]),
        (["a", "b"], ["column 'x'", "values of type string", "columns=[...]"]),
        ([1.0, float("inf")], ["column 'x'", "x[1] = inf"]),
    ],
)
def test_a_column_that_holds_no_numbers_is_refused(tmp_path: Path, column: list, said: list[str]) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": column}), path)
    with pytest.raises(ValueError) as refusal:
        read_parquet(path)
    for part in [str(path), *said]:
        assert part in str(refusal.value)


def test_a_damaged_file_and_an_unknown_column_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1.0]}), path)
    with pytest.raises(ValueError, match="got 'y', expected one of x"):
        read_parquet(path, columns=["y"])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="not a sound Parquet file"):
        read_parquet(path)


def test_without_pyarrow_the_install_line_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1.0]}), path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataMissing, match=r'pip install "separatrix\[data\]"'):
        read_parquet(path)
