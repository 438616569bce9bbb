r"""What the instrument watches: an objective on the batch at hand, and how an optimiser answers to a gradient.

    ratio = largest eigenvalue of M^{1/2} H M^{1/2},        stable iff ratio < 1

with M measured (`responses`), of an optax transformation and of a method of this family alike.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import dot, float_dtype, subtract
from separatrix._types import Function, Key, State
from separatrix.optimization.methods.adagrad import Adagrad
from separatrix.optimization.methods.adam import Adam, AdamW, Nadam
from separatrix.optimization.methods.aggregated import QHM, AggMo, QHAdam
from separatrix.optimization.methods.descent import GradientDescent
from separatrix.optimization.methods.momentum import HeavyBall, Nesterov
from separatrix.optimization.methods.rmsprop import Adadelta, RMSprop
from separatrix.optimization.methods.sign import Lion, SignDescent
from separatrix.optimization.methods.wrappers import RestartedNesterov
from separatrix.optimization.stability.binding import ModelParts, transformation_of, widened, with_states_anew
from separatrix.optimization.stability.held import held_map, held_transformation, update_of
from separatrix.optimization.stability.peeling import peeled
from separatrix.optimization.stability.reading import Halves
from separatrix.optimization.stability.responses import Checks, Response, response_at
from separatrix.systems.objective import FunctionObjective, Objective, WrappedObjective
from separatrix.systems.optax_maps import OptaxMap

# Methods that lose their stability by an oscillation of period two; and those that step along signs, and have no edge.
METHODS = (
    GradientDescent, HeavyBall, Nesterov, RestartedNesterov, QHM, AggMo, RMSprop, Adadelta, Adagrad, Adam, AdamW, Nadam,
    QHAdam,
)  # fmt: skip
SIGNED = (SignDescent, Lion)
# A step at which schedules and bias corrections are over.
LATE = 10**9


class InALoop(eqx.Module):
    """A loss as a loop of one's own has it: l(model, *parts of a batch), or a pair of which it is the first."""

    function: Function = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    def __call__(self, model: Any, batch: Any = ()) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            value = with_states_anew(self.function)(model, *batch)
        return jnp.asarray(value[0] if isinstance(value, tuple) else value).astype(self.dtype)


def in_a_loop(
    function: Function, batch: Any, parts: ModelParts, parameters: State, count: int | None
) -> FunctionObjective:
    """The loss on the first `count` examples of a batch, on all for None, as a function of the model's parameters."""
    whole = FunctionObjective(InALoop(function, float_dtype(parameters)), data=batch or None, form=parts)
    size = size_of(whole)
    if not count or count >= size:
        return whole
    # What has no axis of examples (a key, a weight) stays whole.
    return whole.on_batch(jax.tree.map(lambda leaf: leaf[:count] if examples_of(leaf) == size else leaf, whole.data))


def halves_of(objective: FunctionObjective, most: int) -> Halves | None:
    """Both halves of its batch, of `most` examples at most; None for fewer than two."""
    size = size_of(objective)
    middle = min(size, most) // 2
    if not middle:
        return None

    def sides(leaf: Any) -> Any:
        return leaf[: 2 * middle].reshape(2, middle, *leaf.shape[1:]) if examples_of(leaf) == size else None

    return Halves(objective, jax.tree.map(sides, objective.data), middle, False)


def size_of(objective: FunctionObjective) -> int:
    """Number of examples: the length of the first axis of the first array that has one, 0 where there is no batch."""
    return next(filter(None, map(examples_of, jax.tree.leaves(objective.data))), 0)


def examples_of(leaf: Any) -> int:
    """The length of the first axis of an array, 0 for anything else."""
    return leaf.shape[0] if eqx.is_array(leaf) and leaf.ndim > 0 else 0


class InOwnPrecision(eqx.Module):
    """The rule by which parameters are brought back to the precision in which a network takes them."""

    kinds: tuple[Any, ...] = eqx.field(static=True)

    def __call__(self, ask: Function, parameters: State, key: Key | None) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(parameters)
        own = [leaf.astype(kind) for leaf, kind in zip(leaves, self.kinds, strict=True)]
        loss, layers = ask(structure.unflatten(own), key)
        return jnp.asarray(loss).astype(float_dtype(parameters)), layers


def on_single_precision(objective: Objective, parameters: State, key: Key | None) -> tuple[Objective, State]:
    """(objective, parameters) with those of half precision in float32, for an objective that may take no such model."""
    wide, kinds = widened(parameters), tuple(leaf.dtype for leaf in jax.tree.leaves(parameters))
    if kinds == tuple(leaf.dtype for leaf in jax.tree.leaves(wide)):
        return objective, parameters
    try:
        value = jax.eval_shape(lambda p: objective(p, key=key), wide)
    except (TypeError, ValueError):
        value = None
    fits = value is not None and value.dtype == float_dtype(wide)
    return (objective if fits else WrappedObjective(objective, InOwnPrecision(kinds))), wide


class Along(eqx.Module):
    """c = <d v, x> of the parameters in an optimiser's state."""

    covector: State
    map: Any

    def __call__(self, state: State) -> Any:
        return dot(self.covector, widened(self.map.parameters(state)))


class OfTransformation(eqx.Module):
    """How an optax transformation answers, at its own state and step."""

    transformation: Any = eqx.field(static=True)

    def response(
        self, inner: Any, parameters: State, gradient: State, value: Any = None, checks: Checks | None = None,
        n: Any = None, anew: Any = False,
    ) -> Response:  # fmt: skip
        """The linear response there; of one that gathers gradients, that of what it wraps. Its state knows the step."""
        transformation, inner, gain = peeled(self.transformation, inner)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            held = held_transformation(transformation, widened(inner), parameters, value)
        found = response_at(held, gradient, checks, anew)
        grown = lambda tree: jax.tree.map(lambda leaf: leaf * jnp.asarray(gain, leaf.dtype), tree)  # noqa: E731
        return eqx.tree_at(
            lambda r: (r.first, r.inverse_edge, r.drift), found,
            (grown(found.first), grown(found.inverse_edge), grown(found.drift)),
        )  # fmt: skip

    def change(self, n: Any, gradient: State, inner: Any, parameters: State, key: Key | None) -> State:
        """x' - x of the next step."""
        transformation, inner, _ = peeled(self.transformation, inner)
        return update_of(transformation, gradient, widened(inner), parameters)[0]


class OfMap(eqx.Module):
    """How a method of this family answers, at its own state and step; `inner` is its whole state."""

    map: Any

    def response(
        self, inner: Any, parameters: State, gradient: State, value: Any = None, checks: Checks | None = None,
        n: Any = LATE, anew: Any = False,
    ) -> Response:  # fmt: skip
        """The linear response at step n."""
        return response_at(held_map(self.map, n, widened(inner)), gradient, checks, anew)

    def change(self, n: Any, gradient: State, inner: Any, parameters: State, key: Key | None) -> State:
        """x' - x of the next step."""
        return subtract(self.map.parameters(self.map.step(n, inner, key=key)), parameters)


def watched(optimizer: Any) -> Any:
    """What knows how an optimiser answers: an optax transformation, or a method of this family.

    **Raises:** `TypeError` for another map: it may lose its stability otherwise than by an oscillation of period two.
    """
    if isinstance(optimizer, OptaxMap):
        optimizer = optimizer.transformation
    transformation = transformation_of(optimizer)
    if transformation is not None:
        return OfTransformation(transformation)
    if not isinstance(optimizer, METHODS + SIGNED):
        expected = f"a map of optax, {', '.join(method.__name__ for method in METHODS)}"
        do = "Ask linear_stability of another map, or pass from_optax(loss, transformation)."
        raise TypeError(explain("stability edge: optimizer", type(optimizer).__name__, expected, do))
    return OfMap(optimizer)


def objective_of(map: Any) -> Objective:
    """The objective of an optimiser, wherever it stands in it."""
    is_objective = lambda node: isinstance(node, Objective)  # noqa: E731
    return next(node for node in jax.tree.leaves(map, is_leaf=is_objective) if is_objective(node))


@eqx.filter_jit
def loss_at(objective: Objective, parameters: State) -> Any:
    """L(parameters)."""
    return objective(parameters)


def classes_of(batch: Any) -> int | None:
    """How many classes the labels of a batch have: whole numbers from 0, or rows of one 1; None where there are none."""
    size = next(filter(None, map(examples_of, jax.tree.leaves(batch))), 0)
    for leaf in jax.tree.leaves(batch):
        if not size or examples_of(leaf) != size or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            continue
        values = np.asarray(leaf)
        if leaf.ndim == 1 and jnp.issubdtype(leaf.dtype, jnp.integer):
            return int(values.max()) + 1
        if (
            leaf.ndim == 2
            and leaf.shape[1] > 1
            and np.all((values == 0) | (values == 1))
            and np.all(values.sum(1) == 1)
        ):
            return int(leaf.shape[1])
    return None
