r"""A judge of composed pictures: a classifier trained on real ones says which object, count, size, brightness and place.

    loss = sum over the five attributes of -log softmax(logits)[true],     right = all five are as the caption says

Its own accuracy on real pictures that it has not seen is the ruler's error, and is to be stated beside what it measures.
It is trained on pictures with a little noise, of standard deviation s U, U uniform on [0, 1] for each picture: composed
pictures are exactly black around their items, and a judge that saw nothing else is thrown by a hundredth of white there.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._types import Checked, Key, Scalar
from separatrix.diffusion.unet import Convolving, unit_size
from separatrix.diffusion.words.autoencoder import PlainBlock, into_channels
from separatrix.diffusion.words.captions import ATTRIBUTES
from separatrix.systems import ranges
from separatrix.training.fitting import fit

_OTHERS = (2, 2, 2, 3)
_BLOCK = 500


class CaptionJudge(eqx.Module):
    r"""A classifier of the five attributes of composed pictures, made by `CaptionJudge.fit`: `judge(pictures)`.

    **Example:**

    >>> import jax, numpy as np, separatrix as sx
    >>> digits = sx.load("digits")
    >>> made = sx.diffusion.compose_pictures(digits.inputs, digits.targets, 4, nouns=sx.diffusion.NOUNS["digits"], side=16)
    >>> judge = sx.diffusion.CaptionJudge((16, 16), 10, 4, key=jax.random.key(0))  # untrained
    >>> judge(made.pictures).shape
    (4, 5)
    """

    first: Convolving
    blocks: tuple[PlainBlock, ...]
    wider: Convolving
    later: tuple[PlainBlock, ...]
    inner: eqx.nn.Linear
    outer: eqx.nn.Linear
    nouns: int = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], nouns: int, width: int, *, key: Key):
        keys = jax.random.split(key, 6)
        self.first = Convolving(4, width, 3, key=keys[0])
        self.blocks = (PlainBlock(width, key=keys[1]),)
        self.wider = Convolving(4 * width, 2 * width, 1, key=keys[2])
        self.later = (PlainBlock(2 * width, key=keys[3]),)
        rows = (shape[0] // 8) * (shape[1] // 8) * 8 * width
        self.inner = eqx.nn.Linear(rows, 128, key=keys[4], dtype=jnp.float32)
        self.outer = eqx.nn.Linear(128, nouns + sum(_OTHERS), key=keys[5], dtype=jnp.float32)
        self.nouns = nouns

    @staticmethod
    def fit(
        pictures: Any, codes: Any, nouns: Checked[int], *, key: Key, width: Checked[int] = 24,
        steps: Checked[int] = 2500, batch_size: Checked[int] = 128, noise: float = 0.04, run: Any = None,
        progress: Any = None,
    ) -> "CaptionJudge":  # fmt: skip
        r"""Train a judge on real pictures.

        **Arguments:**

        - `pictures`: shape (N, S, S), S a multiple of 8, as `compose_pictures` makes them.
        - `codes`: shape (N, 5), what they show.
        - `nouns`: how many objects there are. `key`: of weights and batches.
        - `steps`, `batch_size`: of Adam. `noise`: s, of white; 0 for none. `run`, `progress`: as in `sx.fit`.

        **Raises:** `ValueError` for shapes that do not fit, or codes out of range.
        """
        pictures, codes = np.asarray(pictures, np.float32), np.asarray(codes, np.int32)
        if pictures.ndim != 3 or any(side % 8 for side in pictures.shape[1:]):
            do = "Compose them with a side of 16 or 32."
            raise ValueError(explain("CaptionJudge.fit: pictures", f"shape {pictures.shape}", "(N, S, S)", do))
        if codes.shape != (len(pictures), 5):
            expected = f"({len(pictures)}, 5)"
            raise ValueError(
                explain("CaptionJudge.fit: codes", f"shape {codes.shape}", expected, "Give one a picture.")
            )
        for column, (name, count) in enumerate(zip(ATTRIBUTES, (nouns, *_OTHERS), strict=True)):
            ranges.indices(f"CaptionJudge.fit: {name}", codes[:, column], count, "See combinations.")
        ranges.nonnegative("CaptionJudge.fit: noise", noise, "Leave it out for 0.04.")
        first, second = jax.random.split(key)
        steps = ranges.whole("CaptionJudge.fit: steps", steps)
        rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, max(1, steps // 20), steps)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.02))
        judge = CaptionJudge(pictures.shape[1:], nouns, width, key=first)
        found = fit(
            _NoisyJudging(jnp.float32(noise)), optimizer, (jnp.asarray(pictures), jnp.asarray(codes)), initial=judge,
            steps=steps, batch_size=min(batch_size, len(pictures)), key=second, run=run, progress=progress, throw=True,
        )  # fmt: skip
        return found.model

    def logits(self, picture: Array) -> list[Array]:
        """One row of logits for each attribute."""
        hidden = self.first(into_channels(4 * picture[..., None], 2))
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.wider(into_channels(hidden, 2))
        for block in self.later:
            hidden = block(hidden)
        rows = into_channels(unit_size(hidden), 2).ravel()
        found = self.outer(jax.nn.silu(self.inner(rows)))
        return jnp.split(found, np.cumsum((self.nouns, *_OTHERS))[:-1])

    def __call__(self, pictures: Any) -> np.ndarray:
        """The codes (n, 5) that it sees in pictures (n, S, S)."""
        see = eqx.filter_jit(lambda judge, x: jnp.stack([jnp.argmax(o, -1) for o in jax.vmap(judge.logits)(x)], 1))
        pictures = np.asarray(pictures, np.float32)
        parts = [
            np.asarray(see(self, jnp.asarray(pictures[at : at + _BLOCK]))) for at in range(0, len(pictures), _BLOCK)
        ]
        return np.concatenate(parts)

    def right(self, pictures: Any, codes: Any) -> np.ndarray:
        """Which attributes of each picture are as they should be: True or False, shape (n, 5)."""
        return self(pictures) == np.asarray(codes)


class _NoisyJudging(eqx.Module):
    """The loss of the head of this page, on pictures with noise."""

    noise: Array

    def __call__(self, judge: CaptionJudge, batch: Any, *, key: Key) -> Scalar:
        pictures, codes = batch
        rows = jax.vmap(judge.logits)(jnp.clip(with_noise(pictures, self.noise, key), 0, 1))
        losses = [optax.softmax_cross_entropy_with_integer_labels(row, codes[:, n]) for n, row in enumerate(rows)]
        return jnp.mean(sum(losses))


def with_noise(pictures: Array, size: Any, key: Key) -> Array:
    """x + s U n, U uniform on [0, 1] for each picture, n standard normal for each pixel."""
    first, second = jax.random.split(key)
    shares = jax.random.uniform(first, (pictures.shape[0],) + (1,) * (pictures.ndim - 1), pictures.dtype)
    return pictures + size * shares * jax.random.normal(second, pictures.shape, pictures.dtype)
