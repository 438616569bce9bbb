"""`separatrix sweep`, `show` of a sweep, `--tracker` and `launch`: the words, and what is refused before anything runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from separatrix.cli import commands, main, runs, sweeps

MODULE = """
import sweep_trials

def trial(learning_rate, momentum=0.0):
    return sweep_trials.descend(learning_rate, momentum)

def fails(learning_rate):
    raise RuntimeError("no such trial")

number = 3
"""
GOOD = """
[space]
learning_rate = { low = 0.9, high = 5.0, count = 6, log = true }
momentum = [0.0, 0.6]
"""
SPECS = {
    "good.toml": GOOD,
    "unknown.toml": "[spaec]\nx = [1]\n",
    "empty.toml": "[space]\n",
    "infinite.toml": "[space]\nlearning_rate = [1.0, inf]\n",
    "range.toml": "[space]\nlearning_rate = { low = 1.0, hihg = 2.0 }\n",
    "open.toml": "[space]\nlearning_rate = { low = 1.0, high = 2.0 }\n",
    "other.toml": "[space]\nlearning_rte = [1.0]\n",
    "word.toml": 'trials = "many"\n[space]\nlearning_rate = [1.0]\n',
    "recipe.toml": 'recipe = "clasifier"\n[space]\nwidth = [1]\n',
    "field.toml": 'recipe = "regressor"\n[fixed]\ndata = "x.csv"\n[space]\nwidht = [1]\n',
    "broken.toml": "[space\n",
    "fails.toml": "[space]\nlearning_rate = [1.0]\n",
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    for module in (commands, runs, sweeps):
        monkeypatch.setattr(module, "compute", lambda: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("my_trials.py").write_text(MODULE)
    Path("x.csv").write_text("x,y\n1,0\n2,1\n")
    for name, text in SPECS.items():
        Path(name).write_text(text)
    Path("nothing").mkdir()


F = ["--function", "my_trials:trial"]
REFUSED = {
    "no spec": (["sweep"], ["SPEC"]),
    "no such spec": (["sweep", "no.toml", *F], ["expected a file to read"]),
    "no TOML": (["sweep", "broken.toml", *F], ["expected a TOML file"]),
    "an unknown key": (["sweep", "unknown.toml", *F], ["got 'spaec'", "Did you mean 'space'?"]),
    "no axis": (["sweep", "empty.toml", *F], ["got no axis"]),
    "an infinite space": (["sweep", "infinite.toml", *F], ["learning_rate[1]", "got inf"]),
    "an unknown word of a range": (["sweep", "range.toml", *F], ["got 'hihg'", "Did you mean 'high'?"]),
    "a range without a count": (["sweep", "open.toml", *F], ["expected how many trials"]),
    "no such argument": (["sweep", "other.toml", *F], ["got 'learning_rte'", "Did you mean 'learning_rate'?"]),
    "a text for a count": (["sweep", "word.toml", *F], ["got 'many', expected a whole number"]),
    "no function": (["sweep", "good.toml"], ["expected the function of a trial"]),
    "no such function": (["sweep", "good.toml", "--function", "my_trials:trail"], ["Did you mean 'trial'?"]),
    "no such module": (["sweep", "good.toml", "--function", "mytrials:trial"], ["no module 'mytrials'"]),
    "no module": (["sweep", "good.toml", "--function", "trial"], ["expected MODULE:NAME"]),
    "what is no function": (["sweep", "good.toml", "--function", "my_trials:number"], ["got 'number'"]),
    "no such recipe": (["sweep", "recipe.toml"], ["got 'clasifier'"]),
    "no such field": (["sweep", "field.toml"], ["got 'widht'", "Did you mean 'width'?"]),
    "a recipe and a function": (["sweep", "field.toml", *F], ["got a function and a recipe"]),
    "a folder of something else": (["sweep", "good.toml", *F, "--out", "."], ["a folder that holds something else"]),
    "axes of a run": (["show", "nothing", "--axes", "x"], ["no such option for a run"]),
    "another tracker": (["train", "regressor", "--data", "x.csv", "--tracker", "tensorbord:x"], ["got 'tensorbord'"]),
    "launch nothing": (["launch", "-n", "2"], ["got no command"]),
    "launch no process": (["launch", "-n", "0", "version"], ["got 0, expected at least 1"]),
    "launch without a folder": (["launch", "-n", "2", "train", "regressor"], ["got no folder, expected --out"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_three_lines(name, capsys):
    words, told = REFUSED[name]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in told) and said.count("\n") <= 3, said
    assert not Path("sweeps").exists()


def test_a_sweep_from_a_file_is_shown_with_its_separatrix_and_goes_on(capsys):
    assert main(["sweep", "good.toml", *F, "--html", "page.html", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = {name: np.array(values, object) for name, values in found["table"].items()}
    stable = table["learning_rate"] < 2 * (1 + table["momentum"])
    broken = table["outcome"] == "non_finite"
    # 300 steps overflow float32 where the larger root is past 1.35: none that is stable, and all well past the edge.
    assert not (broken & stable).any() and broken[table["learning_rate"] > 1.15 * 2 * (1 + table["momentum"])].all()
    page = Path("page.html").read_text()
    assert "<svg" in page and "completed" in page
    assert main(["show", "sweeps/good"]) == 0
    told = capsys.readouterr().out
    assert "12 trials over learning_rate, momentum" in told and "least loss:" in told
    Path("sweeps/good/shards/00000.parquet").unlink()
    assert main(["show", "sweeps/good"]) == 0 and "go on: the same" in capsys.readouterr().out
    assert main(["sweep", "good.toml", *F]) == 0
    assert main(["show", "sweeps/good", "--axes", "momentm"]) == 2
    assert "Did you mean 'momentum'?" in capsys.readouterr().err


def test_a_sweep_none_of_which_succeeds_is_no_success(capsys):
    assert main(["sweep", "fails.toml", "--function", "my_trials:fails"]) == 1
    assert "trial 0 raised: RuntimeError: no such trial" in capsys.readouterr().out
