r"""Products with the curvature of an objective, from one linearisation.

    Hessian         H v = d/de grad L(theta + e v) at e = 0,         L = l o f:   G v = J^T (grad^2 l) J v   (Gauss-Newton)

in real coordinates of the parameters, and on demand in the metric of a positive diagonal d: D^(-1/2) H D^(-1/2). The
gradient is linearised once, so that each product pays for the linear part alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import asarrays, is_traced
from separatrix._types import Key, State
from separatrix.diagnostics._coordinates import as_vector, from_vector
from separatrix.systems._signature import as_pytree
from separatrix.systems.objective import FunctionObjective, Objective, as_objective

MATRICES = ("hessian", "gauss_newton")


class Symmetric(NamedTuple):
    """v -> A v, the gradient, and the square root of the diagonal metric (None for the plain one)."""

    multiply: Callable[[Array], Array]
    gradient: Array
    root: Array | None


class Task(eqx.Module):
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
    def point(self) -> Array:
        """Coordinates of the parameters."""
        return as_vector(self.parameters)

    def loss(self, vector: Array) -> Any:
        """L in coordinates."""
        return self.objective(from_vector(vector, self.parameters), key=self.key)

    def products(self) -> Symmetric:
        """Linearise."""
        gradient, multiply = self._gauss_newton() if self.matrix == "gauss_newton" else self._hessian()
        if self.metric is None:
            return Symmetric(multiply, gradient, None)
        root = jnp.sqrt(self.metric)
        return Symmetric(lambda v: multiply(v / root) / root, gradient, root)

    def _hessian(self) -> Any:
        return jax.linearize(jax.grad(self.loss), self.point)

    def _gauss_newton(self) -> Any:
        outputs, loss = self.objective.split(key=self.key)
        values, push = jax.linearize(lambda v: outputs(from_vector(v, self.parameters)), self.point)
        pull = jax.linear_transpose(push, self.point)
        slope, bend = jax.linearize(jax.grad(loss), values)
        return pull(slope)[0], lambda v: pull(bend(push(v)))[0]


class Composite(Objective):
    """L(theta) = l(f(theta))."""

    outputs: Any
    outer: Any

    def __call__(self, parameters: State, *, key: Key | None = None) -> Any:
        return self.outer(self.outputs(parameters))

    def split(self, *, key: Key | None = None) -> tuple[Any, Any]:
        """Return (f, l)."""
        return self.outputs, self.outer


def task_of(what: str, objective: Any, parameters: Any, key: Any, matrix: str, preconditioner: Any) -> Task:
    """Check what was passed, and put it together."""
    if matrix not in MATRICES:
        raise ValueError(
            explain(f"{what}: matrix", repr(matrix), f"one of {', '.join(MATRICES)}", "Name one of these.")
        )
    objective = _objective(what, objective, matrix)
    parameters = asarrays(parameters)
    task = Task(objective, parameters, _metric(what, preconditioner, parameters), key, matrix)
    value = jax.eval_shape(_plain(objective, key), parameters)
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        got = f"an objective of {getattr(value, 'dtype', type(value).__name__)}{list(getattr(value, 'shape', ()))}"
        raise ValueError(explain(what, got, "a real scalar", "Return one number: take the mean over examples."))
    return task


def _plain(objective: Any, key: Any) -> Callable[[Any], Any]:
    """What the objective wraps, whose value may be of any shape."""
    if not isinstance(objective, FunctionObjective):
        return lambda parameters: objective(parameters, key=key)
    keywords = {"key": key} if objective.takes_key else {}
    return lambda parameters: objective.function(parameters, **keywords)


def _objective(what: str, objective: Any, matrix: str) -> Any:
    if isinstance(objective, tuple):
        if len(objective) != 2 or not all(map(callable, objective)):
            do = "Pass outputs(parameters) and loss(outputs)."
            raise TypeError(explain(f"{what}: objective", repr(objective)[:60], "a pair of functions", do))
        return Composite(as_pytree(objective[0]), as_pytree(objective[1]))
    if not callable(objective):
        do = "Pass an Objective or a function of the parameters."
        raise TypeError(explain(f"{what}: objective", type(objective).__name__, "a scalar function", do))
    if matrix == "gauss_newton" and not hasattr(objective, "split"):
        expected = "an objective that is loss o outputs"
        do = "Pass the pair (outputs(parameters), loss(outputs)), or an objective made by `supervised`."
        raise TypeError(explain(f"{what}: matrix='gauss_newton'", type(objective).__name__, expected, do))
    return as_objective(objective)


def _metric(what: str, preconditioner: Any, parameters: Any) -> Any:
    """d as a vector, of the form of the parameters."""
    if preconditioner is None:
        return None
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (preconditioner, parameters)]
    if shapes[0] != shapes[1]:
        do = "Give a positive array for each array of the parameters."
        raise ValueError(explain(f"{what}: preconditioner", shapes[0], f"shapes {shapes[1]}", do))
    metric = as_vector(asarrays(preconditioner)).astype(as_vector(parameters).dtype)
    do = "Pass d of H v = lambda d v: for Adam sqrt(second moment) + eps."
    message = explain(f"{what}: preconditioner", "an entry that is not positive", "positive numbers", do)
    if is_traced(metric):
        return eqx.error_if(metric, ~jnp.all(metric > 0), message)
    if not np.all(np.asarray(metric) > 0):
        raise ValueError(message)
    return metric


def check_count(what: str, got: Any, least: int, most: int | None = None) -> None:
    """Refuse a whole number that is out of range."""
    if not least <= got <= (got if most is None else most):
        expected = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(explain(what, got, expected, "Ask within that."))
