"""The few shapes and protocols that public signatures speak of.

A *state* is any pytree of arrays: a vector, a network's parameters, a pair (position, velocity). Its array leaves
carry the dtype of the whole computation; time and step size are cast to it, never the other way round.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import lineax as lx
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree, Shaped, UInt32

if TYPE_CHECKING:
    Scalar: TypeAlias = Array | float
else:
    Scalar: TypeAlias = Float[ArrayLike, ""]

T = TypeVar("T")
if TYPE_CHECKING:
    # What a front door looks at itself and refuses in words: a type for readers and checkers, nothing at run time.
    Checked: TypeAlias = Annotated[T, "checked in words"]
else:

    class Checked:
        def __class_getitem__(cls, _):
            return Any


State: TypeAlias = PyTree[ArrayLike]
StepIndex: TypeAlias = Int[ArrayLike, ""]
Times: TypeAlias = Shaped[ArrayLike, " times"]
Key: TypeAlias = PRNGKeyArray | UInt32[Array, "2"]
Operator: TypeAlias = lx.AbstractLinearOperator


@runtime_checkable
class Velocity(Protocol):
    """dx/dt as a function of time and state."""

    def __call__(self, t: Any, state: Any, /) -> Any: ...


@runtime_checkable
class Score(Protocol):
    """grad_x log p(t, x), of the shape of x."""

    def __call__(self, t: Any, state: Any, /) -> Any: ...


Function: TypeAlias = Callable[..., Any]
