"""What a command is: options in, an answer out.

A command is a frozen dataclass whose fields are its options; `run` makes public calls and returns an `Answer`, which
has the same content twice: as text for people and as plain data for `--json`.
"""

import abc
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command says: `data` (plain values), `text`, and whether all is well (exit code 0, else 1)."""

    data: Any
    text: str
    ok: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(abc.ABC):
    """Options that every command has."""

    json: bool = False
    """Print the answer as JSON."""
    debug: bool = False
    """Show the traceback of an error."""

    @abc.abstractmethod
    def run(self) -> Answer:
        """Do the work."""


def columns(rows: list[tuple[str, ...]], indent: str = "") -> str:
    """Rows of text with their columns aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(indent + line.rstrip() for line in lines)
