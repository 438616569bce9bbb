"""The front: what is said, where, and with which exit code. No case shows a traceback unless it is asked for."""

import errno
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import separatrix
from separatrix._errors import DataMissing, Diverged
from separatrix.cli import commands, main
from separatrix.cli.command import Answer

COMMANDS = ["tour", "doctor", "data list", "data show", "list", "version"]


@pytest.fixture
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """`compute` sets global flags for a process of its own: here it must not."""
    monkeypatch.setattr(commands, "compute", lambda: None)
    monkeypatch.delenv("SEPARATRIX_DATA", raising=False)


pytestmark = pytest.mark.usefixtures("_quiet")


class TestHelp:
    @pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
    def test_every_command_and_every_exit_code_is_listed(self, words: list[str], capsys: pytest.CaptureFixture) -> None:
        assert main(words) == 0
        said = capsys.readouterr().out
        for command in COMMANDS:
            assert f"\n  {command}  " in said
        for code in (0, 1, 2, 3, 4, 130, 143):
            assert re.search(rf"exit codes: .*\b{code} \w", said)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_says_its_options(self, command: str, capsys: pytest.CaptureFixture) -> None:
        assert main([*command.split(), "--help"]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"usage: separatrix {command} ")
        for option in ("--json", "--debug"):
            assert option in said

    def test_a_group_lists_its_own_commands(self, capsys: pytest.CaptureFixture) -> None:
        assert main(["data"]) == 0
        said = capsys.readouterr().out
        assert "data show" in said and "tour" not in said


class TestAnswers:
    @pytest.mark.parametrize("words", [["version"], ["--version"]])
    def test_version(self, words: list[str], capsys: pytest.CaptureFixture) -> None:
        assert main(words) == 0
        assert capsys.readouterr().out == f"separatrix {separatrix.__version__}\n"

    def test_json_is_the_whole_output(self, capsys: pytest.CaptureFixture) -> None:
        assert main(["version", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"separatrix": separatrix.__version__}

    def test_data_list_says_where_each_set_is(self, capsys: pytest.CaptureFixture) -> None:
        assert main(["data", "list", "--json"]) == 0
        found = {row["name"]: row["found"] for row in json.loads(capsys.readouterr().out)}
        assert set(found) == {
            "digits",
            "fashion-mnist",
            "genesis",
            "king-james",
            "lynx-hare",
            "santa-fe",
            "solar-system",
        }
        assert found["lynx-hare"].startswith("bundled: ")

    def test_data_show_prints_the_card(self, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
        assert main(["data", "show", "lynx-hare"]) == 0
        assert "MacLulich" in capsys.readouterr().out
        path = tmp_path / "x.csv"
        path.write_text("a,b\n1,2\n")
        assert main(["data", "show", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["shapes"] == {"inputs": [1, 2]}

    def test_doctor_names_versions_devices_data_and_cache(
        self, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        import jax

        (tmp_path / "jit_f-0123-cache").write_bytes(bytes(2**20))
        monkeypatch.setattr("separatrix.cli.doctor.compute", lambda: None)
        monkeypatch.setattr("separatrix.cli.doctor.cache_folder", lambda: tmp_path)
        assert main(["doctor", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["versions"]["jax"] == jax.__version__
        assert found["devices"][0]["platform"] == jax.devices()[0].platform
        assert found["cache"] == {"folder": str(tmp_path), "programs": 1, "bytes": 2**20}
        assert main(["doctor"]) == 0
        assert "1 programs, 1.0 MiB" in capsys.readouterr().out

    def test_doctor_says_how_to_install_what_is_not_there(
        self, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("separatrix.cli.doctor.compute", lambda: None)
        monkeypatch.setattr("separatrix.data.locate", lambda name: None)
        monkeypatch.setitem(importlib.import_module("separatrix.cli.doctor").OPTIONAL, "no-such-package", "plot")
        assert main(["doctor"]) == 0
        said = capsys.readouterr().out
        assert 'not installed: pip install "separatrix[plot]"' in said
        assert "not found: apt-get install dataset-fashion-mnist" in said


class TestTour:
    def _stand_in(self, monkeypatch: pytest.MonkeyPatch, ok: bool) -> list:
        """A tour that takes no time: its calls."""
        calls = []

        class Result:
            def __init__(self) -> None:
                self.ok, self.report = ok, Path("r.html")

            def to_dict(self) -> dict:
                return {"ok": ok}

        def run(**options: object) -> Result:
            calls.append(options)
            options["progress"]("chapter", "half-way")
            return Result()

        monkeypatch.setattr("separatrix.tour.run", run)
        return calls

    def test_options_arrive_and_progress_stays_off_standard_output(
        self, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = self._stand_in(monkeypatch, ok=True)
        assert main(["tour", "--only", "optimization", "--out", "there", "--json"]) == 0
        assert (calls[0]["only"], calls[0]["out"]) == (["optimization"], Path("there"))
        captured = capsys.readouterr()
        assert json.loads(captured.out) == {"ok": True}
        assert "chapter: half-way" in captured.err

    def test_a_failed_check_is_exit_code_one(
        self, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._stand_in(monkeypatch, ok=False)
        assert main(["tour"]) == 1
        assert "a number is not what it must be" in capsys.readouterr().out


REFUSED = {
    "no such command": (["tuor"], 2, ["got 'tuor'", "Did you mean: separatrix tour?"]),
    "no such command at all": (["xyzzy"], 2, ["expected one of train, resume, show", "Try: separatrix --help"]),
    "no such command of a group": (["data", "shwo"], 2, ["got 'data shwo'", "separatrix data show?"]),
    "no such option": (["tour", "--ot", "x"], 2, ["Unrecognized options: --ot", "Did you mean --out?"]),
    "an option without its value": (["tour", "--out"], 2, ["'--out'", "See: separatrix tour --help"]),
    "a word too many": (["version", "now"], 2, ["Unrecognized options: now"]),
    "no name": (["data", "show"], 2, ["NAME", "See: separatrix data show --help"]),
    "no such data set": (["data", "show", "digit"], 2, ["got 'digit'", "Did you mean 'digits'?"]),
    "no such file": (["data", "show", "no.csv"], 4, ["no file at no.csv"]),
    "no such spec": (["tour", "--spec", "no.toml"], 2, ["--spec no.toml", "Check the path"]),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_misuse_is_one_message_of_three_lines_on_standard_error(fault: str, capsys: pytest.CaptureFixture) -> None:
    words, code, said = REFUSED[fault]
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("separatrix: ") and len(captured.err.splitlines()) <= 3
    assert "Traceback" not in captured.err and not set("╭│╰─") & set(captured.err)
    for part in said:
        assert part in captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("a\nb\nc\nd"), 2),
        (TypeError("a"), 2),
        (PermissionError(13, "Permission denied", "out"), 2),
        (ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"), 2),
        (Diverged("a"), 3),
        (DataMissing("a"), 4),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a\nb"), 1),
        (ModuleNotFoundError("No module named 'separatrix.x'", name="separatrix.x"), 1),
    ],
)
def test_every_error_has_its_exit_code_and_its_traceback_only_when_asked(
    error: BaseException, code: int, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: commands.Version) -> Answer:
        raise error

    monkeypatch.setattr(commands.Version, "run", fail)
    assert main(["version"]) == code
    plain = capsys.readouterr().err
    assert "Traceback" not in plain and len(plain.splitlines()) <= 3
    assert main(["version", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_a_sign_that_the_terminal_cannot_show_is_replaced(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(commands.Version, "run", lambda self: Answer({}, "λ = 1"))
    with open(os.dup(1), "w", encoding="ascii") as narrow:
        monkeypatch.setattr(sys, "stdout", narrow)
        assert main(["version"]) == 0
    assert capfdbinary.readouterr().out == b"? = 1\n"


CLI = [sys.executable, "-m", "separatrix.cli"]


@pytest.mark.parametrize("words", [["--help"], ["version"], ["tour", "--help"], ["data", "list"]])
def test_what_computes_nothing_does_not_import_jax(words: list[str]) -> None:
    code = f"import sys; from separatrix.cli import main; assert main({words!r}) == 0; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_has_no_colours_under_no_color_and_in_a_pipe() -> None:
    for extra in ({}, {"NO_COLOR": "1"}):
        done = subprocess.run([*CLI, "tour", "--help"], env=os.environ | extra, capture_output=True, check=True)
        assert b"\x1b" not in done.stdout


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`separatrix data list | head -0`: the pipe is closed before anything is written."""
    source, sink = os.pipe()
    os.close(source)
    done = subprocess.run([*CLI, "version"], stdout=sink, stderr=subprocess.PIPE, check=False)
    os.close(sink)
    assert (done.returncode, done.stderr) == (0, b"")


def test_commands_that_compute_turn_on_float64_and_the_cache(tmp_path: Path) -> None:
    code = (
        "from separatrix.cli.climate import compute; compute(); import jax, jax.numpy as jnp;"
        "print(jnp.zeros(()).dtype, jax.config.jax_compilation_cache_dir)"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    env["XDG_CACHE_HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["float64", str(tmp_path / "separatrix" / "jax")]


FAULTS = {
    errno.ENOSPC: "The disk is full", errno.EDQUOT: "quota", errno.EROFS: "The disk is read-only",
    errno.EACCES: "permissions",
    errno.EPERM: "permissions", errno.EISDIR: "Name a file in it", errno.ENOTDIR: "A part of the path is a file",
    errno.ENAMETOOLONG: "shorter name", errno.ENOENT: "make its folder first", errno.EIO: "The disk failed",
    errno.EMFILE: "ulimit -n", errno.ELOOP: "links", errno.ECHILD: "Check the path and the disk",
}  # fmt: skip


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["out/report.html", None])
def test_an_error_of_the_system_says_what_to_do(
    number: int, name: str | None, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: commands.Version) -> Answer:
        raise OSError(number, os.strerror(number), name)

    monkeypatch.setattr(commands.Version, "run", fail)
    assert main(["version"]) == 2
    said = capsys.readouterr().err
    assert FAULTS[number] in said and (name or "a file") in said and os.strerror(number)[1:] in said
    assert "[Errno" not in said and len(said.splitlines()) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_answer_that_cannot_be_written_is_told() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*CLI, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "standard output" in done.stderr and "The disk is full" in done.stderr
    assert "Exception ignored" not in done.stderr and "Traceback" not in done.stderr


def test_data_show_takes_what_its_messages_advise(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a;b;c\n1;;red\n2;3;blue\n")
    for words, said in [
        ([], "Pass delimiter=';'"),
        (["--delimiter", ";"], "missing='drop'"),
        (["--delimiter", ";", "--missing", "keep"], "kinds='infer'"),
    ]:
        assert main(["data", "show", str(path), *words]) == 2
        assert said in capsys.readouterr().err
    words = ["--delimiter", ";", "--missing", "drop", "--kinds", "infer", "--targets", "c", "--columns", "a", "c"]
    assert main(["data", "show", str(path), *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shapes"] == {"inputs": [2, 1], "targets": [2]}


def test_a_warning_is_told_in_its_own_words(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from separatrix.cli import program

    def warned(words: list[str], debug: list[bool]) -> int:
        warnings.warn("went back to step 3", RuntimeWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(program, "_run", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["list"]) == 0
    assert capsys.readouterr().err == "separatrix: note: went back to step 3\n"
