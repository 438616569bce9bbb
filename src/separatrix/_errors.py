"""The words of refusal: got, expected, do this.

A message that names what was given, what would have been right and what to do next turns a
traceback into an instruction. Every error of the library is written by `explain`.
"""


class SeparatrixError(Exception):
    """An error of the library that the command line reports by its own exit code."""

    exit_code: int = 1


class DataMissing(SeparatrixError):
    """A data set is neither bundled nor installed."""

    exit_code: int = 4


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
