"""Plain values as the fields of a frozen dataclass, and back; every refusal names the field.

A field is a bool, int, float, str, Path, one of several literals, one of these or None, a tuple of these, or a frozen
dataclass of such fields. So a file can say no more than numbers, texts, and lists and tables of them.
"""

import dataclasses
import difflib
import inspect
import math
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from separatrix._errors import explain
from separatrix.data.loading import source_path

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    Path: "a path, as a text",
}


def hints_of(cls: type) -> dict[str, Any]:
    """The type of each field that is given when one is made."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def require_fields(cls: type, where: str) -> None:
    """Refuse a class whose fields could not be written down and read again.

    **Raises:** `TypeError` that names the class or the field.
    """
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # pyright: ignore[reportAttributeAccessIssue]
        raise TypeError(
            explain(where, cls.__name__, "a frozen dataclass", "Write @dataclasses.dataclass(frozen=True).")
        )
    for name, hint in hints_of(cls).items():
        _require_hint(hint, f"{where}.{name}")
    for field in dataclasses.fields(cls):
        optional = type(None) in typing.get_args(hints_of(cls).get(field.name))
        if optional and field.default not in (None, dataclasses.MISSING):
            do = "TOML has no word for None: a key that is left out must mean it."
            raise TypeError(
                explain(f"{where}.{field.name}", f"the default {field.default!r}", "None, or no None at all", do)
            )


def built(cls: type, values: Any, where: str) -> Any:
    """One of a class, from plain values.

    **Raises:** `ValueError` or `TypeError` that names the field, and for an unknown one the nearest.
    """
    if not isinstance(values, Mapping):
        raise TypeError(explain(where, _short(values), "a table of fields", "Write key = value lines."))
    hints, given = hints_of(cls), {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in hints:
            raise ValueError(
                explain(f"{where}: {key}", "an unknown field", f"one of {', '.join(hints)}", nearest(name, hints))
            )
        if name in given:
            raise ValueError(explain(f"{where}: {key}", "the same field twice", "each once", "Leave one out."))
        given[name] = converted(value, hints[name], f"{where}: {name}")
    missing = [
        field.name for field in dataclasses.fields(cls) if field.init and _required(field) and field.name not in given
    ]
    if missing:
        do = f"Add a line {missing[0]} = ..."
        raise ValueError(explain(f"{where}: {missing[0]}", "nothing", _expected(hints[missing[0]]), do))
    return cls(**given)


def plain_of(one: Any) -> Any:
    """What `built` makes one of: texts, numbers, lists and dictionaries, None."""
    if dataclasses.is_dataclass(one):
        return {field.name: plain_of(getattr(one, field.name)) for field in dataclasses.fields(one) if field.init}
    if isinstance(one, tuple | list):
        return [plain_of(inner) for inner in one]
    return one.as_posix() if isinstance(one, Path) else one


def from_words(cls: type, words: Iterable[tuple[str, str]], where: str) -> dict[str, Any]:
    """Plain values by field from texts; what no field takes stays a text, for `built` to refuse by name."""
    hints, given = hints_of(cls), {}
    for key, text in words:
        given.setdefault(key.replace("-", "_"), []).append(text)
    found: dict[str, Any] = {}
    for name, texts in given.items():
        hint = hints.get(name, str)
        if typing.get_origin(hint) is tuple and not (len(texts) == 1 and texts[0].startswith("[")):
            inside = typing.get_args(hint)[0]
            found[name] = [_from_text(text, inside, f"{where}: {name}") for text in texts]
        elif len(texts) > 1:
            raise ValueError(explain(f"{where}: {name}", " and ".join(texts), "one value", "Give it once."))
        else:
            found[name] = _from_text(texts[0], hint, f"{where}: {name}")
    return found


def options_of(method: Callable[..., Any]) -> type:
    """The keyword-only arguments of a method as a frozen dataclass, so that they are read and refused as fields are."""
    hints, empty = typing.get_type_hints(method), inspect.Parameter.empty
    fields: list[Any] = [
        (name, hints[name]) if one.default is empty else (name, hints[name], dataclasses.field(default=one.default))
        for name, one in inspect.signature(method).parameters.items()
        if one.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    return dataclasses.make_dataclass("Options", fields, frozen=True, kw_only=True)


def _from_text(text: str, hint: Any, where: str) -> Any:
    """The first reading of a text that its field takes; the text itself where none is."""
    try:
        read = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, KeyError):
        read = text
    for value in (text, read):
        try:
            converted(value, hint, where)
        except (TypeError, ValueError):
            continue
        return value
    return read


def converted(value: Any, hint: Any, where: str) -> Any:
    """A value as its field wants it: whole numbers become floats, texts become paths, lists become tuples."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _one_of_several(value, inside, hint, where)
    if origin is typing.Literal:
        right = [choice for choice in inside if choice == value and type(choice) is type(value)]
        if not right:
            raise ValueError(explain(where, _short(value), _expected(hint), nearest(str(value), map(str, inside))))
        return right[0]
    if origin is tuple:
        return _tuple(value, inside, hint, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if type(value) is hint else built(hint, value, where)
    if hint is float and type(value) in (int, float):
        if not math.isfinite(value):
            raise ValueError(explain(where, value, "a finite number", "Repair the value."))
        return float(value)
    if hint is Path and isinstance(value, str | Path):
        return source_path(value)
    if type(value) is not hint:
        raise TypeError(explain(where, _short(value), _expected(hint), "Repair the value."))
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """What to do with an unknown name."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else "Choose one of these."


def _one_of_several(value: Any, inside: Any, hint: Any, where: str) -> Any:
    if value is None and type(None) in inside:
        return None
    kinds = [kind for kind in inside if kind is not type(None)]
    # The kind that the value has already goes first: 1 is a whole number where both that and a float are right.
    for kind in sorted(kinds, key=lambda kind: type(value) is not kind):
        try:
            return converted(value, kind, where)
        except (TypeError, ValueError):
            if len(kinds) == 1:
                raise
    raise TypeError(explain(where, _short(value), _expected(hint), "Repair the value."))


def _tuple(value: Any, inside: Any, hint: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(explain(where, _short(value), _expected(hint), "Write it in square brackets."))
    kinds = [inside[0]] * len(value) if len(inside) == 2 and inside[1] is Ellipsis else list(inside)
    if len(kinds) != len(value):
        raise ValueError(explain(where, f"{len(value)} values", _expected(hint), "Repair the list."))
    return tuple(
        converted(inner, kind, f"{where}[{i}]") for i, (inner, kind) in enumerate(zip(value, kinds, strict=True))
    )


def _require_hint(hint: Any, where: str) -> None:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        right = all(type(choice) in (bool, int, str) for choice in inside)
    elif origin is tuple or origin in (typing.Union, types.UnionType):
        right = bool(inside)
        for kind in inside:
            if kind not in (Ellipsis, type(None)):
                _require_hint(kind, where)
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        require_fields(hint, where)
        right = True
    else:
        right = hint in _WORDS
    if not right:
        expected = (
            "bool, int, float, str, Path, Literal, tuples of these, None beside them, or a frozen dataclass of these"
        )
        raise TypeError(explain(where, f"the type {hint}", expected, "Say it by such fields."))


def _expected(hint: Any) -> str:
    """A type in words."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_expected(kind) for kind in inside if kind is not type(None)) or "nothing"
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in inside)
    if origin is tuple:
        if len(inside) == 2 and inside[1] is Ellipsis:
            return f"a list, each of it {_expected(inside[0])}"
        return "a list of " + ", ".join(_expected(kind) for kind in inside)
    return _WORDS.get(hint, "a table of fields")


def _required(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."
