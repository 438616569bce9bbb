r"""Classifier two-sample test: how often k nearest neighbours tell which of two samples a point came from.

Both samples are brought to one size and cut into folds of equal shares. A point is given the label that most of its k
nearest neighbours *in the other folds* have. Under one law it is right with probability exactly 1/2; two laws can be told
apart with probability 1/2 + (1/2) TV(P, Q) at most, which for N(a, I) and N(b, I) is Phi(|a - b|/2).

Neighbours do not depend on labels: they are found once, and permutations (within folds) only vote again. Points that
share neighbours are right or wrong together, so that accuracies scatter more than binomially: by how much is read off the
permutations.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Key
from separatrix.diagnostics.checks import check_count, check_key
from separatrix.diagnostics.samples._samples import Samples, in_blocks, samples, squared_distances
from separatrix.diagnostics.samples.result import Distance, told

# Up to here repeated passes for the smallest entry are quicker than a partial sort.
_PASSES = 16


def classifier_two_sample(
    first: Any, second: Any, *, key: Key, neighbours: int = 5, folds: int = 5, permutations: int = 200
) -> Distance:
    r"""Return the accuracy of nearest neighbours in telling two samples apart: 1/2 for one law, at most (1 + TV)/2.

    **Arguments:**

    - `first`, `second`: shape (n, ...) and (m, ...), points flattened; of the larger as many as of the smaller are used,
      drawn at random. Bring coordinates to a common scale before.
    - `key`: for folds and permutations.
    - `neighbours`: k, odd. `folds`: at least 2. `permutations`: P of the p-value; 0 for none.

    **Returns:** a `Distance` whose value is an accuracy. Its standard error is the binomial one, times the factor (at least
    1) by which accuracies under permutations scatter more than that; without permutations the binomial one alone, about
    a fifth too small.

    **Raises:** `ValueError` for an even k, or samples too small for the folds.

    **Example:**

    >>> import jax, separatrix as sx
    >>> x, y = jax.random.normal(jax.random.key(0), (2, 300, 2))
    >>> found = sx.classifier_two_sample(x, y + 2.0, key=jax.random.key(1))
    >>> bool(found.value > 0.85), bool(found.p_value < 0.01)
    (True, True)

    **Reference:** Lopez-Paz & Oquab, *Revisiting classifier two-sample tests* (2017).
    """
    pair = samples(first, second, "classifier_two_sample")
    for value, name, least in ((neighbours, "neighbours", 1), (folds, "folds", 2), (permutations, "permutations", 0)):
        check_count(f"classifier_two_sample: {name}", value, least)
    check_key("classifier_two_sample", key, needed=True)
    share = min(pair.n, pair.m) // folds
    if neighbours % 2 == 0 or share == 0 or 2 * share * (folds - 1) < neighbours:
        got = f"{neighbours} neighbours and {folds} folds of {min(pair.n, pair.m)} points"
        do = "Take fewer neighbours or folds, or more points."
        raise ValueError(
            explain("classifier_two_sample", got, "an odd number of neighbours inside the other folds", do)
        )
    value, null = _all(pair, key, neighbours, folds, share, permutations)
    error = jnp.sqrt(value * (1 - value) / (2 * share * folds))
    error = error * jnp.maximum(1, 2 * (2 * share * folds) ** 0.5 * jnp.std(null)) if permutations else error
    return told(
        value, error, null, name="two-sample accuracy", sizes=pair.sizes,
        statement=f"{neighbours} nearest neighbours, {folds} folds, {2 * share * folds} points",
    )  # fmt: skip


@eqx.filter_jit
def _all(pair: Samples, key: Key, neighbours: int, folds: int, share: int, permutations: int) -> tuple[Any, Any]:
    """Accuracy, and accuracies under permutations of the labels within folds."""
    drawn, shuffled = jax.random.split(key)
    keys = jax.random.split(drawn)
    chosen = [
        offset + jax.random.permutation(k, count)[: folds * share].reshape(folds, share)
        for k, offset, count in ((keys[0], 0, pair.n), (keys[1], pair.n, pair.m))
    ]
    points = pair.pooled[jnp.concatenate(chosen, axis=1).ravel()]  # a fold is 2 * share rows, the first sample first
    near = _neighbours(points, jnp.repeat(jnp.arange(folds), 2 * share), neighbours)
    labels = jnp.broadcast_to(jnp.arange(2 * share) < share, (folds, 2 * share))

    def accuracy(labels: Any) -> Any:
        labels = labels.ravel()
        voted = 2 * jnp.sum(labels[near], axis=1) > neighbours
        return jnp.mean((voted == labels).astype(points.dtype))

    permuted = lambda k: accuracy(jax.random.permutation(k, labels, axis=1, independent=True))  # noqa: E731
    null = (
        jax.lax.map(permuted, jax.random.split(shuffled, permutations)) if permutations else jnp.zeros(0, points.dtype)
    )
    return accuracy(labels), null


def _neighbours(points: Any, fold: Any, count: int) -> Any:
    """Numbers of the nearest points of other folds, (N, k)."""

    def block(i: Any, rows: Any) -> Any:
        squares = squared_distances(rows, points)
        elsewhere = fold[i][:, None] != fold[None, :]
        return _smallest(jnp.where(elsewhere, squares, jnp.inf), count)

    return in_blocks(block, points, points.shape[0])


def _smallest(values: Any, count: int) -> Any:
    """Columns of the smallest entries of each row; a few passes where a few are wanted, which no sort beats."""
    if count > _PASSES:
        return jax.lax.top_k(-values, count)[1]
    found, columns = [], jnp.arange(values.shape[1])
    for _ in range(count):
        found.append(jnp.argmin(values, axis=1))
        values = jnp.where(columns[None, :] == found[-1][:, None], jnp.inf, values)
    return jnp.stack(found, axis=1)
