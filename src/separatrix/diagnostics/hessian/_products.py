r"""Products with the curvature of an objective, from one linearisation.

    Hessian         H v = d/de grad L(theta + e v) at e = 0,         L = l o f:   G v = J^T (grad^2 l) J v   (Gauss-Newton)

in real coordinates of the parameters, and on demand in the metric of a positive diagonal d: D^(-1/2) H D^(-1/2). The
gradient is linearised once, so that each product pays for the linear part alone.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import asarrays, is_traced
from separatrix._types import State
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.systems.objective import FunctionObjective, LossOfOutputs, as_objective

MATRICES = ("hessian", "gauss_newton")


class CurvatureTask(eqx.Module):
    """An objective at parameters: all that its curvature depends on, as a tree of arrays."""

    objective: Any
    parameters: Any
    metric: Any
    key: Any
    matrix: str = eqx.field(static=True)

    @property
    def size(self) -> int:
        """Number n of real coordinates."""
        return jax.eval_shape(lambda: as_vector(self.parameters)).shape[0]

    @property
    def dtype(self) -> Any:
        """Of the coordinates."""
        return jax.eval_shape(lambda: as_vector(self.parameters)).dtype

    @property
    def real(self) -> bool:
        """Whether all parameters are real, of one precision: then a tree of them is as good as their coordinates."""
        kinds = {jnp.result_type(leaf) for leaf in jax.tree.leaves(self.parameters)}
        return len(kinds) == 1 and jnp.issubdtype(kinds.pop(), jnp.floating)

    def vector(self, tree: State) -> Array:
        """Coordinates. Put in place one by one: XLA fuses a concatenation with all that is done before and after it, entry
        by entry, which costs more than a product.
        """
        if not self.real:
            return as_vector(tree)
        place, whole = 0, jnp.zeros(self.size, self.dtype)
        for leaf in jax.tree.leaves(tree):
            whole = jax.lax.dynamic_update_slice(whole, leaf.ravel(), (place,))
            place += leaf.size
        return whole

    def tree(self, vector: Array) -> State:
        """From coordinates."""
        return from_vector(vector, self.parameters)

    def scaled(self, tree: State) -> State:
        """D^(-1/2) v, of trees."""
        return tree if self.metric is None else jax.tree.map(lambda v, d: v / jnp.sqrt(d), tree, self.metric)

    def unscaled(self, tree: State) -> State:
        """D^(1/2) v, of trees."""
        return tree if self.metric is None else jax.tree.map(lambda v, d: v * jnp.sqrt(d), tree, self.metric)

    def coordinates(self, tree: State) -> Array:
        """D^(1/2) v in coordinates."""
        return self.vector(self.unscaled(tree)) if self.real else as_vector(tree) * self._root()

    def from_coordinates(self, vector: Array) -> State:
        """The inverse: a tree."""
        return self.scaled(self.tree(vector)) if self.real else self.tree(vector / self._root())

    def products(self) -> tuple[Callable[[Array], Array], Array]:
        """Linearise: v -> A v, and the gradient, in coordinates."""
        if self.real:
            gradient, push = self._linearised(self.parameters, lambda x: x)
            return lambda v: self.vector(self.scaled(push(self.from_coordinates(v)))), self.vector(gradient)
        gradient, push = self._linearised(as_vector(self.parameters), self.tree)
        return lambda v: push(v / self._root()) / self._root(), gradient

    def _root(self) -> Any:
        return 1 if self.metric is None else jnp.sqrt(as_vector(self.metric))

    def product(self, tree: State) -> tuple[State, State]:
        """The gradient and one product, of trees: for the Hessian at a lower cost than linearising."""
        if self.matrix == "gauss_newton":
            gradient, push = self._linearised(self.parameters, lambda x: x)
            return gradient, self.scaled(push(self.scaled(tree)))
        slope = jax.grad(lambda x: self.objective(x, key=self.key))
        gradient, image = jax.jvp(slope, (self.parameters,), (self.scaled(tree),))
        return gradient, self.scaled(image)

    def gradient(self) -> Array:
        """grad L in coordinates."""
        return jax.grad(lambda v: self.objective(self.tree(v), key=self.key))(as_vector(self.parameters))

    def _linearised(self, point: State, restore: Callable[[State], State]) -> tuple[State, Callable[[State], State]]:
        """The gradient at a point, and products with the plain matrix."""
        if self.matrix == "hessian":
            return jax.linearize(jax.grad(lambda x: self.objective(restore(x), key=self.key)), point)
        outputs, loss = self.objective.split(key=self.key)
        values, push = jax.linearize(lambda x: outputs(restore(x)), point)
        pull = jax.linear_transpose(push, point)
        slope, bend = jax.linearize(jax.grad(loss), values)
        return pull(slope)[0], lambda v: pull(bend(push(v)))[0]


def task_of(what: str, objective: Any, parameters: Any, key: Any, matrix: str, preconditioner: Any) -> CurvatureTask:
    """Check what was passed, and put it together."""
    if matrix not in MATRICES:
        raise ValueError(
            explain(f"{what}: matrix", repr(matrix), f"one of {', '.join(MATRICES)}", "Name one of these.")
        )
    objective = _objective(what, objective, matrix)
    parameters = asarrays(parameters)
    task = CurvatureTask(objective, parameters, _metric(what, preconditioner, parameters), key, matrix)
    value = jax.eval_shape(lambda x: objective(x, key=key), parameters)
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        got = f"an objective of {getattr(value, 'dtype', type(value).__name__)}{list(getattr(value, 'shape', ()))}"
        raise ValueError(explain(what, got, "a real scalar", "Return one number: take the mean over examples."))
    return task


def _objective(what: str, objective: Any, matrix: str) -> Any:
    if isinstance(objective, tuple):
        if len(objective) != 2 or not all(map(callable, objective)):
            do = "Pass outputs(parameters) and loss(outputs)."
            raise TypeError(explain(f"{what}: objective", repr(objective)[:60], "a pair of functions", do))
        return FunctionObjective(LossOfOutputs(*objective))
    if not callable(objective):
        do = "Pass an Objective or a function of the parameters."
        raise TypeError(explain(f"{what}: objective", type(objective).__name__, "a scalar function", do))
    if matrix == "gauss_newton" and not isinstance(getattr(objective, "function", None), LossOfOutputs):
        expected = "an objective that is loss o outputs"
        do = "Pass the pair (outputs(parameters), loss(outputs)), or an objective made by `supervised`."
        raise TypeError(explain(f"{what}: matrix='gauss_newton'", type(objective).__name__, expected, do))
    return as_objective(objective)


def _metric(what: str, preconditioner: Any, parameters: Any) -> Any:
    """d in the form of the parameters, checked."""
    if preconditioner is None:
        return None
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (preconditioner, parameters)]
    if shapes[0] != shapes[1]:
        do = "Give a positive array for each array of the parameters."
        raise ValueError(explain(f"{what}: preconditioner", shapes[0], f"shapes {shapes[1]}", do))
    given = asarrays(preconditioner)
    positive = jnp.stack([jnp.all(leaf > 0) for leaf in jax.tree.leaves(given)]).all()
    # Both coordinates of a complex parameter are measured by the same d.
    metric = jax.tree.map(lambda d, x: d.astype(x.dtype) * (1 + 1j if jnp.iscomplexobj(x) else 1), given, parameters)
    do = "Pass d of H v = lambda d v: for Adam sqrt(second moment) + eps."
    message = explain(f"{what}: preconditioner", "an entry that is not positive", "positive numbers", do)
    if is_traced(metric):
        return eqx.error_if(metric, ~positive, message)
    if not positive:
        raise ValueError(message)
    return metric
