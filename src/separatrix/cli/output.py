"""Standard output is for the answer alone.

While a module of the user's runs, what it prints (or a library it calls, or a program it starts) goes to standard error,
so that the answer can be piped and read as JSON.
"""

import contextlib
import os
import sys
from collections.abc import Iterator


class ReaderGone(Exception):
    """Who read the answer went away, as in `separatrix list | head -1`: no error."""


def say(text: str) -> None:
    """Print; a sign that the terminal cannot show becomes a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries again at its end
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from None
        raise OSError(error.errno, error.strerror, "standard output") from error


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Send to standard error what is printed in the block, by Python or below it."""
    flush()
    own = _turned()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        flush()
        if own is not None:
            os.dup2(own, 1)
            os.close(own)


def close() -> None:
    """The answer is out: what a module of the user's prints at the very end goes to standard error too."""
    flush()
    sys.stdout = sys.stderr
    own = _turned()
    if own is not None:
        os.close(own)


def flush() -> None:
    """Write out what was printed, as far as there is somewhere to write it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _turned() -> int | None:
    """Point the descriptor of standard output at standard error; a copy of what it was, or None if one is closed."""
    try:
        own = os.dup(1)
    except OSError:
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(own)
        return None
    return own
