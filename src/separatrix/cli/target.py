"""Which system a word of the command line means: a name of the catalogue, or MODULE:NAME of one's own."""

import importlib
import sys
from pathlib import Path
from typing import Any

from separatrix._errors import explain


def target(word: str) -> tuple[Any, Any, Any]:
    """Return (system, state, key) of a word.

    MODULE is found from the current folder or among what is installed; NAME is a pair (system, state), a system with a
    NAME `state` beside it, or a function without arguments that returns such a pair.

    **Raises:** `ValueError` for a word that names nothing, or something else.
    """
    module, colon, name = word.partition(":")
    return _own(module, name) if colon else _catalogued(word)


def _catalogued(name: str) -> tuple[Any, Any, Any]:
    import jax

    from separatrix import catalogue

    entry = catalogue.entry(name)
    return entry.build(), entry.start(), jax.random.key(0) if entry.random else None


def _own(module: str, name: str) -> tuple[Any, Any, Any]:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    where = f"diagnose: {module}:{name}"
    try:
        home = importlib.import_module(module)
    except ModuleNotFoundError as error:
        do = "Name a module in this folder, or an installed one."
        raise ValueError(explain(where, str(error), "a module that can be imported", do)) from error
    found = getattr(home, name, None)
    if callable(found) and not _is_system(found):
        found = found()
    pair = found if isinstance(found, tuple) and len(found) == 2 else (found, getattr(home, "state", None))
    if not _is_system(pair[0]) or pair[1] is None:
        do = f"Write in {module}: {name} = (system, state), or a function that returns this pair."
        raise ValueError(explain(where, type(found).__name__, "a pair (system, state)", do))
    return pair[0], pair[1], getattr(home, "key", None)


def _is_system(value: Any) -> bool:
    from separatrix.systems import System

    return isinstance(value, System)
