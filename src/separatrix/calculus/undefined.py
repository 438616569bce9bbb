"""One sentence for every pair of verb and system that has no rule."""

from typing import Any

from separatrix._errors import explain


def undefined(verb: str, system: Any, defined: str, advice: str) -> TypeError:
    """Return the error for a verb applied to a kind of thing for which it has no rule."""
    return TypeError(explain(f"{verb} is not defined here", f"a {type(system).__name__}", defined, advice))
