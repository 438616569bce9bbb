r"""A loss on a batch as an objective on data.

    L(theta) = E_B l(theta, B),    B = batch_size examples drawn independently and uniformly,

on the batch of the key where one is given, and on all data without. What l returns is up to what descends on it: a
number for an optimiser, one number a player for a game.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax

from separatrix._types import Checked, Function, Key, State
from separatrix.systems.objective import Objective
from separatrix.systems.signature import accepts_key, as_pytree, freeze, positional_count
from separatrix.training._examples import check_batch_size, draw, examples_of, taken
from separatrix.training._forms import How, ModelForm, PlainForm, loss_and_layers
from separatrix.training._models import require_stateless


class ModelLoss(Objective):
    """l(model, batch) over data, or L(model) where there are none, as a function of the model's parameters alone."""

    function: Function
    data: Any  # None where there are none
    form: ModelForm
    how: How
    batch_size: int | None = eqx.field(static=True, default=None)

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        return self.with_layers(parameters, key=key)[0]

    def with_layers(self, parameters: State, *, key: Key | None = None) -> tuple[Any, Any]:
        """Return (the loss, what the model's layers carry on)."""
        if self.data is None:
            return loss_and_layers(self.form, self.function, parameters, (), key, self.how)
        batch_key, noise_key = (None, None) if key is None else jax.random.split(key)
        size = self.batch_size
        batch = self.data if batch_key is None or size is None else draw(batch_key, self.data, size)
        return loss_and_layers(self.form, self.function, parameters, (batch,), noise_key, self.how)

    def model(self, parameters: State) -> Any:
        """Return the model with these parameters."""
        return self.form.model(parameters)

    def on_batch(self, batch: Any) -> "ModelLoss":
        """Return the same loss on one batch, all of it."""
        return dataclasses.replace(self, data=batch, batch_size=None)

    def at(self, places: Any) -> "ModelLoss":
        """Return the same loss on the examples at some places of its data."""
        return self.on_batch(taken(self.data, places))

    def called(self, **how: bool) -> "ModelLoss":
        """Return the same loss, called in another way; see `How`."""
        return dataclasses.replace(self, how=dataclasses.replace(self.how, **how))

    def carrying(self, layers: Any) -> "ModelLoss":
        """Return the same loss of a model whose layers carry this."""
        return dataclasses.replace(self, form=dataclasses.replace(self.form, layers=layers))


def sampled(function: Function, data: Any, *, batch_size: Checked[int | None] = None, model: Any = None) -> ModelLoss:
    r"""Make an objective of a loss on a batch, and data.

    **Arguments:**

    - `function`: l(model, batch), or l(model, batch, *, key) for a loss with randomness of its own. One with a method
      `require_examples(data)` is shown all data once, and may refuse them there, where values are known.
    - `data`: a tree of arrays with the examples on the first axis, or a data set.
    - `batch_size`: how many examples a key draws, with replacement; None for all.
    - `model`: a tree that also holds what is no parameter (activation functions, sizes): it is put together with the
      parameters before l sees it. None: l is given the parameters.

    **Returns:** an `Objective` on parameters.

    **Raises:** `ValueError` for data that is empty, of unequal lengths or not finite, or a batch larger than the data;
    `TypeError` for a loss of another signature, or a model with state of its own (which `fit` carries).

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> loss = sx.sampled(lambda centre, points: jnp.mean((points - centre) ** 2), jnp.array([1.0, 3.0]))
    >>> loss(jnp.array(2.0)).item()
    1.0
    """
    data, count = examples_of(data, "sampled: data")
    check_batch_size(batch_size, count, "sampled: batch_size")
    require_stateless(model, "sampled: model")
    rest = eqx.partition(model, eqx.is_inexact_array)[1]
    return on_data(function, data, batch_size, PlainForm(freeze(rest)))


def on_data(function: Function, data: Any, batch_size: int | None, form: ModelForm) -> ModelLoss:
    """A loss on data that was looked at, of a model of this form."""
    positional_count(function, (2,), "l(model, batch)")
    looks = getattr(function, "require_examples", None)
    if looks is not None:
        looks(data)
    return ModelLoss(as_pytree(function), data, form, How(accepts_key(function)), batch_size)
