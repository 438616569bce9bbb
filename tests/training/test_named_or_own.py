"""A folder of the user's called as a named set: said by a path it is the folder, by a bare name there is no doubt left."""

import shutil

import numpy as np
import pytest

import separatrix as sx
from separatrix import data
from separatrix.cli.fields import recipe_of_words
from separatrix.cli.runs import Train
from separatrix.training.recipes import recipe_from, recipe_of, recipes, train
from separatrix.training.run import Run


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """A folder `digits` of ten pictures of 5 by 5 pixels in two classes, in the folder where we are."""
    home = tmp_path / "project"
    for number in range(10):
        file = home / "digits" / ("dark" if number % 2 else "light") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = np.random.default_rng(number).integers(0, 100, (5, 5)) + 100 * (number % 2 == 0)
        file.write_bytes(data.png_bytes(picture.astype(np.uint8)))
    monkeypatch.chdir(home)
    return home / "digits"


@pytest.mark.parametrize("name", [name for name in recipes() if not name.startswith("example")])
def test_every_recipe_reads_the_folder_by_its_path_and_refuses_the_bare_name(name, digits):
    for said in ("./digits", "digits/", str(digits), "../project/digits"):
        recipe = recipe_from(name, {"data": said})
        assert recipe.data.samefile(digits) and str(recipe.data) not in data.names(), said
        assert recipe_from(name, {"data": str(recipe.data)}).data == recipe.data  # as it is written into a run
    bare = recipe_from(name, {"data": "digits"})
    assert str(bare.data) == "digits"
    with pytest.raises(ValueError, match="a folder of that name is here(.|\n)*Write ./digits for the folder"):
        train(bare, digits.parent / "run")
    assert not (digits.parent / "run").exists()


@pytest.mark.parametrize("name", ["classifier", "diffusion", "gan"])
def test_what_is_settled_is_of_the_folder_that_was_said(name, digits):
    command = Train(recipe=name, data="./digits")
    assert recipe_of_words(command)[1].settled().shape == (5, 5)
    shutil.move(digits, digits.with_name("others"))
    (digits.parent / "fashion-mnist").symlink_to(digits.with_name("others"))
    assert recipe_from(name, {"data": "fashion-mnist/"}).settled().shape == (5, 5)


def test_load_reads_the_set_by_its_name_and_says_so(digits):
    with pytest.warns(UserWarning, match="digits is the set, which is read"):
        assert sx.load("digits").inputs.shape[1:] == (8, 8)
    for said in ("./digits", "digits/", digits):
        assert sx.load(said).inputs.shape == (10, 5, 5), said


def test_a_run_finds_its_data_from_another_folder_and_after_both_were_moved(tmp_path, monkeypatch, digits):
    (digits.parent / "table.csv").write_text("a,b\n1,2\n")
    said = {"folder": str(digits), "relative": "digits/dark", "file": "table.csv"}
    runs = {name: Run.create(f"runs/{name}", recipe="gan", spec={"data": path}) for name, path in said.items()}
    paths = {name: run.path.absolute() for name, run in runs.items()}
    monkeypatch.chdir(tmp_path)
    assert recipe_of(Run.open(paths["relative"])).data.samefile(digits / "dark")
    for run in runs.values():
        run.close()
    shutil.move(digits.parent, tmp_path / "moved")
    for name, end in (("folder", "digits"), ("relative", "digits/dark"), ("file", "table.csv")):
        run = Run.open(tmp_path / "moved" / "runs" / name)
        assert recipe_of(run).data.samefile(tmp_path / "moved" / end), name
    shutil.rmtree(tmp_path / "moved" / "digits")
    assert not recipe_of(Run.open(tmp_path / "moved" / "runs" / "folder")).data.exists()  # told when it is read


@pytest.mark.slow
def test_the_run_of_a_relative_path_holds_it_whole(digits, monkeypatch, tmp_path):
    run = train(recipe_from("gan", {"data": "digits/../digits", "steps": 1}), digits.parent / "run")
    assert run.spec["data"].startswith("/")
    monkeypatch.chdir(tmp_path)
    assert recipe_of(Run.open(digits.parent / "run")).settled().shape == (5, 5)
