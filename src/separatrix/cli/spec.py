"""Run specs: a TOML file of options, laid under those of the command line.

    defaults  <-  --spec FILE  <-  options given on the command line

A spec is turned into the words that say the same on the command line, so that both are checked by one parser. Keys
that the command does not have, tables too deep, and numbers that are not finite are refused by name.
"""

import dataclasses
import difflib
import itertools
import math
import tomllib
from pathlib import Path
from typing import Any

from separatrix._errors import explain


def merge(command: type, words: list[str]) -> list[str]:
    """The words of the spec that `words` name, then `words` themselves: the last one wins."""
    path = _path(words)
    return words if path is None else [*spec_words(command, Path(path)), *words]


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
    words = []
    for key, value in _read(path).items():
        name = key.replace("-", "_")
        if name not in known:
            raise ValueError(explain(f"{path}: key", repr(key), f"one of {', '.join(known)}", _nearest(name, known)))
        words += _words(f"{path}: {key}", f"--{name.replace('_', '-')}", value)
    return words


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        do = "Check the path."
        raise ValueError(explain(f"--spec {path}", error.strerror or str(error), "a file to read", do)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(explain(f"--spec {path}", str(error), "a TOML file", "Repair that place.")) from error


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else "Leave it out."


def _words(where: str, flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    values = value if isinstance(value, list) else [value]
    for item in values:
        if not isinstance(item, str | int | float) or isinstance(item, bool):
            raise ValueError(explain(where, repr(item), "text, a number, true, false, or a list", "Write it plainly."))
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(explain(where, item, "a finite number", "Repair the value."))
    return [flag, *map(str, values)]
