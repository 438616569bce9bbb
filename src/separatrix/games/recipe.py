r"""Recipe `gan`: more pictures, or more rows, like those of a file.

    generator: E s(-D(y)),   discriminator: E s(-D(x)) + E s(D(y)) + (gamma/2) E |grad D(x)|^2,   y = G(z)

and a third network that follows the generator as its running average, from which is sampled. Pictures are in [0, 1];
the columns of a table are centred and scaled for the networks, and put back for what is sampled. The last share of the
examples, in an order drawn by the seed, is never trained on: samples are judged beside it, and it beside training.
"""

import dataclasses
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from separatrix._errors import DataError, explain
from separatrix.data import load
from separatrix.data.dataset import digest
from separatrix.data.images import is_pictures
from separatrix.data.loading import named_set
from separatrix.diagnostics.samples.features import principal_features
from separatrix.diagnostics.samples.frechet import frechet_distance
from separatrix.diagnostics.samples.two_sample import classifier_two_sample
from separatrix.games.gan import GAN
from separatrix.games.instruments import collapse, sample_quality
from separatrix.games.networks import Discriminator, Generator, spectral_normalised
from separatrix.games.players import Players, gathered
from separatrix.training.recipes import Task, Training, register_recipe
from separatrix.training.recipes.columns import Column, matrix_of, read_table, settle
from separatrix.training.recipes.results import cloud, grid, number
from separatrix.training.recipes.strip import Drawing
from separatrix.training.recipes.training import length_of, require_counts, require_same_data
from separatrix.training.sampling import sampled

_JUDGED, _COMPONENTS, _SHOWN, _ON_THE_WAY = 1_000, 20, 64, 8


@register_recipe("gan")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial(Training):
    """Draw more pictures, or more rows of numbers, like those of a file."""

    epochs: int = 200
    """How often every example is used, if `steps` is not given."""
    learning_rate: float = 5e-4
    """Of Adam, without momentum beyond 0.5, for both networks."""
    loss: Literal["non_saturating", "saturating", "least_squares", "hinge", "wasserstein", "relativistic"] = (
        "non_saturating"
    )
    """What the two networks descend on."""
    penalty: float = 1.0
    """Weight of the slope of the discriminator at the data (R1): what keeps the two from going round in circles."""
    fake_penalty: float = 0.0
    """Weight of its slope at what is generated (R2)."""
    spectral: bool = False
    """Divide each layer of the discriminator by its largest singular value."""
    scheme: Literal["simultaneous", "alternating", "extragradient", "optimistic", "consensus"] = "alternating"
    """In which order they move."""
    strength: float = 0.1
    """Of the consensus term."""
    average: float = 0.995
    """Factor of the running average of the generator, from which is sampled."""
    latent: int = 16
    """Numbers of the noise."""
    width: int = 192
    """Units of a hidden layer."""
    depth: int = 2
    """Hidden layers."""
    by_class: bool = False
    """Of pictures in folders: draw the class that is asked for."""
    size: int | None = None
    """Resize pictures to a square of so many pixels."""
    colour: Literal["grey", "rgb"] | None = None
    """Make pictures all "grey" or all "rgb"."""
    drop: tuple[str, ...] = ()
    """Columns of a table to leave out."""
    delimiter: str | None = None
    """The sign between the columns of a text file."""
    held_out: float = 0.2
    """Share of the examples that is not trained on."""
    shape: tuple[int, ...] = ()
    """Settled from the data: the shape of an example."""
    classes: tuple[str, ...] = ()
    """Settled from pictures: the classes, where they are asked for."""
    columns: tuple[Column, ...] = ()
    """Settled from a table: the centre and scale of its columns."""

    def settled(self) -> "Adversarial":
        """The recipe with the form of the data in its fields."""
        require_counts(self)
        self._require_numbers()
        examples, labels, found = self._read()
        self._require_enough(examples)
        content = {"inputs": examples} | ({} if labels is None else {"targets": labels})
        # A game has no sharpness to be watched: `diagnose` reads its spectrum.
        return dataclasses.replace(self, shape=examples.shape[1:], digest=digest(content), watch=0, **found)

    def task(self) -> Task:
        """The game of generator, discriminator, and the generator's average, on the part for training."""
        (examples, labels), _ = self._parts()
        data = jnp.asarray(examples) if labels is None else (jnp.asarray(examples), jnp.asarray(labels))
        options = {"batch_size": min(self.batch_size, len(examples))} | length_of(self)
        initial = self.model(jax.random.fold_in(jax.random.key(self.seed), 0))
        game, key = self._game(), jax.random.key(self.seed)
        drawn = eqx.filter_jit(
            lambda generator: jnp.clip(game.sample(generator, key, _ON_THE_WAY, labels=None), 0.0, 1.0)
        )
        return Task(
            game, initial, data, self._players(), options,
            drawn=None if self.columns else Drawing(lambda model: drawn(model[2])),
        )  # fmt: skip

    def model(self, key: Any) -> Any:
        """New networks: generator, discriminator, and the average of the generator."""
        keys, count = jax.random.split(key), len(self.classes)
        generator = Generator(self.latent, self.shape, self.width, self.depth, classes=count, key=keys[0])
        discriminator = Discriminator(self.shape, self.width, self.depth, classes=count, key=keys[1])
        return generator, spectral_normalised(discriminator) if self.spectral else discriminator, generator

    def results(self, model: Any) -> dict[str, Any]:
        """How samples lie among the examples that were held out, beside examples of training."""
        (train, _), (test, _) = self._parts()
        count = min(_JUDGED, len(test), len(train))
        if count < 20:
            return {"test": {}, "pictures": self._pictures(model, train)}
        key = jax.random.key(self.seed)
        fake, real = np.asarray(self._drawn(model, jax.random.fold_in(key, 1), count, None)), test[:count]
        features = principal_features(train, min(_COMPONENTS, int(np.prod(self.shape)), len(train) - 1))
        pair = [features(np.asarray(sample).reshape(count, *self.shape)) for sample in (fake, real)]
        frechet = frechet_distance(*pair, key=key, permutations=0)
        beside = frechet_distance(features(train[:count]), pair[1], key=key, permutations=0)
        told = classifier_two_sample(*pair, key=key)
        quality, spread = sample_quality(pair[1], pair[0]), collapse(pair[0], pair[1])
        of = f"in {features.name} of {count} samples and {count} examples held out"
        test_numbers = {
            "frechet_distance": number(float(frechet.value), float(frechet.error), count, of),
            "frechet_distance_of_training": number(float(beside.value), float(beside.error), count, "what is best"),
            "two_sample_accuracy": number(float(told.value), float(told.error), count, "0.5 cannot be told apart"),
            "precision": number(float(quality.precision), None, count, "share of samples among the examples"),
            "recall": number(float(quality.recall), None, count, "share of examples among the samples"),
            "spread": number(float(spread.spread), None, count, "variance over that of the examples"),
        }
        return {"test": test_numbers, "pictures": self._pictures(model, train)}

    def sample(self, model: Any, *, count: int = 64, class_: str | None = None, seed: int = 0) -> dict[str, Any]:
        """Draw examples: pictures, or rows of a table.

        **Raises:** `ValueError` for a class that is none, or a model without classes.
        """
        if not 1 <= count <= 100_000:
            raise ValueError(explain("sample: count", count, "1 to 100000", "Leave it out for 64."))
        labels = None
        if class_ is not None:
            if class_ not in self.classes:
                known = ", ".join(self.classes) or "none: it was trained without --by-class"
                raise ValueError(explain("sample: class", repr(class_), f"one of {known}", "Name one of these."))
            labels = self.classes.index(class_)
        drawn = np.asarray(self._drawn(model, jax.random.key(seed), count, labels), float)
        if not self.columns:
            return {"pictures": np.clip(drawn, 0.0, 1.0)}
        return {"columns": {column.name: _back(column, drawn[:, i]) for i, column in enumerate(self.columns)}}

    def diagnose(self, model: Any) -> tuple[Any, Any, Any]:
        """The running update at these networks, its moments gathered there; its state, and the key of a batch."""
        (examples, labels), _ = self._parts()
        data = jnp.asarray(examples) if labels is None else (jnp.asarray(examples), jnp.asarray(labels))
        objective = sampled(self._game(), data, batch_size=min(self.batch_size, len(examples)), model=model)
        map, key = self._players()(objective), jax.random.key(self.seed)
        return map, gathered(map, eqx.filter(model, eqx.is_inexact_array), key), jax.random.fold_in(key, 1)

    def program(self, model: Any) -> tuple[Any, tuple[int, ...], str]:
        """An example for each row of noise (and its label), and what one row is."""
        return lambda noise: jax.vmap(lambda z: self._of_row(model[2], z))(noise), (self.latent + 1,), "float32"

    def _of_row(self, generator: Any, row: Any) -> Any:
        """An example of noise, and of the label in the last place."""
        return generator(row[:-1], row[-1].astype(jnp.int32))

    def _game(self) -> GAN:
        fake = None if self.fake_penalty == 0 else self.fake_penalty
        return GAN(self.latent, self.loss, self.penalty, fake_penalty=fake, classes=len(self.classes) or None)

    def _players(self) -> Players:
        adam, follow = optax.adam(self.learning_rate, b1=0.5), optax.sgd(1 - self.average)
        return Players(adam, adam, follow, scheme=self.scheme, strength=self.strength)

    def _drawn(self, model: Any, key: Any, count: int, labels: Any) -> Any:
        game = self._game()
        return eqx.filter_jit(lambda net, k: game.sample(net, k, count, labels=labels))(model[2], key)

    def _pictures(self, model: Any, train: Any) -> list[dict[str, Any]]:
        drawn = np.asarray(self._drawn(model, jax.random.key(self.seed), _SHOWN, None))
        if not self.columns:
            real = train[: _SHOWN // 2]
            return [grid(np.clip(drawn, 0.0, 1.0), "drawn"), grid(np.clip(real, 0.0, 1.0), "examples")]
        if len(self.columns) < 2:
            return []
        many = np.asarray(self._drawn(model, jax.random.key(self.seed), _JUDGED, None))
        first, second = self.columns[:2]
        sets = {
            name: np.stack([_back(first, points[:, 0]), _back(second, points[:, 1])], axis=1)
            for name, points in (("data", train[:_JUDGED]), ("drawn", many))
        }
        return [cloud(sets, "data and samples", (first.name, second.name))]

    def _require_numbers(self) -> None:
        for name, low, high in (("penalty", 0, 1e6), ("fake_penalty", 0, 1e6), ("strength", 0, 1e6)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(explain(f"gan: {name}", value, f"{low} to {high:g}", "Leave it out."))
        for name in ("average", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(explain(f"gan: {name}", getattr(self, name), "0 to below 1", "Leave it out."))
        for name, none in (("patience", None), ("watch", 0)):
            if getattr(self, name) not in (None, none):
                do = "Leave it out: a game has no one loss to be watched. See separatrix diagnose RUN."
                raise ValueError(explain(f"gan: {name}", getattr(self, name), "nothing", do))
        if self.latent < 1:
            raise ValueError(explain("gan: latent", self.latent, "at least 1", "Take 16."))

    def _require_enough(self, examples: Any) -> None:
        train = len(examples) - round(self.held_out * len(examples))
        if train < 2:
            do = "Add examples, or hold out fewer."
            raise DataError(explain(f"gan: {self.data}", f"{train} examples to train on", "2 at least", do))

    def _read(self) -> tuple[Any, Any, dict[str, Any]]:
        """Examples, labels where they are asked for, and what is settled from them."""
        if named_set(self.data) is not None or self.data.is_dir():
            return self._read_pictures()
        for option in ("size", "colour"):
            if getattr(self, option) is not None:
                do = "Leave it out, or name a folder of pictures."
                raise ValueError(explain(option, getattr(self, option), "no such option for a table", do))
        if self.by_class:
            raise ValueError(explain("by_class", "true", "no such option for a table", "Leave it out."))
        table = read_table(self.data, self.delimiter, self.columns or None)
        kept = tuple(name for name in table.names if name not in self.drop)
        for name in kept:
            if table.kind(name) != "number" or not bool(np.all(table.present(name))):
                got = f"a column of {table.kind(name)}" if table.kind(name) != "number" else "missing values"
                do = f"Leave it out: --drop {name}"
                raise DataError(explain(f"{self.data}: column {name!r}", got, "numbers without gaps", do))
        if not kept:
            raise DataError(explain(str(self.data), "no column", "one at least", "Drop fewer."))
        columns = self.columns or settle(table, table, kept)
        return matrix_of(columns, table)[0], None, {"columns": columns}

    def _read_pictures(self) -> tuple[Any, Any, dict[str, Any]]:
        named = named_set(self.data) is not None
        if not named and not is_pictures(self.data) and not any("idx" in entry.name for entry in self.data.iterdir()):
            do = "Name a folder with pictures, or with pictures in a folder for each class."
            raise DataError(explain(str(self.data), "a folder without pictures", "PNG, JPEG, BMP or WebP files", do))
        found = load(str(self.data)) if named else load(self.data, size=self.size, colour=self.colour)
        if found.inputs.ndim < 3:
            got = f"inputs of shape {found.inputs.shape[1:]}"
            do = "Name a folder of pictures, or a table."
            raise DataError(explain(f"gan: {self.data}", got, "pictures", do))
        examples = np.asarray(found.inputs, np.float32)
        examples = examples / max(1.0, float(examples.max()))
        if not self.by_class:
            return examples, None, {}
        if found.targets is None:
            do = "Put the pictures of each class into a folder of its own, or leave out --by-class."
            raise DataError(explain(f"gan: {self.data}", "pictures without classes", "a folder a class", do))
        labels = np.asarray(found.targets, np.int32)
        classes = tuple(found.classes or (str(code) for code in range(int(labels.max()) + 1)))
        return examples, labels, {"classes": classes}

    def _parts(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """(examples, labels) to train on, and held out."""
        examples, labels, _ = self._read()
        content = {"inputs": examples} | ({} if labels is None else {"targets": labels})
        require_same_data(self, digest(content))
        order = np.asarray(jax.random.permutation(jax.random.key(self.seed), len(examples)))
        kept = len(examples) - round(self.held_out * len(examples))
        parts = (order[:kept], order[kept:])
        first, second = ((examples[part], None if labels is None else labels[part]) for part in parts)
        return first, second


def _back(column: Column, values: Any) -> list[float]:
    """A column of the table's own numbers."""
    return [float(value) for value in values * column.scale + column.fills[0]]
