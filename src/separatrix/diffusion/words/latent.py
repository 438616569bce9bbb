r"""Pictures from words through latents: `LatentDiffusion.fit(pictures, captions, ...)`.

    x -> z ~ q(z | x)         an autoencoder with a KL term
    z(t) = z + t eps          a denoiser of latents, D(t, z(t), tokens), with its words left out for a tenth
    words -> z(0) -> x        a sampler of few steps from noise, guided by the words, then the decoder

By default both are trained at once, by one objective: the bound of the autoencoder, and the loss of the denoiser on the
latents that the autoencoder drew, through which no gradient goes back. An autoencoder that `train_autoencoder` made before
stays as it is: then pictures are encoded once, and the denoiser learns latents that do not move.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._types import Checked, Key, Scalar
from separatrix.diffusion.diffusion_model import CENTER, SPREAD, draw
from separatrix.diffusion.edm import EDM
from separatrix.diffusion.noise_matching import EDMMatching, Preconditioned
from separatrix.diffusion.samplers import DPMSolver, Sampler
from separatrix.diffusion.schedules import KarrasLevels, Schedule
from separatrix.diffusion.words.attending import AttendingNet, CaptionReader
from separatrix.diffusion.words.autoencoder import FACTOR, Autoencoder, EvidenceBound
from separatrix.diffusion.words.captions import Vocabulary
from separatrix.systems import ranges
from separatrix.systems.base import require_key
from separatrix.training import PowerAverage
from separatrix.training.fitting import fit
from separatrix.training.run import load_model, save

LOW = 0.02  # latents are drawn with a noise of their own, and less than this is not seen in pictures
CODER_WIDTH = 48
NOISE = 0.07  # of pictures of spread 1: a dark coat differs from a dark pullover by not much more


class LatentPair(eqx.Module):
    """An autoencoder and a denoiser of its latents."""

    autoencoder: Autoencoder
    denoiser: Preconditioned


class LatentMatching(eqx.Module):
    r"""The bound of an autoencoder plus the loss of a denoiser on its latents: an objective for `fit`.

    **Arguments:**

    - `bound`: an `EvidenceBound`. `matching`: an `EDMMatching` of data of standard deviation 1.

    Called as `loss(pair, (pictures, conditions), key=key)` with a `LatentPair`.

    **Example:**

    >>> import jax, separatrix as sx
    >>> loss = sx.diffusion.LatentMatching()
    >>> float(loss.matching.data_scale)
    1.0
    """

    bound: EvidenceBound = eqx.field(default_factory=EvidenceBound)
    matching: EDMMatching = eqx.field(default_factory=lambda: EDMMatching(EDM(), 1.0, CENTER, SPREAD))

    def __call__(self, pair: LatentPair, batch: Any, *, key: Key | None = None) -> Scalar:
        bounds, losses = self.terms(pair, batch, key=key)
        return jnp.mean(bounds) + jnp.mean(losses)

    def terms(self, pair: LatentPair, batch: Any, *, key: Key | None = None) -> tuple[Array, Array]:
        """Bound and loss of each example."""
        pictures, conditions = batch
        first, second = jax.random.split(require_key(key, "LatentMatching"))
        bounds, latents = self.bound.parts(pair.autoencoder, pictures, key=first)
        losses = self.matching.terms(pair.denoiser, (jax.lax.stop_gradient(latents), conditions), key=second)
        return bounds, losses


class EncodedMatching(eqx.Module):
    r"""The loss of a denoiser on latents that are drawn from q(z | x) = N(m, v): an objective for `fit`.

    **Arguments:**

    - `matching`: an `EDMMatching` of data of standard deviation 1.

    Called as `loss(denoiser, ((m, ln v), conditions), key=key)`, each with the batch as its first axis.

    **Example:** F = 0 has a loss near 1 on means that are normal, drawn without spread.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> keys = jax.random.split(jax.random.key(0), 4)
    >>> reader = sx.diffusion.CaptionReader(5, 3, 4, key=keys[0])
    >>> network = sx.diffusion.AttendingNet((2, 2, 3), 4, 1, reader, key=keys[1])
    >>> denoiser = sx.diffusion.Preconditioned(network, sx.diffusion.EDM(), 1.0)
    >>> means, words = jax.random.normal(keys[2], (200, 2, 2, 3), jnp.float32), jnp.tile(reader.absent, (200, 1))
    >>> drawn = sx.diffusion.EncodedMatching()(denoiser, ((means, 0 * means - 90), words), key=keys[3])
    >>> 0.7 < float(drawn) < 1.3
    True
    """

    matching: EDMMatching = eqx.field(default_factory=lambda: EDMMatching(EDM(), 1.0, CENTER, SPREAD))

    def __call__(self, denoiser: Preconditioned, batch: Any, *, key: Key | None = None) -> Scalar:
        return jnp.mean(self.terms(denoiser, batch, key=key))

    def terms(self, denoiser: Preconditioned, batch: Any, *, key: Key | None = None) -> Array:
        """The loss of each example."""
        (means, log_variances), conditions = batch
        first, second = jax.random.split(require_key(key, "EncodedMatching"))
        noise = jax.random.normal(first, means.shape, means.dtype)
        return self.matching.terms(denoiser, (means + jnp.exp(log_variances / 2) * noise, conditions), key=second)


class LatentDiffusion(eqx.Module):
    r"""A trained pair with its vocabulary and the scale of its pictures: made by `fit` or `load`.

    **Example:** what cannot be trained on is said first; the page on words has a whole training.

    >>> import jax, numpy as np, separatrix as sx
    >>> sx.diffusion.LatentDiffusion.fit(np.zeros((2, 7, 8)), ["light", "dark"], key=jax.random.key(0))
    Traceback (most recent call last):
    ValueError: LatentDiffusion.fit: pictures
      got 7 by 8 pixels, expected sides that are multiples of 4.
      Resize them, to 32 by 32 say.

    **Reference:** Rombach et al., *High-resolution image synthesis with latent diffusion models* (2022), section 3;
    there the autoencoder is trained first, as with `autoencoder=` here.
    """

    pair: LatentPair
    center: Array
    spread: Array
    vocabulary: Vocabulary = eqx.field(static=True)
    form: dict[str, Any] = eqx.field(static=True)

    @staticmethod
    def fit(
        pictures: Any, captions: Sequence[str] | None, *, key: Key, vocabulary: Vocabulary | None = None,
        steps: Checked[int] = 3000, batch_size: Checked[int] = 64, width: Checked[int] = 64, depth: Checked[int] = 3,
        channels: Checked[int] = 8, learning_rate: float = 2e-3, autoencoder: Autoencoder | None = None,
        initial: "LatentDiffusion | None" = None, run: Any = None, progress: Any = None,
    ) -> "LatentDiffusion":  # fmt: skip
        r"""Train a model of pictures with captions.

        **Arguments:**

        - `pictures`: shape (N, H, W) or (N, H, W, C), in [0, 1], sides multiples of 4. `captions`: N texts.
        - `vocabulary`: of the captions; by default the words that are in them.
        - `key`: of weights, batches and noise. `steps`, `batch_size`, `learning_rate`: of Adam, with a cosine.
        - `width`, `depth`: of the denoiser. `channels`: of the latents, unless an autoencoder is given.
        - `autoencoder`: one that `train_autoencoder` made of the same pictures; None to train one along.
        - `initial`: a model to go on from, with its sizes, its vocabulary and its scale; None for new weights.
        - `run`, `progress`: as in `sx.fit`.

        **Raises:** `ValueError` for pictures or captions that cannot be used, before anything is compiled; `Diverged`.
        """
        pictures = captioned_pictures("LatentDiffusion.fit", pictures, captions)
        if initial is not None:
            _require_same_shape("initial", initial.form["shape"], pictures)
            vocabulary, (center, spread) = initial.vocabulary, (initial.center, initial.spread)
        else:
            vocabulary = Vocabulary.of(captions or ()) if vocabulary is None else vocabulary
            center, spread = scale_of(pictures)
        tokens = vocabulary.tokens(list(captions or ()))
        scaled, words = jnp.asarray((pictures - center) / spread), jnp.asarray(tokens)
        sizes = {"width": width, "depth": depth, "channels": channels, "coder": min(CODER_WIDTH, width)}
        form = {"shape": pictures.shape[1:]} | sizes if initial is None else dict(initial.form)
        if autoencoder is not None:
            _require_same_shape("autoencoder", autoencoder.shape, pictures)
            if initial is not None and autoencoder.latent != initial.pair.autoencoder.latent:
                got, expected = f"latents {autoencoder.latent}", f"{initial.pair.autoencoder.latent}, as of initial"
                raise ValueError(explain("LatentDiffusion.fit: autoencoder", got, expected, "Leave one of both out."))
            form |= {"channels": autoencoder.latent[2], "coder": autoencoder.width}
            form["coder_depth"] = len(autoencoder.decoder)
        weights_key, fit_key = jax.random.split(key)
        begun = untrained_pair(form, vocabulary, weights_key) if initial is None else initial.pair
        settings: dict[str, Any] = {
            "steps": ranges.whole("LatentDiffusion.fit: steps", steps), "key": fit_key, "average": PowerAverage(0.1),
            "batch_size": min(ranges.whole("LatentDiffusion.fit: batch_size", batch_size), len(pictures)),
            "run": run, "progress": progress, "throw": True,
        }  # fmt: skip
        optimizer = optimizer_of(learning_rate, steps)
        if autoencoder is None:
            pair = fit(LatentMatching(), optimizer, (scaled, words), initial=begun, **settings).averaged
        else:
            latents = _encoded(autoencoder, scaled)
            found = fit(EncodedMatching(), optimizer, (latents, words), initial=begun.denoiser, **settings)
            pair = LatentPair(autoencoder, found.averaged)
        return LatentDiffusion(pair, jnp.float32(center), jnp.float32(spread), vocabulary, form)

    def sample(
        self, captions: str | Sequence[str] | None, key: Key, count: Checked[int], *, scale: Any = 2.0,
        steps: Checked[int] = 10, sampler: Sampler | None = None, schedule: Schedule | None = None,
        batch_size: Checked[int] = 64,
    ) -> Array:  # fmt: skip
        r"""Draw pictures as captions say, in batches of a stated size.

        **Arguments:**

        - `captions`: one for all, or `count` of them; None for pictures without a caption.
        - `count`: how many. `scale`: of the guidance; 1 for none.
        - `steps`, `sampler`, `schedule`: as in `sx.diffusion.sample`; `DPMSolver()` and `KarrasLevels()` by default.

        **Returns:** pictures in [0, 1], shape (count, H, W) or (count, H, W, C).

        **Raises:** `ValueError` for a caption that the vocabulary refuses, captions that are not as many as pictures, or
        numbers out of range.
        """
        count = ranges.whole("sample: count", count, "Say how many.")
        tokens = tokens_for(self.vocabulary, captions, count)
        settings = {"scale": scale, "steps": steps, "sampler": sampler, "schedule": schedule, "size": batch_size}
        return jnp.asarray(drawn(self.pair, self.center, self.spread, key, count, tokens, **settings))

    def save(self, path: Any) -> None:
        """Save it in one file, as `sx.save` does."""
        save(path, {"arrays": (self.pair, self.center, self.spread), "form": self._written()})

    @staticmethod
    def load(path: Any) -> "LatentDiffusion":
        """Load what `save` wrote.

        **Raises:** as `sx.load_model`, for a file that is damaged or of something else.
        """
        found = load_model(Path(path))
        if not isinstance(found, dict) or set(found) != {"arrays", "form"} or "words" not in found["form"]:
            do = "Name a file that LatentDiffusion.save wrote."
            raise ValueError(explain(f"LatentDiffusion.load: {path}", "another model", "a model of captions", do))
        said = found["form"]
        groups = tuple(tuple(group.split(" ")) for group in said["exclusive"].split("|")) if said["exclusive"] else ()
        vocabulary = Vocabulary(tuple(said["words"].split(" ")), int(said["length"]), groups)
        form = {"shape": tuple(int(n) for n in said["shape"])}
        sizes = ("width", "depth", "channels", "coder", "coder_depth")
        form |= {name: int(said[name]) for name in sizes if name in said}
        pair, number = untrained_pair(form, vocabulary, jax.random.key(0)), jnp.float32(0)
        empty = LatentDiffusion(pair, number, number, vocabulary, form)
        loaded = load_model(Path(path), {"arrays": (pair, number, number), "form": empty._written()})
        pair, center, spread = loaded["arrays"]
        return LatentDiffusion(pair, center, spread, vocabulary, form)

    def _written(self) -> dict[str, Any]:
        words = self.vocabulary
        exclusive = "|".join(" ".join(group) for group in words.exclusive)
        return self.form | {"words": " ".join(words.words), "length": words.length, "exclusive": exclusive}


def train_autoencoder(
    pictures: Any, *, key: Key, channels: Checked[int] = 12, width: Checked[int] = CODER_WIDTH, noise: float = NOISE,
    steps: Checked[int] = 2000, batch_size: Checked[int] = 32, learning_rate: float = 2e-3, run: Any = None,
    progress: Any = None,
) -> Autoencoder:  # fmt: skip
    r"""Return an autoencoder of pictures, scaled to mean 0 and spread 1, by its bound: the running average of its weights.

    **Arguments:**

    - `pictures`: shape (N, H, W) or (N, H, W, C), in [0, 1], sides multiples of 4.
    - `channels`: of a latent. `width`: of the network. `noise`: s of the bound, over the spread of the pictures: details
      below it are lost.
    - `key`, `steps`, `batch_size`, `learning_rate`, `run`, `progress`: as in `LatentDiffusion.fit`.

    **Returns:** an `Autoencoder`, for `LatentDiffusion.fit(..., autoencoder=...)` on the same pictures.

    **Raises:** as `LatentDiffusion.fit`.

    **Example:**

    >>> import jax, separatrix as sx
    >>> digits = sx.load("digits")
    >>> found = sx.diffusion.train_autoencoder(digits.inputs, key=jax.random.key(0), width=8, steps=2)
    >>> found.latent
    (2, 2, 12)

    **Reference:** Rombach et al. (2022), section 3.1: compression is learned first.
    """
    pictures = checked_pictures("train_autoencoder", pictures)
    center, spread = scale_of(pictures)
    first, second = jax.random.split(key)
    steps = ranges.whole("train_autoencoder: steps", steps)
    size = min(ranges.whole("train_autoencoder: batch_size", batch_size), len(pictures))
    return fit(
        EvidenceBound(noise), optimizer_of(learning_rate, steps), jnp.asarray((pictures - center) / spread),
        initial=Autoencoder(pictures.shape[1:], channels, width, key=first), steps=steps, batch_size=size, key=second,
        average=PowerAverage(0.1), run=run, progress=progress, throw=True,
    ).averaged  # fmt: skip


def _encoded(autoencoder: Autoencoder, scaled: Any, size: int = 256) -> tuple[Array, Array]:
    """m and ln v of all pictures, in batches."""
    encode = eqx.filter_jit(lambda coder, x: jax.vmap(coder.encode)(x))
    count, parts = len(scaled), []
    for at in range(0, count, size):
        rows = np.minimum(np.arange(at, at + size), count - 1)
        parts.append([np.asarray(part)[: count - at] for part in encode(autoencoder, scaled[rows])])
    means, log_variances = (jnp.asarray(np.concatenate(both)) for both in zip(*parts, strict=True))
    return means, log_variances


def _require_same_shape(what: str, shape: Any, pictures: np.ndarray) -> None:
    """Refuse a part that was made of other pictures."""
    if tuple(shape) != pictures.shape[1:]:
        got, expected = f"one of pictures {tuple(shape)}", f"one of pictures {pictures.shape[1:]}"
        raise ValueError(explain(f"LatentDiffusion.fit: {what}", got, expected, "Make it of these pictures."))


def drawn(
    pair: LatentPair, center: Any, spread: Any, key: Key, count: int, tokens: Any, *, scale: Any, steps: int,
    sampler: Sampler | None, schedule: Schedule | None, size: int,
) -> np.ndarray:  # fmt: skip
    """Pictures in [0, 1] of rows of tokens, one each."""
    shape, size = pair.autoencoder.latent, min(ranges.whole("sample: batch_size", size), count)
    method, levels = sampler or DPMSolver(), schedule or KarrasLevels(LOW)
    latents = draw(pair.denoiser, shape, key, count, tokens, scale, steps, method, levels, size)
    decode = eqx.filter_jit(lambda coder, z: jax.vmap(coder.decode)(z))
    parts = []
    for at in range(0, count, size):
        rows = np.take(latents, np.arange(at, at + size), axis=0, mode="clip")
        parts.append(np.asarray(decode(pair.autoencoder, jnp.asarray(rows))))
    return np.clip(np.concatenate(parts)[:count] * np.asarray(spread) + np.asarray(center), 0, 1)


def tokens_for(vocabulary: Vocabulary, captions: Any, count: int) -> np.ndarray:
    """A row of tokens for each of `count` pictures."""
    if captions is None:
        return np.tile(vocabulary.absent, (count, 1))
    rows = vocabulary.tokens(captions)
    if len(rows) not in (1, count):
        do = "Give one for all, or one for each."
        raise ValueError(explain("sample: captions", len(rows), f"1 or {count}", do))
    return np.broadcast_to(rows, (count, rows.shape[1]))


def untrained_pair(form: dict[str, Any], vocabulary: Vocabulary, key: Key) -> LatentPair:
    """A new autoencoder and denoiser."""
    keys = jax.random.split(key, 3)
    autoencoder = Autoencoder(form["shape"], form["channels"], form["coder"], form.get("coder_depth", 2), key=keys[0])
    reader = CaptionReader(vocabulary.size, vocabulary.length, form["width"], key=keys[1])
    network = AttendingNet(autoencoder.latent, form["width"], form["depth"], reader, key=keys[2])
    return LatentPair(autoencoder, Preconditioned(network, EDM(), 1.0))


def optimizer_of(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Adam with a short rise and a cosine to 0, gradients clipped."""
    ranges.positive("learning_rate", learning_rate, "Leave it out for 0.002.")
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, max(1, steps // 50), steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))


def scale_of(pictures: np.ndarray) -> tuple[np.float32, np.float32]:
    """Mean level and spread of pictures; 1 for a spread of 0."""
    spread = np.float32(pictures.std())
    return np.float32(pictures.mean()), spread if spread > 0 else np.float32(1)


def captioned_pictures(what: str, pictures: Any, captions: Any, factor: int = FACTOR) -> np.ndarray:
    """Pictures with a caption each, as `checked_pictures` gives them."""
    pictures = checked_pictures(what, pictures, factor)
    if captions is None or len(captions) != len(pictures):
        got = "none" if captions is None else len(captions)
        raise ValueError(explain(f"{what}: captions", got, f"{len(pictures)}, one a picture", "Give one to each."))
    return pictures


def checked_pictures(what: str, pictures: Any, factor: int = FACTOR) -> np.ndarray:
    """Pictures as float32, two or more, finite, their sides multiples of a factor."""
    pictures = np.asarray(pictures, np.float32)
    if pictures.ndim not in (3, 4) or len(pictures) < 2:
        do = "Give an array (N, H, W) or (N, H, W, C)."
        raise ValueError(explain(f"{what}: pictures", f"shape {pictures.shape}", "two pictures or more", do))
    require_sides(f"{what}: pictures", pictures, factor)
    ranges.finite(f"{what}: pictures", pictures, "Leave out those that are not finite.")
    return pictures


def require_sides(what: str, pictures: np.ndarray, factor: int = FACTOR) -> None:
    """Refuse pictures whose sides are no multiples of a factor."""
    if any(side % factor for side in pictures.shape[1:3]):
        got, do = f"{pictures.shape[1]} by {pictures.shape[2]} pixels", "Resize them, to 32 by 32 say."
        raise ValueError(explain(what, got, f"sides that are multiples of {factor}", do))
