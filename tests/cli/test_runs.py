"""Misuse of the commands about runs: one message, with the nearest name, before anything is compiled."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from separatrix.cli import commands, main, runs
from separatrix.cli.fields import as_settings
from separatrix.training.recipes import identity, read_recipe

COMMANDS = ["train", "resume", "show", "predict", "forecast", "sample", "export"]
CSV = "x,colour,y,z\n" + "\n".join(f"{i},{'red' if i % 2 else 'blue'},{i % 3},{0.1 * i}" for i in range(30)) + "\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (commands, runs):
        monkeypatch.setattr(module, "compute", lambda: None)
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text(CSV)
    Path("short.csv").write_text("x,y\n1,0\n2,1\n")
    Path("same.csv").write_text("x,y\n" + "1,5\n" * 20)
    Path("words.csv").write_text("x,y\n" + "1,a\n2,b\n" * 10)
    Path("gaps.csv").write_text("t,x\n" + "\n".join(f"{i},{'' if i == 5 else i}" for i in range(20)))
    Path("back.csv").write_text("t,x\n" + "\n".join(f"{20 - i},{i}" for i in range(20)))
    Path("ragged.csv").write_text("x,y\n1,2\n3\n")
    Path("few.txt").write_text("abc")
    Path("bad.txt").write_bytes(b"abc\xff")
    Path("loose.toml").write_text('recipe = "classifier"\nwidht = 3\n')
    Path("other.toml").write_text('recipe = "law"\n')
    Path("broken.toml").write_text("width = \n")
    Path("pictures").mkdir()
    Path("pictures/a.txt").write_text("no picture")
    Path("empty").mkdir()


C = ["train", "classifier", "--data", "x.csv"]
R = ["train", "regressor", "--data", "x.csv"]
REFUSED = {
    "no recipe": (["train"], 2, ["RECIPE"]),
    "another recipe": (["train", "clasifier", "--data", "x.csv"], 2, ["got 'clasifier'", "Did you mean 'classifier'?"]),
    "no data": (["train", "classifier"], 2, ["train: --data", "got nothing", "--data FILE"]),
    "no such file": (["train", "classifier", "--data", "no.csv"], 4, ["got nothing at no.csv"]),
    "no such set": (["train", "classifier", "--data", "digit"], 4, ["got 'digit'", "Did you mean 'digits'?"]),
    "another option": ([*C, "--target", "y", "--widht", "3"], 2, ["train: --widht", "Did you mean 'width'?"]),
    "another own option": ([*C, "--traget", "y"], 2, ["train: --traget", "Did you mean 'target'?"]),
    "a wrong value": ([*C, "--target", "y", "--width", "wide"], 2, ["classifier: width\n  got 'wide', expected a whole"]),
    "a width of 0": ([*C, "--target", "y", "--width", "0"], 2, ["classifier: width\n  got 0, expected at least 1"]),
    "no epochs": ([*C, "--target", "y", "--epochs", "0"], 2, ["classifier: epochs\n  got 0"]),
    "steps and epochs": ([*C, "--target", "y", "--epochs", "1", "--steps", "1"], 2, ["got steps and epochs"]),
    "a rate that is not finite": ([*C, "--target", "y", "--learning-rate", "nan"], 2, ["got nan, expected a finite"]),
    "a rate below 0": ([*C, "--target", "y", "--learning-rate", "-1"], 2, ["learning_rate\n  got -1.0"]),
    "a setting without a value": ([*C, "--set", "width"], 2, ["train: --set\n  got 'width', expected name=value"]),
    "fractions": ([*C, "--target", "y", "--set", "fractions=[0.5, 0.1, 0.1]"], 2, ["three numbers from 0 to 1 that add"]),
    "no target": (C, 2, ["got no column to predict, expected one of x, colour, y, z.", "--target z"]),
    "another target": ([*C, "--target", "colour_"], 2, ["got 'colour_'", "Did you mean 'colour'?"]),
    "another column to drop": ([*C, "--target", "y", "--drop", "xx"], 2, ["got 'xx'"]),
    "a target that is a number": ([*C, "--target", "z"], 2, ["30 different values", "Train a regressor"]),
    "a target that is words": ([*R, "--target", "colour"], 2, ["got words such as 'blue'", "Train a classifier"]),
    "a target of one number": (["train", "regressor", "--data", "same.csv", "--target", "y"], 2, ["in every training"]),
    "a target of one class": (["train", "classifier", "--data", "same.csv", "--target", "y"], 2, ["got only 5"]),
    "too few rows": (["train", "classifier", "--data", "short.csv", "--target", "y"], 2, ["no row of 2"]),
    "a ragged file": (["train", "classifier", "--data", "ragged.csv", "--target", "y"], 2, ["ragged.csv: line 3"]),
    "a size for a table": ([*C, "--target", "y", "--size", "8"], 2, ["size\n  got 8, expected no such option for a table"]),
    "a text for a table": (["train", "classifier", "--data", "few.txt", "--target", "y"], 2, ["suffix '.txt'"]),
    "no pictures": (["train", "classifier", "--data", "empty"], 2, ["got a folder without pictures", "pictures/cat"]),
    "what is no picture": (["train", "classifier", "--data", "pictures"], 2, ["got a folder without pictures"]),
    "pictures for a regressor": (["train", "regressor", "--data", "digits"], 2, ["Train a classifier on pictures"]),
    "a target for pictures": (["train", "classifier", "--data", "digits", "--target", "y"], 2, ["no such option for"]),
    "a table for a text": (["train", "language", "--data", "x.csv"], 2, ["suffix '.csv', expected a text"]),
    "a short text": (["train", "language", "--data", "few.txt"], 2, ["3 characters, of which 90% are for training"]),
    "a text that is none": (["train", "language", "--data", "bad.txt"], 2, ["bad.txt: line 1", "which is not UTF-8"]),
    "another cell": (["train", "language", "--data", "few.txt", "--cell", "gruu"], 2, ["Did you mean 'gru'?"]),
    "a target for a text": (["train", "language", "--data", "few.txt", "--target", "y"], 2, ["got an unknown option"]),
    "a text for a law": (["train", "law", "--data", "few.txt"], 2, ["suffix '.txt', expected a series"]),
    "a gap in a series": (["train", "law", "--data", "gaps.csv"], 2, ["a gap in row 6"]),
    "times that fall": (["train", "law", "--data", "back.csv"], 2, ["column 't', row 2"]),
    "another column of times": (["train", "law", "--data", "lynx-hare", "--times", "yaer"], 2, ["Did you mean 'year'?"]),
    "a degree of 9": (["train", "law", "--data", "lynx-hare", "--degree", "9"], 2, ["law: degree\n  got 9, expected 1 to"]),
    "an unknown key of a spec": ([*C, "--spec", "loose.toml"], 2, ["--widht", "Did you mean 'width'?"]),
    "a spec of another recipe": ([*C, "--spec", "other.toml"], 2, ["got 'law', expected 'classifier'"]),
    "a spec that is no TOML": ([*C, "--spec", "broken.toml"], 2, ["broken.toml", "a TOML file"]),
    "a folder that is not empty": ([*C, "--target", "y", "--out", "pictures"], 2, ["a folder that holds 'a.txt'"]),
    "a run that is none": (["resume", "empty"], 2, ["run empty\n  got a folder without run.json"]),
    "a run that is a file": (["show", "x.csv"], 2, ["run x.csv\n  got a file"]),
    "a run that is not there": (["predict", "no", "--data", "x.csv"], 2, ["run no\n  got nothing there"]),
    "nothing to predict": (["predict", "empty"], 2, ["--data"]),
    "a sample of no run": (["sample", "empty"], 2, ["run empty"]),
    "an export of no run": (["export", "empty"], 2, ["run empty"]),
    "a diagnosis of no run": (["diagnose", "empty"], 2, ["got 'empty'"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_misuse_is_one_message_of_three_lines(fault: str, capsys: pytest.CaptureFixture) -> None:
    words, code, said = REFUSED[fault]
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    assert captured.err.startswith("separatrix: ") and len(captured.err.splitlines()) <= 3
    for part in said:
        assert part in captured.err
    assert not list(Path().glob("runs/*"))  # nothing was begun


def test_a_spec_that_is_printed_is_the_recipe(capsys: pytest.CaptureFixture) -> None:
    words = [*C, "--target", "y", "--width", "7", "--drop", "z", "--drop", "colour", "--print-spec"]
    assert main(words) == 0
    Path("spec.toml").write_text(capsys.readouterr().out)
    recipe = read_recipe("spec.toml")
    assert (recipe.width, recipe.drop, recipe.target) == (7, ("z", "colour"), "y")
    assert main(["train", "classifier", "--spec", "spec.toml", "--width", "8", "--print-spec", "--json"]) == 0
    Path("spec.toml").write_text(json.loads(capsys.readouterr().out)["spec"])
    other = read_recipe("spec.toml")
    assert other.width == 8 and identity(other) != identity(recipe)


@pytest.mark.parametrize("recipe", list(runs.RECIPES))
def test_every_field_of_a_recipe_says_what_it_means(recipe: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["train", recipe, "--print-spec"]) == 0
    said = capsys.readouterr().out
    fields = [line for line in said.splitlines() if re.match(r"(# )?\w+ =", line)]
    assert f'recipe = "{recipe}"' in fields and len(fields) > 10
    lines = said.splitlines()
    for i, line in enumerate(lines):
        if re.match(r"(# )?\w+ =", line) and not line.startswith("recipe"):
            assert lines[i - 1].startswith("# "), line


def test_options_of_a_recipe_become_settings_and_values_stay_as_they_are() -> None:
    own = {"data", "out", "json", "set"}
    words = ["law", "--data", "-x.csv", "--degree", "3", "--json", "--values=a", "--threshold", "-1", "--set", "a=b"]
    assert as_settings(words, own) == [
        "law", "--data", "-x.csv", "--set=degree=3", "--json", "--set=values=a", "--set=threshold=-1", "--set", "a=b",
    ]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_there_without_jax(command: str) -> None:
    code = (
        f"import sys; from separatrix.cli import main; assert main([{command!r}, '--help']) == 0;"
        "assert not {'jax', 'matplotlib', 'equinox'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"usage: separatrix {command} ") and "--json" in done.stdout
