r"""Recipe `diffusion`: which law do pictures, or the rows of a table, come from?

    pictures   x = ((k + u)/256 - center)/spread,  k the level of a pixel, u uniform: a density for whole numbers
    a table    x = (value - mean)/scale, column by column

A network learns to take noise away at all levels (EDM), with the class of an example, left out for a tenth, as its
condition; its running average is what is kept. Samples then come from noise by a solver of few steps.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from separatrix._errors import DataError, DataMissing, explain, listed, unknown
from separatrix.data import split
from separatrix.data.dataset import digest
from separatrix.data.loading import named_set
from separatrix.diffusion.densities import bits_per_dimension, log_density
from separatrix.diffusion.diffusion_model import CENTER, SPREAD, draw, predicted
from separatrix.diffusion.edm import EDM
from separatrix.diffusion.floors import loss_gap
from separatrix.diffusion.networks import ScoreMLP
from separatrix.diffusion.noise_matching import EDMMatching, Preconditioned
from separatrix.diffusion.recipe_parts import (
    column_of,
    cut_of,
    nearest_distances,
    require_all_classes,
    require_numbers,
    spread_over,
    validated_part,
    word_of,
    words_of,
)
from separatrix.diffusion.sampler_examination import judged
from separatrix.diffusion.samplers import DDIM, Ancestral, ChurnedHeun, DPMSolver, DPMSolverSDE
from separatrix.diffusion.schedules import KarrasLevels, UniformLogSNR
from separatrix.diffusion.unet import SmallUNet
from separatrix.training.recipes import Task, Training, register_recipe
from separatrix.training.recipes.columns import Column, matrix_of, read_table, settle
from separatrix.training.recipes.pictures import pictures_at, split_of_folder
from separatrix.training.recipes.results import cloud, grid, mean, number
from separatrix.training.recipes.strip import SHARES, Drawing
from separatrix.training.recipes.training import require_counts, require_same_data, steps_of, validated_by

_LEVELS = 256
_LOW = 0.004
_JUDGED, _SHOWN = 64, 16
# A picture on the way costs 20 evaluations of the network, an example of a step about 3: all on the way cost at most this
# share of the evaluations of training. Of a shorter run fewer are drawn, the last of them.
_ON_THE_WAY, _EVALUATIONS, _SHARE = 8, 20, 0.03
_TESTED, _AT_ONCE = 2000, 200
_FOLDERS = "true"  # what --labels without a value is
SAMPLERS = {"dpm": DPMSolver, "dpm-sde": DPMSolverSDE, "ddim": DDIM, "heun": ChurnedHeun, "ancestral": Ancestral}


@dataclasses.dataclass(frozen=True, eq=False)
class DiffusionParts:
    """Scaled examples and their classes by part; None for a part that was not asked for."""

    train: tuple[Any, Any]
    validation: tuple[Any, Any] | None
    test: tuple[Any, Any] | None
    settled: dict[str, Any]


@register_recipe("diffusion")
@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionRecipe(Training):
    """Learn the law of pictures or of the rows of a table, and draw from it."""

    epochs: int = 40
    """How often every example is used, if `steps` is not given; of many thousand examples a few are enough."""
    batch_size: int = 32
    """Examples a step; all, where there are fewer."""
    learning_rate: float = 3e-3
    """Of Adam, at its highest; it rises over a hundredth of the run and falls to 0 by a cosine."""
    labels: str | None = None
    """Of a table: the column of classes. Of pictures the class is their folder; without a value: it must be."""
    drop: tuple[str, ...] = ()
    """Columns that are left out, such as the number of a row."""
    delimiter: str | None = None
    """The sign between the columns of a text file."""
    size: int | None = None
    """Resize pictures to a square of so many pixels."""
    colour: Literal["grey", "rgb"] | None = None
    """Make pictures all "grey" or all "rgb"."""
    fractions: tuple[float, float, float] = (0.85, 0.05, 0.1)
    """Parts for training, validation and test."""
    width: int | None = None
    """Channels of the U-Net for pictures, 24 by default; units of the perceptron for a table, 128."""
    depth: int | None = None
    """Blocks at each size of the U-Net, 1 by default; residual blocks of the perceptron, 3."""
    average_width: float = 0.1
    """Relative width of the average of the weights, which is the model; its memory grows with the run."""
    classes: tuple[str, ...] = ()
    """Settled from the data: what the codes of the classes mean."""
    columns: tuple[Column, ...] = ()
    """Settled from a table: its columns."""
    shape: tuple[int, ...] = ()
    """Settled from the data: the shape of one example."""
    center: float = 0.0
    """Settled from pictures: the mean level of training."""
    spread: float = 1.0
    """Settled from pictures: the standard deviation of levels."""

    def settled(self) -> "DiffusionRecipe":
        """The recipe with shape, classes and scales in its fields."""
        require_counts(self)
        return dataclasses.replace(self, **self._parts().settled)

    def task(self) -> Task:
        """Denoising on the training part; the same on the part for validation, by the averaged weights."""
        parts = self._parts()
        size = min(self.batch_size, len(parts.train[0]))
        steps = steps_of(self, len(parts.train[0]))
        held = None if parts.validation is None else self._batch(validated_part(parts.validation, steps * size))
        # Independent draws: a smaller last batch would be a second program to compile.
        options: dict[str, Any] = {"batch_size": size, "steps": steps, "draw": "replacement"}
        options |= validated_by(self, held)
        rate = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, max(1, steps // 100), steps)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
        initial = self.model(jax.random.fold_in(jax.random.key(self.seed), 0))
        often = int(_SHARE * 3 * steps * size / (_ON_THE_WAY * _EVALUATIONS))
        drawn = (
            None if self.columns or len(self.shape) < 2 else Drawing(self._few, SHARES[max(0, len(SHARES) - often) :])
        )
        return Task(self.objective, initial, self._batch(parts.train), optimizer, options, drawn=drawn)

    @property
    def objective(self) -> EDMMatching:
        """The loss."""
        return EDMMatching(EDM(), 1.0, CENTER, SPREAD, jitter=self._jitter)

    def model(self, key: Any) -> Preconditioned:
        """A new model."""
        classes = len(self.classes) or None
        if len(self.shape) > 1:
            network: Any = SmallUNet(self.shape, self.width or 24, self.depth or 1, classes, key=key)
        else:
            network = ScoreMLP(math.prod(self.shape), self.width or 128, self.depth or 3, classes, key=key)
        return Preconditioned(network, EDM(), 1.0)

    def results(self, model: Any) -> dict[str, Any]:
        """Loss and density on the part for testing, the distance from the floor, and samples."""
        parts = self._parts()
        key, found = jax.random.key(self.seed), {}
        trained = jnp.asarray(parts.train[0][:500])
        gap = loss_gap(self.objective, model, trained, key=key, draws=4)
        about = "loss above the least for the training set; 0 has learned it by heart"
        found["above_floor"] = number(gap.gap, gap.standard_error, len(trained), about)
        if parts.test is not None:
            found["denoising_loss"] = mean(
                self._losses(model, parts.test, key), "1 is no better than a normal law of the same spread"
            )
            found |= self._density_numbers(model, parts.test[0][:_JUDGED], key)
        drawn = self._draw(model, _SHOWN, None, 1.0, _EVALUATIONS, "dpm", self.seed, _ON_THE_WAY)
        nearest = nearest_distances(drawn, parts.train[0])
        found["distance_to_training"] = mean(nearest, "root mean square distance of a sample from the nearest example")
        return {"test": found, "pictures": self._shown(drawn, parts)}

    def sample(
        self, model: Any, *, count: int = 16, class_: str | None = None, scale: float = 1.0, steps: int = 20,
        sampler: Literal["dpm", "dpm-sde", "ddim", "heun", "ancestral"] = "dpm", batch_size: int = 64, seed: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """Examples that the model draws: of one class, or of each in turn; scale 1 is no guidance.

        **Raises:** `ValueError` for a class that the model does not know, or numbers out of range.
        """
        if sampler not in SAMPLERS:
            raise ValueError(unknown("sample: sampler", sampler, tuple(SAMPLERS), "Leave it out for dpm."))
        drawn = self._draw(model, count, class_, scale, steps, sampler, seed, batch_size)
        return self._told(drawn)

    def log_density(
        self, model: Any, path: Path, *, steps: int = 30, probes: int = 2, batch_size: int = 64, seed: int = 0
    ) -> dict[str, Any]:
        """How likely each picture or row of a file is: bits a dimension, or nats, with the error of the probes."""
        for name, value in (("steps", steps), ("probes", probes), ("batch_size", batch_size)):
            _require_count("log-density", name, value)
        if self.columns:
            table = read_table(path, self.delimiter, self.columns)
            require_numbers(path, table, [column.name for column in self.columns])
            inputs, _ = matrix_of(self.columns, table)
            called = [str(n) for n in range(1, len(inputs) + 1)]
        else:
            pictures, called, _ = pictures_at(self, path)
            inputs = self._scaled(pictures)
        settings = {"steps": steps, "probes": probes, "batch_size": batch_size}
        values, errors = self._densities(model, inputs, jax.random.key(seed), **settings)
        unit = "nats" if self.columns else "bits_per_dimension"
        columns = {"row" if self.columns else "picture": called, unit: values.tolist(), "error": errors.tolist()}
        about = "of a row, in the units of the table" if self.columns else "upper bound, by uniform dequantisation"
        return {"columns": columns, "numbers": {f"mean_{unit}": mean(values, about)}, "notes": []}

    def diagnose(self, model: Any) -> tuple[Any, Any]:
        """Its sampler of 20 steps beside the training part: see `JudgedSampler`."""
        return judged(model, self._parts().train[0], KarrasLevels(self._low), jax.random.key(self.seed))

    @property
    def _jitter(self) -> float:
        """Width of a level, in scaled units."""
        return 0.0 if self.columns or len(self.shape) < 2 else 1 / (_LEVELS * self.spread)

    @property
    def _low(self) -> float:
        """The least noise that counts: that of the levels, or of a thousandth of the spread."""
        return max(_LOW, self._jitter / math.sqrt(12))

    def _losses(self, model: Any, part: tuple[Any, Any], key: Any) -> Any:
        """The loss of each of at most 2,000 examples, 200 at a time: all at once may not fit into memory."""
        few = spread_over(part, _TESTED)
        one, size = eqx.filter_jit(self.objective.terms), min(_AT_ONCE, len(few[0]))
        cuts = range(0, len(few[0]) - size + 1, size)  # a smaller rest would be another program
        return np.concatenate([
            np.asarray(one(model, self._batch(cut_of(few, slice(at, at + size))), key=jax.random.fold_in(key, at)))
            for at in cuts
        ])  # fmt: skip

    def _batch(self, part: tuple[Any, Any]) -> Any:
        inputs = jnp.asarray(part[0])
        return (inputs, jnp.asarray(part[1], jnp.int32)) if self.classes else inputs

    def _scaled(self, pictures: Any) -> Any:
        levels = (np.round(pictures * 255) + 0.5) / _LEVELS
        return ((levels - self.center) / self.spread).astype(np.float32)

    def _draw(
        self, model: Any, count: int, class_: str | None, scale: float, steps: int, sampler: str, seed: int, size: int
    ) -> Any:
        """Scaled samples, in batches of `size`."""
        for name, value in (("count", count), ("steps", steps), ("batch_size", size)):
            _require_count("sample", name, value)
        labels, method = self._labels(class_, count, scale), SAMPLERS[sampler]()
        schedule = KarrasLevels(self._low)
        return draw(model, self.shape, jax.random.key(seed), count, labels, scale, steps, method, schedule, size)

    def _few(self, model: Any) -> Any:
        """The pictures that are drawn on the way."""
        return self._told(self._draw(model, _ON_THE_WAY, None, 1.0, _EVALUATIONS, "dpm", self.seed, _ON_THE_WAY))[
            "pictures"
        ]

    def _labels(self, class_: str | None, count: int, scale: float) -> Any:
        if not self.classes:
            if class_ is not None or scale != 1:
                got = f"class {class_!r}" if class_ is not None else f"scale {scale:g}"
                do = "Leave it out, or train with classes: pictures in sub-folders, or --labels COLUMN."
                raise ValueError(explain("sample", got, "none, of a run without classes", do))
            return None
        if class_ is None:
            return np.resize(np.arange(len(self.classes)), count)
        if class_ not in self.classes:
            do = "See the classes: separatrix show RUN --json"
            raise ValueError(unknown("sample: class", class_, self.classes, do))
        return np.full(count, self.classes.index(class_))

    def _told(self, drawn: Any) -> dict[str, Any]:
        if self.columns:
            values = drawn * np.array([c.scale for c in self.columns]) + np.array([c.fills[0] for c in self.columns])
            return {"columns": {c.name: values[:, i].tolist() for i, c in enumerate(self.columns)}, "notes": []}
        return {"pictures": np.clip(drawn * self.spread + self.center, 0, 1), "notes": []}

    def _shown(self, drawn: Any, parts: DiffusionParts) -> list[dict[str, Any]]:
        told = self._told(drawn)
        if not self.columns:
            return [grid(told["pictures"], "Samples, none of them chosen")]
        if len(self.columns) == 1:
            return []
        real = self._told(parts.train[0][:500])["columns"]
        sets = {n: np.stack([np.array(one[c.name]) for c in self.columns[:2]], 1) for n, one in
                (("data", real), ("drawn", told["columns"]))}  # fmt: skip
        return [cloud(sets, "Data and samples", (self.columns[0].name, self.columns[1].name))]

    def _densities(self, model: Any, inputs: Any, key: Any, **settings: Any) -> tuple[Any, Any]:
        """Bits a dimension of pictures, nats of rows in the units of the table; and standard errors."""
        labels = None
        if self.classes:
            labels = jnp.full(1, len(self.classes), jnp.int32)
        prediction = predicted(model, labels, 1.0)
        schedule = UniformLogSNR(self._low)
        if not self.columns:
            levels = np.round((inputs * self.spread + self.center) * _LEVELS - 0.5).astype(np.int32)
            scales = {"center": self.center, "spread": np.float32(self.spread), "count": _LEVELS}
            found = bits_per_dimension(prediction, levels, key=key, schedule=schedule, **scales, **settings)
            return np.asarray(found.each), np.asarray(found.probe_errors)
        found = log_density(prediction, jnp.asarray(inputs), key=key, schedule=schedule, **settings)
        units = sum(math.log(column.scale) for column in self.columns)
        return np.asarray(found.values) - units, np.asarray(found.standard_errors)

    def _density_numbers(self, model: Any, inputs: Any, key: Any) -> dict[str, Any]:
        values, _ = self._densities(model, inputs, key, steps=30, probes=2, batch_size=_JUDGED)
        if self.columns:
            return {"log_density": mean(values, "nats of a row, in the units of the table")}
        return {"bits_per_dimension": mean(values, "upper bound, by uniform dequantisation")}

    def _parts(self) -> DiffusionParts:
        of_pictures = named_set(self.data) is not None or self.data.is_dir()
        if not of_pictures and not self.data.exists():
            expected = "a folder of pictures, or a table"
            raise DataMissing(explain(f"--data {self.data}", "nothing there", expected, "Check the path."))
        parts = self._of_pictures() if of_pictures else self._of_table()
        require_same_data(self, parts.settled["digest"])
        require_all_classes(str(self.data), parts)
        return parts

    def _of_pictures(self) -> DiffusionParts:
        for option, none in (("labels", None), ("drop", ()), ("delimiter", None)):
            if getattr(self, option) != none and (option, self.labels) != ("labels", _FOLDERS):
                do = "Leave it out: the class of a picture is its folder."
                raise ValueError(explain(option, getattr(self, option), "no such option for pictures", do))
        parts = split_of_folder(self)
        train = parts.train
        if train.inputs.ndim < 3 or len(train.inputs) < 2:
            got = f"{len(train.inputs)} for training" if train.inputs.ndim > 2 else "no pictures"
            raise DataError(explain(str(self.data), got, "at least two pictures", "Put more pictures there."))
        if self.labels is not None and train.targets is None:
            do = "Put the pictures of each class into a folder of its own, as pictures/cat/1.png"
            raise DataError(explain(str(self.data), "pictures without classes", "sub-folders, for --labels", do))
        spread = float(train.inputs.std())
        if not spread > 0:
            raise DataError(explain(str(self.data), "pictures of one level", "pictures that differ", "Check them."))
        arrays = {"inputs": train.inputs} | ({} if train.targets is None else {"targets": train.targets})
        classes = () if train.targets is None else train.classes or tuple(map(str, range(int(train.targets.max()) + 1)))
        settled = {"shape": train.inputs.shape[1:], "digest": digest(arrays), "center": float(train.inputs.mean()),
                   "spread": spread, "classes": tuple(classes)}  # fmt: skip
        scaled = dataclasses.replace(self, **settled)._scaled
        made = [
            None if part is None else (scaled(part.inputs), part.targets)
            for part in (train, parts.validation, parts.test)
        ]
        return DiffusionParts(made[0], made[1], made[2], settled)  # type: ignore[arg-type]

    def _of_table(self) -> DiffusionParts:
        for option in ("size", "colour"):
            if getattr(self, option) is not None:
                do = "Leave it out, or name a folder of pictures."
                raise ValueError(explain(option, getattr(self, option), "no such option for a table", do))
        table = read_table(self.data, self.delimiter)
        if self.labels == _FOLDERS and _FOLDERS not in table.columns:
            got, do = "no column", f"Name the column of classes: --labels {table.names[-1]}"
            raise DataError(explain(f"{table.source}: --labels", got, f"one of {listed(table.names)}", do))
        for name in (*self.drop, *(() if self.labels is None else (self.labels,))):
            if name not in table.columns:
                raise DataError(unknown(f"{table.source}: column", name, table.columns, "Name a column of the file."))
        if self.labels is not None and self.labels in self.drop:
            do = f"Drop other columns, or leave out --labels {self.labels}"
            raise ValueError(explain("diffusion: drop", f"the column of classes, {self.labels!r}", "others", do))
        kept = tuple(name for name in table.names if name != self.labels and name not in self.drop)
        if not kept:
            raise DataError(explain(table.source, "no column left", "columns of numbers", "Drop fewer columns."))
        require_numbers(self.data, table, [*kept, *(() if self.labels is None else (self.labels,))], self.labels)
        parts = split(table, self.fractions, key=self.seed)
        columns = self.columns or settle(table, parts.train, kept)
        matrix, _ = matrix_of(columns, table)
        words, codes, known = (), None, []
        if self.labels is not None:
            known = words_of(self.data, table, self.labels)
            words = self.classes or tuple(dict.fromkeys(sorted(known)))
        made = []
        for part in (parts.train, parts.validation, parts.test):
            if part is not None and self.labels is not None:
                codes = np.array([words.index(word_of(value)) for value in column_of(part, self.labels)], np.int32)
            made.append(None if part is None else (matrix_of(columns, part)[0], codes))
        arrays = {"inputs": matrix} | ({} if self.labels is None else {"targets": np.array(known)})
        settled = {"columns": columns, "shape": matrix.shape[1:], "digest": digest(arrays), "classes": words}
        return DiffusionParts(made[0], made[1], made[2], settled)  # type: ignore[arg-type]


def _require_count(what: str, name: str, value: int) -> None:
    if value < 1:
        raise ValueError(explain(f"{what}: {name}", value, "at least 1", "Repair the value."))
