"""Run specs: defaults, then the file, then the words; what the command does not take is refused by name."""

from pathlib import Path

import pytest

from separatrix.cli import main
from separatrix.cli.commands import Tour
from separatrix.cli.parse import parse

SPEC = 'only = ["optimization", "games"]\nout = "from-spec"\njson = true\n'


def tour(folder: Path, content: str, *words: str) -> Tour:
    path = folder / "run.toml"
    path.write_text(content)
    return parse(["tour", "--spec", str(path), *words])


def test_the_file_goes_before_the_defaults(tmp_path: Path) -> None:
    command = tour(tmp_path, SPEC)
    assert (command.only, command.out, command.json) == (("optimization", "games"), Path("from-spec"), True)
    assert command.debug is Tour().debug


def test_the_words_go_before_the_file(tmp_path: Path) -> None:
    command = tour(tmp_path, SPEC, "--out", "from-words", "--no-json", "--only", "diffusion")
    assert (command.only, command.out, command.json) == (("diffusion",), Path("from-words"), False)


def test_the_file_is_named_in_one_word_too(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(SPEC)
    assert parse(["tour", f"--spec={path}"]).out == Path("from-spec")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('oot = "x"\n', ["key", "'oot'", "one of json, debug, only, out", "Did you mean 'out'?"]),
        ('spec = "other.toml"\n', ["key", "'spec'"]),
        ("out = \n", ["a TOML file", "line 1"]),
        ("out = nan\n", ["out", "nan", "a finite number"]),
        ("only = [1.0, inf]\n", ["only", "inf", "a finite number"]),
        ("[only]\na = 1\n", ["only", "{'a': 1}", "a list"]),
        ("out = 1979-05-27\n", ["out", "datetime.date", "Write it plainly"]),
    ],
)
def test_what_the_command_does_not_take_is_refused(tmp_path: Path, content: str, said: list[str]) -> None:
    with pytest.raises(ValueError) as refusal:
        tour(tmp_path, content)
    message = str(refusal.value)
    assert "run.toml" in message and len(message.splitlines()) <= 3
    for part in said:
        assert part in message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="a TOML file"):
        parse(["tour", "--spec", str(path)])


@pytest.mark.parametrize("value", ["--debug", "-x", "--out", "--", "a=b", "--json=true"])
def test_a_value_that_looks_like_an_option_is_a_value(tmp_path: Path, value: str) -> None:
    command = tour(tmp_path, f'out = "{value}"\nonly = ["{value}", "games"]\n')
    assert (command.out, command.only) == (Path(value), (value, "games"))
    assert (command.debug, command.json) == (False, False)


def test_words_take_the_place_of_a_list_and_are_added_to_each_other(tmp_path: Path) -> None:
    command = tour(tmp_path, 'only = ["a", "b"]\n', "--only", "c", "--only=d", "--only", "e", "f")
    assert command.only == ("c", "d", "e", "f")


def test_a_spec_may_ask_for_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    path = tmp_path / "run.toml"
    path.write_text("debug = true\nonly = ['nothing']\n")
    monkeypatch.setattr("separatrix.cli.commands.compute", lambda: None)
    assert main(["tour", "--spec", str(path)]) == 2
    assert "Traceback" in capsys.readouterr().err
