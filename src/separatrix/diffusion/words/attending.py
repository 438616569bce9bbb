r"""A network on small pictures that attends to what it is told: F(t, z), or F(t, z, condition).

    h <- W z + places                                                            z (H, W, C), a latent or a small picture
    h <- block(h; t, pooled)     h <- h + attention(h, h)     h <- h + attention(h, memory)          `depth` times
    F  = V silu(norm(h))

A reader turns the condition into `memory`, rows to attend to, and `pooled`, one row that is added to the features of
time. Blocks are those of the U-Net. What attention and blocks add begins at zero, and so does V.

    attention(x, m) = O [softmax(q_i k_i^T/sqrt(d)) v_i]_i,     q = Q norm(x), (k, v) = K norm(m), in heads i of d numbers
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._types import Checked, Key, Scalar
from separatrix.diffusion.networks import Conditioning
from separatrix.diffusion.unet import Convolving, UNetBlock, unit_size
from separatrix.diffusion.words.captions import BEGIN, PAD
from separatrix.systems import ranges

HEADS = 4
_MEMORY = 4  # rows that a vector is turned into


class Attention(eqx.Module):
    """Heads of attention of rows x (N, W) to rows m (M, V); see the head of this page."""

    asks: Array
    offers: Array
    outside: Array

    def __init__(self, width: int, inputs: int, *, key: Key):
        first, second = jax.random.split(key)
        self.asks = jax.random.normal(first, (width, width), jnp.float32) / math.sqrt(width)
        self.offers = jax.random.normal(second, (inputs, 2 * width), jnp.float32) / math.sqrt(inputs)
        self.outside = jnp.zeros((width, width), jnp.float32)

    def __call__(self, x: Array, rows: Array, present: Any = None) -> Array:
        width = self.asks.shape[0]
        q, (k, v) = unit_size(x) @ self.asks, jnp.split(unit_size(rows) @ self.offers, 2, axis=-1)
        q, k, v = (a.reshape(a.shape[0], HEADS, width // HEADS) for a in (q, k, v))
        weights = jnp.einsum("nhd,mhd->hnm", q, k) / math.sqrt(width // HEADS)
        if present is not None:
            weights = jnp.where(present[None, None], weights, -1e9)
        found = jnp.einsum("hnm,mhd->nhd", jax.nn.softmax(weights), v)
        return found.reshape(x.shape[0], width) @ self.outside


class CaptionReader(eqx.Module):
    """Tokens (L,) -> (memory (L, W), pooled (W,), which rows are there)."""

    words: Array
    places: Array

    def __init__(self, size: int, length: int, width: int, *, key: Key):
        first, second = jax.random.split(key)
        self.words = jax.random.normal(first, (size, width), jnp.float32)
        self.places = 0.3 * jax.random.normal(second, (length, width), jnp.float32)

    @property
    def absent(self) -> np.ndarray:
        """The tokens of no caption."""
        return np.array([BEGIN] + [PAD] * (self.places.shape[0] - 1), np.int32)

    def __call__(self, tokens: Array) -> tuple[Array, Array, Array | None]:
        place, count = jnp.asarray(tokens).astype(int), self.words.shape[0]
        # What is no token gives NaN, where plain indexing would take another one's vector.
        found = self.words.at[jnp.where(place < 0, count, place)].get(mode="fill", fill_value=jnp.nan)
        present = place != PAD
        # A sum and not a mean: what one word adds does not depend on how many others there are.
        pooled = jnp.sum(jnp.where(present[:, None], found, 0), axis=0) / math.sqrt(self.places.shape[0])
        return found + self.places, pooled, present


class VectorReader(eqx.Module):
    """A vector (d,) -> (memory (4, W), pooled (W,), None); the vector 0 stands for none."""

    across: Array
    pooling: Array

    def __init__(self, size: int, width: int, *, key: Key):
        first, second = jax.random.split(key)
        self.across = jax.random.normal(first, (size, _MEMORY * width), jnp.float32) / math.sqrt(size)
        self.pooling = jax.random.normal(second, (size, width), jnp.float32) / math.sqrt(size)

    @property
    def absent(self) -> np.ndarray:
        """The vector of no condition."""
        return np.zeros(self.across.shape[0], np.float32)

    def __call__(self, vector: Array) -> tuple[Array, Array, Array | None]:
        vector = jnp.asarray(vector, jnp.float32)
        return (vector @ self.across).reshape(_MEMORY, -1), vector @ self.pooling, None


class AttendingNet(eqx.Module):
    r"""A network on small pictures with self-attention and cross-attention: F(t, z) or F(t, z, condition), in float32.

    **Arguments:**

    - `shape`: of z, (H, W, C), with few places, since attention costs their square. `width`: a multiple of 4.
    - `depth`: blocks, each with both attentions.
    - `reader`: `CaptionReader(words, length, width)` for tokens, `VectorReader(size, width)` for vectors.
    - `key`: of the initial weights.

    **Raises:** `ValueError` for sizes that are not whole numbers, or a width that the four heads do not share.

    **Example:** it begins as F = 0.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> first, second = jax.random.split(jax.random.key(0))
    >>> reader = sx.diffusion.CaptionReader(12, 5, 16, key=first)
    >>> network = sx.diffusion.AttendingNet((4, 4, 2), 16, 1, reader, key=second)
    >>> float(jnp.abs(network(jnp.float32(0.5), jnp.ones((4, 4, 2), jnp.float32), jnp.array([1, 2, 3, 0, 0]))).max())
    0.0

    **Reference:** Rombach et al., *High-resolution image synthesis with latent diffusion models* (2022), section 3.3 and
    equation 3; Ramesh et al., *Hierarchical text-conditional image generation with CLIP latents* (2022), section 2.1, for
    a vector as four rows of context. The pooled row beside time is that of Podell et al., *SDXL* (2023), section 2.1.
    """

    first: Convolving
    places: Array
    condition: Conditioning
    reader: Any
    pooling: eqx.nn.Linear
    blocks: tuple[tuple[UNetBlock, Attention, Attention], ...]
    last: Convolving
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, ...], width: Checked[int], depth: Checked[int], reader: Any, *, key: Key
    ):  # fmt: skip
        for name, size in zip(("height", "width of the picture", "channels"), shape, strict=True):
            ranges.whole(f"AttendingNet: {name}", size, "Pass how many.")
        ranges.whole("AttendingNet: depth", depth, "Pass how many blocks.")
        if ranges.whole("AttendingNet: width", width, "Pass how many.") % HEADS:
            raise ValueError(explain("AttendingNet: width", width, f"a multiple of {HEADS}", "Take 64."))
        keys = iter(jax.random.split(key, 5 + 3 * depth))
        given = 2 * width
        self.first = Convolving(shape[2], width, 3, key=next(keys))
        self.places = 0.3 * jax.random.normal(next(keys), (*shape[:2], width), jnp.float32)
        self.condition = Conditioning(given, None, key=next(keys), dtype=jnp.float32)
        self.reader = reader
        self.pooling = eqx.nn.Linear(width, given, key=next(keys), dtype=jnp.float32)
        self.blocks = tuple(
            (
                UNetBlock(width, width, given, key=next(keys)),
                Attention(width, width, key=next(keys)),
                Attention(width, width, key=next(keys)),
            )
            for _ in range(depth)
        )
        self.last = Convolving(width, shape[2], 3, key=next(keys), gain=0.0)
        self.shape = tuple(shape)

    @property
    def absent(self) -> np.ndarray:
        """The condition that stands for none."""
        return self.reader.absent

    def __call__(self, t: Scalar, z: Array, condition: Any = None) -> Array:
        memory, pooled, present = self.reader(self.absent if condition is None else condition)
        given = jax.nn.silu(self.condition(t, None) + self.pooling(pooled))
        hidden = self.first(z) + self.places
        for block, inside, across in self.blocks:
            hidden = block(hidden, given)
            rows = hidden.reshape(-1, hidden.shape[-1])
            rows = rows + inside(rows, rows)
            hidden = (rows + across(rows, memory, present)).reshape(hidden.shape)
        return self.last(jax.nn.silu(unit_size(hidden)))
