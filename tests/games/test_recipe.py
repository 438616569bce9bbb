"""The recipe `gan`: a table and pictures of one's own, in and out; what does not fit; killed and gone on with."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import separatrix as sx
from separatrix.games.recipe import Adversarial
from separatrix.training.recipes import carry_out, model_in, recipe_of, results_of, train
from separatrix.training.run import Run

CLI = [sys.executable, "-m", "separatrix.cli"]


def table(path: Path, rows: int = 200) -> Path:
    """Two columns far from 0 and of unlike scales: y = 1000 + 50 x, x = 3 + noise/10."""
    x = 3.0 + 0.1 * np.random.default_rng(0).standard_normal(rows)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["x", "y", "name"])
        out.writerows([[a, 1000 + 50 * a, f"row {i}"] for i, a in enumerate(x)])
    return path


def pictures(folder: Path, count: int = 30) -> Path:
    """Dark and light squares of 4 x 4 pixels, a folder a class."""
    from separatrix.data import png_bytes

    for name, level in (("dark", 30), ("light", 220)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            picture = np.full((4, 4), level, np.uint8) + np.random.default_rng(i).integers(0, 9, (4, 4), np.uint8)
            (folder / name / f"{i:02d}.png").write_bytes(png_bytes(picture))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan")
    recipe = Adversarial(
        data=table(folder / "t.csv"), drop=("name",), steps=300, width=24, latent=2, learning_rate=3e-3
    )
    return train(recipe, folder / "run")


@pytest.mark.slow
def test_what_is_drawn_is_in_the_numbers_of_the_table(run):
    recipe, model = recipe_of(run), model_in(run)
    assert recipe.shape == (2,) and [column.name for column in recipe.columns] == ["x", "y"]
    drawn = carry_out(recipe, "sample", model, words=[("count", "500"), ("seed", "3")])["columns"]
    x, y = np.asarray(drawn["x"]), np.asarray(drawn["y"])
    # The networks see centred columns of deviation 1; what they draw of them is put back by mean and deviation.
    game = sx.games.GAN(2, classes=None)
    centred = np.asarray(game.sample(model[2], jax.random.key(3), 500), float)
    rows = np.loadtxt(run.path.parent / "t.csv", delimiter=",", skiprows=1, usecols=(0, 1))
    # The networks are of float32, in units of the deviation.
    np.testing.assert_allclose(x, centred[:, 0] * rows[:, 0].std() + rows[:, 0].mean(), atol=1e-5 * rows[:, 0].std())
    np.testing.assert_allclose(y, centred[:, 1] * rows[:, 1].std() + rows[:, 1].mean(), atol=1e-5 * rows[:, 1].std())
    found = results_of(run)
    assert found["test"]["spread"]["of"] == 40 and found["pictures"][0]["kind"] == "cloud"
    # It is the generator's average that is drawn from.
    assert any(
        bool((a != b).any())
        for a, b in zip(jax.tree.leaves(model[0]), jax.tree.leaves(model[2]), strict=True)
        if hasattr(a, "dtype")
    )


@pytest.mark.slow
def test_diagnose_of_the_run_reads_its_update(run):
    system, state, key = recipe_of(run).diagnose(model_in(run))
    told = sx.diagnose(system, state, questions=[], key=key)
    assert not told.unanswered
    names = " ".join(finding.name for finding in told.findings)
    assert "largest multiplier of the running update (" in names and "variance of the samples" in names


@pytest.mark.slow
def test_other_data_stop_a_run(run):
    path = run.path.parent / "t.csv"
    table(path, 199)
    try:
        with pytest.raises(ValueError, match="with which the run began"):
            recipe_of(run).task()
    finally:
        table(path)


REFUSED = {
    "words": ({"drop": ()}, r"column 'name'.*--drop name"),
    "no columns": ({"drop": ("x", "y", "name")}, "no column"),
    "a penalty below 0": ({"penalty": -1.0}, "gan: penalty\n  got -1.0"),
    "an average of 1": ({"average": 1.0}, "gan: average\n  got 1.0"),
    "no noise": ({"latent": 0}, "gan: latent\n  got 0"),
    "patience": ({"patience": 3}, "gan: patience\n  got 3"),
    "all held out": ({"held_out": 0.999}, "0 examples to train on"),
    "classes of a table": ({"by_class": True}, "by_class"),
    "a size of a table": ({"size": 8}, "no such option for a table"),
    "a file that is none": ({"data": Path("points.doc")}, "points.doc"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_words(name, tmp_path):
    given, words = REFUSED[name]
    fields = {"data": table(tmp_path / "t.csv", 20), "drop": ("name",)} | given
    with pytest.raises(ValueError, match=f"(?s){words}"):
        Adversarial(**fields).settled()


def test_pictures_are_drawn_by_class(tmp_path):
    recipe = Adversarial(data=pictures(tmp_path / "p"), by_class=True, steps=2, width=8).settled()
    assert (recipe.shape, recipe.classes) == ((4, 4), ("dark", "light"))
    model = recipe.model(jax.random.key(0))
    drawn = recipe.sample(model, count=3, class_="light")["pictures"]
    assert drawn.shape == (3, 4, 4) and 0 <= drawn.min() <= drawn.max() <= 1
    with pytest.raises(ValueError, match="'grey', expected one of dark, light"):
        recipe.sample(model, class_="grey")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="(?s)empty.*a folder without pictures"):
        Adversarial(data=tmp_path / "empty").settled()


def test_pictures_of_mixed_size_are_refused_until_a_size_is_given(tmp_path):
    from separatrix.data import png_bytes

    folder = pictures(tmp_path / "p", 4)
    (folder / "dark" / "wide.png").write_bytes(png_bytes(np.zeros((4, 6), np.uint8)))
    with pytest.raises(ValueError, match=r"(?s)wide\.png.*size"):
        Adversarial(data=folder).settled()
    assert Adversarial(data=folder, size=4).settled().shape == (4, 4)


def command(words: list[str], folder: Path) -> str:
    done = subprocess.run([*CLI, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_gan_that_was_killed_ends_as_one_that_was_not(tmp_path):
    table(tmp_path / "t.csv")
    words = ["train", "gan", "--data", "t.csv", "--drop", "name", "--steps", "20000", "--width", "32"]
    process = subprocess.Popen([*CLI, *words, "--out", "cut"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 200
    while not list((tmp_path / "cut").glob("checkpoints/*.safetensors")) and time.monotonic() < until:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert 0 < json.loads(command(["show", "cut", "--json"], tmp_path))["checkpoints"][-1] < 20_000
    command(["resume", "cut"], tmp_path)
    command([*words, "--out", "whole"], tmp_path)
    cut, whole = (jax.tree.leaves(Run.open(tmp_path / name).latest().tree["model"]) for name in ("cut", "whole"))
    assert [np.asarray(leaf).tobytes() for leaf in cut] == [np.asarray(leaf).tobytes() for leaf in whole]
    assert "x" in command(["sample", "whole", "--count", "5"], tmp_path)
    assert "running update" in command(["diagnose", "whole"], tmp_path)
