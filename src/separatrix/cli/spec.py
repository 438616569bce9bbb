"""Run specs: a TOML file of options, laid under those of the command line.

    defaults  <-  --spec FILE  <-  options given on the command line

A spec is turned into the words that say the same on the command line, so that both are checked by one parser. Keys
that the command does not have, tables too deep, and numbers that are not finite are refused by name.
"""

import dataclasses
import itertools
import math
import tomllib
from pathlib import Path
from typing import Any

from separatrix._errors import explain, unknown


def merge(command: type, words: list[str]) -> list[str]:
    """The words of the spec that `words` name, then `words` themselves: the last one wins.

    An option of several values can be given at once (`--only a b`) and again (`--only a --only b`); given in words, it
    takes the place of the spec's.
    """
    path = _path(words)
    words = repeated(command, words)
    if path is None:
        return words
    given = {word.partition("=")[0] for word in words}
    several = _several(command) & given
    return [word for word in spec_words(command, Path(path)) if word.partition("=")[0] not in several] + words


def repeated(command: type, words: list[str]) -> list[str]:
    """The words with every option of several values said once a value: `--only a b` as `--only=a --only=b`.

    If the command takes a name and none is there, the last of these values is the name.
    """
    parts = _parts(command, words)
    if _has_name(command) and not any(len(part) == 1 and not part[0].startswith("-") for part in parts):
        at = next((i for i, part in enumerate(parts) if part[0] in _several(command) and len(part) > 2), None)
        if at is not None:
            parts.insert(at + 1, [parts[at].pop()])
    found = []
    for flag, *values in parts:
        one_each = flag in _several(command) and values
        found += [f"{flag}={value}" for value in values] if one_each else [flag, *values]
    return found


def _parts(command: type, words: list[str]) -> list[list[str]]:
    """The words split into options, each with its values, and words alone."""
    truths = [field.name for field in dataclasses.fields(command) if isinstance(field.default, bool)]
    switches = {f"--{no}{_flag(name)[2:]}" for name in truths for no in ("", "no-")}
    parts, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        takes = len(rest) if word in _several(command) else 0 if word in switches or "=" in word else 1
        values = itertools.takewhile(lambda value: not value.startswith("-"), rest[:takes])
        parts.append([word, *(values if word.startswith("--") else ())])
        del rest[: len(parts[-1]) - 1]
    return parts


def _several(command: type) -> set[str]:
    """The options of a command that take several values."""
    return {_flag(field.name) for field in dataclasses.fields(command) if isinstance(field.default, tuple)}


def _has_name(command: type) -> bool:
    """Whether a command takes a word that is no option: the only fields without a default."""
    return any(field.default is dataclasses.MISSING for field in dataclasses.fields(command))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _path(words: list[str]) -> str | None:
    for word, after in itertools.pairwise([*words, None]):
        if word == "--spec":
            return after
        if word is not None and word.startswith("--spec="):
            return word.removeprefix("--spec=")
    return None


def spec_words(command: type, path: Path) -> list[str]:
    """The options in a TOML file as words of the command line.

    **Raises:** `ValueError` for a file that cannot be read, is no TOML, or holds what the command does not take.
    """
    known = [field.name for field in dataclasses.fields(command) if field.name != "spec"]
    words: list[str] = []
    for key, value in _read(path).items():
        name = key.replace("-", "_")
        if name not in known:
            raise ValueError(unknown(f"{path}: key", key, known, "Leave it out."))
        words += _words(f"{path}: {key}", _flag(name), value)
    return words


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        do = "Check the path."
        raise ValueError(explain(f"--spec {path}", error.strerror or str(error), "a file to read", do)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(explain(f"--spec {path}", str(error), "a TOML file", "Repair that place.")) from error


def _words(where: str, flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    values = value if isinstance(value, list) else [value]
    for item in values:
        if not isinstance(item, str | int | float) or isinstance(item, bool):
            raise ValueError(explain(where, repr(item), "text, a number, true, false, or a list", "Write it plainly."))
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(explain(where, item, "a finite number", "Repair the value."))
    return [f"{flag}={item}" for item in values]  # with the sign, so that no value is read as an option
