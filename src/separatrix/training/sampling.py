r"""A loss on a batch as an objective on data.

    L(theta) = E_B l(theta, B),    B = batch_size examples drawn independently and uniformly,

on the batch of the key where one is given, and on all data without. What l returns is up to what descends on it: a
number for an optimiser, one number a player for a game.
"""

from typing import Any

import equinox as eqx

from separatrix._types import Checked, Function
from separatrix.systems.objective import FunctionObjective
from separatrix.systems.signature import accepts_key, freeze, positional_count
from separatrix.training._examples import check_batch_size, examples_of
from separatrix.training._forms import ModelForm, PlainForm
from separatrix.training._models import require_stateless


def sampled(
    function: Function, data: Any, *, batch_size: Checked[int | None] = None, model: Any = None
) -> FunctionObjective:
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


def on_data(function: Function, data: Any, batch_size: int | None, form: ModelForm) -> FunctionObjective:
    """A loss on data that was looked at, of a model of this form."""
    positional_count(function, (2,), "l(model, batch)")
    look = getattr(function, "require_examples", None)
    if look is not None:
        look(data)
    return FunctionObjective(function, accepts_key(function), data, batch_size, form)
