r"""Which examples step n takes, as a function of n: nothing is stored, so that a run resumes from its number alone.

    "replacement"   B examples, independent and uniform, from fold_in(key, n): what the limits of SGD assume
    "epochs"        n = e m + i:  places i B, ..., i B + B - 1 of the order of (key, e), m = ceil(N/B) steps an epoch

The last batch of an epoch has r = N mod B examples where B does not divide N. It is dropped (m = floor(N/B)), or kept in
its true shape with its loss weighted by r/B, so that over an epoch every example counts the same.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._types import Key
from separatrix.evolution.shuffle import shuffled
from separatrix.training._examples import drawn

Draw = Literal["replacement", "epochs"]

# A stream of its own for the orders of epochs: no step has this number.
_ORDER_STREAM = 2**31 - 2


class Batches(eqx.Module):
    """Examples by step: see the head of this page. `per_epoch` steps go over all examples, or about that."""

    key: Any
    count: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    draw: str = eqx.field(static=True)
    drops: bool = eqx.field(static=True)

    @property
    def per_epoch(self) -> int:
        """Steps an epoch."""
        return self.count // self.size if self.drops else -(-self.count // self.size)

    @property
    def rest(self) -> int:
        """How many examples a last batch holds that is not full; 0 for none."""
        return 0 if self.drops or self.draw == "replacement" else self.count % self.size

    def places(self, n: Any, key: Key | None, size: int) -> Any:
        """Places in the data of the first `size` examples of step n, whose own key is `key`."""
        if self.draw == "replacement" and key is not None:
            return drawn(jax.random.split(key)[0], self.size, self.count)
        epoch, batch = n // self.per_epoch, n % self.per_epoch
        within = batch.astype(jnp.int32) * self.size + jnp.arange(size, dtype=jnp.int32)
        return shuffled(self.order, epoch, jnp.minimum(within, self.count - 1), self.count)

    def is_last(self, n: Any) -> Any:
        """Whether step n is the last of its epoch."""
        return n % self.per_epoch == self.per_epoch - 1

    @property
    def order(self) -> Any:
        """The key of the orders."""
        return jax.random.fold_in(self.key, _ORDER_STREAM)

    @eqx.filter_jit
    def of_steps(self, numbers: Any) -> Any:
        """Places of several steps, shape (steps, size). The last batch of an epoch is filled up with any."""
        keys = jax.vmap(lambda n: jax.random.fold_in(self.key, n))(numbers)
        return jax.vmap(lambda n, key: self.places(n, key, self.size))(numbers, keys)


class Source(eqx.Module):
    """Batches that the host brings: rows of the steps from `first` on, each a tree with leading axis (steps, size)."""

    first: Any
    rows: Any

    def batch(self, n: Any, size: int) -> Any:
        """The first `size` examples of step n."""
        return jax.tree.map(lambda leaf: leaf[n - self.first][:size], self.rows)
