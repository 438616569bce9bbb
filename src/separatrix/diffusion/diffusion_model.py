r"""A diffusion model of arrays, from data to samples and densities: `DiffusionModel.fit(data, ...)`.

    x = (value - center)/spread,   D trained by EDM's loss, its running average kept

Vectors go through `ScoreMLP`, with a center and a spread for each column; pictures through `SmallUNet`, with one of each.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked, Key
from separatrix.diffusion.densities import LogDensities, log_density
from separatrix.diffusion.edm import EDM
from separatrix.diffusion.guidance import class_guided
from separatrix.diffusion.networks import ScoreMLP
from separatrix.diffusion.noise_matching import EDMMatching, Preconditioned
from separatrix.diffusion.predictions import Prediction, network_prediction
from separatrix.diffusion.samplers import DPMSolver, Sampler
from separatrix.diffusion.sampling import sample
from separatrix.diffusion.schedules import GivenTimes, KarrasLevels, Schedule, UniformLogSNR, times_of
from separatrix.diffusion.unet import SmallUNet
from separatrix.systems import ranges
from separatrix.training import PowerAverage
from separatrix.training.fitting import fit
from separatrix.training.run import load_model, save

# Of data of standard deviation 1: ln(sigma) ~ N(-0.5, 1.2^2), the law of EDM for 0.5 shifted by ln 2.
CENTER, SPREAD = -0.5, 1.2
_LOW = 0.004


class DiffusionModel(eqx.Module):
    r"""A trained model of data, scaled: made by `DiffusionModel.fit` or `DiffusionModel.load`.

    - `model`: D of scaled data. `center`, `spread`: of each column, or of all pixels. `form`: sizes of the network.

    **Example:** an untrained one draws a normal law.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> inside = sx.diffusion.Preconditioned(lambda level, x: 0 * x, sx.diffusion.EDM(), 1.0)
    >>> form = {"shape": (1,), "classes": None, "width": 1, "depth": 1}
    >>> model = sx.diffusion.DiffusionModel(inside, jnp.float32([5.0]), jnp.float32([0.1]), form)
    >>> 4.9 < float(model.sample(jax.random.key(2), 200, steps=3).mean()) < 5.1
    True
    """

    model: Preconditioned
    center: Array
    spread: Array
    form: dict[str, Any] = eqx.field(static=True)

    @staticmethod
    def fit(
        data: Any, labels: Any = None, *, key: Key, steps: Checked[int] = 3000, batch_size: Checked[int] = 128,
        width: Checked[int | None] = None, depth: Checked[int | None] = None, learning_rate: float = 2e-3,
        average: Any = None, run: Any = None,
    ) -> "DiffusionModel":  # fmt: skip
        r"""Train a model of data.

        **Arguments:**

        - `data`: vectors (N, d), or pictures (N, H, W) or (N, H, W, C), finite, N at least 2.
        - `labels`: shape (N,), whole numbers from 0; None for none.
        - `key`: of weights, batches and noise. `steps`, `batch_size`, `learning_rate`: of Adam, with a cosine.
        - `width`, `depth`: of the network. `average`: as in `fit`; `PowerAverage(0.1)` by
          default. `run`: a folder, as in `fit`.

        **Raises:** `ValueError` or `TypeError` for data or labels that cannot be used, before anything is compiled;
        `Diverged` where training stops being finite.
        """
        data = _numbers("DiffusionModel.fit: data", data)
        if data.ndim not in (2, 3, 4) or len(data) < 2:
            do = "Give vectors (N, d), or pictures (N, H, W) or (N, H, W, C)."
            raise ValueError(explain("DiffusionModel.fit: data", f"shape {data.shape}", "two examples or more", do))
        ranges.finite("DiffusionModel.fit: data", data, "Leave out the examples that are not finite.")
        batch: Any = data
        if labels is not None:
            labels = np.asarray(labels)
            ranges.indices("DiffusionModel.fit: labels", labels, 2**31 - 1, "Number the classes from 0.")
            if labels.shape != data.shape[:1]:
                do = "Give one to each example."
                raise ValueError(explain("DiffusionModel.fit: labels", f"shape {labels.shape}", f"({len(data)},)", do))
        axes = 0 if data.ndim == 2 else None
        center, spread = data.mean(axis=axes), data.std(axis=axes)
        spread = np.where(spread > 0, spread, 1).astype(np.float32)
        width, depth = (width or 128, depth or 3) if data.ndim == 2 else (width or 24, depth or 1)
        classes = None if labels is None else int(labels.max()) + 1
        form = {"shape": data.shape[1:], "classes": classes, "width": width, "depth": depth}
        weights_key, fit_key = jax.random.split(key)
        scaled = jnp.asarray((data - center) / spread)
        batch = scaled if labels is None else (scaled, jnp.asarray(labels, jnp.int32))
        ranges.positive("DiffusionModel.fit: learning_rate", learning_rate, "Leave it out for 0.002.")
        count = ranges.whole("DiffusionModel.fit: steps", steps, "Leave it out for 3000.")
        rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, max(1, count // 100), count)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
        size = min(ranges.whole("DiffusionModel.fit: batch_size", batch_size, "Leave it out for 128."), len(data))
        found = fit(
            EDMMatching(EDM(), 1.0, CENTER, SPREAD), optimizer, batch, initial=_untrained(form, weights_key), steps=count,
            batch_size=size, key=fit_key, average=PowerAverage(0.1) if average is None else average, run=run, throw=True,
        )  # fmt: skip
        return DiffusionModel(found.averaged, jnp.asarray(center), jnp.asarray(spread), form)

    def sample(
        self, key: Key, count: Checked[int], *, label: Any = None, scale: Any = 1.0, steps: Checked[int] = 20,
        sampler: Sampler | None = None, schedule: Schedule | None = None, batch_size: Checked[int] = 64,
    ) -> Array:  # fmt: skip
        r"""Draw examples, in batches of a stated size.

        **Arguments:**

        - `count`: how many. `label`: one class for all, or shape (count,); None for no class.
        - `scale`: of the guidance; 1 for none. `steps`, `sampler`, `schedule`: as in `sx.diffusion.sample`;
          `DPMSolver()` and `KarrasLevels()` by default.

        **Raises:** `ValueError` for a label that the model does not know, or a scale that is not finite.
        """
        count = ranges.whole("sample: count", count, "Say how many.")
        size = min(ranges.whole("sample: batch_size", batch_size, "Leave it out for 64."), count)
        labels = None
        if label is not None:
            classes = self.form["classes"] or 0
            given = np.asarray(label)
            if given.dtype.kind not in "iu" or given.shape not in ((), (count,)):
                got, do = f"shape {given.shape} of {given.dtype}", "Give one class to all, or one to each."
                raise ValueError(explain("sample: label", got, f"a whole number, or {count} of them", do))
            ranges.indices("sample: label", given, max(classes, 1), f"The model knows {classes} classes.")
            labels = np.broadcast_to(given, (count,))
        schedule, sampler = schedule or KarrasLevels(_LOW), sampler or DPMSolver()
        found = draw(self.model, self.form["shape"], key, count, labels, scale, steps, sampler, schedule, size)
        return jnp.asarray(found) * self._wide(self.spread) + self._wide(self.center)

    def log_density(self, points: Any, **settings: Any) -> LogDensities:
        """log p of examples in nats, in the units of the data; `settings` as in `sx.diffusion.log_density`."""
        scaled = (jnp.asarray(points, jnp.float32) - self._wide(self.center)) / self._wide(self.spread)
        settings = {"schedule": UniformLogSNR(_LOW), "steps": 50} | settings
        labels = None if self.form["classes"] is None else jnp.full(1, self.form["classes"], jnp.int32)
        found = log_density(predicted(self.model, labels, 1.0), scaled, **settings)
        units = jnp.sum(jnp.log(jnp.broadcast_to(self.spread, self.form["shape"])))
        return LogDensities(found.values - units, found.standard_errors)

    def _wide(self, values: Array) -> Array:
        """A number, or one for each column, beside a batch of examples."""
        return jnp.broadcast_to(values, self.form["shape"])[None]

    def save(self, path: Any) -> None:
        """Save it in one file, as `sx.save` does."""
        numbers = {name: -1 if value is None else value for name, value in self.form.items()}
        save(path, {"arrays": (self.model, self.center, self.spread), "form": numbers})

    @staticmethod
    def load(path: Any) -> "DiffusionModel":
        """Load what `save` wrote.

        **Raises:** as `sx.load_model`, for a file that is damaged or of something else.
        """
        found = load_model(Path(path))
        if not isinstance(found, dict) or set(found) != {"arrays", "form"}:
            do = "Name a file that DiffusionModel.save wrote."
            raise ValueError(explain(f"DiffusionModel.load: {path}", "another model", "a diffusion model", do))
        form = dict(found["form"])
        form = {"shape": tuple(int(n) for n in form["shape"]), "classes": int(form["classes"]),
                "width": int(form["width"]), "depth": int(form["depth"])}  # fmt: skip
        numbers, known = dict(form), dict(form) | {"classes": None if form["classes"] < 0 else form["classes"]}
        scale = jnp.zeros(numbers["shape"] if len(numbers["shape"]) == 1 else (), jnp.float32)
        template = {"arrays": (_untrained(known, jax.random.key(0)), scale, scale), "form": numbers}
        model, center, spread = load_model(Path(path), template)["arrays"]
        return DiffusionModel(model, center, spread, known)


def _numbers(what: str, data: Any) -> np.ndarray:
    """Data as an array of float32."""
    try:
        found = np.asarray(data)
    except ValueError:
        raise ValueError(explain(what, "rows of unequal length", "an array", "Make them alike.")) from None
    if found.dtype.kind not in "biuf":
        raise TypeError(explain(what, f"dtype {found.dtype}", "numbers", "Write words as whole numbers first."))
    return found.astype(np.float32)


def predicted(model: Preconditioned, labels: Any, scale: Any) -> Prediction:
    """The prediction of a model under labels, guided where the scale is not 1."""
    if labels is None:
        return network_prediction(model.process, model, "clean")
    if not is_traced(scale) and scale == 1:
        return network_prediction(model.process, model, "clean", labels)
    return class_guided(model.process, model, labels, kind="clean", scale=scale)


def draw(
    model: Preconditioned, shape: tuple[int, ...], key: Key, count: int, labels: Any, scale: Any, steps: int,
    sampler: Sampler, schedule: Schedule, size: int,
) -> Any:  # fmt: skip
    """Scaled samples in batches of `size`, the last one cut."""
    ranges.finite("sample: scale", scale, "Pass 1 for no guidance.")
    if np.ndim(scale):
        do = "Draw one after the other."
        raise ValueError(explain("sample: scale", f"shape {np.shape(scale)}", "one number", do))
    times = GivenTimes(times_of("sample", schedule, model.process, steps))
    weight = None if scale == 1 else jnp.asarray(scale, jnp.float32)
    parts = []
    for number, at in enumerate(range(0, count, size)):
        given = None if labels is None else jnp.asarray(np.take(labels, np.arange(at, at + size), axis=0, mode="clip"))
        found = _batch(model, given, weight, jax.random.fold_in(key, number), (size, *shape), sampler, times)
        drawn, step, levels = (np.asarray(part) for part in found)
        if not np.isfinite(drawn).all():
            do = "Take more steps, a scale nearer to 1, or another sampler."
            got = f"no finite number at step {int(step)} of {steps}, sigma/alpha = {levels[max(int(step) - 1, 0)]:.4g}"
            raise ValueError(explain("sample", got, "finite numbers", do))
        parts.append(drawn)
    return np.concatenate(parts)[:count]


@eqx.filter_jit
def _batch(
    model: Preconditioned, labels: Any, scale: Any, key: Key, shape: tuple[int, ...], sampler: Sampler, times: GivenTimes
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Samples, the step at which they broke, and the levels; compiled once in a process for models of one form."""
    prediction = predicted(model, labels, 1.0 if scale is None else scale)
    path = sample(model.process, prediction, key, shape, method=sampler, schedule=times, dtype=jnp.float32)
    return path.final, path.outcome.at, path.stats["levels"]


def _untrained(form: dict[str, Any], key: Key) -> Preconditioned:
    shape, classes = form["shape"], form["classes"]
    if len(shape) > 1:
        return Preconditioned(SmallUNet(shape, form["width"], form["depth"], classes, key=key), EDM(), 1.0)
    return Preconditioned(ScoreMLP(shape[0], form["width"], form["depth"], classes, key=key), EDM(), 1.0)
