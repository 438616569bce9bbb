"""Delimited text: values against NumPy's reader, and one message for every way in which a file can be wrong."""

from pathlib import Path

import numpy as np
import pytest

from separatrix._errors import DataMissing
from separatrix.data import read_csv

# What the file holds, what the message must hold. Each names the first bad line and column.
REFUSED = {
    "too short a row": (b"t,x,y\n0,1,2\n1,2\n2,3\n", {}, ["line 3, column 3", "got 2 values", "expected 3"]),
    "too long a row": (b"t,x\n0,1\n1,2,3\n", {}, ["line 3, column 3", "got 3 values", "expected 2"]),
    "another delimiter": (b"t;x\n0;1\n", {}, ["line 1, column 1", "one column 't;x'", "Pass delimiter=';'"]),
    "tabs": (b"t\tx\n0\t1\n", {}, ["line 1, column 1", "Pass delimiter='\\t'"]),
    "a NUL byte": (b"t,x\n0,1\n1,\x002\n", {}, ["line 3, column 2", "a NUL byte"]),
    "Latin-1": (b"t,x\n0,1\n1,2\xb5\n", {}, ["line 3, column 2", "byte 0xb5", "Save the file as UTF-8"]),
    "UTF-16": ("t,x\n0,1\n".encode("utf-16"), {}, ["line 1, column 1", "UTF-16", "Save the file as UTF-8"]),
    "a missing value": (b"t,x\n0,1\n1,\n", {}, ["line 3, column 2 ('x')", "a missing value ''", "missing='drop'"]),
    "NA": (b"# note\nt,x\n\n0,NA\n", {}, ["line 4, column 2 ('x')", "a missing value 'NA'"]),
    "a word": (b"t,x\n0,one\n", {}, ["line 2, column 2 ('x')", "'one'", "columns=[...]"]),
    "a decimal comma": (b"t;x\n0;1,5\n", {"delimiter": ";"}, ["line 2, column 2 ('x')", "'1,5'", "decimal point"]),
    "an underscore": (b"t,x\n0,1_000\n", {}, ["line 2, column 2 ('x')", "'1_000'"]),
    "infinity": (b"t,x\n0,1\n1,-inf\n", {}, ["line 3, column 2 ('x')", "'-inf'", "a finite number"]),
    "times that repeat": (b"x,t\n5,0\n6,1\n7,1\n", {"times": "t"}, ["line 4, column 2 ('t')", "1 after 1", "Sort"]),
    "times that fall": (b"t,x\n0,5\n2,6\n1,7\n", {"times": "t"}, ["line 4, column 1 ('t')", "1 after 2"]),
    "two columns of a name": (b"t,t\n0,1\n", {}, ["line 1, column 2", "the name 't' again"]),
    "a column without a name": (b"t,\n0,1\n", {}, ["line 1, column 2", "a column without a name"]),
    "an unknown column": (b"t,x\n0,1\n", {"columns": ["y"]}, ["'y'", "one of t, x"]),
    "an open quote": (b't,x\n0,"1\n', {}, ["cannot be read", "Check its quotes"]),
    "names only": (b"t,x\n", {}, ["no rows of data"]),
    "comments only": (b"# nothing\n", {}, ["no rows"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_faulty_file_is_refused_with_its_line_and_column(tmp_path: Path, fault: str) -> None:
    content, options, said = REFUSED[fault]
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError) as refusal:
        read_csv(path, **options)
    message = str(refusal.value)
    assert str(path) in message
    for part in said:
        assert part in message
    assert len(message.splitlines()) <= 3


def test_no_file_an_empty_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no file at"):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match="of 0 bytes"):
        read_csv(tmp_path / "empty.csv")
    with pytest.raises(ValueError, match="which is a folder"):
        read_csv(tmp_path)


def test_values_are_those_that_numpy_reads(tmp_path: Path) -> None:
    written = np.random.default_rng(0).normal(size=(50, 3)) * 10.0 ** np.array([-200, 0, 200])
    path = tmp_path / "x.csv"
    np.savetxt(path, written, delimiter=",", header="a,b,c", comments="")
    np.testing.assert_array_equal(read_csv(path).matrix(), np.loadtxt(path, delimiter=",", skiprows=1))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_endings_and_byte_order_marks_change_nothing(tmp_path: Path, ending: str, mark: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes((mark + ending.join(["# note", "t, x", "0, 1.5", "", "1, 2.5"])).encode())
    table = read_csv(path, times="t")
    assert table.names == ("t", "x")
    assert table["t"].tolist() == [0, 1] and table["t"].dtype == np.int64
    assert table["x"].tolist() == [1.5, 2.5] and table["x"].dtype == np.float64


def test_a_file_without_names_is_data_from_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("1,2\n3,4\n")
    table = read_csv(path)
    assert table.names == ("0", "1")
    assert table.matrix().tolist() == [[1, 2], [3, 4]]


def test_rows_with_gaps_are_dropped_when_asked_and_only_for_the_wanted_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("t,x,y\n0,1,\n1,?,5\n2,3,6\n")
    assert read_csv(path, missing="drop")["t"].tolist() == [2]
    assert read_csv(path, missing="drop", columns=["t", "x"])["t"].tolist() == [0, 2]


def test_a_table_tells_which_columns_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("t,x\n0,1\n")
    table = read_csv(path)
    with pytest.raises(ValueError, match="got 'z', expected one of t, x"):
        table["z"]
    assert table.without("t").names == ("x",)
    assert repr(table) == "Table(x.csv: 1 rows; t, x)"
