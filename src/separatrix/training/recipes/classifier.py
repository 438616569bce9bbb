r"""Classifier: which of K classes does an input belong to?

    p(k | x) = softmax(net(x))_k,     loss = mean of -log p(y | x)

A table goes through a multilayer perceptron, pictures through a small residual convolution network.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from separatrix._errors import DataError, explain
from separatrix.training.recipes.examples import Parts, Supervising, inputs_of, is_pictures, parts_of, require_file
from separatrix.training.recipes.nets import ConvNet, perceptron
from separatrix.training.recipes.recipe import Task, register_recipe
from separatrix.training.recipes.results import accuracy, confusion, mean
from separatrix.training.recipes.training import length_of, require_counts, validated_by
from separatrix.training.supervision import accuracy as share_of_hits, supervised

_MOST_CLASSES = 1_000


@register_recipe("classifier")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier(Supervising):
    """Predict a class from the columns of a table, or from pictures in folders, one a class."""

    classes: tuple[str, ...] = ()
    """Settled from the data: what the codes of the target mean."""

    def settled(self) -> "Classifier":
        """The recipe with columns, classes and scales in its fields."""
        require_counts(self)
        require_file(self.data)
        parts = self._parts()
        if len(parts.classes) < 2:
            do = "Put the pictures of each class into a folder of its own."
            raise DataError(explain(str(self.data), f"only {', '.join(parts.classes)}", "two classes or more", do))
        return dataclasses.replace(self, classes=parts.classes, **parts.settled)

    def task(self) -> Task:
        """Cross entropy on the training part; loss and accuracy on the part for validation."""
        parts = self._parts()
        inputs, targets = parts.train
        initial = self.model(jax.random.fold_in(jax.random.key(self.seed), 0))
        size = min(self.batch_size, len(inputs))
        objective = supervised(initial, (inputs, targets), "cross_entropy", batch_size=size)
        options: dict[str, Any] = {"batch_size": size} | length_of(self)
        held = None if parts.validation is None else tuple(map(jnp.asarray, parts.validation))
        options |= validated_by(self, held)
        if held is not None:
            trained = lambda model: share_of_hits(model, *held)  # noqa: E731
            options["metrics"] = {"accuracy": trained}
        return Task(objective, initial, parts.train, optax.adam(self.learning_rate), options, parts.notes)

    def model(self, key: Any) -> Any:
        """A new network."""
        if len(self.shape) > 1:
            channels = 1 if len(self.shape) == 2 else self.shape[2]
            return ConvNet(channels, len(self.classes), self.width, self.depth, key=key)
        return perceptron(math.prod(self.shape), len(self.classes), self.width, self.depth, key=key)

    def results(self, model: Any) -> dict[str, Any]:
        """Accuracy and cross entropy on the part for testing, and which class was taken for which."""
        parts = self._parts()
        if parts.test is None:
            return {"test": {}, "pictures": []}
        inputs, targets = parts.test
        log_p = _log_probabilities(model, inputs)
        return {"test": _scores(log_p, targets), "pictures": [confusion(targets, log_p.argmax(axis=1), self.classes)]}

    def predict(self, model: Any, path: Path) -> dict[str, Any]:
        """The likeliest class of each row or picture of a file, and how likely it is; of a file with classes the scores.

        **Returns:** `columns`, lists by name; `notes`, what must be reported of the file; `numbers`, if it has classes.
        """
        found = inputs_of(self, path, "category")
        log_p = _log_probabilities(model, found.inputs)
        best = log_p.argmax(axis=1)
        chances = np.exp(log_p[np.arange(len(best)), best])
        columns = {
            "row" if len(self.shape) == 1 else "picture": found.names,
            self.target or "class": [self.classes[code] for code in best],
            "probability": [float(chance) for chance in chances],
        }
        numbers, notes = self._scored(log_p, found.targets)
        return {"columns": columns, "notes": [*found.notes, *notes]} | ({"numbers": numbers} if numbers else {})

    def _scored(self, log_p: Any, words: list[str | None] | None) -> tuple[dict[str, Any], list[str]]:
        """Scores on the rows whose class training knew, and what must be reported of the others."""
        place = {name: code for code, name in enumerate(self.classes)}
        said = [None if word is None else place.get(_canonical(word, place), -1) for word in words or ()]
        rows = [row for row, code in enumerate(said) if code is not None and code >= 0]
        strange = sorted({str(word) for word, code in zip(words or (), said, strict=True) if code == -1})
        notes = [f"not scored: rows of {', '.join(strange[:5])}, no class of the training"] if strange else []
        return (_scores(log_p[rows], np.array([said[row] for row in rows])) if rows else {}), notes

    def program(self, model: Any) -> tuple[Any, tuple[int, ...], str]:
        """log p of the classes for a batch of inputs, and what one input is."""
        return lambda x: jax.nn.log_softmax(jax.vmap(model)(x)), self.shape, "float32"

    def _parts(self) -> Parts:
        parts = parts_of(self)
        if is_pictures(self):
            return parts
        classes, number = self.classes or _classes_of(self, parts), {}
        if not parts.classes:
            number = {word: code for code, word in enumerate(classes)}

        def coded(part: Any) -> Any:
            if part is None or parts.classes:
                return part
            return part[0], np.array([number[_word(value)] for value in part[1]], np.int32)

        made = {name: coded(getattr(parts, name)) for name in ("train", "validation", "test")}
        return dataclasses.replace(parts, classes=classes, **made)


def _classes_of(recipe: Classifier, parts: Parts) -> tuple[str, ...]:
    """The words of the target, or its different numbers in order."""
    values = [part[1] for part in (parts.train, parts.validation, parts.test) if part is not None]
    found = parts.classes or tuple(_word(value) for value in np.unique(np.concatenate(values)))
    where = f"{recipe.data}: column {recipe.target!r}"
    if len(found) < 2:
        raise DataError(explain(where, f"only {', '.join(found)}", "two classes or more", "Name another target."))
    many = len(found) > _MOST_CLASSES or (not parts.classes and len(found) > max(20, sum(map(len, values)) // 5))
    if many:
        do = "Train a regressor on it, or name another target."
        raise DataError(explain(where, f"{len(found)} different values", "the classes of a classifier", do))
    return found


def _canonical(word: str, known: dict[str, int]) -> str:
    """A class as training knew it: 1.0 is 1 where classes are numbers."""
    try:
        return word if word in known else _word(np.float64(word))
    except ValueError:
        return word


def _scores(log_p: Any, targets: Any) -> dict[str, Any]:
    """Accuracy and cross entropy."""
    losses = -log_p[np.arange(len(targets)), targets]
    return {"accuracy": accuracy(log_p.argmax(axis=1) == targets), "cross_entropy": mean(losses, "in nats")}


def _word(value: Any) -> str:
    number = value.item()
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)


def _log_probabilities(model: Any, inputs: Any) -> Any:
    """log p of all classes, a row an input; in pieces, so that large files fit."""
    apply = eqx.filter_jit(lambda net, x: jax.nn.log_softmax(jax.vmap(net)(x)))
    found = [np.asarray(apply(model, jnp.asarray(inputs[at : at + 1024]))) for at in range(0, len(inputs), 1024)]
    return np.concatenate(found)
