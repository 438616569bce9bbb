r"""Supervised learning: the mean loss of a model over data, as an objective.

    L(theta) = (1/N) sum_i l(model(theta, x_i), y_i),

and, where a key is given and a batch size was chosen, the mean over B indices drawn independently and uniformly, whose
expectation is L and whose gradient has covariance Sigma/B.
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from separatrix._errors import explain
from separatrix._types import Checked, Function, Scalar
from separatrix.systems import ranges
from separatrix.systems.objective import FunctionObjective, LossOfOutputs
from separatrix.systems.signature import as_pytree, freeze
from separatrix.training._examples import check_batch_size, examples_of, pair_of
from separatrix.training._forms import PlainForm
from separatrix.training._models import require_stateless


class OfExamples(eqx.Module):
    """The outputs of a model, example by example."""

    def __call__(self, model: Function, batch: Any) -> Any:
        return jax.vmap(model)(batch[0])


class MeanOf(eqx.Module):
    """The mean of a loss l(output, target) over examples."""

    loss: Function = eqx.field(converter=as_pytree)

    def __call__(self, predictions: Any, batch: Any) -> Scalar:
        return jnp.mean(jax.vmap(self.loss)(predictions, batch[1]))


def supervised(
    model: Any, data: Any, loss: Any = "cross_entropy", *, batch_size: Checked[int | None] = None
) -> FunctionObjective:
    r"""Make an objective of a model, data and a loss.

    **Arguments:**

    - `model`: an `equinox.Module` that maps one input to one output. Its inexact arrays are the parameters;
      `objective.initial` holds them, `objective.model(parameters)` puts them back.
    - `data`: a pair (inputs, targets) with equal leading axes, or an object with `inputs` and `targets`.
    - `loss`: "cross_entropy" (integer targets, from 0 to the number of outputs), "squared_error" (half the squared
      distance), or a function l(output, target).
    - `batch_size`: how many examples a key draws, independently and with replacement; None for all.

    **Returns:** an `Objective`, with its `data`; `split()` gives the outputs and the loss of the outputs.

    **Raises:** `ValueError` for data of unequal length, empty data, data that is not finite, a batch larger than the
    data, classes outside the model's outputs, or an unknown loss; `TypeError` for a model without parameters or with state
    of its own (batch norm, dropout), or classes that are no integers.

    **Example:**

    >>> import equinox as eqx, jax, jax.numpy as jnp, separatrix as sx
    >>> model = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    >>> objective = sx.supervised(model, (jnp.zeros((4, 2)), jnp.array([0, 1, 2, 0])), batch_size=2)
    >>> descent = sx.optimization.GradientDescent(objective, 0.1)
    >>> run = sx.evolve(descent, objective.initial, steps=10, key=jax.random.key(1), save="last")
    >>> str(run.outcome)
    'completed'
    """
    examples, count = examples_of(_pair(data), "supervised: data")
    check_batch_size(batch_size, count, "supervised: batch_size")
    require_stateless(model, "supervised: model")
    parameters, frozen = eqx.partition(model, eqx.is_inexact_array)
    if not jax.tree.leaves(parameters) or not callable(model):
        raise TypeError(
            explain(
                "supervised: model",
                type(model).__name__,
                "an equinox.Module with floating-point arrays",
                "Wrap a function of (parameters, input) in a Module that holds its parameters.",
            )
        )
    function = LossOfOutputs(OfExamples(), MeanOf(_loss(loss)))
    pair = examples["inputs"], examples["targets"]
    objective = FunctionObjective(function, False, pair, batch_size, PlainForm(freeze(frozen)), parameters)
    _check_targets(objective)
    return objective


def with_data(objective: FunctionObjective, data: Any, batch_size: Checked[int | None]) -> FunctionObjective:
    """The same loss on other data, or with another batch size; what is None stays."""
    of_pairs = isinstance(getattr(objective.function, "outer", None), MeanOf)
    if data is not None and of_pairs:
        examples = examples_of(_pair(data), "supervised: data")[0]
        data = examples["inputs"], examples["targets"]
    elif data is not None:
        data = examples_of(data, "sampled: data")[0]
    data = objective.data if data is None else data
    check_batch_size(batch_size, jax.tree.leaves(data)[0].shape[0], "supervised: batch_size")
    size = objective.batch_size if batch_size is None else batch_size
    changed = dataclasses.replace(objective, data=data, batch_size=size)
    if of_pairs:
        _check_targets(changed)
    return changed


def accuracy(model: Function, inputs: Any, targets: Any) -> Scalar:
    """Return the share of inputs whose largest output is at the target's index; outputs that are not finite miss.

    **Arguments:** a model of one input; inputs and integer targets, examples on the first axis.

    **Returns:** a number from 0 to 1, in the dtype of the outputs.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.training.accuracy(lambda x: x, jnp.eye(2), jnp.array([0, 0])).item()
    0.5
    """
    outputs = jax.vmap(model)(inputs)
    wanted = jnp.asarray(targets)
    # Integers of any width are compared, under strict promotion too.
    dtype = wanted.dtype if jnp.issubdtype(wanted.dtype, jnp.inexact) else int
    hits = (jnp.argmax(outputs, axis=-1).astype(dtype) == wanted.astype(dtype)) & jnp.all(
        jnp.isfinite(outputs), axis=-1
    )
    return jnp.mean(hits, dtype=outputs.dtype)


def cross_entropy(output: Any, target: Any) -> Any:
    """-log softmax(output)[target]; NaN for a target that is no class."""
    loss = optax.softmax_cross_entropy_with_integer_labels(output, target)
    return jnp.where((target >= 0) & (target < output.shape[-1]), loss, jnp.nan)


def squared_error(output: Any, target: Any) -> Any:
    """|output - target|^2 / 2."""
    return 0.5 * jnp.sum((output - target) ** 2)


_LOSSES = {"cross_entropy": cross_entropy, "squared_error": squared_error}


def _loss(loss: Any) -> Function:
    if callable(loss):
        return loss
    if loss not in _LOSSES:
        raise ValueError(
            explain(
                "supervised: loss", repr(loss), f"one of {sorted(_LOSSES)} or a function", "Pass l(output, target)."
            )
        )
    return _LOSSES[loss]


def _check_targets(objective: FunctionObjective) -> None:
    """Refuse targets that the model's outputs do not fit: another size, or no class."""
    inputs, targets = objective.data
    loss = getattr(getattr(objective.function, "outer").loss, "func", None)  # noqa: B009
    if loss not in (cross_entropy, squared_error):
        return
    one = jax.tree.map(lambda leaf: leaf[0], inputs)
    output = jax.eval_shape(lambda x: objective.model(objective.initial)(x), one)
    if loss is squared_error:
        return _check_sizes(output, targets)
    if not isinstance(output, jax.ShapeDtypeStruct) or len(output.shape) != 1:
        got = output.shape if isinstance(output, jax.ShapeDtypeStruct) else type(output).__name__
        do = "Give the model one output for each class."
        raise ValueError(explain("supervised: the model's output", got, "a vector, one entry a class", do))
    do = 'Number the classes from 0, give the model one output for each, or take loss="squared_error".'
    ranges.indices("supervised: targets", targets, output.shape[0], do)
    return None


def _check_sizes(output: Any, targets: Any) -> None:
    got = f"outputs of shape {getattr(output, 'shape', None)} and targets of shape {jnp.shape(targets)[1:]}"
    if math.prod(getattr(output, "shape", (0,))) != math.prod(jnp.shape(targets)[1:]):
        do = "Give each example as many targets as the model has outputs."
        raise ValueError(explain("supervised: targets", got, "equal sizes", do))


def _pair(data: Any) -> Any:
    data = pair_of(data)
    if not isinstance(data, tuple | list) or len(data) != 2:
        got = type(data).__name__
        raise ValueError(explain("supervised: data", got, "a pair (inputs, targets)", "Pass both, examples first."))
    return {"inputs": data[0], "targets": data[1]}
