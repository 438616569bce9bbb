r"""Perceptrons for GANs on numbers and on small pictures, with a label beside where there are classes.

    generator       (z, one-hot label) -> hidden layers of width w, ReLU -> an example; pictures by a sigmoid, in [0, 1]
    discriminator   (x, one-hot label) -> hidden layers, leaky ReLU -> one number

    spectral        W x/s(W) + b in the place of W x + b, s the largest singular value, by k power iterations from ones

On a CPU matrix products are as fast as they get, and convolutions are not: up to some 30 x 30 pixels a perceptron
learns more in a minute.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Checked
from separatrix.systems import ranges


class Generator(eqx.Module):
    """(z, label) -> an example of a shape, in [0, 1] for pictures."""

    layers: eqx.nn.MLP
    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int = eqx.field(static=True)

    def __init__(self, latent: int, shape: tuple[int, ...], width: int, depth: int, *, classes: int = 0, key: Any):
        last = jax.nn.sigmoid if len(shape) > 1 else lambda x: x
        self.layers = eqx.nn.MLP(
            latent + classes, math.prod(shape), width, depth, jax.nn.relu, last, dtype=jnp.float32, key=key
        )
        self.shape, self.classes = tuple(shape), classes

    def __call__(self, z: Any, label: Any = None) -> Any:
        return self.layers(_beside(z, label, self.classes)).reshape(self.shape)


class Discriminator(eqx.Module):
    """(x, label) -> one number."""

    layers: eqx.nn.MLP
    classes: int = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], width: int, depth: int, *, classes: int = 0, key: Any):
        size = math.prod(shape) + classes
        self.layers = eqx.nn.MLP(size, "scalar", width, depth, jax.nn.leaky_relu, dtype=jnp.float32, key=key)
        self.classes = classes

    def __call__(self, x: Any, label: Any = None) -> Any:
        return self.layers(_beside(jnp.ravel(x), label, self.classes))


class SpectralLinear(eqx.Module):
    """x -> W x/s(W) + b: a linear layer whose largest singular value is 1.

    The power iteration starts anew at each call, so that nothing is carried, and is differentiated through: its layer
    has all derivatives, which the spectrum of a game asks for.
    """

    layer: eqx.nn.Linear
    iterations: int = eqx.field(static=True)

    def __call__(self, x: Any, *, key: Any = None) -> Any:
        weight = self.layer.weight
        right = jnp.full(weight.shape[1], 1 / math.sqrt(weight.shape[1]), weight.dtype)
        for _ in range(self.iterations):
            right = weight.T @ (weight @ right)
            right = right / jnp.linalg.norm(right)
        values = weight @ x / jnp.linalg.norm(weight @ right)
        values = values if self.layer.bias is None else values + self.layer.bias
        return jnp.squeeze(values) if self.layer.out_features == "scalar" else values


def spectral_normalised(network: Any, iterations: Checked[int] = 8) -> Any:
    """Return a network with each of its linear layers divided by its largest singular value.

    **Arguments:** `network`: a module with layers `eqx.nn.Linear`. `iterations`: of the power method; the error of a
    singular value falls by (s_2/s_1)^4 with each.

    **Raises:** `ValueError` for fewer than one iteration, or a network without linear layers.

    **Example:**

    >>> import equinox as eqx, jax, separatrix as sx
    >>> critic = sx.games.spectral_normalised(eqx.nn.MLP(2, "scalar", 16, 2, key=jax.random.key(0)), 50)
    >>> slope = jax.grad(critic)(jax.numpy.array([0.3, -0.2]))
    >>> bool(jax.numpy.linalg.norm(slope) <= 1.0)
    True

    **Reference:** Miyato et al., *Spectral normalization for generative adversarial networks* (2018), algorithm 1.
    There the vector of the power iteration is kept from step to step (as `eqx.nn.SpectralNorm` does, which needs a
    state).
    """
    ranges.whole("spectral_normalised: iterations", iterations, "Leave it out for 8.")

    def is_linear(node: Any) -> bool:
        return isinstance(node, eqx.nn.Linear)

    if not any(map(is_linear, jax.tree.leaves(network, is_leaf=is_linear))):
        do = "Pass a network with eqx.nn.Linear layers."
        raise ValueError(explain("spectral_normalised: network", "no linear layer", "one at least", do))
    return jax.tree.map(
        lambda node: SpectralLinear(node, iterations) if is_linear(node) else node, network, is_leaf=is_linear
    )


def _beside(x: Any, label: Any, classes: int) -> Any:
    """x, and the label as classes numbers, one of them 1."""
    return x if not classes else jnp.concatenate([x, jax.nn.one_hot(label, classes, dtype=x.dtype)])
