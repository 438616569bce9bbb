"""States of methods that remember: what is trained, and beside it what the method carries on, each by its name.

    s = (x, m_1, ..., m_k)

One pytree serves them all: (x, w) of momentum, (x, m, v) of Adam, a centre and its workers. A `MemoryForm` says the
names; x comes first, and is what `Map.parameters` gives.
"""

import dataclasses
import inspect
from typing import Any

import jax

from separatrix._errors import explain


@dataclasses.dataclass(frozen=True)
class MemoryForm:
    """The names of the parts of a state; called on the parts it makes one.

    **Arguments:** `name`: what the form is called. `names`: of its parts, what is trained first. `meaning`: of the parts.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> start = sx.optimization.PhasePoint(jnp.array([1.0]), velocity=jnp.array([0.5]))
    >>> position, velocity = start
    >>> start.velocity is velocity
    True
    """

    name: str
    names: tuple[str, ...]
    meaning: str

    def __post_init__(self) -> None:
        either = inspect.Parameter.POSITIONAL_OR_KEYWORD
        object.__setattr__(self, "__doc__", self.meaning)
        object.__setattr__(self, "__signature__", inspect.Signature([inspect.Parameter(n, either) for n in self.names]))

    def __call__(self, *parts: Any, **named: Any) -> "Remembered":
        """Return the state of these parts, in their order or by name."""
        rest = self.names[len(parts) :]
        if len(parts) > len(self.names) or set(named) != set(rest):
            got = f"{len(parts)} in order and {sorted(named)} by name"
            raise TypeError(explain(str(self), got, f"{len(self.names)} parts", "Give each of them once."))
        return Remembered(self, (*parts, *(named[name] for name in rest)))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.names)})"


@jax.tree_util.register_pytree_with_keys_class
class Remembered(tuple[Any, ...]):
    """What is trained, and what a method remembers beside it: a tuple whose parts have names."""

    form: MemoryForm

    def __new__(cls, form: MemoryForm, parts: Any) -> "Remembered":
        made = tuple.__new__(cls, parts)
        made.form = form
        return made

    def __getattr__(self, name: str) -> Any:
        form = self.__dict__.get("form")
        if form is None or name not in form.names:
            raise AttributeError(f"{type(self).__name__ if form is None else form} has no {name!r}")
        return self[form.names.index(name)]

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={part!r}" for name, part in zip(self.form.names, self, strict=True))
        return f"{self.form.name}({parts})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Remembered, (self.form, tuple(self))

    def _replace(self, **parts: Any) -> "Remembered":
        """The state with some of its parts changed."""
        return self.form(**(self._asdict() | parts))

    def _asdict(self) -> dict[str, Any]:
        """Parts by name."""
        return dict(zip(self.form.names, self, strict=True))

    def tree_flatten_with_keys(self) -> tuple[Any, MemoryForm]:
        """Parts by name, for JAX."""
        keys = map(jax.tree_util.GetAttrKey, self.form.names)
        return tuple(zip(keys, self, strict=True)), self.form

    def tree_flatten(self) -> tuple[Any, MemoryForm]:
        """Parts in order, for JAX."""
        return tuple(self), self.form

    @classmethod
    def tree_unflatten(cls, form: MemoryForm, parts: Any) -> "Remembered":
        """The state of these parts, for JAX."""
        return cls(form, parts)
