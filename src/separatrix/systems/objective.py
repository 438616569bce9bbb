"""Objectives: what training lowers.

An objective is a scalar function of parameters, L(theta). A random one, as the loss on a mini-batch, also takes a key;
without a key it is its own expectation (the loss on all data). So one object serves gradient descent, stochastic
gradient descent, and the limits of both.

Two classes make objectives of other things. `FunctionObjective` is a function of a user's, whatever it takes:

    L(theta) = l(model(theta)),      l(model(theta), batch),      each with a key or without,

and `WrappedObjective` is an objective seen through a rule, which says where it is asked and what becomes of its answer:

    L(theta; key) = rule(ask, theta, key),      ask(theta, key) = the objective within.
"""

import dataclasses
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
    r"""A function of a model, or of a model and a batch, as an objective of the model's parameters.

        L(theta) = E_B l(model(theta), B),    B = batch_size examples drawn independently and uniformly,

    on the batch of the key where one is given, and on all data without. What l returns is up to what descends on it: a
    number for an optimiser, one number a player for a game.

    **Arguments:**

    - `function`: l(model), or with data l(model, batch). `takes_key`: whether it takes a keyword `key` too.
    - `data`: a tree of arrays with the examples on the first axis; None for none. `batch_size`: how many of them a key
      draws, with replacement; None for all.
    - `form`: puts the model together: `form.model(parameters, key=key)`. None: the parameters are the model.
    - `initial`: the parameters to start from, where they are known.
    - `alone`: it is one loss and no game, so that a pair is (loss, what else there is). `evaluating`: of a model in
      evaluation mode, whose layers stay.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> points = jnp.array([1.0, 3.0])
    >>> spread = sx.systems.FunctionObjective(lambda centre, batch: jnp.mean((batch - centre) ** 2), data=points)
    >>> spread(jnp.array(2.0)).item(), spread.on_batch(points[:1])(jnp.array(2.0)).item()
    (1.0, 1.0)
    """

    function: Function = eqx.field(converter=as_pytree)
    takes_key: bool = eqx.field(static=True, default=False)
    data: Any = None
    batch_size: int | None = eqx.field(static=True, default=None)
    form: Any = None
    initial: Any = None
    alone: bool = eqx.field(static=True, default=False)
    evaluating: bool = eqx.field(static=True, default=False)

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        return self.with_layers(parameters, key=key)[0]

    def with_layers(self, parameters: State, *, key: Key | None = None) -> tuple[Any, Any]:
        """Return (the loss, what the model's layers carry on)."""
        batch, key = self._batch(key)
        model = self._called(parameters, key)
        output = self.function(model, *batch, **({"key": key} if self.takes_key else {}))
        pair = self.alone and type(output) is tuple and len(output) == 2
        loss, more = output if pair else (output, None)
        form: Any = self.form
        layers = getattr(form, "layers", None)
        if layers is None or self.evaluating:
            return loss, layers
        return loss, form.after(model, more, seeded=key is not None)

    def model(self, parameters: State, *, key: Key | None = None) -> Any:
        """Return the model with these parameters."""
        return parameters if self.form is None else self.form.model(parameters, key=key)

    def _called(self, parameters: State, key: Key | None) -> Any:
        """The model that the function is given."""
        if self.evaluating and self.form is not None:
            return self.form.evaluated(parameters)
        return self.model(parameters, key=key)

    def split(self, *, key: Key | None = None) -> tuple[Function, Function]:
        """Return (outputs of the parameters, loss of the outputs), whose composition the objective is."""
        batch, key = self._batch(key)
        whole = self.function
        if not isinstance(whole, LossOfOutputs):
            do = "Pass the pair (outputs(parameters), loss(outputs)), or an objective made by `supervised`."
            raise TypeError(explain("objective", type(whole).__name__, "one that is loss o outputs", do))
        return lambda x: whole.outputs(self.model(x, key=key), *batch), lambda outputs: whole.outer(outputs, *batch)

    def on_batch(self, batch: Any) -> "FunctionObjective":
        """Return the same loss on one batch, all of it."""
        return dataclasses.replace(self, data=batch, batch_size=None)

    def at(self, places: Any) -> "FunctionObjective":
        """Return the same loss on the examples at some places of its data."""
        return self.on_batch(jax.tree.map(lambda leaf: leaf[places], self.data))

    def carrying(self, layers: Any) -> "FunctionObjective":
        """Return the same loss of a model whose layers carry this."""
        return dataclasses.replace(self, form=dataclasses.replace(self.form, layers=layers))

    def _batch(self, key: Key | None) -> tuple[tuple[Any, ...], Key | None]:
        """The batch, if the function takes one, and the key for the rest."""
        if self.data is None or key is None:
            return (() if self.data is None else (self.data,)), key
        which, key = jax.random.split(key)
        if self.batch_size is None:
            return (self.data,), key
        places = jax.random.randint(which, (self.batch_size,), 0, jax.tree.leaves(self.data)[0].shape[0])
        return (self.at(places).data,), key


class LossOfOutputs(eqx.Module):
    """l(f(model, *batch), *batch): a loss of outputs, whose curvature may be taken with the outputs' part alone."""

    outputs: Function = eqx.field(converter=as_pytree)
    outer: Function = eqx.field(converter=as_pytree)

    def __call__(self, model: Any, *batch: Any) -> Any:
        return self.outer(self.outputs(model, *batch), *batch)


class WrappedObjective(Objective):
    """An objective seen through a rule: where it is asked, and what becomes of its answer.

    **Arguments:** the `objective`, and a `rule`(ask, parameters, key) -> (loss, what the model's layers carry on), where
    ask(parameters, key) is the same pair of the objective.

    **Example:** a loss of which only the negative is known.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> def turned(ask, parameters, key):
    ...     loss, layers = ask(parameters, key)
    ...     return -loss, layers
    >>> sx.systems.WrappedObjective(sx.optimization.Quadratic(2.0), turned)(jnp.array([3.0])).item()
    -9.0
    """

    objective: Objective
    rule: Function = eqx.field(converter=as_pytree)

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        return self.with_layers(parameters, key=key)[0]

    def with_layers(self, parameters: State, *, key: Key | None = None) -> tuple[Any, Any]:
        """Return (the loss, what the model's layers carry on)."""
        within: Any = self.objective

        def ask(parameters: State, key: Key | None) -> tuple[Any, Any]:
            if hasattr(within, "with_layers"):
                return within.with_layers(parameters, key=key)
            return within(parameters, key=key), None

        return self.rule(ask, parameters, key)


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
    return FunctionObjective(function, accepts_key(function))


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
