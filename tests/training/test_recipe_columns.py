"""Tables as features: filled, scaled and masked by the training rows alone; and numbers with their standard errors."""

from pathlib import Path

import numpy as np
import pytest

from separatrix.data import Table
from separatrix.training.recipes import recipe_from, spec_from_words, spec_of, spec_text
from separatrix.training.recipes.columns import matrix_of, read_table, settle
from separatrix.training.recipes.examples import parts_of
from separatrix.training.recipes.recipe import read_recipe
from separatrix.training.recipes.results import accuracy, confusion, mean, rms

TABLE = """age,colour,day,flat,y
1,red,2024-01-01,7,a
2,blue,2024-01-02,7,b
,red,2024-01-03,7,a
6,,2024-01-05,7,b
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    path = tmp_path_factory.mktemp("table") / "x.csv"
    path.write_text(TABLE)
    return read_table(path)


class TestColumns:
    def test_features_are_what_their_definition_says(self, table: Table) -> None:
        """On three training rows: age 1, 2, gap -> mean 1.5, deviation 0.5; red 2/3; days 0, 1, 2."""
        train = table.rows(np.array([0, 1, 2]))
        columns = settle(table, train, ("age", "colour", "day", "flat"))
        values, notes = matrix_of(columns, table)
        names = [name for column in columns for name in column.features]
        assert names == ["age", "age missing", "colour=blue", "colour=red", "colour missing", "day", "flat"]
        day = np.sqrt(1.5)
        np.testing.assert_allclose(
            values,
            [
                [-1, 0, 0, 1, 0, -day, 0],
                [1, 0, 1, 0, 0, 0, 0],
                [0, 1, 0, 1, 0, day, 0],
                [9, 0, 1 / 3, 2 / 3, 1, 3 * day, 0],
            ],
            rtol=1e-6,
        )
        assert notes == ["column 'age': 1 missing, filled by the training mean",
                         "column 'colour': 1 missing, filled by the training mean"]  # fmt: skip

    def test_the_rows_that_do_not_train_change_nothing(self, table: Table) -> None:
        train = table.rows(np.array([0, 1, 2]))
        other = table.rows(np.array([0, 1, 2, 0]))
        one, two = (settle(whole, train, ("age", "day")) for whole in (table, other))
        assert one == two

    def test_another_file_is_read_as_the_first_was(self, table: Table, tmp_path: Path) -> None:
        """Another order, more columns, a new word, a date of another unit: the same rows give the same features."""
        columns = settle(table, table, ("age", "colour", "day"))
        path = tmp_path / "new.csv"
        path.write_text("z,day,colour,age\nq,2024-01-02T00:00:00,blue,2\nq,2024-01-03T12:00:00,green,2\n")
        values, notes = matrix_of(columns, read_table(path, None, columns))
        same = matrix_of(columns, table)[0][1]
        np.testing.assert_array_equal(values[0], same)
        assert values[1, 4] == 1 and values[1, 5] > values[0, 5]
        assert "column 'colour': 'green' was not seen in training, taken as missing" in notes

    def test_arrays_are_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "x.npz"
        np.savez(path, a=np.arange(6.0).reshape(3, 2), y=np.array([0, 1, 1]))
        found = read_table(path)
        assert found.names == ("a[0]", "a[1]", "y") and found["a[1]"].tolist() == [1, 3, 5]


def test_parts_hold_each_row_once_and_scales_are_of_training(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rng = np.random.default_rng(0)
    rows = [f"{i},{rng.normal(3, 2):.9f},{i % 3}" for i in range(40)]
    path.write_text("\n".join(["id,x,y", *rows, "40,1.0,"]))
    recipe = recipe_from("classifier", {"data": str(path), "target": "y"}).settled()
    parts = recipe._parts()
    seen = np.concatenate([part[0][:, 0] for part in (parts.train, parts.validation, parts.test)])
    assert len(np.unique(seen)) == 40 and len(parts.train[0]) == 28
    np.testing.assert_allclose(parts.train[0].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(parts.train[0].std(axis=0), 1, rtol=1e-5)
    assert parts.notes == ("1 rows without 'y' left out",) and recipe.classes == ("0", "1", "2")
    again = read_recipe_of(recipe, tmp_path)
    assert again == recipe
    path.write_text(path.read_text().replace("39,", "139,"))
    with pytest.raises(ValueError, match=r"expected [0-9a-f]{12}\.\.\., with which the run began"):
        parts_of(recipe)


def read_recipe_of(recipe: object, folder: Path) -> object:
    """A settled recipe, written as TOML and read again."""
    (folder / "spec.toml").write_text(spec_text(recipe))
    return read_recipe(folder / "spec.toml")


def test_words_are_the_fields_they_are_meant_as() -> None:
    words = [("data", "1"), ("drop", '["a,b", "c"]'), ("fractions", "[1, 0, 0]"), ("learning-rate", "1e-2")]
    values = spec_from_words("regressor", words)
    recipe = recipe_from("regressor", values)
    assert spec_of(recipe)["data"] == "1" and recipe.drop == ("a,b", "c") and recipe.fractions == (1.0, 0.0, 0.0)
    assert recipe.learning_rate == 0.01
    with pytest.raises(ValueError, match="regressor: width\n  got 3 and 4, expected one value"):
        spec_from_words("regressor", [("width", "3"), ("width", "4")])


def test_standard_errors_cover_the_truth_as_often_as_they_say() -> None:
    """2,000 samples of 200: within one standard error 68 % of the time, to three of its own."""
    rng = np.random.default_rng(1)
    hits, squares = rng.random((2_000, 200)) < 0.7, 4 * rng.normal(size=(2_000, 200)) ** 2
    for found, truth in (
        ([accuracy(row) for row in hits], 0.7),
        ([mean(row) for row in squares], 4.0),
        ([rms(row) for row in squares], 2.0),
    ):
        inside = np.mean([abs(one["value"] - truth) < one["error"] for one in found])
        assert abs(inside - 0.683) < 0.03, inside


def test_rows_of_a_confusion_are_true() -> None:
    assert confusion([0, 0, 1], [1, 0, 1], ("a", "b"))["counts"] == [[1, 1], [0, 1]]
