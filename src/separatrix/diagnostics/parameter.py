r"""A parameter of a system, as what a sweep or a continuation turns.

    p  ->  S(p),        S(p) the system with one of its leaves set to p, or what a function builds from p

A system is a pytree and a parameter of it is a leaf, so that S(p) has the same form for every p: nothing is compiled
again, and S can be differentiated in p and batched over it.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey, SequenceKey
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import is_inexact
from separatrix._types import Function
from separatrix.systems.base import System

_LISTED = 12


class Leaf(eqx.Module):
    """The leaf of a tree at a path."""

    path: tuple[Any, ...] = eqx.field(static=True)

    def __call__(self, tree: Any) -> Any:
        for key in self.path:
            tree = getattr(tree, key.name) if isinstance(key, GetAttrKey) else tree[_entry(key)]
        return tree


class Family(eqx.Module):
    """p -> S(p). `place` says which leaf of `base` it is; without one, `base` is a function of p."""

    base: Any
    place: Function | None = eqx.field(static=True)
    name: str = eqx.field(static=True)

    def __call__(self, value: Any) -> Any:
        if self.place is None:
            return self.base(value)
        return eqx.tree_at(self.place, self.base, value)

    def value(self) -> Any:
        """Where the parameter stands in `base`; None for a function."""
        return None if self.place is None else self.place(self.base)


def at_parameter(system: Any, parameter: Any, value: Any) -> System:
    r"""Return the system with one of its parameters at a value.

    **Arguments:**

    - `system`: a system; or a function value -> system, of which this is the call.
    - `parameter`: which leaf: a dotted path of attributes ("function.r"), its last part where that is unique ("r",
      "step_size"), or a function `where(system) -> leaf`, as for `equinox.tree_at`.
    - `value`: a number, or an array of the leaf's shape; it takes the leaf's dtype.

    **Returns:** a system of the same form.

    **Raises:** `ValueError` for a name that no leaf has or that several have, with the names there are; for a value of
    another shape.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> descent = sx.optimization.GradientDescent(sx.optimization.Quadratic(2.0), step_size=0.1)
    >>> sx.diagnostics.at_parameter(descent, "step_size", 0.25).step(0, jnp.array([1.0])).tolist()
    [0.5]
    """
    made = family(system, parameter)
    leaf = made.value()
    if leaf is None:
        return made(value)
    # A leaf of weak type (a Python number) takes the dtype of the state it meets, and so must what replaces it.
    weak = not eqx.is_array(leaf) or leaf.weak_type
    value = jnp.asarray(value) if weak else jnp.asarray(value, leaf.dtype)
    if value.shape != jnp.shape(leaf):
        do = "Pass a value of that shape, or a function value -> system that says what one number does."
        raise ValueError(explain(f"at_parameter: {made.name}", f"shape {value.shape}", f"{jnp.shape(leaf)}", do))
    return made(value)


def family(system: Any, parameter: Any = None) -> Family:
    """Return p -> S(p) from a system and which leaf, or from a function and its label."""
    if not isinstance(system, System):
        if not callable(system):
            do = 'Pass a system and the name of a leaf ("r"), or a function value -> system.'
            raise TypeError(explain("system", type(system).__name__, "a system or a function of one number", do))
        if parameter is not None and not isinstance(parameter, str):
            do = 'Give a function of the parameter a label: parameter="learning rate".'
            raise TypeError(explain("parameter", type(parameter).__name__, "a label, for a function", do))
        return Family(system, None, parameter or "parameter")
    if callable(parameter):
        return Family(system, parameter, _name_of(system, parameter))
    path = _path(system, parameter)
    return Family(system, Leaf(path), _part(path[-1]))


def scalar_family(system: Any, parameter: Any) -> Family:
    """Return the family where its parameter is one number."""
    made = family(system, parameter)
    leaf = made.value()
    if leaf is not None and jnp.shape(leaf) != ():
        do = "Pass a function value -> system that says what one number does."
        raise ValueError(explain(f"parameter {made.name}", f"an array of shape {jnp.shape(leaf)}", "one number", do))
    return made


def cast(value: Any, leaf: Any, dtype: Any) -> Array:
    """A parameter's value in the dtype its leaf has, or that of the state where the leaf has none of its own."""
    strong = eqx.is_array(leaf) and not leaf.weak_type
    return jnp.asarray(value, leaf.dtype if strong else dtype)


def _paths(tree: Any) -> dict[str, tuple[Any, ...]]:
    """Where the parameters of a system are, by their dotted names."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {".".join(map(_part, path)): path for path, leaf in leaves if _is_parameter(leaf)}


def _is_parameter(leaf: Any) -> bool:
    return eqx.is_array_like(leaf) and not _is_key(leaf) and is_inexact(leaf)


def _is_key(leaf: Any) -> bool:
    return eqx.is_array(leaf) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _part(key: Any) -> str:
    return key.name if isinstance(key, GetAttrKey) else str(_entry(key))


def _entry(key: Any) -> Any:
    return key.idx if isinstance(key, SequenceKey) else key.key


def _path(system: System, name: Any) -> tuple[Any, ...]:
    paths = _paths(system)
    names = list(paths)
    found = [path for path in names if path == name] or [path for path in names if path.rpartition(".")[2] == name]
    if len(found) == 1:
        return paths[found[0]]
    shown = ", ".join(names[:_LISTED]) + (f", ... ({len(names)} in all)" if len(names) > _LISTED else "")
    got = f"{name!r}, which {'several leaves have' if found else 'no leaf has'}"
    expected = f"one of: {shown}" if names else "a system with leaves (this one has none: its numbers are in closures)"
    do = "Name a leaf by its dotted path, or pass a function value -> system instead."
    raise ValueError(explain("parameter", got, expected, do))


def _name_of(system: System, where: Any) -> str:
    """The last part of the path of the leaf that a function picks."""
    marked = eqx.tree_at(where, system, replace=_MARK)
    leaves = jax.tree_util.tree_flatten_with_path(marked)[0]
    return next(_part(path[-1]) for path, leaf in leaves if leaf is _MARK)


_MARK = object()
