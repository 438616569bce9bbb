"""First uses, as a person has them: a file of their own, one command, killed in the middle, gone on with, and applied.

The model of a run that was killed and resumed is, bit for bit, that of one that was not.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import separatrix as sx
from separatrix.cli import commands, main, runs
from separatrix.training.run import Run

CLI = [sys.executable, "-m", "separatrix.cli"]


def table_with_gaps(folder: Path) -> list[str]:
    """scikit-learn's wines, a twentieth of four columns missing, the class in words."""
    sklearn = pytest.importorskip("sklearn.datasets")
    wine, rng = sklearn.load_wine(), np.random.default_rng(0)
    with open(folder / "wine.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow([*wine.feature_names, "kind"])
        for row, kind in zip(wine.data, wine.target, strict=True):
            gone = rng.random(len(row)) < np.where(np.arange(len(row)) < 4, 0.05, 0.0)
            out.writerow([*["" if g else value for g, value in zip(gone, row, strict=True)], wine.target_names[kind]])
    return ["classifier", "--data", "wine.csv", "--target", "kind"]


def folder_of_png(folder: Path) -> list[str]:
    """scikit-learn's digits as PNG files, a folder a class."""
    sklearn, image = pytest.importorskip("sklearn.datasets"), pytest.importorskip("PIL.Image")
    digits = sklearn.load_digits()
    for i, (picture, label) in enumerate(zip(digits.images[:600], digits.target[:600], strict=True)):
        (folder / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
        levels = (picture * 255 / 16).astype(np.uint8)
        image.fromarray(levels).save(folder / "digits" / str(label) / f"{i:04d}.png")
    return ["classifier", "--data", "digits-png", "--width", "16", "--learning-rate", "0.01"]


def text_file(folder: Path) -> list[str]:
    """A text of short words in a fixed order of their letters: less than 2 bits a character are possible."""
    rng = np.random.default_rng(0)
    words = ["the map ", "a flow ", "to rest ", "in time ", "and back "]
    (folder / "text.txt").write_text("".join(words[i] for i in rng.integers(0, len(words), 4_000)))
    return ["language", "--data", "text.txt", "--width", "32", "--length", "32"]


def run(words: list[str], folder: Path, code: int = 0) -> str:
    """Run a command to its end, and return what it said."""
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # convolutions need the compiler
    done = subprocess.run([*CLI, *words], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def stopped_in_the_middle(words: list[str], folder: Path, how: signal.Signals) -> int:
    """Start a command, send the signal once a checkpoint is there, and return its exit code."""
    path = folder / "cut"
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    process = subprocess.Popen([*CLI, *words, "--out", "cut"], cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 240
    while not list(path.glob("checkpoints/*.safetensors")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(how)
    process.communicate(timeout=60)
    return process.returncode


def tensors(path: Path) -> list[bytes]:
    """The arrays of the model at the end of a run, byte for byte."""
    import jax

    tree = Run.open(path).latest().tree
    return [
        np.asarray(leaf).tobytes() for name in ("model", "best") if name in tree for leaf in jax.tree.leaves(tree[name])
    ]


USES = {
    "a table with gaps": (
        table_with_gaps,
        ["--steps", "12000", "--watch", "0", "--save-every", "1000"],
        signal.SIGKILL,
    ),
    "a table, watched": (
        table_with_gaps,
        ["--steps", "9000", "--watch", "1000", "--save-every", "1000"],
        signal.SIGINT,
    ),
    "a text": (text_file, ["--steps", "600", "--save-every", "50"], signal.SIGKILL),
    "a text, averaged, on disk": (
        text_file,
        ["--steps", "600", "--average", "0.9", "--on-disk", "--save-every", "50"],
        signal.SIGKILL,
    ),
    "a series": (
        lambda folder: ["law", "--data", "lynx-hare"],
        ["--steps", "9000", "--watch", "0", "--save-every", "1000"],
        signal.SIGTERM,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(use: str, tmp_path: Path) -> None:
    make, length, how = USES[use]
    words = ["train", *make(tmp_path), *length]
    code = stopped_in_the_middle(words, tmp_path, how)
    assert code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[how]
    before = json.loads(run(["show", "cut", "--json"], tmp_path))
    assert before["status"] in ("killed", "interrupted") and before["resume"] == "separatrix resume cut"
    assert 0 < before["checkpoints"][-1] < int(length[1])
    run(["resume", "cut"], tmp_path)
    run([*words, "--out", "whole"], tmp_path)
    assert tensors(tmp_path / "cut") == tensors(tmp_path / "whole")
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("cut", "whole")]
    assert results[0] == results[1]


@pytest.mark.slow
def test_pictures_in_folders_become_a_classifier(tmp_path: Path) -> None:
    words = folder_of_png(tmp_path)
    (tmp_path / "digits").rename(tmp_path / "digits-png")
    answer = json.loads(run(["train", *words, "--epochs", "20", "--out", "run", "--json"], tmp_path))
    # 90 pictures test: a net that has learned them is right on more than four fifths, chance on a tenth.
    assert answer["test"]["accuracy"]["value"] > 0.8
    found = json.loads(run(["predict", "run", "--data", "digits-png/3", "--json"], tmp_path))["columns"]
    assert np.mean([name == "3" for name in found["class"]]) > 0.8
    run(["show", "run", "--html", "run.html"], tmp_path)
    page = (tmp_path / "run.html").read_text()
    assert "<svg" in page and "://" not in page.replace("http://www.w3.org", "")  # nothing to be fetched
    assert "Which class was taken for which" in page and "prefers-color-scheme: dark" in page


@pytest.mark.slow
def test_pictures_in_parts_and_in_a_table_go_through_all_commands(tmp_path: Path) -> None:
    """Digits as train, valid and test folders; and listed with their ink, which is the mean level of a picture."""
    words = folder_of_png(tmp_path)[3:]
    image = pytest.importorskip("PIL.Image")
    rows = [["file", "ink", "part"]]
    for number, file in enumerate(sorted((tmp_path / "digits").rglob("*.png"))):
        part = "test" if number % 5 == 0 else "valid" if number % 5 == 1 else "train"
        target = tmp_path / "parts" / part / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
        with image.open(file) as opened:
            rows.append([str(file.relative_to(tmp_path)), str(np.asarray(opened).mean()), part])
    with open(tmp_path / "ink.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    run(["train", "classifier", "--data", "parts", *words, "--epochs", "20", "--out", "by-file"], tmp_path)
    told = json.loads(run(["show", "by-file", "--json"], tmp_path))
    found = json.loads(run(["predict", "by-file", "--data", "parts/test", "--json"], tmp_path))
    assert found["numbers"] == told["results"]["test"]  # the part for testing is what lies in test
    # 120 pictures: chance is right on a tenth.
    assert found["numbers"]["accuracy"]["value"] > 0.8 and found["numbers"]["accuracy"]["of"] == 120
    listed = ["--data", "ink.csv", "--target", "ink", "--split", "part", *words, "--epochs", "20", "--out", "by-table"]
    answer = json.loads(run(["train", "regressor", *listed, "--json"], tmp_path))
    # The net ends in a mean over the picture, so that ink is within its reach.
    assert answer["test"]["r_squared"]["value"] > 0.8
    run(["predict", "by-table", "--data", "ink.csv", "--out", "said.csv"], tmp_path)
    with open(tmp_path / "said.csv", newline="") as file:
        said = [float(row["ink"]) for row in csv.DictReader(file)]
    assert np.corrcoef(said, [float(row[1]) for row in rows[1:]])[0, 1] > 0.9
    for name in ("by-file", "by-table"):
        run(["show", name, "--html", f"{name}.html"], tmp_path)
        assert "<svg" in (tmp_path / f"{name}.html").read_text()
        assert json.loads(run(["diagnose", name, "--json"], tmp_path))["findings"]


@pytest.fixture(scope="module")
def law(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the law of lynx and hare."""
    folder = tmp_path_factory.mktemp("law")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for module in (commands, runs):
            patch.setattr(module, "compute", lambda: None)
        assert main(["train", "law", "--data", "lynx-hare", "--steps", "200", "--json"]) == 0
    return folder


class TestLaw:
    """One recipe through all commands, in this process: the others differ in the recipe alone."""

    @pytest.fixture(autouse=True)
    def _quiet(self, monkeypatch: pytest.MonkeyPatch, law: Path) -> None:
        for module in (commands, runs):
            monkeypatch.setattr(module, "compute", lambda: None)
        monkeypatch.chdir(law)

    def test_it_finds_the_terms_of_lotka_and_volterra(self, capsys: pytest.CaptureFixture) -> None:
        """hare' = a hare - b hare lynx, lynx' = -c lynx + d hare lynx; rates to a fifth of those of another fit.

        Mahaffy, lecture notes on mathematical modelling (San Diego State University): a = 0.48, c = 0.93.
        """
        assert main(["show", "runs/law-1", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["status"] == "finished" and found["resume"] is None
        hare, lynx = found["results"]["text"]
        assert [word for word in hare.split() if word.isalpha()] == ["hare", "hare", "lynx"]
        assert [word for word in lynx.split() if word.isalpha()] == ["lynx", "hare", "lynx"]
        assert abs(float(hare.split()[2]) - 0.48) < 0.1 and abs(float(lynx.split()[2]) + 0.93) < 0.19

    def test_a_forecast_begins_where_the_series_ends(self, capsys: pytest.CaptureFixture) -> None:
        assert main(["forecast", "runs/law-1", "--steps", "3", "--out", "next.csv"]) == 0
        assert "written: next.csv" in capsys.readouterr().out
        with open("next.csv", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["time", "hare", "lynx"] and [float(row[0]) for row in rows[1:]] == [1921, 1922, 1923]
        from separatrix.training.recipes import model_in, recipe_of

        run = Run.open("runs/law-1")
        recipe, model = recipe_of(run), model_in(run)
        flow, state = recipe.diagnose(model)
        # The law itself, by an adaptive method in place of the recipe's fixed steps.
        path = sx.evolve(flow, state, times=np.array([0.0, 1.0]))
        np.testing.assert_allclose([float(cell) for cell in rows[1][1:]], path.states[-1], rtol=1e-3)

    def test_the_page_shows_the_law_over_the_data(self) -> None:
        assert main(["show", "runs/law-1", "--html", "law.html"]) == 0
        page = Path("law.html").read_text()
        for part in ("The law over the data", "hare&#x27; = ", "var(--colour-0)", "was not watched"):
            assert part in page
        assert "#000000" not in page and "://" not in page.replace("http://www.w3.org", "")

    def test_it_is_written_for_other_programs(self, capsys: pytest.CaptureFixture) -> None:
        assert main(["export", "runs/law-1", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["input"] == {"shape": ["batch", 2], "dtype": "float32"}
        assert "| test rms error |" in Path("runs/law-1/export/card.md").read_text()

    def test_what_a_recipe_cannot_do_is_said(self, capsys: pytest.CaptureFixture) -> None:
        assert main(["sample", "runs/law-1"]) == 2
        said = capsys.readouterr().err
        assert "a run of law, which cannot sample" in said and "this one can predict, forecast, diagnose" in said

    def test_a_run_is_not_begun_twice(self, capsys: pytest.CaptureFixture) -> None:
        assert main(["train", "law", "--data", "lynx-hare", "--out", "runs/law-1"]) == 2
        assert "a folder that holds a run" in capsys.readouterr().err
        assert main(["resume", "runs/law-1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == "finished"

    def test_a_run_that_diverges_says_so_with_its_own_exit_code(self, capsys: pytest.CaptureFixture) -> None:
        words = ["train", "law", "--data", "lynx-hare", "--steps", "200", "--learning-rate", "5", "--out", "gone"]
        assert main(words) == 3
        said = capsys.readouterr().err.splitlines()[-3:]
        assert said[0] == "separatrix: gone: training diverged" and "(it was 5)" in said[2]
        assert main(["diagnose", "gone"]) == 1
        assert "BROKEN: share of the losses that is finite" in capsys.readouterr().out

    def test_changed_data_stop_a_run(self, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text("t,x\n" + "\n".join(f"{i},{np.cos(i):.6f}" for i in range(12)))
        assert main(["train", "law", "--data", str(path), "--steps", "2", "--out", "own", "--degree", "1"]) == 0
        (Path("own") / "results.json").unlink()
        path.write_text(path.read_text().replace("11,", "11.0,-"))
        capsys.readouterr()
        assert main(["resume", "own"]) == 2
        assert "with which the run began" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
def test_follow_says_a_run_again_until_it_ends(tmp_path: Path) -> None:
    words = ["train", "law", "--data", "lynx-hare", "--steps", "6000", "--watch", "0", "--out", "run"]
    process = subprocess.Popen([*CLI, *words], cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.1)
    done = subprocess.run(
        [*CLI, "show", "run", "--follow", "--html", "run.html"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    process.wait(timeout=60)
    assert "step " in done.stderr and "law: finished at step 6000" in done.stdout
    assert 'http-equiv="refresh"' not in (tmp_path / "run.html").read_text()
