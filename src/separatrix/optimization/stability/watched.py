r"""What the instrument watches: an objective on the batch at hand, and the metric and edge of an optimiser.

    lambda~ = largest eigenvalue of d^{-1} H,        stable iff lambda~ < edge

with d = 1/|R| and the edge e of `edge_ratio` for an optax transformation, and `preconditioner` and `stability_edge` for a
map of this family.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import dot, subtract
from separatrix._types import Function, Key, State
from separatrix.optimization.methods.descent import GradientDescent
from separatrix.optimization.stability.edges import preconditioner, stability_edge
from separatrix.optimization.stability.responses import LinearProbe, linear_response, response, update_of
from separatrix.systems.objective import Objective
from separatrix.systems.optax_maps import OptaxMap

# A parameter that its optimiser hardly moves adds nothing to the preconditioned curvature; its metric must stay finite.
_LEAST = 1e-12


class OnBatch(Objective):
    """l(model, batch) on one batch, as a function of the model's floating-point arrays."""

    function: Function = eqx.field(static=True)
    batch: Any
    rest: Any

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        model = eqx.combine(parameters, self.rest)
        value = self.function(model) if self.batch is None else self.function(model, *self.batch)
        return value[0] if isinstance(value, tuple) else value

    def first(self, count: int | None) -> "OnBatch":
        """The same on the first examples of the batch; on all for None."""
        size = self.size
        if not count or count >= size:
            return self
        batch = jax.tree.map(lambda leaf: leaf[:count] if examples_of(leaf) == size else leaf, self.batch)
        return OnBatch(self.function, batch, self.rest)

    def parts(self) -> tuple["OnBatch", "OnBatch"] | None:
        """The same on both halves of the batch; None for fewer than two examples."""
        size = self.size
        if size < 2:
            return None
        middle = size // 2

        def part(begin: int) -> Any:
            # What has no axis of examples (a key, a weight) goes whole to both.
            return jax.tree.map(
                lambda leaf: leaf[begin : begin + middle] if examples_of(leaf) == size else leaf, self.batch
            )

        first, second = part(0), part(middle)
        return OnBatch(self.function, first, self.rest), OnBatch(self.function, second, self.rest)

    @property
    def size(self) -> int:
        """Number of examples: the length of the first axis of the first array that has one, 0 where there is no batch."""
        return next(filter(None, map(examples_of, jax.tree.leaves(self.batch))), 0)


def examples_of(leaf: Any) -> int:
    """The length of the first axis of an array, 0 for anything else."""
    return leaf.shape[0] if eqx.is_array(leaf) and leaf.ndim > 0 else 0


class OnKey(Objective):
    """L(parameters; key) for one key: the loss on the batch that this key draws, of `size` examples."""

    objective: Objective
    held: Key
    size: int = eqx.field(static=True)

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        return self.objective(parameters, key=self.held)


class Along(eqx.Module):
    """c = <d v, x> of the parameters in an optimiser's state."""

    covector: State
    map: Any

    def __call__(self, state: State) -> Any:
        return dot(self.covector, self.map.parameters(state))


class OfTransformation(eqx.Module):
    """Metric and edge of an optax transformation."""

    transformation: Any = eqx.field(static=True)
    linear: LinearProbe = eqx.field(static=True)

    @property
    def edge(self) -> float:
        """The largest stable curvature in this metric."""
        return self.linear.edge

    def metric(self, inner: Any, parameters: State) -> State:
        """d = 1/|R| at an optimiser state."""
        # A second moment of exactly 0 has no derivative; it belongs to a parameter that never had a gradient.
        sizes = jax.tree.map(
            lambda r: jnp.where(jnp.isfinite(r), r, 0), response(self.transformation, inner, parameters)
        )
        largest = jnp.stack([jnp.max(leaf) for leaf in jax.tree.leaves(sizes)]).max()
        return jax.tree.map(lambda leaf: 1 / jnp.maximum(leaf, (_LEAST * largest).astype(leaf.dtype)), sizes)

    def change(self, n: Any, gradient: State, inner: Any, parameters: State, key: Key | None) -> State:
        """x' - x of the next step."""
        return update_of(self.transformation, gradient, inner, parameters)[0]

    @eqx.filter_jit
    def ready(self, inner: Any, parameters: State) -> Any:
        """Whether the optimiser has a scale: second moments before the first step have none."""
        sizes = response(self.transformation, inner, parameters)
        return jnp.stack([jnp.any(jnp.isfinite(leaf) & (leaf > 0)) for leaf in jax.tree.leaves(sizes)]).any()


class OfMap(eqx.Module):
    """Metric and edge of a map of this family, scaled to the edge of gradient descent, 2."""

    map: Any
    edge: float = eqx.field(static=True, default=2.0)

    @property
    def linear(self) -> LinearProbe:
        """Growth and drift are known of gradient descent alone."""
        known = isinstance(self.map, GradientDescent)
        return LinearProbe(self.edge, 2.0, 1.0) if known else LinearProbe(self.edge, float("nan"), float("nan"))

    def metric(self, inner: Any, parameters: State) -> State:
        """d times the largest stable curvature over 2, so that the edge is 2."""
        diagonal = preconditioner(self.map, inner)
        diagonal = jax.tree.map(jnp.ones_like, parameters) if diagonal is None else diagonal
        factor = jnp.asarray(stability_edge(self.map)) / 2
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), diagonal)

    def change(self, n: Any, gradient: State, inner: Any, parameters: State, key: Key | None) -> State:
        """x' - x of the next step; `inner` is the whole state of the map."""
        return subtract(self.map.parameters(self.map.step(n, inner, key=key)), parameters)

    def ready(self, inner: Any, parameters: State) -> bool:
        """Whether every parameter has a scale."""
        diagonal = preconditioner(self.map, inner)
        return diagonal is None or all(bool(jnp.all(leaf > 0)) for leaf in jax.tree.leaves(diagonal))


def watched(optimizer: Any) -> Any:
    """What knows the metric and the edge of an optimiser: an optax transformation, or a map of this family."""
    if isinstance(optimizer, OptaxMap):
        optimizer = optimizer.transformation
    if hasattr(optimizer, "update") and hasattr(optimizer, "init"):
        return OfTransformation(optimizer, linear_response(optimizer))
    stability_edge(optimizer)  # says so where the method has none
    return OfMap(optimizer)
