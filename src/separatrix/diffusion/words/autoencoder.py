r"""An autoencoder with a KL term: pictures as small latents whose law is close to normal.

    q(z | x) = N(m(x), diag v(x)),   p(x | z) = N(D(z), s^2),   p(z) = N(0, 1)
    -log p(x) <= E_q |x - D(z)|^2/(2 s^2) + (n/2) ln(2 pi s^2) + KL,     KL = 1/2 sum (m^2 + v - 1 - ln v)

Encoder and decoder work at a quarter of the sides: z has shape (H/4, W/4, c). At the optimum each coordinate of z in use
has E[m^2 + v] = 1: scaling z, and D against it, changes the KL alone, whose derivative in the scale vanishes there. So a
diffusion model of latents needs no scale of its own.

    encoder   squares of 4 by 4 into channels, a convolution, blocks, V norm(h) + A squares for m and ln v
    decoder   a convolution, blocks, V silu(norm(h)) + B z for channels, which become squares of 4 by 4

norm takes the size of h away; the linear maps A and B carry it past.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._types import Checked, Key, Scalar
from separatrix.diffusion.unet import Convolving, unit_size
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter, require_key

FACTOR = 4
_RANGE = 10.0  # ln v stays between -10 and 10


class PlainBlock(eqx.Module):
    """h + V * silu(norm(U * silu(norm(h)))), * a convolution of 3 by 3; V begins at zero."""

    first: Convolving
    second: Convolving

    def __init__(self, width: int, *, key: Key):
        keys = jax.random.split(key)
        self.first = Convolving(width, width, 3, key=keys[0])
        self.second = Convolving(width, width, 3, key=keys[1], gain=0.0)

    def __call__(self, x: Array) -> Array:
        return x + self.second(jax.nn.silu(unit_size(self.first(jax.nn.silu(unit_size(x))))))


class Autoencoder(eqx.Module):
    r"""Pictures to latents and back; see the head of this page.

    **Arguments:**

    - `shape`: of a picture, (H, W) or (H, W, C), both sides multiples of 4.
    - `channels`: of a latent, (H/4, W/4, channels). `width`: of the network. `depth`: blocks of encoder and decoder.
    - `key`: of the initial weights.

    **Raises:** `ValueError` for sides that are no multiples of 4, or sizes that are no whole numbers.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> autoencoder = sx.diffusion.Autoencoder((8, 8), channels=3, width=8, key=jax.random.key(0))
    >>> mean, log_variance = autoencoder.encode(jnp.zeros((8, 8), jnp.float32))
    >>> mean.shape, autoencoder.decode(mean).shape
    ((2, 2, 3), (8, 8))

    **Reference:** Kingma & Welling, *Auto-encoding variational Bayes* (2014), equation 10 and appendix B; Rombach et al.
    (2022), section 3.1 and appendix G, for latents regularised by a KL term.
    """

    inward: Convolving
    encoder: tuple[PlainBlock, ...]
    told: Convolving
    past: Convolving
    outward: Convolving
    decoder: tuple[PlainBlock, ...]
    last: Convolving
    back: Convolving
    shape: tuple[int, ...] = eqx.field(static=True)
    latent: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, ...], channels: Checked[int] = 8, width: Checked[int] = 48, depth: Checked[int] = 2, *,
        key: Key,
    ):  # fmt: skip
        sizes = {"channels": channels, "width": width, "depth": depth}
        for name, size in sizes.items():
            ranges.whole(f"Autoencoder: {name}", size, "Pass how many.")
        if len(shape) not in (2, 3) or any(side < FACTOR or side % FACTOR for side in shape[:2]):
            expected = f"(H, W) or (H, W, C), both sides multiples of {FACTOR}"
            raise ValueError(explain("Autoencoder: shape", shape, expected, "Resize the pictures, to 32 by 32 say."))
        keys = iter(jax.random.split(key, 6 + 2 * depth))
        colours = 1 if len(shape) == 2 else shape[2]
        self.inward = Convolving(colours * FACTOR**2, width, 3, key=next(keys))
        self.encoder = tuple(PlainBlock(width, key=next(keys)) for _ in range(depth))
        self.told = Convolving(width, 2 * channels, 1, key=next(keys))
        self.outward = Convolving(channels, width, 3, key=next(keys))
        self.decoder = tuple(PlainBlock(width, key=next(keys)) for _ in range(depth))
        self.last = Convolving(width, colours * FACTOR**2, 3, key=next(keys))
        self.past = Convolving(colours * FACTOR**2, 2 * channels, 1, key=next(keys))
        self.back = Convolving(channels, colours * FACTOR**2, 1, key=next(keys))
        self.shape, self.latent = tuple(shape), (shape[0] // FACTOR, shape[1] // FACTOR, channels)

    @property
    def width(self) -> int:
        """Channels inside."""
        return self.inward.weight.shape[-1]

    def encode(self, picture: Array) -> tuple[Array, Array]:
        """m and ln v of one picture."""
        squares = into_channels(picture.reshape(*self.shape[:2], -1), FACTOR)
        hidden = self.inward(squares)
        for block in self.encoder:
            hidden = block(hidden)
        mean, log_variance = jnp.split(self.told(unit_size(hidden)) + self.past(squares), 2, axis=-1)
        return mean, _RANGE * jnp.tanh(log_variance / _RANGE)

    def draw(self, picture: Array, key: Key) -> tuple[Array, Array]:
        """A latent drawn from q(z | x), and the KL of that law from the normal one, in nats."""
        mean, log_variance = self.encode(picture)
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        return mean + jnp.exp(log_variance / 2) * noise, normal_kl(mean, log_variance)

    def decode(self, latent: Array) -> Array:
        """D of one latent."""
        hidden = self.outward(latent)
        for block in self.decoder:
            hidden = block(hidden)
        squares = self.last(jax.nn.silu(unit_size(hidden))) + self.back(latent)
        return into_places(squares, FACTOR).reshape(self.shape)


class EvidenceBound(eqx.Module):
    r"""The bound of the head of this page for -log p(x), over the n numbers of a picture: an objective for `fit`.

    **Arguments:**

    - `noise`: s, above 0, in the units of the pictures.

    Called as `loss(autoencoder, pictures, key=key)`; the autoencoder has `draw(picture, key)` and `decode(latent)`.

    **Raises:** `ValueError` for a noise that is not positive.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> autoencoder = sx.diffusion.Autoencoder((8, 8), width=8, key=jax.random.key(0))
    >>> bound = sx.diffusion.EvidenceBound(noise=1.0)
    >>> bool(bound(autoencoder, jnp.zeros((2, 8, 8), jnp.float32), key=jax.random.key(1)) > 0.5 * jnp.log(2 * jnp.pi))
    True
    """

    noise: Any = eqx.field(default=0.1, converter=as_parameter)

    def __check_init__(self) -> None:
        ranges.positive("EvidenceBound: noise", self.noise, "Leave it out for 0.1.")

    def __call__(self, autoencoder: Any, pictures: Array, *, key: Key | None = None) -> Scalar:
        return jnp.mean(self.terms(autoencoder, pictures, key=key))

    def terms(self, autoencoder: Any, pictures: Array, *, key: Key | None = None) -> Array:
        """The bound for each picture."""
        return self.parts(autoencoder, pictures, key=key)[0]

    def parts(self, autoencoder: Any, pictures: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        """The bound for each picture, and the latents that were drawn for it."""
        keys = jax.random.split(require_key(key, "EvidenceBound"), pictures.shape[0])
        latents, divergences = jax.vmap(autoencoder.draw)(pictures, keys)
        gaps = (pictures - jax.vmap(autoencoder.decode)(latents)).reshape(pictures.shape[0], -1)
        variance = jnp.asarray(self.noise, pictures.dtype) ** 2
        misfit = jnp.mean(gaps**2, axis=1) / (2 * variance) + jnp.log(2 * math.pi * variance) / 2
        return misfit + divergences / gaps.shape[1], latents


def normal_kl(mean: Array, log_variance: Array) -> Array:
    """KL(N(m, v) | N(0, 1)) in nats, summed over coordinates.

    >>> float(normal_kl(jnp.array([1.0, 0.0]), jnp.zeros(2)))
    0.5
    """
    return jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance) / 2


def into_channels(x: Array, factor: int) -> Array:
    """(H, W, C) -> (H/f, W/f, f^2 C): each square of f by f as channels."""
    height, width, channels = x.shape
    squares = x.reshape(height // factor, factor, width // factor, factor, channels)
    return squares.transpose(0, 2, 1, 3, 4).reshape(height // factor, width // factor, -1)


def into_places(x: Array, factor: int) -> Array:
    """The inverse of `into_channels`."""
    height, width, channels = x.shape
    squares = x.reshape(height, width, factor, factor, channels // factor**2)
    return squares.transpose(0, 2, 1, 3, 4).reshape(height * factor, width * factor, -1)
