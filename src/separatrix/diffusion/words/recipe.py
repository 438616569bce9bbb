r"""Recipe `words`: pictures drawn as a caption says.

    pictures by class   composed: "two small sneakers, dark, on the left"; a share of the combinations is never shown
    a table             pictures and captions of your own, one a row

Latents of an autoencoder with a KL term, a denoiser of them that attends to the words, guidance, few steps.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import DataError, DataMissing, explain, unknown
from separatrix.data import names, split
from separatrix.data.dataset import digest
from separatrix.diffusion.recipe import SAMPLERS
from separatrix.diffusion.words.captions import NOUNS, Vocabulary, composed_vocabulary
from separatrix.diffusion.words.composing import Composed, compose_pictures, withheld
from separatrix.diffusion.words.judge import CaptionJudge
from separatrix.diffusion.words.latent import (
    CODER_WIDTH,
    LatentMatching,
    LatentPair,
    drawn,
    optimizer_of,
    require_sides,
    scale_of,
    tokens_for,
    untrained_pair,
)
from separatrix.systems import ranges
from separatrix.training.recipes import Task, Training, register_recipe
from separatrix.training.recipes.columns import read_table
from separatrix.training.recipes.pictures import column_of_pictures, read_listed, split_of_folder
from separatrix.training.recipes.results import accuracy, grid, mean
from separatrix.training.recipes.training import require_counts, require_same_data, steps_of, validated_by

_SHARE = 1 / 6
_HELD, _SHOWN, _JUDGED = 500, 16, 400


@dataclasses.dataclass(frozen=True, eq=False)
class WordsParts:
    """Pictures and captions by part; None for a part that is not there."""

    train: tuple[Any, Any]
    validation: tuple[Any, Any] | None
    test: tuple[Any, Any] | None
    settled: dict[str, Any]


@register_recipe("words")
@dataclasses.dataclass(frozen=True, kw_only=True)
class WordsRecipe(Training):
    """Learn to draw pictures from captions."""

    epochs: int = 10
    """How often every example is used, if `steps` is not given."""
    batch_size: int = 64
    """Examples a step; all, where there are fewer."""
    learning_rate: float = 2e-3
    """Of Adam, at its highest; it rises over a fiftieth of the run and falls to 0 by a cosine."""
    captions: str | None = None
    """Of a table: the column of captions; another one has the paths of the pictures. Without a table they are composed."""
    pictures: str | None = None
    """Of a table: the column of paths, if there are several."""
    delimiter: str | None = None
    """The sign between the columns of a text file."""
    examples: int = 20_000
    """Pictures to compose for training."""
    side: int = 32
    """Pixels of a side of a composed picture, a multiple of 8."""
    unsaid: float = 0.1
    """How often a composed caption leaves out each of count, size, brightness and place."""
    size: int | None = None
    """Resize pictures to a square of so many pixels."""
    colour: Literal["grey", "rgb"] | None = None
    """Make pictures all "grey" or all "rgb"; composed ones are grey."""
    fractions: tuple[float, float, float] = (0.85, 0.05, 0.1)
    """Parts for training, validation and test."""
    width: int = 64
    """Channels of the denoiser, a multiple of 4."""
    depth: int = 3
    """Blocks of the denoiser."""
    channels: int = 8
    """Of a latent, at a quarter of the sides."""
    average_width: float = 0.1
    """Relative width of the average of the weights, which is the model; its memory grows with the run."""
    judge_steps: int = 0
    """Steps of a judge of composed pictures, which at the end counts captions drawn right; 1500 take five CPU minutes."""
    nouns: tuple[str, ...] = ()
    """Settled from the classes: what the objects of composed pictures are called."""
    words: tuple[str, ...] = ()
    """Settled from captions of your own: their words."""
    length: int = 8
    """Settled from the captions: tokens of the longest, and one that begins it."""
    shape: tuple[int, ...] = ()
    """Settled from the data: the shape of a picture."""
    center: float = 0.0
    """Settled from the pictures: the mean level of training."""
    spread: float = 1.0
    """Settled from the pictures: the standard deviation of levels."""

    def settled(self) -> "WordsRecipe":
        """The recipe with shape, words and scales in its fields."""
        require_counts(self)
        for name in ("examples", "channels"):
            ranges.whole(f"words: {name}", getattr(self, name))
        ranges.whole("words: judge_steps", self.judge_steps, least=0)
        return dataclasses.replace(self, **self._parts().settled)

    def task(self) -> Task:
        """Bound and denoising on the training part; the same on the part for validation, by the averaged weights."""
        parts = self._parts()
        steps, size = steps_of(self, len(parts.train[0])), min(self.batch_size, len(parts.train[0]))
        options: dict[str, Any] = {"batch_size": size, "steps": steps, "draw": "replacement"}
        options |= validated_by(self, None if parts.validation is None else self._batch(parts.validation))
        initial = self.model(jax.random.fold_in(jax.random.key(self.seed), 0))
        return Task(
            LatentMatching(), initial, self._batch(parts.train), optimizer_of(self.learning_rate, steps), options
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that captions may have."""
        return composed_vocabulary(self.nouns) if self.nouns else Vocabulary(self.words, self.length)

    def model(self, key: Any) -> LatentPair:
        """A new model."""
        form = {"shape": self.shape, "width": self.width, "depth": self.depth, "channels": self.channels}
        form["coder"] = min(CODER_WIDTH, self.width)
        return untrained_pair(form, self.vocabulary, key)

    def results(self, model: Any) -> dict[str, Any]:
        """Losses on the part for testing, and pictures of its captions, beside what a judge says of them."""
        parts, key = self._parts(), jax.random.key(self.seed)
        held = parts.test or parts.validation or parts.train
        terms = eqx.filter_jit(LatentMatching().terms)(model, self._batch((held[0][:_HELD], held[1][:_HELD])), key=key)
        pixels = math.prod(self.shape)
        found = {
            "bound": mean(terms[0], f"nats of a pixel, of {pixels}, by the autoencoder"),
            "denoising_loss": mean(terms[1], "1 is no better than a normal law of latents"),
        }
        if self.nouns and self.judge_steps:
            found |= self._judged(model)
        asked = [held[1][n % len(held[1])] for n in range(_SHOWN)]
        pictures = self._draw(model, asked, 2.0, 10, "dpm", self.seed, _SHOWN)
        return {"test": found, "pictures": [grid(pictures, "; ".join(asked[:4]) + "; ...")]}

    def sample(
        self, model: Any, *, caption: str | None = None, count: int = 16, scale: float = 2.0, steps: int = 10,
        sampler: Literal["dpm", "dpm-sde", "ddim", "heun", "ancestral"] = "dpm", batch_size: int = 64, seed: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """Pictures that the model draws of a caption, or of none; scale 1 is no guidance.

        **Raises:** `ValueError` for a caption of unknown or contradictory words, or numbers out of range.
        """
        if sampler not in SAMPLERS:
            raise ValueError(unknown("sample: sampler", sampler, tuple(SAMPLERS), "Leave it out for dpm."))
        for name, value in (("count", count), ("steps", steps), ("batch_size", batch_size)):
            ranges.whole(f"sample: {name}", value, "Repair the value.")
        asked = None if caption is None else [caption] * count
        return {"pictures": self._draw(model, asked, scale, steps, sampler, seed, batch_size, count), "notes": []}

    def _draw(
        self, model: Any, asked: Any, scale: float, steps: int, sampler: str, seed: int, size: int, count: int = _SHOWN
    ) -> Any:
        count = count if asked is None else len(asked)
        tokens = tokens_for(self.vocabulary, asked, count)
        settings = {"scale": scale, "steps": steps, "sampler": SAMPLERS[sampler](), "schedule": None, "size": size}
        return drawn(model, self.center, self.spread, jax.random.key(seed), count, tokens, **settings)

    def _judged(self, model: Any) -> dict[str, Any]:
        """How many captions of withheld combinations are drawn right, and how well the judge reads real pictures."""
        items = self._items()
        made = compose_pictures(items[0][0], items[0][1], self.examples, seed=self.seed + 1, **self._composing())
        judge = CaptionJudge.fit(
            made.pictures, made.codes, len(self.nouns), key=jax.random.key(self.seed), steps=self.judge_steps
        )
        real = self._composed(items[2] or items[1] or items[0], _JUDGED, 3, only=True)
        pictures = self._draw(model, list(real.captions), 2.0, 10, "dpm", self.seed, 50)
        own, right = (judge.right(some, real.codes).all(axis=1) for some in (real.pictures, pictures))
        return {
            "captions_right": accuracy(right, "all five attributes as asked, in withheld combinations, at scale 2"),
            "judge_right": accuracy(own, "the judge on real pictures of them, which it has not seen"),
        }

    def _batch(self, part: tuple[Any, Any]) -> Any:
        scaled = ((part[0] - np.float32(self.center)) / np.float32(self.spread)).astype(np.float32)
        return jnp.asarray(scaled), jnp.asarray(self.vocabulary.tokens(part[1]))

    def _parts(self) -> WordsParts:
        by_class = str(self.data) in names() or self.data.is_dir()
        if not by_class and not self.data.exists():
            expected = "a folder of pictures by class, a named set of them, or a table with captions"
            raise DataMissing(explain(f"--data {self.data}", "nothing there", expected, "Check the path."))
        return self._of_classes() if by_class else self._of_table()

    def _items(self) -> list[Any]:
        """Small pictures and their classes, by part."""
        parts = split_of_folder(self)
        return [None if p is None else (p.inputs, p.targets) for p in (parts.train, parts.validation, parts.test)]

    def _composing(self) -> dict[str, Any]:
        return {"nouns": self.nouns, "side": self.side}

    def _composed(self, items: Any, count: int, seed: int, only: bool = False) -> Composed:
        kept = withheld(len(self.nouns), _SHARE, self.seed)
        which = {"only": kept} if only else {"without": kept}
        return compose_pictures(items[0], items[1], count, seed=self.seed + seed, **which, **self._composing())

    def _of_classes(self) -> WordsParts:
        if self.captions is not None or self.pictures is not None:
            do = "Leave it out, or name a table."
            raise ValueError(explain("words: captions", "a column", "none: captions of classes are composed", do))
        parts = split_of_folder(self)
        found = parts.train
        if found.targets is None or np.ndim(found.inputs) != 3:
            got = "pictures without captions or classes" if found.targets is None else f"shape {np.shape(found.inputs)}"
            do = (
                "Put grey pictures into folders by class, as pictures/cat/1.png, or name a table with --captions COLUMN"
            )
            raise DataError(explain(str(self.data), got, "grey pictures by class, or captions", do))
        nouns = NOUNS.get(str(self.data)) or tuple(_noun(word) for word in found.classes or ())
        nouns = nouns or tuple(f"class-{n}" for n in range(int(found.targets.max()) + 1))
        require_same_data(self, stamp := digest({"inputs": found.inputs, "targets": found.targets}))
        known = dataclasses.replace(self, nouns=nouns)
        train = compose_pictures(
            found.inputs, found.targets, self.examples, without=withheld(len(nouns), _SHARE, self.seed),
            unsaid=self.unsaid, seed=self.seed, **known._composing(),
        )  # fmt: skip
        rest = [
            None if part is None else known._composed((part.inputs, part.targets), _HELD, seed, only)
            for part, seed, only in ((parts.validation, 1, False), (parts.test, 2, True))
        ]
        made = [None if one is None else (one.pictures, one.captions) for one in (train, *rest)]
        settled = {"nouns": nouns, "words": (), "length": 8} | _scales(train.pictures) | {"digest": stamp}
        return WordsParts(made[0], made[1], made[2], settled)  # type: ignore[arg-type]

    def _of_table(self) -> WordsParts:
        table = read_table(self.data, self.delimiter)
        if self.captions is None:
            do = "Name the column: --captions COLUMN"
            raise DataError(explain(str(self.data), "a table without captions", "a column of captions", do))
        if self.captions not in table.columns:
            raise DataError(unknown(f"{table.source}: column", self.captions, table.columns, "Name a column of it."))
        column = column_of_pictures(table, self.pictures)
        if column is None or table.kind(self.captions) != "category":
            got = "no column of pictures" if column is None else f"column {self.captions!r} without words"
            raise DataError(explain(table.source, got, "paths of pictures, and captions", "Repair the table."))
        require_same_data(
            self, stamp := digest({"inputs": self._read(table, column)[0], "targets": _texts(table, self)})
        )
        parts = split(table, self.fractions, key=self.seed)
        made = [None if p is None else self._read(p, column) for p in (parts.train, parts.validation, parts.test)]
        words = Vocabulary.of(_texts(table, self).tolist())
        require_sides(str(self.data), made[0][0])  # type: ignore[index]
        settled = {"nouns": (), "words": words.words, "length": words.length} | _scales(made[0][0])  # type: ignore[index]
        return WordsParts(made[0], made[1], made[2], settled | {"digest": stamp})  # type: ignore[arg-type]

    def _read(self, table: Any, column: str) -> tuple[Any, tuple[str, ...]]:
        return read_listed(self, table, column), tuple(_texts(table, self).tolist())


def _texts(table: Any, recipe: Any) -> np.ndarray:
    return np.array([word or "" for word in table.words(recipe.captions)])


def _scales(pictures: Any) -> dict[str, Any]:
    center, spread = scale_of(pictures)
    return {"shape": tuple(pictures.shape[1:]), "center": float(center), "spread": float(spread)}


def _noun(word: str) -> str:
    """The name of a folder as one word."""
    return "-".join(part for part in Path(word).name.lower().replace("_", " ").split())
