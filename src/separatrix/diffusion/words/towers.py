r"""Two towers: pictures and captions as unit vectors of one space, and of several pictures the one nearest to its caption.

    u = f(x), v = g(words), |u| = |v| = 1, trained so that pairs are told from other pairs:
    loss = -1/2 mean_i [ln softmax_j(u_i v_j/T) + ln softmax_j(v_i u_j/T)]  at j = i
    best = the x among n draws for one caption with the largest u v

Captions of a batch that are the same are pairs of each other too: the target of row i is shared among them. Towers
that rank see real pictures only, with a little noise.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._types import Checked, Key, Scalar
from separatrix.diffusion.unet import Convolving, unit_size
from separatrix.diffusion.words.attending import CaptionReader
from separatrix.diffusion.words.autoencoder import PlainBlock, into_channels
from separatrix.diffusion.words.captions import Vocabulary
from separatrix.diffusion.words.judge import with_noise
from separatrix.diffusion.words.latent import captioned_pictures, optimizer_of, scale_of, tokens_for
from separatrix.systems import ranges
from separatrix.training import PowerAverage
from separatrix.training.fitting import fit

_BLOCK = 256
COLDEST = 100.0  # the largest 1/T


class TwoTowers(eqx.Module):
    r"""Pictures and captions as unit vectors of one space.

    **Arguments:**

    - `shape`: of a picture, sides multiples of 8. `vocabulary`: of the captions. `size`: d.
    - `width`: channels. `key`: of the initial weights.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> words = sx.diffusion.Vocabulary(("dark", "bag"), 3)
    >>> towers = sx.diffusion.TwoTowers((8, 8), words, 6, width=4, key=jax.random.key(0))
    >>> round(float(jnp.sum(towers.picture(jnp.ones((8, 8), jnp.float32)) ** 2)), 5)
    1.0

    **Reference:** Radford et al., *Learning transferable visual models from natural language supervision* (2021), figure 3.
    """

    first: Convolving
    block: PlainBlock
    wider: Convolving
    later: PlainBlock
    picture_out: eqx.nn.Linear
    reader: CaptionReader
    inner: eqx.nn.Linear
    caption_out: eqx.nn.Linear
    coldness: Array

    def __init__(
        self,
        shape: tuple[int, ...],
        vocabulary: Vocabulary,
        size: Checked[int] = 32,
        width: Checked[int] = 24,
        *,
        key: Key,
    ):
        keys = jax.random.split(key, 8)
        colours, width = 1 if len(shape) == 2 else shape[2], ranges.whole("TwoTowers: width", width)
        size, rows = ranges.whole("TwoTowers: size", size), (shape[0] // 8) * (shape[1] // 8) * 8 * width
        self.first = Convolving(4 * colours, width, 3, key=keys[0])
        self.block = PlainBlock(width, key=keys[1])
        self.wider = Convolving(4 * width, 2 * width, 1, key=keys[2])
        self.later = PlainBlock(2 * width, key=keys[3])
        self.picture_out = eqx.nn.Linear(rows, size, key=keys[4], dtype=jnp.float32)
        self.reader = CaptionReader(vocabulary.size, vocabulary.length, 2 * width, key=keys[5])
        self.inner = eqx.nn.Linear(2 * width, 4 * width, key=keys[6], dtype=jnp.float32)
        self.caption_out = eqx.nn.Linear(4 * width, size, key=keys[7], dtype=jnp.float32)
        self.coldness = jnp.log(jnp.float32(10.0))

    def picture(self, x: Array) -> Array:
        """u of one picture."""
        hidden = self.block(self.first(into_channels(x.reshape(*x.shape[:2], -1), 2)))
        hidden = self.later(self.wider(into_channels(hidden, 2)))
        return _unit(self.picture_out(into_channels(jax.nn.silu(unit_size(hidden)), 2).ravel()))

    def caption(self, tokens: Array) -> Array:
        """v of one row of tokens."""
        _, pooled, _ = self.reader(tokens)
        return _unit(self.caption_out(jax.nn.silu(self.inner(pooled))))


def contrast(u: Array, v: Array, coldness: Any, same: Any = None) -> Scalar:
    r"""Return the loss of the head of this page.

    **Arguments:**

    - `u`, `v`: unit vectors, shape (B, d), a pair in each row. `coldness`: 1/T.
    - `same`: shape (B, B), which rows are pairs of each other; the diagonal by default.

    **Example:** nothing told apart: the logarithm of how many there are.

    >>> import jax.numpy as jnp
    >>> round(float(contrast(jnp.ones((4, 1)), jnp.ones((4, 1)), 5.0)), 6)
    1.386294

    **Reference:** Oord et al., *Representation learning with contrastive predictive coding* (2018), equation 4; Radford et
    al. (2021), figure 3, for both directions.
    """
    same = jnp.eye(u.shape[0], dtype=bool) if same is None else jnp.asarray(same)
    logits = jnp.asarray(coldness, u.dtype) * (u @ v.T)
    weights = same.astype(u.dtype)
    target = weights / jnp.sum(weights, axis=1, keepdims=True)
    forth, back = (jnp.sum(target * jax.nn.log_softmax(rows), axis=1) for rows in (logits, logits.T))
    return -jnp.mean(forth + back) / 2


class CaptionTowers(eqx.Module):
    r"""Two towers with the scale of their pictures and their vocabulary: made by `CaptionTowers.fit`.

    **Example:** what they cannot read is said.

    >>> import jax, numpy as np, separatrix as sx
    >>> sx.diffusion.CaptionTowers.fit(np.zeros((2, 8, 8)), ["dark", ""], key=jax.random.key(0))
    Traceback (most recent call last):
    ValueError: caption 1
      got no word, expected at least one word.
      Describe the picture, or leave it out.

    **Reference:** Radford et al., *Learning transferable visual models from natural language supervision* (2021), figure 3;
    Ramesh et al., *Zero-shot text-to-image generation* (2021), section 2.6, for draws ranked by such towers.
    """

    towers: TwoTowers
    center: Array
    spread: Array
    vocabulary: Vocabulary = eqx.field(static=True)

    @staticmethod
    def fit(
        pictures: Any, captions: Sequence[str] | None, *, key: Key, vocabulary: Vocabulary | None = None,
        steps: Checked[int] = 1500, batch_size: Checked[int] = 128, size: Checked[int] = 64, width: Checked[int] = 24,
        noise: float = 0.04, learning_rate: float = 2e-3, run: Any = None, progress: Any = None,
    ) -> "CaptionTowers":  # fmt: skip
        r"""Train two towers on pictures with captions.

        **Arguments:**

        - `pictures`: shape (N, H, W) or (N, H, W, C), in [0, 1], sides multiples of 8. `captions`: N texts.
        - `size`: of the vectors. `width`: channels. `noise`: of white, up to which pictures are disturbed; 0 for none.
        - `vocabulary`, `key`, `steps`, `batch_size`, `learning_rate`, `run`, `progress`: as in `LatentDiffusion.fit`.

        **Raises:** as `LatentDiffusion.fit`.
        """
        pictures = captioned_pictures("CaptionTowers.fit", pictures, captions, 8)
        vocabulary = Vocabulary.of(captions or ()) if vocabulary is None else vocabulary
        tokens = vocabulary.tokens(list(captions or ()))
        ranges.nonnegative("CaptionTowers.fit: noise", noise, "Leave it out for 0.04.")
        center, spread = scale_of(pictures)
        first, second = jax.random.split(key)
        steps = ranges.whole("CaptionTowers.fit: steps", steps)
        found = fit(
            _Contrasting(jnp.float32(noise / spread)), optimizer_of(learning_rate, steps),
            (jnp.asarray((pictures - center) / spread), jnp.asarray(tokens)),
            initial=TwoTowers(pictures.shape[1:], vocabulary, size, width, key=first), steps=steps,
            batch_size=min(ranges.whole("CaptionTowers.fit: batch_size", batch_size), len(pictures)), key=second,
            average=PowerAverage(0.1), run=run, progress=progress, throw=True,
        )  # fmt: skip
        return CaptionTowers(found.averaged, jnp.float32(center), jnp.float32(spread), vocabulary)

    def similarity(self, pictures: Any, captions: str | Sequence[str]) -> np.ndarray:
        """u v of each picture with its caption, shape (n,), from -1 to 1; one caption serves all.

        **Raises:** `ValueError` for a caption that the vocabulary refuses, or captions that are not as many as pictures.
        """
        pictures = np.asarray(pictures, np.float32)
        tokens = tokens_for(self.vocabulary, captions, len(pictures))
        blocks = [slice(at, at + _BLOCK) for at in range(0, len(pictures), _BLOCK)]
        parts = [jnp.sum(self._vectors(pictures[block]) * self._words(tokens[block]), axis=1) for block in blocks]
        return np.concatenate([np.asarray(part) for part in parts])

    def chosen(self, pictures: Any, captions: Sequence[str]) -> np.ndarray:
        """For each picture the number of the caption whose vector is nearest to its own, shape (n,)."""
        v = self._words(self.vocabulary.tokens(captions))
        return np.asarray(jnp.argmax(self._vectors(np.asarray(pictures, np.float32)) @ v.T, axis=1))

    def _vectors(self, pictures: Any) -> Array:
        return jax.vmap(self.towers.picture)((jnp.asarray(pictures) - self.center) / self.spread)

    def _words(self, tokens: Any) -> Array:
        return jax.vmap(self.towers.caption)(jnp.asarray(tokens))


def best_drawn(
    model: Any, towers: CaptionTowers, captions: str | Sequence[str], key: Key, *, of: Checked[int] = 8, **settings: Any
) -> np.ndarray:
    r"""Return for each caption the picture that the towers find nearest to it, of several drawn.

    **Arguments:**

    - `model`: with `sample(captions, key, count, ...)`: `LatentDiffusion` or `Unclip`. `towers`: `CaptionTowers`.
    - `captions`: n texts. `of`: how many are drawn for each. `settings`: of `sample`: `scale`, `steps`, ...

    **Returns:** pictures in [0, 1], shape (n, H, W) or (n, H, W, C).

    **Raises:** as `sample`.

    **Example:** of one drawn, that one.

    >>> import jax, jax.numpy as jnp, numpy as np, separatrix as sx
    >>> model, one = sx.diffusion.pretrained(), jnp.float32(1)
    >>> inside = sx.diffusion.TwoTowers((32, 32), model.vocabulary, 4, 4, key=jax.random.key(0))
    >>> towers = sx.diffusion.CaptionTowers(inside, 0 * one, one, model.vocabulary)
    >>> drawn = sx.diffusion.best_drawn(model, towers, "one bag", jax.random.key(1), of=1, steps=2)
    >>> bool(np.all(drawn == np.asarray(model.sample("one bag", jax.random.key(1), 1, steps=2))))
    True

    **Reference:** Ramesh et al., *Zero-shot text-to-image generation* (2021), section 2.6.
    """
    texts, of = [captions] if isinstance(captions, str) else list(captions), ranges.whole("best_drawn: of", of)
    repeated = [text for text in texts for _ in range(of)]
    pictures = np.asarray(model.sample(repeated, key, len(repeated), **settings))
    nearness = towers.similarity(pictures, repeated).reshape(len(texts), of)
    return pictures.reshape(len(texts), of, *pictures.shape[1:])[np.arange(len(texts)), nearness.argmax(axis=1)]


class _Contrasting(eqx.Module):
    """The loss of the two towers, on pictures with noise."""

    noise: Array

    def __call__(self, towers: TwoTowers, batch: Any, *, key: Key) -> Scalar:
        pictures, tokens = batch
        noisy = with_noise(pictures, self.noise, key)
        u, v = jax.vmap(towers.picture)(noisy), jax.vmap(towers.caption)(tokens)
        same = jnp.all(tokens[:, None] == tokens[None], axis=2)
        return contrast(u, v, jnp.minimum(jnp.exp(towers.coldness), COLDEST), same)


def _unit(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.sum(x**2) + 1e-12)
