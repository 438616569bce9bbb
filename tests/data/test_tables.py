"""Tables from the data frames and files of other libraries: every number, word, date and gap as it was there."""

import datetime
from pathlib import Path

import numpy as np
import pytest

from separatrix.data import (
    DataError,
    Table,
    from_arrow,
    load,
    read_csv,
    read_parquet,
    read_text,
    series,
    split,
    split_files,
)

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

COLUMNS = {
    "n": [2**60 + 1, -3, 0, 7],
    "x": [0.1, None, -2.5, 1e300],
    "flag": [True, False, True, True],
    "word": ["red", None, "blue", "red"],
    "day": [datetime.date(2024, 3, 1), datetime.date(1969, 12, 31), None, datetime.date(1, 1, 1)],
    "at": [datetime.datetime(2024, 3, 1, 12, 30, 5, 250_000), datetime.datetime(1969, 12, 31, 23, 59, 59), None, None],
}


def frames() -> dict:
    nullable = {name: pandas.array(values) if name in "nx" else values for name, values in COLUMNS.items()}
    return {
        "pyarrow": pa.table(COLUMNS),
        "polars": polars.DataFrame(COLUMNS),
        "pandas": pandas.DataFrame(nullable),
    }


@pytest.mark.parametrize("library", ["pyarrow", "polars", "pandas"])
def test_a_frame_of_any_library_is_the_same_table(library: str) -> None:
    table = from_arrow(frames()[library], missing="keep", columns=["n", "x", "flag", "word", "at"])
    assert [int(value) for value in table["n"]] == COLUMNS["n"] and table["n"].dtype == np.int64
    np.testing.assert_array_equal(table["x"], [0.1, np.nan, -2.5, 1e300])
    assert table["flag"].tolist() == COLUMNS["flag"]
    assert table.words("word") == COLUMNS["word"] and table.vocabularies["word"] == ("blue", "red")
    assert table["at"].dtype == "M8[ms]" and table["at"].astype("M8[us]").tolist() == COLUMNS["at"]
    assert table.missing() == {"x": 1, "word": 1, "at": 2}
    for part in ("x (1 missing)", "word (2 categories, 1 missing)", "at (milliseconds since 1970-01-01, 2 missing)"):
        assert part in repr(table)
    assert len(from_arrow(frames()[library], missing="drop", columns=["n", "x", "word"])) == 3
    with pytest.raises(DataError, match=r"column 'x'\n  got a missing value at row 2"):
        from_arrow(frames()[library])


@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_days_are_days(library: str) -> None:
    day = from_arrow(frames()[library], missing="keep", columns=["day"])["day"]
    assert day.dtype == "M8[D]" and day.tolist() == COLUMNS["day"]


def test_gaps_beside_whole_numbers_do_not_round_them(tmp_path: Path) -> None:
    for values in ([2**53, None, 5], [2**53 + 1, None, 5]):
        path = tmp_path / "x.parquet"
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"x": pa.array(values, pa.int64())}), path)
        (tmp_path / "x.csv").write_text(f"x,y\n{values[0]},0\n,0\n5,0\n")
        for read, file in ((read_parquet, path), (read_csv, tmp_path / "x.csv")):
            if values[0] == 2**53:
                np.testing.assert_array_equal(read(file, missing="keep")["x"], [2.0**53, np.nan, 5])
            else:
                with pytest.raises(DataError, match="9007199254740993"):
                    read(file, missing="keep")


def test_a_csv_of_pandas_comes_back(tmp_path: Path) -> None:
    frame = pandas.DataFrame(
        {
            "x": [1.5, np.nan, 3.25],
            "word": ["b, c", 'a "b"', None],
            "day": pandas.to_datetime(["2024-03-01", "2024-02-29", None]),
            "at": pandas.to_datetime(["2024-03-01T12:00:00.000000001", "2000-01-01", "1970-01-01"], format="ISO8601"),
        }
    )
    frame.to_csv(tmp_path / "x.csv", index=False)
    table = read_csv(tmp_path / "x.csv", kinds="infer", missing="keep")
    np.testing.assert_array_equal(table["x"], frame["x"])
    assert table.words("word") == ["b, c", 'a "b"', None]
    np.testing.assert_array_equal(table["day"], frame["day"].to_numpy().astype("M8[D]"))
    np.testing.assert_array_equal(table["at"], frame["at"].to_numpy().astype("M8[ns]"))
    assert [table.kind(name) for name in table.names] == ["number", "category", "date", "date"]
    assert len(read_csv(tmp_path / "x.csv", kinds="infer", missing="drop")) == 1


DATES = {
    "2024-13-01": "no date", "2023-02-29": "no date", "01/02/2024": "'01/02/2024'", "2024-1-2": "'2024-1-2'",
    "2024-03-01T25:00": "no date", "2024-03-01T10:00Z": "a zone where others have none",
    "1500-01-01T00:00:00.000000001": "64 bits of nanoseconds do not reach", "today": "'today'", "NOW": "'NOW'",
}  # fmt: skip


@pytest.mark.parametrize("cell", DATES)
def test_what_is_no_date_is_refused_with_its_place(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"d,x\n2024-03-01T00:00,1\n{cell},2\n")
    with pytest.raises(DataError) as refusal:
        read_csv(path, kinds={"d": "date"})
    assert "line 3, column 1 ('d')" in str(refusal.value) and DATES[cell] in str(refusal.value)


def test_zones_are_taken_to_utc(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("d,x\n2024-03-01T00:30+01:00,1\n2024-03-01T00:30-0530,2\n2024-03-01T00:30Z,3\n")
    read = read_csv(path, kinds="infer")["d"]
    assert read.astype(str).tolist() == ["2024-02-29T23:30:00", "2024-03-01T06:00:00", "2024-03-01T00:30:00"]


def test_a_column_of_two_kinds_is_refused_where_the_second_begins(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,x\n2,x\n1O,x\n")
    with pytest.raises(
        DataError, match=r"line 4, column 1 \('a'\)\n  got '1O', expected a number, as in the rows before"
    ):
        read_csv(path, kinds="infer")
    assert read_csv(path, kinds={"a": "category", "b": "category"}).vocabularies["a"] == ("1", "1O", "2")


def test_a_declared_order_of_words_is_kept() -> None:
    frame = pandas.DataFrame({"size": pandas.Categorical(["L", "S"], ["S", "M", "L"], ordered=True)})
    table = from_arrow(frame)
    assert table.vocabularies["size"] == ("S", "M", "L") and table["size"].tolist() == [2, 0]


def test_features_are_the_columns_with_a_mask_and_a_target(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("x,colour,d,y\n1.5,red,1970-01-02,no\n,blue,1970-01-11,yes\n2.5,,1969-12-31,yes\n")
    found = load(path, targets="y", kinds="infer", missing="keep")
    nan = np.nan
    assert found.names == ("x", "colour=blue", "colour=red", "d")
    np.testing.assert_array_equal(found.inputs, [[1.5, 0, 1, 1], [nan, 1, 0, 10], [2.5, nan, nan, -1]])
    np.testing.assert_array_equal(found.present, ~np.isnan(found.inputs))
    assert (found.targets.tolist(), found.classes) == ([0, 1, 1], ("no", "yes"))
    for part in ("missing values kept: x 1, colour 1", "categories: colour, y", "dates: d"):
        assert part in str(found.card)
    dropped = load(path, targets="y", kinds="infer", missing="drop")
    assert dropped.inputs.tolist() == [[1.5, 1, 1]] and "2 rows with gaps left out" in str(dropped.card)
    path.write_text("x,y\n1,\n2,1\n")
    with pytest.raises(DataError, match="a missing target"):
        load(path, targets="y", missing="keep")


class TestText:
    def test_codes_and_vocabulary_are_those_of_the_characters(self, tmp_path: Path) -> None:
        text = "Grüße,\nλ — \U0001f600!\n"
        (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
        found = read_text(tmp_path / "x.txt")
        assert found.decode() == text and found.vocabulary == tuple(sorted(set(text)))
        assert load(tmp_path / "x.txt").vocabulary == found.vocabulary
        (tmp_path / "y.txt").write_text("Gruß?")
        with pytest.raises(DataError, match=r"(?s)y\.txt: line 1\n  got '\?', expected a character of the vocabulary"):
            split_files(tmp_path / "x.txt", test=tmp_path / "y.txt")

    @pytest.mark.parametrize(
        ("content", "said"), [(b"ab\ncd\xe9\n", "line 2, byte 6"), (b"a\nb\0c", "line 2"), (b"\r", "")]
    )
    def test_what_is_no_text_is_refused_with_its_line(self, tmp_path: Path, content: bytes, said: str) -> None:
        path = tmp_path / "x.txt"
        path.write_bytes(content)
        if said:
            with pytest.raises(DataError, match=said):
                read_text(path)
        else:
            assert read_text(path).decode() == "\n"


class TestSeries:
    TEXT = "run,t,x,y\nb,0,1,2\na,5,3,4\nb,0.25,5,\na,6,7,8\nb,3,9,10\n"

    def test_experiments_have_times_of_their_own(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text(self.TEXT)
        found = series(read_csv(path, kinds="infer", missing="keep"), "t", experiment="run")
        assert [one.name for one in found] == ["b", "a"] and found.names == ("x", "y")
        assert found[0].times.tolist() == [0, 0.25, 3] and found[1].times.tolist() == [5, 6]
        np.testing.assert_array_equal(found[0].values, [[1, 2], [5, np.nan], [9, 10]])
        assert found[0].present.tolist() == [[True, True], [True, False], [True, True]]
        path.write_text(self.TEXT + "a,6,0,0\n")
        with pytest.raises(DataError, match=r"column 't', row 6 of experiment a\n  got 6.0 after 6.0"):
            series(read_csv(path, kinds="infer", missing="keep"), "t", experiment="run")

    def test_dates_become_counts_from_the_first_exactly(self) -> None:
        stamps = np.array(["2024-03-01T00:00:00.000000001", "2024-03-01T00:00:00.000000004"], "M8[ns]")
        found = series(Table({"at": stamps, "x": np.arange(2)}, "here"), "at")
        assert found[0].times.tolist() == [0, 3] and found.unit == "nanoseconds" and "000001" in found.origin


class TestSplit:
    TABLE = Table({"t": np.arange(100), "g": np.arange(100) // 7}, "here")

    def parts(self, **options: object) -> list[list[int]]:
        found = split(self.TABLE, (0.7, 0.2, 0.1), **options)
        return [part["t"].tolist() for part in (found.train, found.validation, found.test)]

    def test_each_row_is_in_one_part_and_the_key_alone_decides(self) -> None:
        import jax

        parts = self.parts(key=3)
        assert [len(part) for part in parts] == [70, 20, 10] and sorted(t for part in parts for t in part) == list(
            range(100)
        )
        assert parts == self.parts(key=3) != self.parts(key=4)
        assert self.parts(key=jax.random.key(3)) == self.parts(key=jax.random.PRNGKey(3)) == parts

    def test_groups_stay_together(self) -> None:
        parts = [{t // 7 for t in part} for part in self.parts(key=0, groups="g")]
        assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])

    def test_by_time_the_last_are_for_testing_and_no_time_is_split(self) -> None:
        times = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 5))
        train, validation, test = (times[part] for part in self.parts(times=times))
        assert train.max() < validation.min() and validation.max() < test.min()
        assert [len(part) for part in (train, validation, test)] == [70, 20, 10]

    def test_misuse_is_told(self) -> None:
        for options, said in [
            ({}, "got neither"), ({"key": 0, "times": "t"}, "got both"),
            ({"times": "t", "groups": "g"}, "groups and times"),
            ({"key": 0, "groups": np.zeros(3)}, r"shape \(3,\)"), ({"times": "u"}, "got 'u'"),
        ]:  # fmt: skip
            with pytest.raises(ValueError, match=said):
                split(self.TABLE, **options)
        for fractions in ((0.5, 0.1, 0.1), (0.0, 0.5, 0.5), (1.2, -0.2, 0.0)):
            with pytest.raises(ValueError, match="add up to 1"):
                split(self.TABLE, fractions, key=0)
        with pytest.raises(ValueError, match="split: (validation|test)"):
            split(self.TABLE.rows(np.arange(3)), (0.9, 0.05, 0.05), key=0)

    def test_a_test_part_that_is_there_is_kept(self) -> None:
        digits = load("digits")
        found = split(digits, (0.9, 0.1, 0.0), key=0)
        np.testing.assert_array_equal(found.test.inputs, digits.test_inputs)
        assert len(found.train) + len(found.validation) == len(digits) and found.train.test_inputs is None
        with pytest.raises(ValueError, match="the set has its own"):
            split(digits, key=0)


def test_parts_in_files_share_their_words(tmp_path: Path) -> None:
    for name, rows in (("a", "red,1\nblue,2"), ("b", "red,3"), ("c", "green,1")):
        (tmp_path / f"{name}.csv").write_text(f"c,x\n{rows}\n")
    parts = split_files(tmp_path / "a.csv", test=tmp_path / "b.csv", targets="c", kinds="infer")
    assert parts.test.targets.tolist() == [1] and parts.test.classes == ("blue", "red")
    with pytest.raises(DataError, match=r"line 2, column 1 \('c'\)\n  got 'green'"):
        split_files(tmp_path / "a.csv", tmp_path / "c.csv", kinds="infer")
