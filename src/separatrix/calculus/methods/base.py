"""What a fixed-step method is: one step of a flow or of an SDE, from which `discretize` makes a map."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from separatrix._types import Key, Scalar, State
from separatrix.systems.flow import Flow
from separatrix.systems.sde import SDE

if TYPE_CHECKING:
    # To a type checker an abstract attribute is no argument of `__init__`: the subclass says what it is.
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class Method(eqx.Module):
    """One step of a system, equal to the state at h = 0 and smooth in h there."""

    @abstractmethod
    def advance(self, system: Any, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        """Return the state at t + h from that at t."""


class FlowMethod(Method):
    """A method for dx/dt = f(t, x); `order` is that of its global error."""

    order: AbstractVar[int]

    @abstractmethod
    def advance(self, system: Flow, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        """Return the state at t + h from that at t."""


class SDEMethod(Method):
    """A method for dx = f dt + g dW, in two parts: draw the increments of a step, then take it.

    `strong_order` and `weak_order` are those of its global error in paths and in law. Without a key the noise is zero: the
    step of the drift alone, smooth in h, which is what `limit` differentiates. `evolve` asks for a key.
    """

    strong_order: AbstractVar[float]
    weak_order: AbstractVar[float]

    @abstractmethod
    def increments(self, system: SDE, t: Scalar, state: State, step_size: Scalar, key: Key) -> PyTree:
        """Return the Brownian increments of one step, drawn from a key."""

    @abstractmethod
    def advance_with(self, system: SDE, t: Scalar, state: State, step_size: Scalar, noise: PyTree | None) -> State:
        """Return the state at t + h under given increments; None means zero."""

    def advance(self, system: SDE, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        """Return the state at t + h from that at t, with increments drawn from the key."""
        noise = None if key is None else self.increments(system, t, state, step_size, key)
        return self.advance_with(system, t, state, step_size, noise)


def noise_structure(system: SDE, t: Scalar, state: State) -> PyTree:
    """The structure of the noise that a diffusion takes."""
    return eqx.filter_eval_shape(system.diffusion, t, state).in_structure()


def normal(key: Key, structure: PyTree) -> PyTree:
    """Independent standard normal numbers of a structure, one key for each leaf."""
    leaves, tree = jax.tree.flatten(structure)
    keys = [key] if len(leaves) == 1 else list(jax.random.split(key, len(leaves)))
    return jax.tree.unflatten(tree, [jax.random.normal(k, s.shape, s.dtype) for k, s in zip(keys, leaves, strict=True)])


def brownian(key: Key, structure: PyTree, step_size: Scalar) -> PyTree:
    """sqrt(h) N(0, I), the increment of a Brownian motion over a step."""
    return jax.tree.map(lambda z: jnp.sqrt(step_size).astype(z.dtype) * z, normal(key, structure))
