"""Objectives: what training lowers.

An objective is a scalar function of parameters, L(theta). A random one, as the loss on a mini-batch, also takes a key;
without a key it is its own expectation (the loss on all data). So one object serves gradient descent, stochastic
gradient descent, and the limits of both.
"""

from abc import abstractmethod

import equinox as eqx

from separatrix._types import Function, Key, Scalar, State
from separatrix.systems._signature import accepts_key, as_pytree


class Objective(eqx.Module):
    """L(theta), random where a key is given."""

    @abstractmethod
    def __call__(self, parameters: State, *, key: Key | None = None) -> Scalar:
        """Return the loss: on a random sample where a key is given, its expectation otherwise."""


class FunctionObjective(Objective):
    """A plain function as an objective."""

    function: Function
    takes_key: bool = eqx.field(static=True)

    def __call__(self, parameters: State, *, key: Key | None = None) -> Scalar:
        return self.function(parameters, key=key) if self.takes_key else self.function(parameters)


def as_objective(function: Function) -> Objective:
    """Wrap a function L(parameters) or L(parameters, *, key) as an `Objective`.

    **Arguments:**

    - `function`: returns a scalar; one that is an `Objective` already is returned as it is.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> float(sx.as_objective(lambda x: jnp.sum(x**2))(jnp.array([3.0, 4.0])))
    25.0
    """
    if isinstance(function, Objective):
        return function
    return FunctionObjective(as_pytree(function), accepts_key(function))
