r"""Pictures from words through an embedding: unCLIP, `Unclip.fit(pictures, captions, ...)`.

    two towers   u = f(x), v = g(words), |u| = |v| = 1, trained so that pairs are told from other pairs
    prior        words -> u                 a diffusion of sqrt(d) u, which guesses the embedding, attends to the words
    decoder      u -> small picture         a diffusion of pictures of half the side, attends to the embedding
    upsampler    small picture -> picture   a network that regresses what doubling the pixels leaves out

All four are trained at once by the sum of their losses, and no gradient goes from one to another.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._types import Checked, Key, Scalar
from separatrix.diffusion.diffusion_model import CENTER, SPREAD, draw
from separatrix.diffusion.edm import EDM
from separatrix.diffusion.noise_matching import EDMMatching, Preconditioned
from separatrix.diffusion.samplers import DPMSolver, Sampler
from separatrix.diffusion.schedules import KarrasLevels, Schedule
from separatrix.diffusion.unet import Convolving, unit_size
from separatrix.diffusion.words.attending import AttendingNet, CaptionReader, VectorReader
from separatrix.diffusion.words.autoencoder import PlainBlock, into_channels, into_places
from separatrix.diffusion.words.captions import Vocabulary
from separatrix.diffusion.words.latent import LOW, captioned_pictures, optimizer_of, scale_of, tokens_for
from separatrix.diffusion.words.towers import COLDEST, CaptionTowers, TwoTowers, contrast
from separatrix.systems import ranges
from separatrix.systems.base import require_key
from separatrix.training import PowerAverage
from separatrix.training.fitting import fit


class UnclipParts(eqx.Module):
    """Towers, prior, decoder and upsampler."""

    towers: TwoTowers
    prior: Preconditioned
    decoder: Preconditioned
    upsampler: "Upsampler"


class Upsampler(eqx.Module):
    """Small pictures (H/2, W/2, C) to pictures (H, W, C): doubled pixels, and what a network adds."""

    first: Convolving
    blocks: tuple[PlainBlock, ...]
    last: Convolving

    def __init__(self, colours: int, width: int, *, key: Key):
        keys = jax.random.split(key, 4)
        self.first = Convolving(4 * colours, width, 3, key=keys[0])
        self.blocks = tuple(PlainBlock(width, key=k) for k in keys[1:3])
        self.last = Convolving(width, 16 * colours, 3, key=keys[3], gain=0.0)

    def __call__(self, small: Array) -> Array:
        hidden = self.first(into_channels(small, 2))
        for block in self.blocks:
            hidden = block(hidden)
        return doubled(small) + into_places(self.last(jax.nn.silu(unit_size(hidden))), 4)


class UnclipMatching(eqx.Module):
    r"""The sum of the losses of the four parts: an objective for `fit`.

    Called as `loss(parts, (pictures, tokens), key=key)`; `terms` gives the four.

    **Example:**

    >>> import separatrix as sx
    >>> round(float(sx.diffusion.UnclipMatching().matching.drop), 6)
    0.1
    """

    matching: EDMMatching = eqx.field(default_factory=lambda: EDMMatching(EDM(), 1.0, CENTER, SPREAD))

    def __call__(self, parts: UnclipParts, batch: Any, *, key: Key | None = None) -> Scalar:
        return jnp.sum(self.terms(parts, batch, key=key))

    def terms(self, parts: UnclipParts, batch: Any, *, key: Key | None = None) -> Array:
        """Losses of towers, prior, decoder and upsampler."""
        pictures, tokens = batch
        first, second = jax.random.split(require_key(key, "UnclipMatching"))
        towers = parts.towers
        u, v = jax.vmap(towers.picture)(pictures), jax.vmap(towers.caption)(tokens)
        same = jnp.all(tokens[:, None] == tokens[None], axis=2)
        told = contrast(u, v, jnp.minimum(jnp.exp(towers.coldness), COLDEST), same)
        known = jax.lax.stop_gradient(u) * np.float32(u.shape[1] ** 0.5)
        prior = self.matching(parts.prior, (known[:, None, None], tokens), key=first)
        small = jax.vmap(halved)(pictures.reshape(*pictures.shape[:3], -1))
        decoder = self.matching(parts.decoder, (jax.vmap(lambda x: into_channels(x, 2))(small), known), key=second)
        full = jax.vmap(parts.upsampler)(small).reshape(pictures.shape)
        return jnp.stack([told, prior, decoder, jnp.mean((full - pictures) ** 2)])


class Unclip(eqx.Module):
    r"""Trained parts with their vocabulary and the scale of their pictures: made by `fit`.

    **Example:** what cannot be trained on is said first; the page on words has a whole training.

    >>> import jax, numpy as np, separatrix as sx
    >>> sx.diffusion.Unclip.fit(np.zeros((2, 8, 8)), ["a light square", ""], key=jax.random.key(0))
    Traceback (most recent call last):
    ValueError: caption 1
      got no word, expected at least one word.
      Describe the picture, or leave it out.

    **Reference:** Ramesh et al., *Hierarchical text-conditional image generation with CLIP latents* (2022), section 2,
    with the diffusion prior of section 2.2, which guesses the embedding. Their upsampler is a diffusion, ours a regression.
    """

    parts: UnclipParts
    center: Array
    spread: Array
    vocabulary: Vocabulary = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    @staticmethod
    def fit(
        pictures: Any, captions: Sequence[str] | None, *, key: Key, vocabulary: Vocabulary | None = None,
        steps: Checked[int] = 1500, batch_size: Checked[int] = 64, width: Checked[int] = 64, depth: Checked[int] = 3,
        embedding: Checked[int] = 32, learning_rate: float = 2e-3, run: Any = None, progress: Any = None,
    ) -> "Unclip":  # fmt: skip
        r"""Train the parts on pictures with captions.

        **Arguments:**

        - `pictures`: shape (N, H, W) or (N, H, W, C), in [0, 1], sides multiples of 8. `captions`: N texts.
        - `vocabulary`: of the captions; by default the words that are in them. `embedding`: d.
        - `key`, `steps`, `batch_size`, `width`, `depth`, `learning_rate`, `run`, `progress`: as in `LatentDiffusion.fit`.

        **Raises:** as `LatentDiffusion.fit`.
        """
        pictures = captioned_pictures("Unclip.fit", pictures, captions, 8)
        vocabulary = Vocabulary.of(captions or ()) if vocabulary is None else vocabulary
        tokens = vocabulary.tokens(list(captions or ()))
        center, spread = scale_of(pictures)
        first, second = jax.random.split(key)
        shape = pictures.shape[1:]
        found = fit(
            UnclipMatching(), optimizer_of(learning_rate, ranges.whole("Unclip.fit: steps", steps)),
            (jnp.asarray((pictures - center) / spread), jnp.asarray(tokens)),
            initial=_untrained(shape, vocabulary, embedding, width, depth, first), steps=steps,
            batch_size=min(ranges.whole("Unclip.fit: batch_size", batch_size), len(pictures)), key=second,
            average=PowerAverage(0.1), run=run, progress=progress, throw=True,
        )  # fmt: skip
        return Unclip(found.averaged, jnp.float32(center), jnp.float32(spread), vocabulary, shape)

    def sample(
        self, captions: str | Sequence[str] | None, key: Key, count: Checked[int], *, scale: Any = 2.0,
        prior_scale: Any = 1.0, steps: Checked[int] = 10, sampler: Sampler | None = None,
        schedule: Schedule | None = None, batch_size: Checked[int] = 64,
    ) -> Array:  # fmt: skip
        r"""Draw pictures as captions say: an embedding, a small picture, a picture.

        **Arguments:**

        - `scale`, `prior_scale`: guidance of the decoder by the embedding, and of the prior by the words; 1 for none.
        - all others as in `LatentDiffusion.sample`; `steps` are those of prior and decoder each.

        **Returns:** pictures in [0, 1], shape (count, H, W) or (count, H, W, C).

        **Raises:** as `LatentDiffusion.sample`.
        """
        count = ranges.whole("sample: count", count, "Say how many.")
        size = min(ranges.whole("sample: batch_size", batch_size), count)
        tokens, (first, second) = tokens_for(self.vocabulary, captions, count), jax.random.split(key)
        ways = (steps, sampler or DPMSolver(), schedule or KarrasLevels(LOW), size)
        prior, decoder = self.parts.prior, self.parts.decoder
        known = draw(prior, prior.network.shape, first, count, tokens, prior_scale, *ways)[:, 0, 0]
        known = known / np.linalg.norm(known, axis=1, keepdims=True) * np.float32(known.shape[1] ** 0.5)
        small = draw(decoder, decoder.network.shape, second, count, known, scale, *ways)
        enlarge = eqx.filter_jit(lambda up, z: jax.vmap(lambda one: up(into_places(one, 2)))(z))
        full = np.asarray(enlarge(self.parts.upsampler, jnp.asarray(small))).reshape(count, *self.shape)
        return jnp.clip(jnp.asarray(full) * self.spread + self.center, 0, 1)

    def chosen(self, pictures: Any, captions: Sequence[str]) -> np.ndarray:
        """For each picture the number of the caption whose vector is nearest to its own, shape (n,)."""
        return CaptionTowers(self.parts.towers, self.center, self.spread, self.vocabulary).chosen(pictures, captions)


def halved(x: Array) -> Array:
    """(H, W, C) -> (H/2, W/2, C), means over squares of 2 by 2."""
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).mean(axis=(1, 3))


def doubled(x: Array) -> Array:
    """(H, W, C) -> (2 H, 2 W, C), each pixel four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1)


def _untrained(shape: tuple[int, ...], words: Vocabulary, size: int, width: int, depth: int, key: Key) -> UnclipParts:
    keys, colours = jax.random.split(key, 6), 1 if len(shape) == 2 else shape[2]
    towers = TwoTowers(shape, words, size, max(width * 3 // 8, 4), key=keys[0])
    prior_width = 2 * width
    reader = CaptionReader(words.size, words.length, prior_width, key=keys[1])
    prior = AttendingNet((1, 1, size), prior_width, 2, reader, key=keys[2])
    small = (shape[0] // 4, shape[1] // 4, 4 * colours)
    decoder = AttendingNet(small, width, depth, VectorReader(size, width, key=keys[3]), key=keys[4])
    upsampler = Upsampler(colours, max(width // 2, 4), key=keys[5])
    return UnclipParts(towers, Preconditioned(prior, EDM(), 1.0), Preconditioned(decoder, EDM(), 1.0), upsampler)
