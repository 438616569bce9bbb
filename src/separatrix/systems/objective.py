"""Objectives: what training lowers.

An objective is a scalar function of parameters, L(theta). A random one, as the loss on a mini-batch, also takes a key;
without a key it is its own expectation (the loss on all data). So one object serves gradient descent, stochastic
gradient descent, and the limits of both.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Checked, Function, Key, Scalar, State
from separatrix.systems.signature import accepts_key, as_pytree


class Objective(eqx.Module):
    """L(theta), random where a key is given."""

    @abstractmethod
    def __call__(self, parameters: State, *, key: Key | None = None) -> Scalar:
        """Return the loss: on a random sample where a key is given, its expectation otherwise."""


class FunctionObjective(Objective):
    """A plain function as an objective."""

    function: Function
    takes_key: bool = eqx.field(static=True)

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        return self.function(parameters, key=key) if self.takes_key else self.function(parameters)


def as_objective(function: Checked[Function]) -> Objective:
    """Wrap a function L(parameters) or L(parameters, *, key) as an `Objective`.

    **Arguments:**

    - `function`: returns a scalar; one that is an `Objective` already is returned as it is.

    **Raises:** `TypeError` for what cannot be called.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> float(sx.as_objective(lambda x: jnp.sum(x**2))(jnp.array([3.0, 4.0])))
    25.0
    """
    if isinstance(function, Objective):
        return function
    if not callable(function):
        do = "Pass l(parameters), which returns a number."
        raise TypeError(explain("objective", type(function).__name__, "a function of the parameters", do))
    return FunctionObjective(as_pytree(function), accepts_key(function))


def without_objectives(system: Any) -> Any:
    """The system with None in place of its objectives: what it knows of its state, without the data."""
    return jax.tree.map(
        lambda node: None if isinstance(node, Objective) else node,
        system,
        is_leaf=lambda node: isinstance(node, Objective),
    )


def require_scalar(loss: Any) -> Any:
    """Return a loss; refuse what has no gradient: anything but one real number of floating point."""
    leaves = jax.tree.leaves(loss)
    if isinstance(loss, tuple | list):
        got = f"a {type(loss).__name__} of {len(loss)}"
        do = (
            "Return the loss alone; what else is to be seen goes into metrics=. Several losses are a game: see Players."
        )
    elif len(leaves) != 1 or leaves[0] is not loss:
        got, do = type(loss).__name__, "Return the loss alone."
    elif jnp.shape(loss) != ():
        got, do = f"shape {jnp.shape(loss)}", "Take the mean over examples."
    elif not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        got, do = f"dtype {jnp.result_type(loss)}", "Return a real number of floating point."
    else:
        return loss
    raise TypeError(explain("objective: what it returned", got, "a scalar", do))
