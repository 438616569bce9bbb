"""What a chapter of the tour is: sections with an equation, a picture, code that ran, and numbers beside their truths."""

import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Check:
    """A measured number beside what it must be.

    `expected` is the truth and `tolerance` the distance allowed; a check without tolerance is a lower (`">="`) or upper
    (`"<="`) bound, as `relation` says.
    """

    name: str
    measured: float
    expected: float
    tolerance: float = 0.0
    relation: str = "="

    @property
    def ok(self) -> bool:
        """Whether the number is what it must be; never for NaN."""
        match self.relation:
            case ">=":
                return bool(self.measured >= self.expected)
            case "<=":
                return bool(self.measured <= self.expected)
        return bool(abs(self.measured - self.expected) <= self.tolerance)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the verdict."""
        return {**dataclasses.asdict(self), "ok": self.ok}


@dataclasses.dataclass(frozen=True)
class Section:
    """One point of a chapter: what is claimed, the equation, the picture, the code and the checks."""

    title: str
    text: str
    equation: str = ""
    figure: Any = None
    caption: str = ""
    code: str = ""
    checks: tuple[Check, ...] = ()


@dataclasses.dataclass(frozen=True)
class Chapter:
    """A vignette: `run(say)` does the work, calling `say(text)` as it goes, and returns its sections."""

    name: str
    title: str
    question: str
    run: Callable[[Callable[[str], None]], list[Section]]


def source(function: Callable[..., Any]) -> str:
    """Return the body of a function as a user would write it, so that what is shown is what ran."""
    lines = inspect.getsource(function).splitlines()
    start = next(number for number, line in enumerate(lines) if line.rstrip().endswith(":")) + 1
    body = textwrap.dedent("\n".join(lines[start:])).strip()
    if body.startswith('"""'):
        body = body[body.index('"""', 3) + 3 :].strip()
    return body
