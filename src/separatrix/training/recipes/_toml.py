"""Fields as a TOML text with what they mean beside them."""

import ast
import dataclasses
import inspect
import json
import textwrap
from typing import Any

from separatrix.training.recipes._fields import hints_of, plain_of


def toml_of(cls: type, one: Any = None, first: str = "") -> str:
    """The text that gives `one`, or the defaults of the class.

    A field that is not set stands as a comment, so that the page shows all there is to set. `first` goes before the fields.
    """
    lines = [*_comment(inspect.getdoc(cls) or ""), first] if first else []
    return "\n".join([*lines, *_table(cls, one, "")]).strip("\n") + "\n"


def _table(cls: type, one: Any, name: str) -> list[str]:
    told, simple, tables = _meanings(cls), [], []
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        value = _value_of(field, one)
        hint = hints_of(cls)[field.name]
        inner = value if dataclasses.is_dataclass(value) else hint if dataclasses.is_dataclass(hint) else None
        if inner is not None:
            path = f"{name}.{field.name}" if name else field.name
            kind = inner if isinstance(inner, type) else type(inner)
            body = _table(kind, None if isinstance(inner, type) else inner, path)
            tables += ["", *_comment(told.get(field.name, "")), f"[{path}]", *body]
            continue
        simple += ["", *_comment(told.get(field.name, ""))] if field.name in told else []
        simple.append(_line(field, value))
    return simple + tables


def _line(field: Any, value: Any) -> str:
    if value is dataclasses.MISSING:
        return f"# {field.name} =    # must be given"
    return f"# {field.name} =" if value is None else f"{field.name} = {_text(plain_of(value))}"


def _value_of(field: Any, one: Any) -> Any:
    if one is not None:
        return getattr(one, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _text(value: Any) -> str:
    """A plain value in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_text(one)}" for name, one in value.items() if one is not None) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return repr(value)


def _comment(text: str) -> list[str]:
    return [f"# {line}".rstrip() for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, 116) or [""]]


def _meanings(cls: type) -> dict[str, str]:
    """The text below each field in the source of a class and of those it is made from, where it can be read."""
    told: dict[str, str] = {}
    for kind in reversed(cls.__mro__[:-1]):
        told |= _meanings_of(kind)
    return told


def _meanings_of(cls: type) -> dict[str, str]:
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    told: dict[str, str] = {}
    before: Any = None
    for line in body.body if isinstance(body, ast.ClassDef) else []:
        if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(before, ast.AnnAssign):
            told[ast.unparse(before.target)] = inspect.cleandoc(str(line.value.value))
        before = line
    return told
