"""One entry of the catalogue: a system, where it starts, and what is known about it."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Entry:
    """An example system with its known truth.

    - `name`: as the command line and the docs call it. `kind`: "map", "flow" or "sde".
    - `summary`: one line; `equation`: as the literature writes it; `truth`: what is known exactly, with its source.
    - `build()`: the system; `start()`: a state to start from, in the default float.
    - `span`: how far a short run goes: steps of a map, or time. `step_size`: of a fixed-step run.
    - `random`: whether a step needs a key.
    """

    name: str
    kind: str
    summary: str
    equation: str
    truth: str
    build: Callable[[], Any]
    start: Callable[[], Any]
    span: float | int
    step_size: float | None = None
    random: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return what can be printed."""
        shown = ("name", "kind", "summary", "equation", "truth")
        return {name: getattr(self, name) for name in shown}
