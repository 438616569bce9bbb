"""Pictures in folders, in folders of parts, and listed in a table: what is learned from, and what is refused."""

import csv
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from separatrix._errors import DataError, DataMissing
from separatrix.data import png_bytes
from separatrix.training.recipes import Classifier, Regressor
from separatrix.training.recipes.examples import parts_of

pytest.importorskip("PIL")
COUNT = 20
LEVELS = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 6)).astype(np.uint8)
KINDS = ["tall" if i % 2 else "flat" for i in range(COUNT)]
PARTS = ["Train"] * 12 + ["valid"] * 4 + ["test"] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures in three ways."""
    home = tmp_path_factory.mktemp("pictures")
    for i, (levels, kind, part) in enumerate(zip(LEVELS, KINDS, PARTS, strict=True)):
        for place in (f"img/{i:02d}", f"parts/{part.lower()}/{kind}/{i:02d}", f"numbers/{i % 4}.5/{i:02d}"):
            path = home / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_bytes(levels))
    rows = [[f"img/{i:02d}.png", KINDS[i], i % 4 + 0.5, PARTS[i]] for i in range(COUNT)]
    _table(home / "list.csv", rows)
    (home / "parts" / ".hidden").mkdir()
    return home


def _table(path: Path, rows: list[list], head: tuple[str, ...] = ("file", "kind", "size", "part")) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


class Ink(eqx.Module):
    """Flat where there is much ink."""

    def __call__(self, picture: jax.Array) -> jax.Array:
        ink = 0.2 * jnp.sum(picture)
        return jnp.stack([ink, -ink])


def _scaled(rows: slice) -> np.ndarray:
    """The pictures of some rows, less the mean of those that train, over their standard deviation."""
    values = LEVELS.astype(np.float32) / 255
    return (values[rows] - values[:12].mean()) / values[:12].std()


def test_a_table_lists_pictures_and_says_their_parts(folder: Path) -> None:
    recipe = Classifier(data=folder / "list.csv", target="kind", split="part").settled()
    assert (recipe.pictures, recipe.columns, recipe.shape, recipe.classes) == ("file", (), (6, 6), ("flat", "tall"))
    parts = recipe._parts()
    for part, rows in (
        (parts.train, slice(0, 12)),
        (parts.validation, slice(12, 16)),
        (parts.test, slice(16, 20)),
    ):
        np.testing.assert_allclose(part[0], _scaled(rows), rtol=1e-5, atol=1e-6)
        assert [recipe.classes[code] for code in part[1]] == KINDS[rows]
    assert "not used are size" in parts.notes[0]


def test_parts_in_folders_are_as_they_lie(folder: Path) -> None:
    parts = parts_of(Classifier(data=folder / "parts"))
    assert parts.classes == ("flat", "tall") and parts.train[1].tolist() == [0] * 6 + [1] * 6
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    np.testing.assert_allclose(parts.train[0], _scaled(slice(0, 12))[order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts.test[0], _scaled(slice(16, 20))[[0, 2, 1, 3]], rtol=1e-5, atol=1e-6)


def test_folders_called_by_numbers_and_columns_of_numbers_are_predicted(folder: Path) -> None:
    listed = Regressor(data=folder / "list.csv", target="size", split="part").settled()
    assert listed.mean == pytest.approx(np.mean([i % 4 + 0.5 for i in range(12)])) and listed.shape == (6, 6)
    named = Regressor(data=folder / "numbers", fractions=(1.0, 0.0, 0.0)).settled()
    assert sorted(named._parts().train[1]) == sorted(i % 4 + 0.5 for i in range(COUNT))
    with pytest.raises(ValueError, match="expected a table with a column of numbers to predict, or folders called by"):
        Regressor(data=folder / "parts").settled()


def test_other_pictures_are_read_alike_and_scored(folder: Path) -> None:
    """A rule that knows nothing: its scores on a table are those of its answers, counted by hand."""
    recipe, model = Classifier(data=folder / "list.csv", target="kind", split="part").settled(), Ink()
    listed = recipe.predict(model, folder / "list.csv")
    said = listed["columns"]["kind"]
    hits = np.mean([one == other for one, other in zip(said, KINDS, strict=True)])
    assert listed["numbers"]["accuracy"]["value"] == pytest.approx(hits)
    chances = listed["columns"]["probability"]
    right = [p if one == kind else 1 - p for p, one, kind in zip(chances, said, KINDS, strict=True)]
    entropy = -np.mean(np.log(right))
    assert listed["numbers"]["cross_entropy"]["value"] == pytest.approx(entropy, rel=1e-4)
    loose = recipe.predict(model, folder / "img")
    assert loose["columns"]["kind"] == said and "numbers" not in loose
    assert recipe.predict(model, folder / "img" / "03.png")["columns"]["kind"] == [said[3]]
    by_folder = recipe.predict(model, folder / "parts" / "test")
    assert by_folder["columns"]["kind"] == [said[i] for i in (16, 18, 17, 19)]
    assert by_folder["numbers"]["accuracy"]["of"] == 4


def _rows(**changes: dict[int, object]) -> list[list]:
    columns = {"file": [f"img/{i:02d}.png" for i in range(COUNT)], "kind": list(KINDS), "part": list(PARTS)}
    for name, change in changes.items():
        for row, value in change.items():
            columns[name][row] = value
    return [list(row) for row in zip(*columns.values(), strict=True)]


ALL_TEST, ALL_ONE = (_rows(part=dict.fromkeys(range(COUNT), value)) for value in ("test", 1))
REFUSED = {
    "a picture that is not there": (_rows(file={3: "img/99.png"}), {}, DataMissing, "row 4\n  got no file at"),
    "a row without a picture": (_rows(file={3: ""}), {}, DataError, "row 4\n  got no picture"),
    "a column of other words": (_rows(), {"pictures": "part"}, DataError, "in column 'part', expected paths of pictures"),
    "a column that is not there": (_rows(), {"pictures": "flie"}, DataError, "Did you mean 'file'"),
    "a part that is none": (_rows(part={2: "trian"}), {"split": "part"}, DataError, "row 3\n  got 'trian', expected train"),
    "a row of no part": (_rows(part={2: ""}), {"split": "part"}, DataError, "row 3\n  got nothing"),
    "parts that are no words": (ALL_ONE, {"split": "part"}, DataError, "got no words"),
    "parts without training": (ALL_TEST, {"split": "part"}, DataError, "no row that"),
    "no such column of parts": (_rows(), {"split": "prat"}, DataError, "Did you mean 'part'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_what_a_table_may_not_say(fault: str, folder: Path) -> None:
    rows, options, error, said = REFUSED[fault]
    path = _table(folder / f"{fault.replace(' ', '_')}.csv", rows, ("file", "kind", "part"))
    with pytest.raises(error, match=f"(?s){said}"):
        Classifier(data=path, target="kind", **({"drop": ("part",)} | options)).settled()


def test_two_columns_of_pictures_and_parts_without_training_are_refused(folder: Path) -> None:
    twice = _table(folder / "twice.csv", [[row[0], row[0], row[1]] for row in _rows()], ("a", "b", "kind"))
    with pytest.raises(
        DataError, match="pictures in columns a, b, expected one such column.\n  Name one, as --pictures a"
    ):
        Classifier(data=twice, target="kind").settled()
    assert Classifier(data=twice, target="kind", pictures="b").settled().pictures == "b"
    for part in ("valid", "test"):
        (folder / "no_train" / part / "a").mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match="got the parts test, valid, expected a part to train on"):
        Classifier(data=folder / "no_train").settled()
    none_validates = Classifier(data=folder / "parts", patience=3, fractions=(1.0, 0.0, 0.0))
    listed = Classifier(data=folder / "list.csv", target="kind", patience=3, fractions=(1.0, 0.0, 0.0)).settled()
    assert none_validates.settled().task().options["patience"] == 3  # the folder has a part for validation
    with pytest.raises(ValueError, match="classifier: patience\n  got 3, expected none: no part of the data validates"):
        listed.task()


def test_one_class_alone_and_folders_beside_the_parts_are_refused(folder: Path) -> None:
    picture = (folder / "img" / "00.png").read_bytes()
    for place in ("single/a", "beside/train/a", "beside/dev/a", "beside/extra/a"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(9):
            (folder / place / f"{number}.png").write_bytes(picture)
    with pytest.raises(DataError, match="single\n  got only a, expected two classes or more"):
        Classifier(data=folder / "single").settled()
    with pytest.raises(DataError, match="got the folders extra beside dev, train, expected train, and valid or test"):
        Classifier(data=folder / "beside").settled()
