"""`separatrix diagnose` on a system of the user's own: what is asked is answered, and what the user's code does is told
as the user's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from separatrix.cli import commands, main

HEAD = "import jax.numpy as jnp\nimport separatrix as sx\n"
SYSTEM = HEAD + "system = (sx.as_map(lambda x: 0.5 * x), jnp.ones(2))\n"
QUESTIONS = ["linear_stability", "field_split"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a module into the current folder and give its name; no two tests share one."""
    monkeypatch.setattr(commands, "compute", lambda: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"own_{tmp_path.name}".replace("-", "_")

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        return name

    yield write
    sys.modules.pop(name, None)


class TestQuestions:
    @pytest.fixture(autouse=True)
    def _asked(self, monkeypatch: pytest.MonkeyPatch, module) -> None:
        """Keep what `diagnose` is asked, in its place."""
        self.asked, self.name = [], module(SYSTEM)

        class Found:
            verdict, exit_code = "sound", 0

            def to_dict(self) -> dict:
                return {}

        def diagnose(system: object, state: object, *, questions: object, key: object) -> Found:
            self.asked.append(questions)
            return Found()

        monkeypatch.setattr("separatrix.diagnose", diagnose, raising=False)

    @pytest.mark.parametrize(
        "words",
        [
            ["{}", "--question", QUESTIONS[0], "--question", QUESTIONS[1]],
            ["{}", "--question", *QUESTIONS],
            ["--question", *QUESTIONS, "{}"],
            ["--question", QUESTIONS[0], "{}", "--question", QUESTIONS[1]],
            ["{}", f"--question={QUESTIONS[0]}", f"--question={QUESTIONS[1]}", "--json"],
            ["--json", "{}", "--question", *QUESTIONS, QUESTIONS[0]],
            ["--no-debug", "--question", QUESTIONS[0], "--question", QUESTIONS[1], "{}"],
        ],
    )
    def test_all_that_are_asked_are_asked(self, words: list[str]) -> None:
        assert main(["diagnose", *[word.format(f"{self.name}:system") for word in words]]) == 0
        assert self.asked == [QUESTIONS]

    def test_none_means_those_that_apply(self) -> None:
        assert main(["diagnose", f"{self.name}:system"]) == 0
        assert self.asked == [None]


NEAR = [
    (["diagnose", "lorentz"], "Did you mean 'lorenz'?"),
    (["diagnose", "henon", "--question", "linear-stabilty"], "Did you mean 'linear_stability'?"),
    (["tour", "--only", "game"], "Did you mean 'games'?"),
    (["data", "show", "fashion_mist"], "Did you mean 'fashion-mnist'?"),
    (["data", "shw", "digits"], "Did you mean: separatrix data show?"),
]


@pytest.mark.parametrize(("words", "said"), NEAR)
def test_a_name_that_is_nearly_one_is_met_with_it(
    words: list[str], said: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "compute", lambda: None)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 3


# What the module holds, what is named in it, what must be said. The line is counted after HEAD's two.
THEIRS = {
    "an error at import": ("\n1 / 0\n", "system", ["ZeroDivisionError: division by zero", "line 4"]),
    "an error deeper in": ("def f():\n    return {}['a']\nf()\n", "system", ["KeyError: 'a'", "line 4"]),
    "a syntax error": ("def f(:\n", "system", ["SyntaxError: invalid syntax", "line 3"]),
    "a module that is missing": ("import no_such_module\n", "system", ["No module named 'no_such_module'", "line 3"]),
    "an exit at import": ("import sys\nsys.exit(0)\n", "system", ["SystemExit: 0", "line 4", "leave the program"]),
    "an exit without a code": ("exit()\n", "system", ["SystemExit", "line 3"]),
    "an interrupt of its own": ("raise KeyboardInterrupt\n", "system", ["KeyboardInterrupt", "line 3"]),
    "another end": ("class E(BaseException): ...\nraise E('so')\n", "system", ["E: so", "line 4"]),
    "an error of ours in its call": ("sx.as_map(3)\n", "system", ["line 3"]),
    "an error whose text fails": (
        "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E\n", "system", ["E", "line 5"],
    ),
    "an error in its function": ("def system():\n    raise OSError(28, 'full')\n", "system", ["OSError", "line 4"]),
    "an exit in its function": ("def system():\n    raise SystemExit\n", "system", ["SystemExit", "line 4"]),
    "an error in its step": (
        "def step(x):\n    return x + [][0]\nsystem = (sx.as_map(step), jnp.ones(2))\n", "system", ["IndexError", "line 4"],
    ),
    "an error in what its step calls": (
        "def step(x):\n    return x.nothing\nsystem = (sx.as_map(step), jnp.ones(2))\n",
        "system",
        ["AttributeError", "line 4"],
    ),
    "an exit in its step": (
        "import sys\ndef step(x):\n    sys.exit(0)\nsystem = (sx.as_map(step), jnp.ones(2))\n",
        "system",
        ["SystemExit: 0", "line 5"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", THEIRS)
def test_what_the_users_code_raises_is_the_users(fault: str, module, capsys: pytest.CaptureFixture) -> None:
    text, name, said = THEIRS[fault]
    own = module(HEAD + text)
    assert main(["diagnose", f"{own}:{name}", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"separatrix: diagnose: {own}:{name}\n")
    for part in [f"{own}.py, ", *said]:
        assert part in captured.err
    for part in ("fault of ours", "Traceback", "pip install"):
        assert part not in captured.err
    assert len(captured.err.splitlines()) == 3
    main(["diagnose", f"{own}:{name}", "--debug"])
    assert "Traceback" in capsys.readouterr().err


NOT_A_SYSTEM = {
    "nothing of the name": ("", "sistem", ["got 'sistem'", "Did you mean 'system'?"]),
    "nothing like the name": ("", "zzz", ["got 'zzz'", "expected a name of"]),
    "none": ("x = None\n", "x", ["got a NoneType", "a pair (system, state)", "x = (system, state)"]),
    "a number": ("x = 3\n", "x", ["got a int"]),
    "a triple": ("x = (1, 2, 3)\n", "x", ["got a tuple"]),
    "a system alone": ("x = sx.as_map(lambda x: x)\n", "x", ["a system without a state"]),
    "a plain function": ("def x(t, y): return y\n", "x", ["cannot be called without arguments", "sx.as_flow"]),
}


@pytest.mark.parametrize("fault", NOT_A_SYSTEM)
def test_a_name_that_is_no_system_is_told(fault: str, module, capsys: pytest.CaptureFixture) -> None:
    text, name, said = NOT_A_SYSTEM[fault]
    own = module(SYSTEM + text)
    assert main(["diagnose", f"{own}:{name}"]) == 2
    error = capsys.readouterr().err
    for part in said:
        assert part in error
    assert len(error.splitlines()) == 3


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("no_such:system", ["no module 'no_such'", "a module that can be imported"]),
        ("mine.py:system", ["'mine.py'", "Write mine:NAME"]),
        ("./mine:system", ["'./mine'", "Write mine:NAME"]),
        (":system", ["''", "Write MODULE:NAME"]),
        (".mine:system", ["'.mine'", "the name of a module"]),
    ],
)
def test_a_module_that_is_none_is_told(word: str, said: list[str], module, capsys: pytest.CaptureFixture) -> None:
    module("")
    assert main(["diagnose", word]) == 2
    error = capsys.readouterr().err
    for part in said:
        assert part in error


LOUD = """
import atexit, os, subprocess, sys
print("at import")
os.write(1, b"below Python\\n")
subprocess.run(["echo", "a program"])
atexit.register(print, "at the end")
import separatrix as sx, jax.numpy as jnp
def step(x):
    print("in the step")
    return 0.5 * x
def build():
    print("in the function")
    sys.stdout = sys.__stdout__
    return sx.as_map(step), jnp.ones(1)
"""


def test_what_the_users_code_prints_does_not_break_the_answer(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    words = ["diagnose", "loud:build", "--question", "linear_stability", "--json"]
    run = [sys.executable, "-c", "import sys; from separatrix.cli import main; sys.exit(main())", *words]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert list(json.loads(done.stdout)["answers"]) == ["linear_stability"]
    for line in ("at import", "below Python", "a program", "in the function", "in the step", "at the end"):
        assert line in done.stderr
