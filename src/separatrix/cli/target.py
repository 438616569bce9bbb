"""Which system a word of the command line means: a name of the catalogue, or MODULE:NAME of one's own."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from separatrix._errors import explain, unknown
from separatrix.cli.refusals import their_code


def target(word: str) -> tuple[Any, Any, Any]:
    """Return (system, state, key) of a word.

    MODULE is found from the current folder or among what is installed; NAME is a pair (system, state), a system with a
    NAME `state` beside it, or a function without arguments that returns such a pair.

    **Raises:** `ValueError` for a word that names nothing, or something else; `TheirFault` where MODULE fails.
    """
    module, colon, name = word.partition(":")
    return _own(module, name) if colon else _catalogued(word)


def function_of(word: str, fixed: dict[str, Any]) -> Any:
    """The function that MODULE:NAME says, with some of its arguments fixed.

    **Raises:** `ValueError` for a word that names no function; `TheirFault` where MODULE fails.
    """
    import functools

    module, colon, name = word.partition(":")
    where = f"sweep: --function {word}"
    if not colon:
        raise ValueError(explain(where, repr(word), "MODULE:NAME", "Write the module, a colon, and the function."))
    home = _imported(module, where)
    found = getattr(home, name, None)
    if not callable(found):
        there = [other for other, value in vars(home).items() if callable(value) and not other.startswith("_")]
        raise ValueError(unknown(where, name, there, f"Write it in {module}.", of=f"a function of {module}:"))
    known = inspect.signature(found).parameters
    for other in fixed:
        if other not in known:
            raise ValueError(unknown(f"{where}: fixed", other, known, "Name an argument of it.", of="an argument:"))
    return functools.partial(found, **fixed) if fixed else found


def module_of(word: str) -> Any:
    """The module that a word of one's own names, once it is imported; None for a name of the catalogue."""
    name, colon, _ = word.partition(":")
    return sys.modules.get(name) if colon else None


def _catalogued(name: str) -> tuple[Any, Any, Any]:
    import jax

    from separatrix import catalogue

    entry = catalogue.entry(name)
    return entry.build(), entry.start(), jax.random.key(0) if entry.random else None


def _own(module: str, name: str) -> tuple[Any, Any, Any]:
    where = f"diagnose: {module}:{name}"
    home = _imported(module, where)
    if not hasattr(home, name):
        there = [other for other in vars(home) if not other.startswith("_")]
        raise ValueError(unknown(where, name, there, f"Write it in {module}.", of=f"a name of {module}:"))
    found = getattr(home, name)
    if callable(found) and not _is_system(found):
        _require_no_arguments(found, where)
        with their_code(where):
            found = found()
    pair = found if isinstance(found, tuple) and len(found) == 2 else (found, getattr(home, "state", None))
    if not _is_system(pair[0]) or pair[1] is None:
        got = f"a {type(pair[0]).__name__}" if not _is_system(pair[0]) else "a system without a state"
        do = f"Write in {module}: {name} = (system, state), or a function that returns this pair."
        raise ValueError(explain(where, got, "a pair (system, state)", do))
    return pair[0], pair[1], getattr(home, "key", None)


def _imported(module: str, where: str) -> Any:
    """The user's module; what it raises is the user's."""
    if not all(part.isidentifier() for part in module.split(".")) or module.endswith(".py"):
        near = Path(module.removesuffix(".py")).name
        do = f"Write {near}:NAME in its folder." if near.isidentifier() else "Write MODULE:NAME."
        raise ValueError(explain(where, repr(module), "the name of a module, as in import MODULE", do))
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with their_code(where):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            absent = error.name
    do = "Name a module in this folder, or an installed one."
    raise ValueError(explain(where, f"no module {absent!r}", "a module that can be imported", do))


def _require_no_arguments(function: Any, where: str) -> None:
    try:
        inspect.signature(function).bind()
    except ValueError:  # a function that does not say
        return
    except TypeError as error:
        got = f"a function that cannot be called without arguments ({error})"
        do = "Let it return a pair (system, state), or make a system of it with sx.as_flow or sx.as_map."
        raise ValueError(explain(where, got, "a function without arguments", do)) from error


def _is_system(value: Any) -> bool:
    from separatrix.systems import System

    return isinstance(value, System)
