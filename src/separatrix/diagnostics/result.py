"""What an answer is: numbers, their uncertainty, and why they might not be trusted.

A result holds arrays alone, so that a question can be asked under `jit` and `vmap`; its text, its page and its plain data
are made from the same few rows. A caution is a property of the numbers: it is worked out when someone reads them.
"""

import html
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import is_traced

# Arrays with more entries are told by their shape: a page of text is for people.
_SHOWN = 4096
_LISTED = 8


class Row(NamedTuple):
    """One line of an answer: a name, a number (or several, or words), and its standard error where it has one."""

    name: str
    value: Any
    error: Any = None


class Result(eqx.Module):
    """The answer to a question, with a text form, an HTML form, and plain data.

    A subclass says `rows`, what is read first, and `cautions`, why the numbers might not hold; a figure of it is made by
    `separatrix.plotting.plots`. `derived` names properties that belong to the numbers, and are worked out when asked for.
    """

    derived: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def rows(self) -> list[Row]:
        """Return what a person reads first, in order."""

    @property
    @abstractmethod
    def cautions(self) -> tuple[str, ...]:
        """Why not to trust the numbers, a sentence each; empty where nothing speaks against them."""

    def __str__(self) -> str:
        if is_traced(self):
            return f"{type(self).__name__} (traced)"
        rows = [(row.name, _text(row)) for row in self.rows()]
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"  {name:<{width}}  {value}" for name, value in rows]
        return "\n".join([type(self).__name__, *lines, *[f"  caution: {caution}" for caution in self.cautions]])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """Return the rows as a table, for notebooks and reports."""
        cells = "".join(
            f"<tr><td>{html.escape(row.name)}</td><td>{html.escape(_text(row))}</td></tr>" for row in self.rows()
        )
        notes = "".join(f"<p><b>Caution:</b> {html.escape(caution)}</p>" for caution in self.cautions)
        return f"<div><b>{type(self).__name__}</b><table>{cells}</table>{notes}</div>"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and cautions as plain data for JSON.

        A complex number becomes [real, imaginary], one that is not finite None, an array of more than 4096 entries its
        shape and dtype.
        """
        names = [name for name in (*self.__dataclass_fields__, *self.derived) if not name.startswith("_")]
        fields = {name: plain(getattr(self, name)) for name in names}
        return {"result": type(self).__name__, **fields, "cautions": list(self.cautions)}


def plain(value: Any) -> Any:
    """Return numbers, strings, lists and dictionaries alone."""
    match value:
        case None | str() | bool() | int():
            return value
        case _ if hasattr(value, "to_dict"):
            return value.to_dict()
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case tuple() if hasattr(value, "_asdict"):
            return plain(value._asdict())  # pyright: ignore[reportAttributeAccessIssue]
        case tuple() | list():
            return [plain(item) for item in value]
        case eqx.Module():
            return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if not eqx.is_array_like(value):
        return str(value)
    if jax.dtypes.issubdtype(jnp.result_type(value), jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    if array.size > _SHOWN:
        return {"shape": list(array.shape), "dtype": str(array.dtype)}
    return _nested(array)


def _nested(array: np.ndarray) -> Any:
    if array.ndim:
        return [_nested(np.asarray(part)) for part in array]
    number = array.item()
    if isinstance(number, complex):
        return [_finite(number.real), _finite(number.imag)]
    return _finite(number) if isinstance(number, float) else number


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _text(row: Row) -> str:
    if isinstance(row.value, str):
        return row.value
    values = np.ravel(np.asarray(row.value))
    errors = [None] * values.size if row.error is None else np.ravel(np.asarray(row.error))
    parts = [number(value, error) for value, error in zip(values[:_LISTED], errors[:_LISTED], strict=True)]
    rest = f", ... ({values.size} in all)" if values.size > _LISTED else ""
    return ", ".join(parts) + rest


def number(value: Any, error: Any = None) -> str:
    """Return a number in six digits, with its standard error in one, or as many digits as the error leaves."""
    if np.iscomplexobj(value) and value.imag == 0:
        value = value.real
    text = f"{value:.6g}"
    if error is None:
        return text
    if 0 < error < np.inf and np.isfinite(value):
        text = f"{value:.{max(0, 1 - int(np.floor(np.log10(error))))}f}" if error < 1 else f"{value:.6g}"
    return f"{text} +- {error:.1g}"
