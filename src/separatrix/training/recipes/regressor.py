r"""Regressor: which number belongs to an input?

    y = m + s net(x),     loss = mean of (net(x) - (y - m)/s)^2 / 2

with mean m and standard deviation s of the target on the training rows.
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
from separatrix.data.loading import named_set
from separatrix.training.recipes.examples import Parts, Supervising, inputs_of, is_pictures, parts_of, require_file
from separatrix.training.recipes.nets import ConvNet, perceptron
from separatrix.training.recipes.recipe import Task, register_recipe
from separatrix.training.recipes.results import mean, number, rms, scatter
from separatrix.training.recipes.training import length_of, require_counts, validated_by
from separatrix.training.supervision import supervised


@register_recipe("regressor")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Regressor(Supervising):
    """Predict a number from the columns of a table, or from pictures that a table or their folders give a number."""

    mean: float = 0.0
    """Settled from the data: of the target on the training rows."""
    scale: float = 1.0
    """Settled from the data: the standard deviation of the target on the training rows."""

    def settled(self) -> "Regressor":
        """The recipe with columns and scales in its fields."""
        require_counts(self)
        require_file(self.data)
        parts = self._parts()
        targets = parts.train[1]
        spread = float(targets.std())
        if not spread > 0:
            where, do = f"{self.data}: column {self.target!r}", "Name another target."
            raise DataError(explain(where, f"{targets[0]:g} in every training row", "numbers that differ", do))
        return dataclasses.replace(self, mean=float(targets.mean()), scale=spread, **parts.settled)

    def task(self) -> Task:
        """Half the squared error of the scaled target; the root mean square of the error on the part for validation."""
        parts = self._parts()
        inputs = parts.train[0]
        initial = self.model(jax.random.fold_in(jax.random.key(self.seed), 0))
        size = min(self.batch_size, len(inputs))
        train = (inputs, self._scaled(parts.train[1]))
        objective = supervised(initial, train, "squared_error", batch_size=size)
        options: dict[str, Any] = {"batch_size": size} | length_of(self)
        held = None if parts.validation is None else (parts.validation[0], self._scaled(parts.validation[1]))
        options |= validated_by(self, held)
        return Task(objective, initial, train, optax.adam(self.learning_rate), options, parts.notes)

    def model(self, key: Any) -> Any:
        """A new network."""
        if len(self.shape) > 1:
            return ConvNet(1 if len(self.shape) == 2 else self.shape[2], 1, self.width, self.depth, key=key)
        return perceptron(math.prod(self.shape), 1, self.width, self.depth, key=key)

    def results(self, model: Any) -> dict[str, Any]:
        """Root mean square and mean size of the error on the part for testing, and the share that is explained."""
        parts = self._parts()
        if parts.test is None:
            return {"test": {}, "pictures": []}
        inputs, targets = parts.test
        predicted = self._values(model, inputs)
        return {"test": self._scores(predicted, targets), "pictures": [scatter(targets, predicted, self._named)]}

    def predict(self, model: Any, path: Path) -> dict[str, Any]:
        """The number for each row or picture of a file; of a file that has the numbers the errors too.

        **Returns:** `columns`, lists by name; `notes`, what must be reported of the file; `numbers`, if it has targets.
        """
        found = inputs_of(self, path, "number")
        values = self._values(model, found.inputs)
        columns = {"row" if len(self.shape) == 1 else "picture": found.names, self._named: values.tolist()}
        true = _numbers(found.targets)
        rows = np.flatnonzero(~np.isnan(true))
        numbers = {"numbers": self._scores(values[rows], true[rows])} if len(rows) else {}
        return {"columns": columns, "notes": found.notes} | numbers

    @property
    def _named(self) -> str:
        return self.target or "number"

    def _scores(self, predicted: Any, targets: Any) -> dict[str, Any]:
        """Root mean square and mean size of the error, and the share of the variance that is explained."""
        squares = (predicted - targets) ** 2
        of, around = f"in units of {self._named}", float(np.mean((targets - self.mean) ** 2))
        found = {"rms_error": rms(squares, of), "mean_absolute_error": mean(np.abs(predicted - targets), of)}
        if around > 0:
            about = "of the variance around the training mean is explained"
            found["r_squared"] = number(1 - float(np.mean(squares)) / around, None, len(targets), about)
        return found

    def program(self, model: Any) -> tuple[Any, tuple[int, ...], str]:
        """The numbers for a batch of inputs, and what one input is."""
        return lambda x: self.mean + self.scale * jax.vmap(model)(x)[:, 0], self.shape, "float32"

    def _parts(self) -> Parts:
        parts = parts_of(self)
        if is_pictures(self):
            return self._of_folders(parts)
        if parts.classes:
            where, do = f"{self.data}: column {self.target!r}", "Train a classifier on it, or name another target."
            raise DataError(explain(where, f"words such as {parts.classes[0]!r}", "numbers", do))
        if parts.train[1].dtype.kind not in "biuf":
            where, do = f"{self.data}: column {self.target!r}", "Name another target."
            raise DataError(explain(where, "dates", "numbers", do))
        made = {
            name: None if part is None else (part[0], np.asarray(part[1], np.float64))
            for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
        }
        return dataclasses.replace(parts, **made)

    def _of_folders(self, parts: Parts) -> Parts:
        """Pictures whose folders are called by numbers."""
        values = _numbers(list(parts.classes))
        if named_set(self.data) is not None or not np.isfinite(values).all():
            got, expected = "pictures", "a table with a column of numbers to predict, or folders called by numbers"
            raise ValueError(explain(f"regressor: {self.data}", got, expected, "Train a classifier on pictures."))
        made = {
            name: None if part is None else (part[0], values[part[1]])
            for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
        }
        return dataclasses.replace(parts, classes=(), **made)

    def _scaled(self, targets: Any) -> Any:
        return ((targets - self.mean) / self.scale).astype(np.float32)[:, None]

    def _values(self, model: Any, inputs: Any) -> Any:
        apply = eqx.filter_jit(lambda net, x: jax.vmap(net)(x)[:, 0])
        found = [np.asarray(apply(model, jnp.asarray(inputs[at : at + 4096]))) for at in range(0, len(inputs), 4096)]
        return self.mean + self.scale * np.concatenate(found).astype(np.float64)


def _numbers(words: list[Any] | None) -> Any:
    """Numbers of words; NaN for one that is none."""

    def of(word: Any) -> float:
        try:
            return float("nan" if word is None else word)
        except ValueError:
            return float("nan")

    return np.array([of(word) for word in words or ()], np.float64)
