"""How a plain function wants to be called: f(x) or f(t, x), with a key or without."""

import functools
import inspect
from typing import Any

import equinox as eqx
import jax

from separatrix._errors import explain
from separatrix._types import Function
from separatrix.systems.content import by_content


class Frozen(eqx.Module):
    """A tree whose arrays are leaves and whose other leaves (activation functions, flags) are static.

    So it goes through `jax.jit` and `jax.vmap` as it is, whatever a network holds.
    """

    arrays: Any
    others: tuple[Any, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)

    def thaw(self) -> Any:
        """Return the tree as it was."""
        return eqx.combine(self.arrays, jax.tree.unflatten(self.structure, self.others))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.thaw()(*arguments, **keywords)


def freeze(tree: Any) -> Frozen:
    """Part a tree into arrays and static leaves."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    others, structure = jax.tree.flatten(rest)
    return Frozen(arrays, tuple(others), structure)


def as_pytree(function: Any) -> Any:
    """A function that can be a field of a system: modules keep their arrays as leaves, all else is static, by content."""
    if isinstance(function, jax.tree_util.Partial) and all(eqx.is_array(leaf) for leaf in jax.tree.leaves(function)):
        return function
    if not isinstance(function, eqx.Module):
        return jax.tree_util.Partial(by_content(function))
    return function if all(eqx.is_array(leaf) for leaf in jax.tree.leaves(function)) else freeze(function)


def accepts_key(function: Function) -> bool:
    """Whether a function takes a keyword `key`."""
    parameters = _parameters(function)
    return any(p.name == "key" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def takes(function: Function, name: str) -> bool:
    """Whether a function has an argument of this name."""
    return any(p.name == name for p in _parameters(function))


def positional_count(function: Function, allowed: tuple[int, ...], expected: str) -> int:
    """Return how many of the `allowed` numbers of positional arguments a function requires.

    A function whose signature cannot be read, or that takes any number, is given the most.
    """
    parameters = _parameters(function)
    if not parameters or any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return max(allowed)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "key"]
    required = sum(p.default is p.empty for p in positional)
    fitting = [count for count in allowed if required <= count <= len(positional)]
    if not fitting:
        raise TypeError(
            explain(
                "wrong signature", f"a function of {required} positional arguments", expected, f"write it as {expected}"
            )
        )
    return min(fitting)


def _parameters(function: Function) -> list[inspect.Parameter]:
    if isinstance(function, functools.partial | eqx.Partial):
        # Subclasses that are pytrees hide the signature of what they wrap.
        function = functools.partial(function.func, *function.args, **function.keywords)
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
