r"""A small U-Net on pictures, channels last: F(t, picture), or F(t, picture, label).

    down    h <- blocks(h), kept;  h <- mean over squares of 2 by 2       while the sides are even and 12 or more
    middle  blocks, with attention over the places of the smallest picture
    up      h <- W h, as many channels as were kept;  h <- each pixel four times;  h <- blocks([h, what was kept])

A block is h + V * silu(a norm(U * silu(norm(h))) + b), * a convolution of 3 by 3, a and b linear in the features of time
and label. V and the last layer begin at zero, so that the network begins as F = 0.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._types import Checked, Key, Scalar
from separatrix.diffusion.networks import Conditioning
from separatrix.linear.patches import convolved
from separatrix.systems import ranges

_SMALLEST = 12


class Convolving(eqx.Module):
    """A convolution of a picture (H, W, in) to (H, W, out), zeros around."""

    weight: Array
    bias: Array

    def __init__(self, inputs: int, outputs: int, side: int, *, key: Key, gain: float = 1.0):
        spread = gain / math.sqrt(side**2 * inputs)
        self.weight = spread * jax.random.normal(key, (side, side, inputs, outputs), jnp.float32)
        self.bias = jnp.zeros(outputs, jnp.float32)

    def __call__(self, x: Array) -> Array:
        return convolved(x, self.weight.astype(x.dtype)) + self.bias.astype(x.dtype)[None, None]


class UNetBlock(eqx.Module):
    """The residual block of the head of this page."""

    first: Convolving
    given: eqx.nn.Linear
    second: Convolving
    across: Convolving | None

    def __init__(self, inputs: int, outputs: int, given: int, *, key: Key):
        keys = jax.random.split(key, 4)
        self.first = Convolving(inputs, outputs, 3, key=keys[0])
        self.given = eqx.nn.Linear(given, 2 * outputs, key=keys[1], dtype=jnp.float32)
        self.second = Convolving(outputs, outputs, 3, key=keys[2], gain=0.0)
        self.across = None if inputs == outputs else Convolving(inputs, outputs, 1, key=keys[3])

    def __call__(self, x: Array, given: Array) -> Array:
        hidden = unit_size(self.first(jax.nn.silu(unit_size(x))))
        scale, shift = jnp.split(self.given(given), 2)
        hidden = self.second(jax.nn.silu((1 + scale)[None, None] * hidden + shift[None, None]))
        return hidden + (x if self.across is None else self.across(x))


class PlaceAttention(eqx.Module):
    """One head of attention over all places of a picture, added to it."""

    inside: Convolving
    outside: Convolving

    def __init__(self, width: int, *, key: Key):
        keys = jax.random.split(key)
        self.inside = Convolving(width, 3 * width, 1, key=keys[0])
        self.outside = Convolving(width, width, 1, key=keys[1], gain=0.0)

    def __call__(self, x: Array) -> Array:
        height, width, channels = x.shape
        query, key, value = jnp.split(self.inside(unit_size(x)).reshape(height * width, 3 * channels), 3, axis=1)
        shares = jax.nn.softmax(query @ key.T / math.sqrt(channels))
        return x + self.outside((shares @ value).reshape(x.shape))


class SmallUNet(eqx.Module):
    r"""A small U-Net, of some 10^5 parameters, in float32: F(t, picture) or F(t, picture, label).

    **Arguments:**

    - `shape`: of a picture, (H, W) or (H, W, C).
    - `width`: channels of the largest picture; twice as many after each halving, at most two.
    - `depth`: blocks at each size.
    - `classes`: how many labels; None for none. The number `classes` itself stands for no label.
    - `clocks`: how many numbers t is; 2 for `MeanFlow`, whose t is [r, t].
    - `key`: of the initial weights.

    **Raises:** `ValueError` for sizes that are not whole numbers of at least 1.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> network = sx.diffusion.SmallUNet((12, 12), 8, classes=3, key=jax.random.key(0))
    >>> float(jnp.abs(network(jnp.float32(0.5), jnp.ones((12, 12), jnp.float32), 1)).max())
    0.0

    **Reference:** Ho, Jain & Abbeel (2020), appendix B; Dhariwal & Nichol, *Diffusion models beat GANs* (2021), equation 3,
    for the scale and shift.
    """

    first: Convolving
    condition: Conditioning
    down: tuple[tuple[UNetBlock, ...], ...]
    middle: tuple[UNetBlock, ...]
    attention: PlaceAttention
    narrow: tuple[Convolving, ...]
    up: tuple[tuple[UNetBlock, ...], ...]
    last: Convolving
    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, ...], width: Checked[int] = 32, depth: Checked[int] = 1,
        classes: Checked[int | None] = None, clocks: Checked[int] = 1, *, key: Key,
    ):  # fmt: skip
        sides = {"height": shape[0], "width of the picture": shape[1]}
        for name, size in (sides | {"width": width, "depth": depth, "clocks": clocks}).items():
            ranges.whole(f"SmallUNet: {name}", size, "Pass how many.")
        if classes is not None:
            ranges.whole("SmallUNet: classes", classes, "Pass how many labels there are, or None.")
        halvings = sum(1 for n in (1, 2) if all(s % 2**n == 0 and s // 2 ** (n - 1) >= _SMALLEST for s in shape[:2]))
        widths, channels = [width * 2**n for n in range(halvings + 1)], 1 if len(shape) == 2 else shape[2]
        given, keys = 4 * width, iter(jax.random.split(key, 6 + 5 * depth * (halvings + 1)))
        self.first = Convolving(channels, width, 3, key=next(keys))
        self.condition = Conditioning(given, classes, key=next(keys), dtype=jnp.float32, clocks=clocks)
        self.down = tuple(_blocks(w // 2 if n else w, w, given, depth, keys) for n, w in enumerate(widths[:-1]))
        self.middle = _blocks(widths[-2] if halvings else width, widths[-1], given, depth, keys)
        self.attention = PlaceAttention(widths[-1], key=next(keys))
        self.up = tuple(_blocks(2 * w, w, given, depth, keys) for w in reversed(widths[:-1]))
        self.narrow = tuple(Convolving(2 * w, w, 1, key=next(keys)) for w in reversed(widths[:-1]))
        self.last = Convolving(width, channels, 3, key=next(keys), gain=0.0)
        self.shape, self.classes = tuple(shape), classes

    def __call__(self, t: Scalar, x: Array, label: Any = None) -> Array:
        given = jax.nn.silu(self.condition(t, label))
        hidden, kept = self.first(x.reshape(*self.shape[:2], -1)), []
        for blocks in self.down:
            hidden = _through(blocks, hidden, given)
            kept.append(hidden)
            hidden = hidden.reshape(hidden.shape[0] // 2, 2, hidden.shape[1] // 2, 2, -1).mean(axis=(1, 3))
        hidden = self.attention(_through(self.middle, hidden, given))
        for narrow, blocks in zip(self.narrow, self.up, strict=True):
            hidden = narrow(hidden)
            hidden = jnp.repeat(jnp.repeat(hidden, 2, axis=0), 2, axis=1)
            hidden = _through(blocks, jnp.concatenate([hidden, kept.pop()], axis=-1), given)
        return self.last(jax.nn.silu(unit_size(hidden))).reshape(x.shape)


def unit_size(hidden: Array) -> Array:
    """Each pixel's channels to mean square 1."""
    return hidden * jax.lax.rsqrt(jnp.mean(hidden**2, axis=-1, keepdims=True) + 1e-5)


def _blocks(inputs: int, outputs: int, given: int, depth: int, keys: Any) -> tuple[UNetBlock, ...]:
    return tuple(UNetBlock(inputs if n == 0 else outputs, outputs, given, key=next(keys)) for n in range(depth))


def _through(blocks: tuple[UNetBlock, ...], hidden: Array, given: Array) -> Array:
    for block in blocks:
        hidden = block(hidden, given)
    return hidden
