"""Several losses, one a player, as one function of the players."""

from typing import Any

import equinox as eqx

from separatrix._types import Function
from separatrix.systems.signature import accepts_key, as_pytree, positional_count


class Losses(eqx.Module):
    """(l_1, ..., l_n) of the same players, on the same batch and key."""

    functions: tuple[Function, ...]
    takes_key: tuple[bool, ...] = eqx.field(static=True)

    def __init__(self, functions: Any, arguments: int, expected: str):
        for function in functions:
            positional_count(function, (arguments,), expected)
        self.functions = tuple(as_pytree(function) for function in functions)
        self.takes_key = tuple(accepts_key(function) for function in functions)

    def __call__(self, *arguments: Any, key: Any = None) -> tuple[Any, ...]:
        pairs = zip(self.functions, self.takes_key, strict=True)
        return tuple(f(*arguments, key=key) if takes else f(*arguments) for f, takes in pairs)
