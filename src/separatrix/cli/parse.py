"""From words to a command: which one is called, and its options by tyro.

The table of commands stands here without their classes, so that help is printed before anything else is imported.
"""

import contextlib
import importlib
import io
import sys
from typing import Any

from separatrix._errors import either, explain, nearest

# words -> (class in separatrix.cli.commands, what it does)
COMMANDS: dict[tuple[str, ...], tuple[str, str]] = {
    ("train",): ("Train", "train a model on a file of your own, by a recipe"),
    ("resume",): ("Resume", "go on with a run that was stopped or killed"),
    ("show",): ("Show", "tell how a run stands, and what to do about it"),
    ("sweep",): ("Sweep", "run a function or train a recipe at every point of a space"),
    ("predict",): ("Predict", "apply the model of a run to a file"),
    ("log-density",): ("LogDensity", "say how likely a model takes each row or picture of a file to be"),
    ("forecast",): ("Forecast", "go on with the series of a run"),
    ("sample",): ("Sample", "draw from the model of a run"),
    ("export",): ("Export", "write the model of a run for other programs"),
    ("launch",): ("Launch", "run a command in several processes that train one model"),
    ("tour",): ("Tour", "run the vignettes on real data into one report"),
    ("diagnose",): ("Diagnose", "ask a system, or a run, the questions that apply to it"),
    ("doctor",): ("Doctor", "tell what is installed, which devices and data sets are found"),
    ("data", "list"): ("DataList", "list the named data sets"),
    ("data", "show"): ("DataShow", "show the card of a data set"),
    ("list",): ("List", "list the catalogue of example systems"),
    ("version",): ("Version", "print the version"),
}
EXITS = "0 good, 1 a check failed, 2 usage or bad input, 3 diverged, 4 data missing, 130 interrupted, 143 terminated"


class Shown(Exception):
    """Help was asked for: its text."""


def overview(words: tuple[str, ...] = ()) -> str:
    """The commands that begin with `words`, each in a line."""
    chosen = {names: about for names, (_, about) in COMMANDS.items() if names[: len(words)] == words}
    width = max(len(" ".join(names)) for names in chosen)
    lines = [f"  {' '.join(names):<{width}}  {about}" for names, about in chosen.items()]
    usage = " ".join(["usage: separatrix", *words, "COMMAND [options]"])
    head = [usage, "", "The dynamical-systems layer for machine learning.", ""]
    tail = ["", "  separatrix COMMAND --help   options of one command", "", f"exit codes: {EXITS}"]
    return "\n".join([*head, *lines, *tail])


def parse(words: list[str]) -> Any:
    """The command that the words call.

    **Raises:** `Shown` where help is asked for; `ValueError` for words that are no command or no options.
    """
    names = _names(words)
    command = getattr(importlib.import_module("separatrix.cli.commands"), COMMANDS[names][0])
    return _options(command, " ".join(["separatrix", *names]), words[len(names) :])


def _names(words: list[str]) -> tuple[str, ...]:
    """The leading words that name a command."""
    if not words or words[0] in ("-h", "--help", "help"):
        raise Shown(overview())
    if words[0] == "--version":
        return _names(["version"])
    for length in (1, 2):
        if tuple(words[:length]) in COMMANDS:
            return tuple(words[:length])
    group = {names[:1] for names in COMMANDS if len(names) > 1}
    if tuple(words[:1]) in group and (len(words) == 1 or words[1] in ("-h", "--help")):
        raise Shown(overview(tuple(words[:1])))
    said = " ".join(words[:2] if tuple(words[:1]) in group else words[:1])
    known = [" ".join(names) for names in COMMANDS]
    close = [f"separatrix {name}" for name in nearest(said, known)]
    do = f"Did you mean: {either(close)}?" if close else "Try: separatrix --help"
    raise ValueError(explain("separatrix", repr(said[:80]), f"one of {', '.join(known)}", do))


def _options(command: type, program: str, words: list[str]) -> Any:
    import tyro

    from separatrix.cli.spec import merge

    asked = {"-h", "--help"} & set(words)
    prepared = getattr(command, "prepared", None)
    words = words if asked else merge(command, words) if prepared is None else prepared(words)
    encoding = (sys.stdout.encoding or "utf-8") if asked else "utf-8"  # tyro draws its frames with what there is
    said = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return tyro.cli(command, prog=program, args=words)
    except SystemExit as end:
        said.seek(0)
        if not end.code:
            raise Shown(said.read().rstrip()) from None
        raise ValueError(_complaint(program, said.read())) from None


def _complaint(program: str, box: str) -> str:
    """The first part of tyro's box, without its frame, as a message of at most three lines."""
    lines = [line.strip("│ \t") for line in box.splitlines()[1:-1]]
    first = next((i for i, line in enumerate(lines) if line and set(line) == {"─"}), len(lines))
    options = [line.split()[0].rstrip(",") for line in lines if line.startswith("--")]
    meant = options if "Perhaps you meant:" in lines else []
    what = " ".join(lines[:first]) or "these options cannot be read"
    do = f"Did you mean {meant[0]}? " if meant else ""
    return f"{program}\n  {what}\n  {do}See: {program} --help"


def print_error(message: str) -> None:
    """The first three lines of a message, on standard error; silently if there is none to write to."""
    with contextlib.suppress(OSError, ValueError):
        print("\n".join(f"separatrix: {message}".splitlines()[:3]), file=sys.stderr, flush=True)
