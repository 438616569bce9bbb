r"""Supervised learning: the mean loss of a model over data, as an objective.

    L(theta) = (1/N) sum_i l(model(theta, x_i), y_i),

and, where a key is given and a batch size was chosen, the mean over B indices drawn independently and uniformly, whose
expectation is L and whose gradient has covariance Sigma/B.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from separatrix._errors import explain
from separatrix._types import Checked, Function, Key, Scalar, State
from separatrix.systems import ranges
from separatrix.systems.objective import Objective
from separatrix.systems.signature import Frozen, as_pytree, freeze
from separatrix.training._examples import check_batch_size, draw, examples_of, pair_of, taken
from separatrix.training._models import require_stateless


class Supervised(Objective):
    """The mean loss of a model over data; see `supervised`."""

    frozen: Frozen
    inputs: Any
    targets: Any
    loss: Callable[..., Any]
    initial: State
    batch_size: int | None = eqx.field(static=True)

    def __call__(self, parameters: State, *, key: Key | None = None) -> Scalar:
        outputs, loss = self.split(key=key)
        return loss(outputs(parameters))

    def model(self, parameters: State) -> Function:
        """Return the model with these parameters: a function of one input."""
        return eqx.combine(parameters, self.frozen.thaw())

    def split(self, *, key: Key | None = None) -> tuple[Function, Function]:
        """Return (outputs of the parameters, loss of the outputs), whose composition the objective is."""
        inputs, targets = self._sample(key)
        outputs = lambda parameters: jax.vmap(self.model(parameters))(inputs)  # noqa: E731
        return outputs, lambda predictions: jnp.mean(jax.vmap(self.loss)(predictions, targets))

    def on(self, data: Any = None, batch_size: Checked[int | None] = None) -> "Supervised":
        """Return the same loss on other data, or with another batch size; what is None stays."""
        examples = {"inputs": self.inputs, "targets": self.targets}
        if data is not None:
            examples = examples_of(_pair(data), "supervised: data")[0]
        check_batch_size(batch_size, examples["targets"].shape[0], "supervised: batch_size")
        size = self.batch_size if batch_size is None else batch_size
        changed = dataclasses.replace(self, **examples, batch_size=size)
        _check_targets(changed)
        return changed

    def on_batch(self, batch: Any) -> "Supervised":
        """Return the same loss on one batch (inputs, targets), all of it."""
        return dataclasses.replace(self, inputs=batch[0], targets=batch[1], batch_size=None)

    def at(self, places: Any) -> "Supervised":
        """Return the same loss on the examples at some places of its data."""
        return self.on_batch(taken((self.inputs, self.targets), places))

    def accuracy(self, parameters: State, inputs: Any, targets: Any) -> Scalar:
        """Return the share of inputs whose largest output is at the target's index; outputs that are not finite miss."""
        outputs = jax.vmap(self.model(parameters))(inputs)
        hits = (jnp.argmax(outputs, axis=-1) == targets) & jnp.all(jnp.isfinite(outputs), axis=-1)
        return jnp.mean(hits, dtype=outputs.dtype)

    def _sample(self, key: Key | None) -> tuple[Any, Any]:
        if key is None or self.batch_size is None:
            return self.inputs, self.targets
        return draw(key, (self.inputs, self.targets), self.batch_size)


def supervised(
    model: Any, data: Any, loss: Any = "cross_entropy", *, batch_size: Checked[int | None] = None
) -> Supervised:
    r"""Make an objective of a model, data and a loss.

    **Arguments:**

    - `model`: an `equinox.Module` that maps one input to one output. Its inexact arrays are the parameters;
      `objective.initial` holds them, `objective.model(parameters)` puts them back.
    - `data`: a pair (inputs, targets) with equal leading axes, or an object with `inputs` and `targets`.
    - `loss`: "cross_entropy" (integer targets, from 0 to the number of outputs), "squared_error" (half the squared
      distance), or a function l(output, target).
    - `batch_size`: how many examples a key draws, independently and with replacement; None for all.

    **Returns:** a `Supervised` objective.

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
    objective = Supervised(
        freeze(frozen), examples["inputs"], examples["targets"], as_pytree(_loss(loss)), parameters, batch_size
    )
    _check_targets(objective)
    return objective


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


def _check_targets(objective: Supervised) -> None:
    """Refuse targets that the model's outputs do not fit: another size, or no class."""
    loss = getattr(objective.loss, "func", None)
    if loss not in (cross_entropy, squared_error):
        return
    one = jax.tree.map(lambda leaf: leaf[0], objective.inputs)
    output = jax.eval_shape(lambda x: objective.model(objective.initial)(x), one)
    if loss is squared_error:
        return _check_sizes(output, objective.targets)
    if not isinstance(output, jax.ShapeDtypeStruct) or len(output.shape) != 1:
        got = output.shape if isinstance(output, jax.ShapeDtypeStruct) else type(output).__name__
        do = "Give the model one output for each class."
        raise ValueError(explain("supervised: the model's output", got, "a vector, one entry a class", do))
    do = 'Number the classes from 0, give the model one output for each, or take loss="squared_error".'
    ranges.indices("supervised: targets", objective.targets, output.shape[0], do)
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
