r"""Functions that are equal where they are made of equal parts: so that writing one anew compiles nothing.

    f = g   if code, defaults, closed-over values and the globals that the code names are equal

`lambda x: -k * x` written twice, or `optax.adam(1e-3)` called twice, gives functions that Python tells apart. Here they are
one, if all parts are known not to change behind our back: numbers, text, containers of such, arrays of JAX (the same array,
not equal ones), small arrays of NumPy, functions of such parts, and what libraries define.

A function that reads anything else (an object of your own class, a module of your own) stays equal to itself alone, and
is compiled again if it is made again. Keep such a function, or hand it its numbers as arguments.
"""

import functools
import inspect
import site
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

from separatrix.systems.memory import Remembered

_DEEPEST = 12
# Where a function holds what was made of it: itself, if nothing was.
_HELD = "__separatrix_by_content__"
_SMALL_BYTES = 1 << 16
_LIBRARY, _EMPTY = "function of a library", "a cell that is not filled"
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented), np.generic, np.dtype)


class ByContent:
    """A function, equal to every function of equal content.

    The content is that of the moment when it was made. It is looked at again wherever the function is traced. If a global
    or a list has changed in between, the program is of other content, and from then on this is equal to itself alone.
    Whole numbers that a library's function has made floats of by itself, as schedules of optax do, are no change.
    """

    def __init__(self, function: Any, content: Any):
        self.__wrapped__ = function
        self._content = content
        self._hash = hash(content)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__signature__ = inspect.signature(function)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if not isinstance(self._content, _Same):
            now = _content_of(self.__wrapped__)
            if now != self._content and _with_floats(now) != _with_floats(self._content):
                self._content = _Same(self)
        return self.__wrapped__(*arguments, **keywords)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ByContent) and self._content == other._content)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


class _Same:
    """Equal to itself alone, and holds what it stands for."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class _Unknown(Exception):
    """A part that may change while its name stays."""


def by_content(function: Any) -> Any:
    """Return the function as one that is equal by content; as it is where that cannot be told. One function gives one."""
    if isinstance(function, types.MethodType):
        return _made(function)
    if not isinstance(function, types.FunctionType):
        return function
    made = function.__dict__.get(_HELD)
    # A wrapper takes over what its function holds.
    if getattr(made, "__wrapped__", made) is not function:
        made = _made(function)
        function.__dict__[_HELD] = made
    return made


def _made(function: Any) -> Any:
    content = _content_of(function)
    try:
        return function if content is None else ByContent(function, content)
    except (ValueError, TypeError):
        return function


def _content_of(function: Any) -> Any:
    """What a function is made of now; None where that cannot be told."""
    try:
        return _of(function, ())
    except (_Unknown, ValueError, TypeError, RecursionError):
        return None


def _of_function(function: types.FunctionType, above: tuple[Any, ...]) -> Any:
    if any(function is outer for outer in above):
        return ("recursion", [outer is function for outer in above].index(True))
    if len(above) > _DEEPEST:
        raise _Unknown
    above = (*above, function)
    cells = tuple(_of(value, above) for value in _cells(function))
    defaults = _of(function.__defaults__, above), _of(tuple(sorted((function.__kwdefaults__ or {}).items())), above)
    named: tuple[Any, ...] = ()
    kind = _LIBRARY if _is_library(function.__code__.co_filename) else "function"
    if kind != _LIBRARY:
        names = sorted(_names(function.__code__) & function.__globals__.keys())
        named = tuple((name, _of(function.__globals__[name], above)) for name in names)
    return (kind, _of_code(function.__code__), cells, defaults, named)


def _with_floats(content: Any) -> Any:
    """The content with floats for the whole numbers that functions of libraries close over."""
    if not isinstance(content, tuple):
        return content
    if len(content) == 5 and content[0] == _LIBRARY:
        kind, code, cells, *rest = content
        return (kind, code, tuple(_as_float(cell) for cell in cells), *rest)
    return tuple(_with_floats(part) for part in content)


def _as_float(cell: Any) -> Any:
    is_whole = isinstance(cell, tuple) and len(cell) == 2 and cell[0] is int
    return (float, repr(float(int(cell[1])))) if is_whole else _with_floats(cell)


def _cells(function: types.FunctionType) -> list[Any]:
    return [_filling(cell) for cell in function.__closure__ or ()]


def _filling(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled, or not yet: then the content will have changed
        return _EMPTY


def _of_code(code: types.CodeType) -> Any:
    """What a code does, wherever it is written."""
    constants = tuple(_of_code(c) if isinstance(c, types.CodeType) else (type(c), repr(c)) for c in code.co_consts)
    form = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return (code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, form)


def _names(code: types.CodeType) -> set[str]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*inner)


def _of(value: Any, above: tuple[Any, ...]) -> Any:
    """What a value is made of, as something with a hash; raises for what may change."""
    if isinstance(value, _PLAIN):
        # -0.0 equals 0.0 and True equals 1, and are not the same to a program.
        return (type(value), repr(value))
    if isinstance(value, Tracer):
        raise _Unknown
    if isinstance(value, jax.Array):
        return _Same(value)
    if isinstance(value, np.ndarray) and value.nbytes <= _SMALL_BYTES and value.dtype != object:
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, tuple | list):
        kind = value.form if isinstance(value, Remembered) else type(value)
        return (kind, tuple(_of(part, above) for part in value))
    if isinstance(value, set | frozenset):
        return (type(value), frozenset(_of(part, above) for part in value))
    if isinstance(value, dict):
        return (type(value), tuple((_of(name, above), _of(part, above)) for name, part in value.items()))
    if isinstance(value, types.MethodType):
        return ("method", _of(value.__func__, above), _of(value.__self__, above))
    if isinstance(value, types.FunctionType):
        return _of_function(value, above)
    if isinstance(value, functools.partial):
        keywords = tuple(sorted(value.keywords.items()))
        return ("partial", _of(value.func, above), _of(value.args, above), _of(keywords, above))
    if isinstance(value, types.ModuleType):
        return _if_library(value, getattr(value, "__file__", None))
    if isinstance(value, type):
        return _if_library(value, getattr(sys.modules.get(value.__module__), "__file__", None))
    if isinstance(value, eqx.Module):
        leaves, structure = jax.tree.flatten(value)
        _if_library(type(value), getattr(sys.modules.get(type(value).__module__), "__file__", None))
        return (structure, tuple(_of(leaf, above) for leaf in leaves))
    if type(value).__module__.partition(".")[0] in ("jax", "jaxlib", "numpy", "builtins") and callable(value):
        return _Same(value)
    if isinstance(value, inspect.Signature):
        return value
    if _defined_by_library(type(value)) and hasattr(value, "__dict__"):
        return (type(value), _of(vars(value), above))
    raise _Unknown


def _defined_by_library(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return file is not None and _is_library(file)


def _if_library(value: Any, file: str | None) -> Any:
    if file is not None and not _is_library(file):
        raise _Unknown
    return _Same(value)


@functools.cache
def _roots() -> tuple[str, ...]:
    places = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    places += [*site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).resolve().parents[1])]
    return tuple(str(Path(place)) + "/" for place in places)


@functools.cache
def _is_library(file: str) -> bool:
    """Whether a file belongs to an installed library, whose definitions do not change while a program runs."""
    return file.startswith(("<frozen", *_roots())) or str(Path(file).resolve()).startswith(_roots())
