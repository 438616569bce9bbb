r"""Networks that guess noise: e(t, x) or e(t, x, label).

Time enters by Fourier features cos, sin (2 pi f t) of frequencies between 1/4 and 16, a label by a learned vector; both
are added to the hidden units. For pictures there is `SmallUNet`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._types import Checked, Key
from separatrix.systems import ranges

_FEATURES = 32


class Conditioning(eqx.Module):
    """(t, label) -> a vector of hidden units."""

    inner: eqx.nn.Linear
    outer: eqx.nn.Linear
    labels: Array | None

    def __init__(self, width: int, classes: int | None, *, key: Key, dtype: Any, clocks: int = 1):
        keys = jax.random.split(key, 3)
        self.inner = eqx.nn.Linear(_FEATURES * clocks, width, key=keys[0], dtype=dtype)
        self.outer = eqx.nn.Linear(width, width, key=keys[1], dtype=dtype)
        self.labels = None if classes is None else jax.random.normal(keys[2], (classes + 1, width), dtype)

    def __call__(self, t: Any, label: Any) -> Array:
        frequencies = 2 * jnp.pi * jnp.geomspace(0.25, 16.0, _FEATURES // 2, dtype=self.inner.weight.dtype)
        angles = (jnp.reshape(t, (-1, 1)) * frequencies[None]).ravel()
        hidden = jax.nn.silu(self.inner(jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])))
        hidden = self.outer(hidden)
        if label is None:
            return hidden
        if self.labels is None:
            raise ValueError(
                explain("score network: label", "a label", "none, without classes", "Build it with classes=.")
            )
        # What is no label gives NaN, where plain indexing would take another one's vector.
        place, count = jnp.asarray(label).astype(int), self.labels.shape[0]
        return hidden + self.labels.at[jnp.where(place < 0, count, place)].get(mode="fill", fill_value=jnp.nan)


class ScoreMLP(eqx.Module):
    r"""A residual perceptron on vectors: e(t, x), or e(t, x, label).

    **Arguments:**

    - `size`: dimension of x. `width`, `depth`: hidden units, and residual blocks of two layers.
    - `classes`: how many labels; None for none. The number `classes` itself stands for no label, any other that is not
      below it gives NaN.
    - `clocks`: how many numbers t is; 2 for `MeanFlow`, whose t is [r, t].
    - `key`: of the initial weights. `dtype`: float32 by default.

    **Raises:** `ValueError` for sizes that are not whole numbers of at least 1.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> network = sx.diffusion.ScoreMLP(2, classes=3, key=jax.random.key(0))
    >>> network(jnp.float32(0.5), jnp.zeros(2, jnp.float32), 1).shape
    (2,)
    """

    first: eqx.nn.Linear
    condition: Conditioning
    blocks: tuple[tuple[eqx.nn.Linear, eqx.nn.Linear], ...]
    last: eqx.nn.Linear
    classes: int | None = eqx.field(static=True)

    def __init__(
        self, size: Checked[int], width: Checked[int] = 128, depth: Checked[int] = 2, classes: Checked[int | None] = None,
        clocks: Checked[int] = 1, *, key: Key, dtype: Any = jnp.float32,
    ):  # fmt: skip
        _check_sizes("ScoreMLP", classes, size=size, width=width, depth=depth, clocks=clocks)
        keys = jax.random.split(key, 3 + 2 * depth)
        pairs = [
            tuple(eqx.nn.Linear(width, width, key=keys[3 + 2 * i + j], dtype=dtype) for j in (0, 1))
            for i in range(depth)
        ]
        self.first = eqx.nn.Linear(size, width, key=keys[0], dtype=dtype)
        self.condition = Conditioning(width, classes, key=keys[1], dtype=dtype, clocks=clocks)
        self.blocks = tuple((a, b) for a, b in pairs)
        self.last = eqx.nn.Linear(width, size, key=keys[2], dtype=dtype)
        self.classes = classes

    def __call__(self, t: Any, x: Array, label: Any = None) -> Array:
        given = self.condition(t, label)
        hidden = self.first(x)
        for inner, outer in self.blocks:
            hidden = hidden + outer(jax.nn.silu(inner(jax.nn.silu(hidden + given))))
        return self.last(jax.nn.silu(hidden))


def _check_sizes(what: str, classes: Any, **sizes: Any) -> None:
    for name, size in sizes.items():
        ranges.whole(f"{what}: {name}", size, "Pass how many.")
    if classes is not None:
        ranges.whole(f"{what}: classes", classes, "Pass how many labels there are, or None.")
