r"""A user's model and optimiser state, of whatever library, as what the instrument needs: trees of arrays that fit.

    model  <->  (parameters, the rest),        optimiser state  ->  the state that transformation.init(parameters) has

Parameters are the floating-point arrays. All else (integers, keys, functions, batch statistics) is the rest and stays. The
optimiser's state is taken leaf by leaf, in order: so it may lie in any containers, `nnx.Optimizer`'s variables among them.
"""

import sys
import types
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from separatrix._errors import explain
from separatrix._types import Function, Key, State
from separatrix.systems.content import by_content


class ModelParts(eqx.Module):
    """What a model is beside its parameters, and how to put it together again.

    `rest`: leaves that are no parameters, in order; `taken`: which leaves are. `graph`, `beside`: of a module of Flax.
    `kinds`: the precisions in which it is put together, where they are not those of the parameters.
    """

    rest: list[Any]
    beside: Any
    taken: tuple[bool, ...] = eqx.field(static=True)
    form: Any = eqx.field(static=True)
    graph: Any = eqx.field(static=True)
    kinds: tuple[Any, ...] | None = eqx.field(static=True)

    def model(self, parameters: State, *, key: Key | None = None) -> Any:
        """The user's own model with these parameters."""
        leaves = jax.tree.leaves(parameters)
        if self.kinds is not None:
            leaves = [leaf.astype(kind) for leaf, kind in zip(leaves, self.kinds, strict=True)]
        new, old = iter(leaves), iter(self.rest)
        whole = jax.tree.unflatten(self.form, [next(new) if taken else next(old) for taken in self.taken])
        return whole if self.graph is None else _nnx().merge(self.graph, whole, _anew(self.beside))


def split_model(model: Any) -> tuple[State, ModelParts]:
    """(parameters, parts) of a tree of arrays, a module of equinox, a state or a module of Flax."""
    graph, beside, nnx = None, None, _nnx()
    if nnx is not None and isinstance(model, nnx.Module):
        graph, model, beside = nnx.split(model, nnx.Param, ...)
    leaves, form = jax.tree.flatten(model)
    taken = tuple(eqx.is_inexact_array(leaf) for leaf in leaves)
    rest = [leaf for leaf, is_taken in zip(leaves, taken, strict=True) if not is_taken]
    parameters = eqx.filter(pure(model), eqx.is_inexact_array)
    return parameters, ModelParts(rest, beside, taken, form, graph, None)


def pure(tree: Any) -> Any:
    """A tree whose variables of Flax are the arrays that they hold."""
    nnx = _nnx()
    if nnx is None:
        return tree
    is_variable = lambda node: isinstance(node, nnx.Variable)  # noqa: E731
    return jax.tree.map(lambda n: jax.tree.leaves(n)[0] if is_variable(n) else n, tree, is_leaf=is_variable)


def with_states_anew(function: Function) -> Function:
    """A function whose states of Flax, closed over or global, are copied where it is called.

    A layer that changes its state (a batch normalisation) may do so only in the trace in which the state was made, and
    this is called within several. What it changes is dropped.
    """
    nnx = _nnx()
    if nnx is None or not isinstance(function, types.FunctionType):
        return function
    is_state = lambda value: isinstance(value, nnx.State | nnx.Module | nnx.Variable)  # noqa: E731
    cells = function.__closure__ or ()
    shared = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    named = {name: value for name, value in shared.items() if is_state(value)}
    if not named and not any(is_state(cell.cell_contents) for cell in cells):
        return function
    fresh = lambda value: _anew(value) if is_state(value) else value  # noqa: E731
    spaces = {**function.__globals__, **{name: fresh(value) for name, value in named.items()}}
    inside = tuple(types.CellType(fresh(cell.cell_contents)) for cell in cells)
    made = types.FunctionType(function.__code__, spaces, function.__name__, function.__defaults__, inside)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _anew(tree: Any) -> Any:
    """The same arrays in new containers."""
    return jax.tree.map(lambda leaf: leaf, tree)


def _nnx() -> Any:
    """flax.nnx if the user has imported it."""
    return sys.modules.get("flax.nnx")


def transformation_of(optimizer: Any) -> Any:
    """The optax transformation in what a user calls the optimiser; None if there is none."""
    inner = getattr(optimizer, "tx", optimizer)
    if hasattr(inner, "update") and hasattr(inner, "init"):
        init, update = optax.with_extra_args_support(inner)
        return optax.GradientTransformationExtraArgs(by_content(init), by_content(update))
    return None


def optimizer_state_of(state: Any) -> Any:
    """The state of the transformation in what a user calls it: `nnx.Optimizer` and train states hold it."""
    return pure(getattr(state, "opt_state", state))


def fitting_state(transformation: Any, state: Any, model: Any, parameters: State) -> Any:
    """The optimiser's state in the form that it has for these parameters.

    It may have been made of the whole model: then of moments of what is no parameter nothing is kept.
    """
    leaves = jax.tree.leaves(state)
    for candidate in (parameters, eqx.filter(pure(model), eqx.is_array)):
        try:
            made = jax.eval_shape(transformation.init, candidate)
        except (TypeError, ValueError, AttributeError):
            made = transformation.init(candidate)
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(made)]
        if shapes == [jnp.shape(leaf) for leaf in leaves]:
            whole = jax.tree.unflatten(jax.tree.structure(made), leaves)
            return whole if candidate is parameters else _without_moments(transformation, whole, parameters)
    do = "Pass the state that optimizer.init made for this model, or nnx.Optimizer's opt_state."
    got = f"{len(leaves)} arrays that are not those of optimizer.init(parameters)"
    raise ValueError(explain("StabilityMonitor: optimizer state", got, "the optimiser's own state", do))


def _without_moments(transformation: Any, whole: Any, parameters: State) -> Any:
    """The same without the leaves that it has for what is no parameter: those whose path it would not have."""
    made = jax.eval_shape(transformation.init, parameters)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(made)]
    found = dict(jax.tree_util.tree_leaves_with_path(whole))
    return jax.tree.unflatten(jax.tree.structure(made), [found[path] for path in paths])


def in_single_precision(loss: Function, parts: ModelParts, parameters: State, batch: Any) -> tuple[State, ModelParts]:
    """Half-precision parameters in float32, so that their curvature is that of the loss and not of its rounding.

    Where the loss does not take such a model it is put together in its own precision.
    """
    kinds = [leaf.dtype for leaf in jax.tree.leaves(parameters)]
    if all(jnp.finfo(kind).bits >= 32 for kind in kinds):
        return parameters, parts
    wide = widened(parameters)
    arguments = () if batch is None else batch
    try:
        jax.eval_shape(lambda p: with_states_anew(loss)(parts.model(p), *arguments), wide)
    except (TypeError, ValueError):
        parts = ModelParts(parts.rest, parts.beside, parts.taken, parts.form, parts.graph, tuple(kinds))
    return wide, parts


def widened(tree: Any) -> Any:
    """Half-precision leaves in float32, the rest as it is."""

    def leaf(x: Any) -> Any:
        half = eqx.is_inexact_array(x) and jnp.finfo(x.dtype).bits < 32
        return x.astype(jnp.float32) if half else x

    return jax.tree.map(leaf, tree)
