r"""Two networks for recipes: a residual convolution network on pictures, and a multilayer perceptron.

    picture (H, W, C):  h <- W * x,   h <- h + V * gelu(U * norm(h))  (depth times),   y = R mean(h)

`*` is a convolution of 3 by 3 with the channels last. Every second block halves the picture while its shorter side is 8
or more. `norm` is the layer norm over the channels of a pixel, so that a network has no state and its parts stay residual.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._types import Key
from separatrix.linear.patches import convolved

_SMALLEST = 8


def perceptron(inputs: int, outputs: int, width: int, depth: int, *, key: Key) -> eqx.nn.MLP:
    """A multilayer perceptron of float32 with smooth activations."""
    return eqx.nn.MLP(inputs, outputs, width, depth, jax.nn.gelu, dtype=jnp.float32, key=key)


class Convolution(eqx.Module):
    """3 by 3, channels last, zeros around."""

    weight: Any  # (3, 3, in, out)
    bias: Any  # (out,)

    def __init__(self, inputs: int, outputs: int, *, key: Key):
        spread = math.sqrt(2 / (9 * inputs))  # keeps the size of what passes a rectifier (He et al. 2015)
        self.weight = spread * jax.random.normal(key, (3, 3, inputs, outputs), jnp.float32)
        self.bias = jnp.zeros(outputs, jnp.float32)

    def __call__(self, x: Float[Array, "height width inputs"]) -> Float[Array, "height width outputs"]:
        """Return the convolved picture."""
        return convolved(x, self.weight) + self.bias[None, None, :]


class ConvBlock(eqx.Module):
    """h + V * gelu(U * norm(h)); V starts at zero, so that the block starts as the identity."""

    first: Convolution
    second: Convolution
    scale: Any

    def __init__(self, width: int, *, key: Key):
        keys = jax.random.split(key)
        self.first = Convolution(width, width, key=keys[0])
        second = Convolution(width, width, key=keys[1])
        self.second = eqx.tree_at(lambda layer: layer.weight, second, jnp.zeros_like(second.weight))
        self.scale = jnp.ones(width, jnp.float32)

    def __call__(self, h: Float[Array, "height width channels"]) -> Float[Array, "height width channels"]:
        """Return the picture after the block."""
        centred = h - jnp.mean(h, axis=-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
        return h + self.second(jax.nn.gelu(self.first(self.scale[None, None, :] * normed)))


class ConvNet(eqx.Module):
    r"""A small residual convolution network; see the head of this page.

    **Arguments:**

    - `channels`: of a picture, 1 or 3. `outputs`: length of y. `width`: channels inside. `depth`: blocks, >= 1.
    - `key`: the weights.

    Called with one picture, (height, width) or (height, width, channels), it returns (outputs,).

    **Example:**

    >>> import jax, jax.numpy as jnp
    >>> net = ConvNet(1, 10, 8, 2, key=jax.random.key(0))
    >>> net(jnp.zeros((8, 8), jnp.float32)).shape
    (10,)

    **Reference:** He, Zhang, Ren, Sun, *Identity mappings in deep residual networks* (2016), the full pre-activation.
    """

    stem: Convolution
    blocks: tuple[ConvBlock, ...]
    readout: eqx.nn.Linear

    def __init__(self, channels: int, outputs: int, width: int, depth: int, *, key: Key):
        keys = jax.random.split(key, depth + 2)
        self.stem = Convolution(channels, width, key=keys[0])
        self.blocks = tuple(ConvBlock(width, key=one) for one in keys[2:])
        self.readout = eqx.nn.Linear(width, outputs, dtype=jnp.float32, key=keys[1])

    def __call__(self, picture: Float[Array, "height width *channels"]) -> Float[Array, " outputs"]:
        """Return the outputs for one picture."""
        h = self.stem(picture[..., None] if picture.ndim == 2 else picture)
        for number, block in enumerate(self.blocks):
            h = _halved(h) if number % 2 == 1 and min(h.shape[:2]) >= _SMALLEST else h
            h = block(h)
        return self.readout(jnp.mean(h, axis=(0, 1)))


def _halved(h: Any) -> Any:
    """Means over squares of 2 by 2; an odd last row or column is left out."""
    height, width = (side // 2 for side in h.shape[:2])
    return h[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1).mean(axis=(1, 3))
