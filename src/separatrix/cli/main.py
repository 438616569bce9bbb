"""The front: words in, exit code out. Every error ends here, as one message of at most three lines."""

import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from separatrix._errors import SeparatrixError
from separatrix.cli.parse import Shown, parse, print_error
from separatrix.cli.signals import Terminated, handled


def main(words: Sequence[str] | None = None) -> int:
    """Run a command.

    **Arguments:**

    - `words`: the words of the command line after `separatrix`; those of this process by default.

    **Returns:** the exit code.

    **Example:**

    >>> main(["version"])
    separatrix 0.1.0
    0
    """
    given = list(sys.argv[1:] if words is None else words)
    try:
        with handled():
            return _run(given)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (Exception, KeyboardInterrupt, Terminated) as error:
        if "--debug" in given:
            traceback.print_exc()
        code, message = judge(error)
        print_error(message)
        return code


def _run(words: list[str]) -> int:
    try:
        command = parse(words)
    except Shown as help:
        say(str(help))
        return 0
    answer = command.run()
    say(json.dumps(answer.data, indent=2) if command.json else answer.text)
    return 0 if answer.ok else 1


def say(text: str) -> None:
    """Print; a sign that the terminal cannot show becomes a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def judge(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an error."""
    match error:
        case KeyboardInterrupt():
            return 130, "interrupted; what was finished is kept"
        case Terminated():
            return 143, "terminated; what was finished is kept"
        case SeparatrixError():
            return error.exit_code, str(error)
        case ImportError() if not str(error.name).startswith("separatrix"):
            return 2, f'{error}\n  Try: pip install "separatrix[plot,data]"'
        case ValueError() | TypeError() | OSError():
            return 2, str(error)
        case _:
            return (
                1,
                f"{type(error).__name__}: {_first_line(error)}\n  This is a fault of ours. See it whole with --debug.",
            )


def _first_line(error: Any) -> str:
    return (str(error).splitlines() or [""])[0]
