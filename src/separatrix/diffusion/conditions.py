"""Conditions in training: some left out at random, so that one network serves with and without; what is no label is NaN.

A condition is a label, of a network with `classes`, or an array, of a network with `absent`: the one that stands for none.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Key
from separatrix.systems import ranges


def guessed(what: str, network: Any, times: Array, noised: Array, labels: Any, drop: Any, key: Key) -> Array:
    """What a network says of each member of a batch, with a share of the labels left out."""
    if labels is None:
        return jax.vmap(network)(times, noised)
    gone = jax.random.uniform(key, (noised.shape[0],)) < drop
    if getattr(network, "absent", None) is not None:
        given = jnp.where(gone.reshape(-1, *[1] * (labels.ndim - 1)), none_like(what, network, labels), labels)
        return jax.vmap(network)(times, noised, given)
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


def none_like(what: str, network: Any, conditions: Array) -> Array:
    """For each of some conditions the one that stands for none."""
    absent = getattr(network, "absent", None)
    if absent is None:
        return jnp.full_like(conditions, classes_of(what, network))
    return jnp.broadcast_to(jnp.asarray(absent, conditions.dtype), conditions.shape)


def require_like_absent(what: str, absent: Any, conditions: Any) -> None:
    """Refuse conditions that are no rows as the one that stands for none."""
    if conditions.shape[1:] != np.shape(absent):
        do = "Pass what the tokeniser or the encoder gives."
        got, expected = f"shape {conditions.shape}", f"(B, {', '.join(map(str, np.shape(absent)))})"
        raise ValueError(explain(what, got, expected, do))


def require_labels(what: str, classes: int, labels: Any) -> Any:
    """Return labels as an array; refuse what is not one whole number for each member of a batch, from 0 to `classes`."""
    do = f"Number the classes 0 to {classes - 1}; {classes} stands for none."
    given = labels if is_traced(labels) else np.asarray(labels)
    if given.dtype.kind not in "iu":
        raise ValueError(explain(what, f"dtype {given.dtype}", f"integers from 0 to {classes}", do))
    if given.ndim != 1:
        raise ValueError(explain(what, f"shape {given.shape}", "(B,)", "Give one to each member of the batch."))
    ranges.indices(what, given, classes + 1, do)
    return jnp.asarray(given)


def require_as_many(what: str, conditions: Any, x: Array) -> None:
    """Refuse conditions that are not one for each member of a batch."""
    for leaf in jax.tree.leaves(conditions):
        if jnp.shape(leaf)[:1] != x.shape[:1]:
            got = f"shape {jnp.shape(leaf)} for a batch of shape {x.shape}"
            expected = f"{x.shape[0]}, one for each member" if x.ndim else "a batch, shape (B, ...)"
            raise ValueError(explain(what, got, expected, "Give as many as there are examples."))
