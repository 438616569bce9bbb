"""Labels in training: some left out at random, so that one network serves with and without; what is no label is NaN."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._types import Key


def guessed(what: str, network: Any, times: Array, noised: Array, labels: Any, drop: Any, key: Key) -> Array:
    """What a network says of each member of a batch, with a share of the labels left out."""
    if labels is None:
        return jax.vmap(network)(times, noised)
    gone = jax.random.uniform(key, (noised.shape[0],)) < drop
    none = classes_of(what, network)
    known = (labels >= 0) & (labels <= none)
    found = jax.vmap(network)(times, noised, jnp.where(gone & known, none, labels))
    return jnp.where(known.reshape(-1, *[1] * (found.ndim - 1)), found, jnp.nan)


def classes_of(what: str, network: Any) -> int:
    """The number of classes of a network that is given labels, which stands for none of them."""
    classes = getattr(network, "classes", None)
    if not isinstance(classes, int):
        do = "Train one with classes=, or leave the labels out."
        raise TypeError(explain(what, f"classes={classes}, and labels", "a network with classes", do))
    return classes
