"""From what a user has (a loss, data, a model, an optimiser) to an objective of parameters and what is measured of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import float_dtype
from separatrix._types import State
from separatrix.systems.map import Map
from separatrix.systems.objective import FunctionObjective, Objective, as_objective, without_objectives
from separatrix.systems.optax_maps import from_optax
from separatrix.systems.signature import accepts_key, as_pytree, positional_count
from separatrix.training._course import CourseState, with_layers
from separatrix.training._examples import check_batch_size, examples_of
from separatrix.training._forms import ModelForm
from separatrix.training._losses import Losses
from separatrix.training.sampling import on_data
from separatrix.training.supervision import with_data

# The metric of a sampled loss is taken on one batch that stays the same all along the run, drawn from its own stream.
METRIC_STREAM = 2**31 - 1


def initial_of(objective: Any, initial: Any) -> Any:
    """The model to start from: as given, or as the objective holds it."""
    if initial is None:
        held = getattr(objective, "initial", None)
        return objective.model(held) if held is not None and is_on_data(objective) else held
    return initial


def is_on_data(objective: Any) -> bool:
    """Whether a loss can be asked of one batch, of data that it holds."""
    return isinstance(objective, FunctionObjective) and objective.data is not None


def require_trainable(initial: Any, parameters: State) -> None:
    """Refuse a model without parameters."""
    if not jax.tree.leaves(parameters):
        got = "nothing to train" if initial is None else f"{type(initial).__name__} without floating-point arrays"
        raise ValueError(explain("fit: initial", got, "the model to start from", "Pass initial=model."))


def bind(objective: Any, data: Any, batch_size: Any, form: ModelForm, key: Any) -> Objective:
    """The objective as a function of the parameters alone."""
    bound = _bind(objective, data, batch_size, form)
    if form.layers is not None and getattr(bound, "form", None) is not form:
        do = "Pass a loss l(model, batch) or L(model)."
        got = f"{type(bound).__name__}, for a model whose layers have state"
        raise TypeError(explain("fit: objective", got, "a function that is given the model", do))
    size = bound.batch_size if isinstance(bound, FunctionObjective) else None
    if size is not None and key is None:
        do = "Pass key=jax.random.key(0), from which batches are drawn, or batch_size=None for all."
        raise ValueError(explain("fit: key", f"None with batch_size={size}", "a PRNG key", do))
    return bound


def _bind(objective: Any, data: Any, batch_size: Any, form: ModelForm) -> Any:
    if isinstance(objective, tuple | list):
        arguments, words = (1, "L(players)") if data is None else (2, "l(players, batch)")
        objective = Losses(objective, arguments, words)
    if is_on_data(objective):
        return with_data(objective, data, batch_size)
    if data is not None:
        data, count = examples_of(data, "sampled: data")
        check_batch_size(batch_size, count, "sampled: batch_size")
        return on_data(objective, data, batch_size, form)
    if batch_size is not None:
        do = "Pass data, or set the batch size where the objective is made."
        raise ValueError(explain("fit: batch_size", batch_size, "none, without data", do))
    if not isinstance(objective, Objective) and callable(objective):
        positional_count(objective, (1,), "L(model), or l(model, batch) with data")
    if isinstance(objective, Objective) or not callable(objective):
        return as_objective(objective)
    return FunctionObjective(objective, accepts_key(objective), form=form)


def map_of(objective: Any, optimizer: Any) -> Any:
    """The map of an optax transformation on an objective, or the one that a function makes of it."""
    if hasattr(optimizer, "update") and hasattr(optimizer, "init"):
        return from_optax(objective, optimizer)
    map = optimizer(objective) if callable(optimizer) and not isinstance(optimizer, Map) else None
    if not isinstance(map, Map) or not hasattr(map, "init"):
        got = type(optimizer).__name__ if map is None else f"a function that returns {type(map).__name__}"
        expected = "an optax transformation, or a function from an objective to a map with `init`"
        do = "Pass optax.adam(1e-3), or lambda loss: sx.optimization.GradientDescent(loss, 0.1)."
        raise TypeError(explain("fit: optimizer", got, expected, do))
    return map


class Metrics(eqx.Module):
    """All metrics of a state, as one function of it; a pytree, so that a second `fit` does not compile again."""

    objective: Any
    key: Any
    metrics: dict[str, Any]
    form: ModelForm
    map: Map  # without its objectives

    def __call__(self, state: State) -> dict[str, Any]:
        parameters, layers = self.map.parameters(state), layers_of(state)
        loss = with_layers(self.objective, layers)(parameters, key=self.key)
        if isinstance(loss, tuple | list):
            # One row for all players of a game.
            loss = jnp.stack([jnp.asarray(own, float_dtype(loss)) for own in loss])
        form = with_form(self.form, layers)
        # Each metric has a model of its own: one of Flax NNX is changed by being called.
        return {"loss": loss, **{name: function(form.model(parameters)) for name, function in self.metrics.items()}}


def layers_of(state: State) -> Any:
    """What the layers carry in a state; None for nothing."""
    return state.layers if isinstance(state, CourseState) else None


def with_form(form: ModelForm, layers: Any) -> ModelForm:
    """The form of a model whose layers carry this."""
    return form if layers is None else dataclasses.replace(form, layers=layers)


def measure_of(objective: Objective, key: Any, metrics: Any, form: ModelForm, map: Map) -> Metrics:
    """What is measured along a run: the loss on one batch, and the metrics of the user."""
    for name, function in _checked(metrics):
        if name == "loss":
            do = "Give it another name: the objective itself is measured under this one."
            raise ValueError(explain("fit: metrics", '"loss"', "names of your own", do))
        if not callable(function):
            do = "Pass a function of the model."
            raise TypeError(explain(f"fit: metrics[{name!r}]", type(function).__name__, "a function", do))
    fixed = None if key is None else jax.random.fold_in(key, METRIC_STREAM)
    functions = {name: as_pytree(f) for name, f in _checked(metrics)}
    return Metrics(objective, fixed, functions, form, without_objectives(map))


def _checked(metrics: Any) -> list[tuple[str, Any]]:
    if metrics is None:
        return []
    if not isinstance(metrics, Mapping) or not all(isinstance(name, str) for name in metrics):
        do = 'Pass for example {"size": lambda model: ...}.'
        raise TypeError(explain("fit: metrics", type(metrics).__name__, "a dictionary of functions by name", do))
    return list(metrics.items())


def first_state(map: Any, parameters: State, state: Any) -> State:
    """The state to start from: that of the parameters, or the one given, which must have its form."""
    if state is None:
        first = map.init(parameters)
        _check_parameters(map, first, parameters)
        return first
    expected, got = jax.eval_shape(map.init, parameters), jax.eval_shape(lambda: state)
    if jax.tree.structure(expected) != jax.tree.structure(got):
        do = "Pass the `state` of a Fit of the same model and optimiser."
        found = jax.tree.structure(got)
        raise ValueError(explain("fit: state", found, jax.tree.structure(expected), do))
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(got), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            name = f"fit: state{jax.tree_util.keystr(path)}"
            do = "Pass the `state` of a Fit of the same model and optimiser."
            raise ValueError(explain(name, f"{new.dtype}{list(new.shape)}", f"{old.dtype}{list(old.shape)}", do))
    return state


def _check_parameters(map: Any, first: State, parameters: State) -> None:
    """Refuse a map that does not know which part of its state the model's parameters are."""
    found = jax.eval_shape(map.parameters, first)
    got, expected = ([(jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(t)] for t in (found, parameters))
    if got != expected:
        do = "Give the map a method parameters(state) that returns the part of its state that is trained."
        what = f"a tree of {len(got)} arrays, not the {len(expected)} of the model in their shapes and dtypes"
        raise ValueError(explain(f"fit: {type(map).__name__}.parameters(state)", what, "the model's parameters", do))
