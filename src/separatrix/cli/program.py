"""The front: words in, exit code out. Every error ends here, as one message of at most three lines."""

import collections
import contextlib
import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from separatrix._errors import SeparatrixError
from separatrix.cli import output
from separatrix.cli.parse import Shown, parse, print_error
from separatrix.cli.refusals import TheirFault, os_words, text_of
from separatrix.cli.signals import Terminated, came, handled, quiet_end

_ENDED = {130: "interrupted; what was finished is kept", 143: "terminated; what was finished is kept"}

# The frames of the last error hold programs that another thread may still compile: they are not freed before the end.
_last: collections.deque[BaseException] = collections.deque(maxlen=1)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command.

    **Arguments:**

    - `words`: the words of the command line after `separatrix`; those of this process by default.

    **Returns:** the exit code. If the words are those of this process and a signal ended the work, the process ends here.

    **Example:**

    >>> main(["version"])
    separatrix 0.1.0
    0
    """
    code = _guarded(list(sys.argv[1:] if words is None else words))
    if words is None:
        output.close()
        if code and os.environ.get("SEPARATRIX_GANG"):
            os._exit(code)  # else it waits for the other processes, and they for it
        if came() is not None:
            os._exit(code)  # the interpreter's own end waits for what is still being computed
        quiet_end()
    return code


def _guarded(given: list[str]) -> int:
    debug = ["--debug" in given]
    try:
        with handled(), _warnings_told():
            code = _run(given, debug)
        ended = came()
        if (
            ended is not None
        ):  # the interrupt was swallowed on its way, and the work ended before the watching thread ended it
            print_error(_ENDED[ended])
        return code if ended is None else ended
    except output.ReaderGone:
        return 0
    except (Exception, SystemExit, KeyboardInterrupt, Terminated) as error:
        _last.append(error)
        if debug[0]:
            with contextlib.suppress(OSError):
                traceback.print_exc()
        code, message = judge(error)
        print_error(message)
        return code


@contextlib.contextmanager
def _warnings_told() -> Iterator[None]:
    """Say a warning in its own words, without the place in our files where it was raised."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print_error(f"note: {message}")
        yield


def _run(words: list[str], debug: list[bool]) -> int:
    """Parse, run and answer; `debug` is told what a spec says of it."""
    try:
        command = parse(words)
    except Shown as help:
        output.say(str(help))
        return 0
    debug[0] = command.debug
    answer = command.run()
    output.say(json.dumps(answer.data, indent=2) if command.json else answer.text)
    return 0 if answer.ok else 1


def judge(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an error. After a signal it is the signal's: an interrupt may come out as another error."""
    ended = came()
    if ended is not None:
        return ended, _ENDED[ended]
    match error:
        case KeyboardInterrupt():
            return 130, _ENDED[130]
        case Terminated():
            return 143, _ENDED[143]
        case TheirFault():
            return 2, str(error)
        case SeparatrixError():
            return error.exit_code, str(error)
        case ImportError() if not str(error.name).startswith("separatrix"):
            return 2, f'{error}\n  Try: pip install "separatrix[plot,data]"'
        case OSError():
            return 2, os_words(error)
        case ValueError() | TypeError():
            return 2, str(error)
        case _:
            fault = f"{type(error).__name__}: {text_of(error)}"
            return 1, f"{fault}\n  This is a fault of ours. See it whole with --debug."
