"""Numbers of a text file are kept as they stand there, or refused with their line and column; never rounded unseen."""

import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from separatrix.data import DataError, load, read_csv


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv")


def written(folder: Path, *cells: str, name: str = "x") -> Path:
    path = folder / "x.csv"
    path.write_text("\n".join([f"{name},n", *[f"{cell},{i}" for i, cell in enumerate(cells)]]), encoding="utf-8")
    return path


@given(values=st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=4))
def test_whole_numbers_of_64_bits_come_back_exactly(folder: Path, values: list[int]) -> None:
    path = written(folder, *map(str, values))
    if min(values) < 0 and max(values) >= 2**63 and any(int(float(value)) != value for value in values):
        with pytest.raises(DataError, match=r"line \d+, column 1 \('x'\)"):
            read_csv(path)
    else:
        assert [int(value) for value in read_csv(path)["x"]] == values


@given(
    whole=st.integers(-(10**30), 10**30) | st.integers(2**53 - 3, 2**53 + 3),
    fraction=st.floats(allow_nan=False, allow_infinity=False),
)
def test_beside_fractions_a_whole_number_is_a_float_or_refused(folder: Path, whole: int, fraction: float) -> None:
    path = written(folder, repr(fraction), str(whole))
    if Fraction(float(whole)) == whole:
        assert read_csv(path)["x"].tolist() == [fraction, float(whole)]
    else:
        with pytest.raises(DataError, match=rf"line 3, column 1 \('x'\)\n  got {whole}, "):
            read_csv(path)


def test_stamps_of_19_digits_stay_apart_and_are_no_floats(folder: Path) -> None:
    path = written(folder, "1700000000000000001", "1700000000000000002", name="t")
    table = read_csv(path, times="t")
    assert np.diff(table["t"]).tolist() == [1]
    for attempt in (lambda: table.matrix("t"), lambda: load(path), lambda: table.features("n")):
        with pytest.raises(DataError, match=r"column 't', row 1\n  got 1700000000000000001, which no float64 is"):
            attempt()
    assert load(path, columns=["n"]).inputs.tolist() == [[0], [1]]
    with pytest.raises(DataError, match="1700000000000000001 after 1700000000000000002"):
        read_csv(written(folder, "1700000000000000002", "1700000000000000001", name="t"), times="t")


REFUSED = {
    "１２": "'１２'", "٣": "'٣'", "1²": "'1²'", "−5": "'−5'", "1\u00a0000": "'1\\xa0000'", "1_000": "'1_000'",
    "0x10": "'0x10'",
    "1d5": "'1d5'", "1e": "'1e'", "1e5.5": "'1e5.5'", "+-1": "'+-1'", "1 2": "'1 2'", "True": "'True'", "1j": "'1j'",
    "inf": "a finite number", "-Infinity": "a finite number", "1e400": "a finite number that a float64 can be",
    "1e-400": "a number that a float64 can be", "9" * 5000: "a finite number", "nan": "a missing value 'nan'",
    "NA": "a missing value", "-": "a missing value", "#N/A": "a missing value", "1.5%": "'1.5%'", "$5": "'$5'",
}  # fmt: skip


@pytest.mark.parametrize("cell", REFUSED, ids=lambda cell: ascii(cell)[:12])
@pytest.mark.parametrize("beside", ["1", "2.5"])
def test_what_is_no_number_here_is_refused_with_its_place(folder: Path, cell: str, beside: str) -> None:
    with pytest.raises(DataError) as refusal:
        read_csv(written(folder, beside, cell))
    message = str(refusal.value)
    assert "x.csv: line 3, column 1 ('x')" in message and REFUSED[cell] in message and len(message) < 600


def test_a_note_of_other_letters_does_not_change_what_is_a_number(folder: Path) -> None:
    path = folder / "x.csv"
    path.write_text("# mesuré à Orléans_1\nµ,x\n1_0,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="'1_0'"):
        read_csv(path)
    path.write_text("# mesuré à Orléans_1\nµ,x\n10,1\n", encoding="utf-8")
    assert read_csv(path)["µ"].tolist() == [10]


class TestIndexAndComments:
    def read(self, folder: Path, text: str, **options: object) -> object:
        path = folder / "x.csv"
        path.write_text(text)
        return read_csv(path, **options)

    def test_the_index_that_a_data_frame_writes_is_kept_aside(self, folder: Path) -> None:
        import pandas

        frame = pandas.DataFrame({"a": [1.5, 2.5], "b": [3, 4]}, index=[7, 9])
        frame.to_csv(folder / "x.csv")
        table = read_csv(folder / "x.csv")
        assert table.names == ("a", "b") and table.index.tolist() == [7, 9] and "an index" in repr(table)
        assert load(folder / "x.csv", targets="b").inputs.tolist() == [[1.5], [2.5]]
        named = frame.rename_axis("t")
        named.to_csv(folder / "x.csv")
        assert read_csv(folder / "x.csv", times="t").names == ("t", "a", "b")
        frame.rename(index={7: "u", 9: "v"}).to_csv(folder / "x.csv")
        assert read_csv(folder / "x.csv").index.tolist() == ["u", "v"]

    def test_a_column_may_be_called_by_the_sign_of_comments(self, folder: Path) -> None:
        table = self.read(folder, "# a note\n#,x\n1,5\n2,6\n")
        assert table.names == ("#", "x") and table["#"].tolist() == [1, 2]

    def test_a_row_that_begins_with_the_sign_is_no_comment(self, folder: Path) -> None:
        with pytest.raises(DataError, match=r"line 3, column 1 \('id'\)\n  got '#2'"):
            self.read(folder, "id,x\n1,5\n#2,6\n")
        with pytest.raises(DataError, match=r"line 3, column 1 \('id'\)\n  got '#'"):
            self.read(folder, "id,x\n1,5\n#,6\n")
        found = self.read(folder, "id,x\n#1,5\n# 9,9\n#\n#2,6\n", kinds={"id": "category"})
        assert found.words("id") == ["#1", "#2"] and found["x"].tolist() == [5, 6]

    def test_names_in_a_comment_are_those_of_numpy(self, folder: Path) -> None:
        np.savetxt(folder / "x.csv", [[1.5, 2.0], [3.0, 4.0]], delimiter=",", header="made today\nt,mass [kg]")
        table = read_csv(folder / "x.csv")
        assert table.names == ("t", "mass [kg]") and table["t"].tolist() == [1.5, 3.0]
        for note in ("# made by me, 2020\n", "# t,x,y\n", "# just a note\n"):
            assert self.read(folder, f"{note}1,2\n3,4\n").names == ("0", "1")
        assert self.read(folder, "# a,b\nt,x\n3,4\n").names == ("t", "x")

    def test_a_quoted_cell_may_hold_lines_that_look_like_comments(self, folder: Path) -> None:
        table = self.read(folder, 'c,x\n"one\n# two",5\n# "\nthree,6\n', kinds="infer")
        assert table.words("c") == ["one\n# two", "three"] and table["x"].tolist() == [5, 6]


class TestManyColumns:
    """Work grows with the size of the file. A quadratic search took 24 s for 40,000 columns."""

    def wide(self, folder: Path, count: int) -> Path:
        path = folder / "x.csv"
        path.write_text("\n".join([",".join(f"c{i}" for i in range(count)), ",".join(map(str, range(count)))]))
        return path

    def test_forty_thousand_columns_take_no_time(self, folder: Path) -> None:
        path = self.wide(folder, 40_000)
        began = time.process_time()
        assert load(path, targets="c39999").inputs[0, -1] == 39998
        with pytest.raises(DataError, match=r"c19, \.\.\. \(40000 in all\)"):
            read_csv(path, columns=["d"])
        assert time.process_time() - began < 5

    @pytest.mark.slow
    def test_a_million_columns_are_read(self, folder: Path) -> None:
        path = self.wide(folder, 1_000_000)
        began = time.process_time()
        assert read_csv(path).matrix()[0, -1] == 999_999
        assert time.process_time() - began < 60

    def test_a_parquet_file_as_wide_takes_no_time_either(self, folder: Path) -> None:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        path = folder / "x.parquet"
        pq.write_table(pa.table({f"c{i}": [i] for i in range(5_000)}), path)
        began = time.process_time()
        assert load(path).inputs.sum() == 5_000 * 4_999 / 2
        assert time.process_time() - began < 5
