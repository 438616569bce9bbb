"""The words of refusal: got, expected, do this.

A message that names what was given, what would have been right and what to do next turns a
traceback into an instruction. Every error of the library is written by `explain`, and a name that is none of
those known by `unknown`, which says which names are near.
"""

import difflib
import itertools
from collections.abc import Iterable

# What a message shows, and what is compared to find near names, of lists that may be as long as a file.
_SHOWN = 20
_ALL = 100
_COMPARED = 5_000
_LONGEST = 80
_NEAR = 0.6  # difflib's own ratio of a match
_MARGIN = 0.1


class SeparatrixError(Exception):
    """An error of the library that the command line reports by its own exit code."""

    exit_code: int = 1


class DataMissing(SeparatrixError):
    """A data set is neither bundled nor installed."""

    exit_code: int = 4


class DataError(SeparatrixError, ValueError):
    """A file or a table that is not sound: the message names the first bad place."""

    exit_code: int = 2


class Diverged(SeparatrixError, RuntimeError):
    """A computation that must reach its end did not: it stopped being finite, escaped, or met a limit."""

    exit_code: int = 3


def explain(what: str, got: object, expected: object, do: str) -> str:
    """One message in three parts.

    $$\\text{what: got } \\ldots,\\ \\text{expected } \\ldots.\\ \\text{do this}$$

    **Arguments:**

    - `what`: where it went wrong: the function, argument or leaf.
    - `got`: what was given; shown by `str`.
    - `expected`: what would have been right; shown by `str`.
    - `do`: one imperative sentence.

    **Returns:** the message, at most three lines.

    **Example:**

    >>> print(explain("evolve: steps", -1, "a whole number >= 0", "Give how many steps to take."))
    evolve: steps
      got -1, expected a whole number >= 0.
      Give how many steps to take.
    """
    return f"{what}\n  got {got}, expected {expected}.\n  {do}"


def unknown(what: str, name: object, known: Iterable[str], do: str, of: str = "one of") -> str:
    """The message for a name that is none of those known: the nearest names, at most three, or what to do.

    **Example:**

    >>> print(unknown("catalogue", "lorentz", ["lorenz", "rossler"], "See `separatrix list`."))
    catalogue
      got 'lorentz', expected one of lorenz, rossler.
      Did you mean 'lorenz'?
    """
    names = list(known)
    shown = repr(name) if len(repr(name)) <= _LONGEST else f"{repr(name)[:_LONGEST]}..."
    meant = did_you_mean(name, names)
    most = _ALL if not meant and len(names) <= _ALL else _SHOWN
    return explain(what, shown, f"{of} {listed(names, most)}", meant or do)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`Did you mean ...?` with the nearest known names, at most three; empty where none is near.

    **Example:**

    >>> did_you_mean("Bread", ["break", "bead", "tree"])
    "Did you mean 'bead' or 'break'?"
    """
    near = nearest(name, known)
    return f"Did you mean {either(map(repr, near))}?" if near else ""


def nearest(name: object, known: Iterable[str]) -> list[str]:
    """The known names that are nearest to one that is none of them, at most three, and all about as near."""
    folded, meant = {_folded(other): other for other in itertools.islice(known, _COMPARED)}, _folded(name)[:_LONGEST]
    near = difflib.get_close_matches(meant, folded, 3, _NEAR)
    likeness = [difflib.SequenceMatcher(None, close, meant).ratio() for close in near]
    return [folded[close] for close, like in zip(near, likeness, strict=True) if like > likeness[0] - _MARGIN]


def either(choices: Iterable[str]) -> str:
    """Choices in words: `a`, `a or b`, `a, b or c`."""
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def listed(names: Iterable[str], most: int = _SHOWN) -> str:
    """Names as a list in a message: all of them, or the first and how many there are.

    **Example:**

    >>> listed(map(str, range(1000)))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, ... (1000 in all)'
    """
    every = list(names)
    shown = ", ".join(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..." for name in every[:most])
    return shown if len(every) <= most else f"{shown}, ... ({len(every)} in all)"


def _folded(name: object) -> str:
    return str(name).lower().replace("_", "-")
