"""From what a user has (a loss, data, a model, an optimiser) to an objective of parameters and what is measured of it."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import float_dtype
from separatrix._types import State
from separatrix.systems import ranges
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.signature import Frozen, accepts_key, as_pytree, freeze, positional_count
from separatrix.training._losses import Losses
from separatrix.training._models import require_stateless
from separatrix.training.sampled import OfModel, sampled
from separatrix.training.supervised import Supervised

# The metric of a sampled loss is taken on one batch that stays the same all along the run, drawn from its own stream.
_METRIC_STREAM = 2**31 - 1


def initial_of(objective: Any, initial: Any) -> Any:
    """The model to start from: as given, or as the objective holds it."""
    if initial is None:
        held = getattr(objective, "initial", None)
        initial = objective.model(held) if isinstance(objective, Supervised) else held
    require_stateless(initial, "fit: initial")
    if not jax.tree.leaves(eqx.filter(initial, eqx.is_inexact_array)):
        got = "nothing to train" if initial is None else f"{type(initial).__name__} without floating-point arrays"
        raise ValueError(explain("fit: initial", got, "the model to start from", "Pass initial=model."))
    return initial


def bind(objective: Any, data: Any, batch_size: Any, rest: Any, key: Any) -> Objective:
    """The objective as a function of the parameters alone."""
    bound = _bind(objective, data, batch_size, rest)
    size = getattr(bound, "batch_size", None)
    if size is not None and key is None:
        do = "Pass key=jax.random.key(0), from which batches are drawn, or batch_size=None for all."
        raise ValueError(explain("fit: key", f"None with batch_size={size}", "a PRNG key", do))
    return bound


def _bind(objective: Any, data: Any, batch_size: Any, rest: Any) -> Any:
    if isinstance(objective, tuple | list):
        arguments, form = (1, "L(players)") if data is None else (2, "l(players, batch)")
        objective = Losses(objective, arguments, form)
    if isinstance(objective, Supervised):
        return objective.on(data, batch_size)
    if data is not None:
        return sampled(objective, data, batch_size=batch_size, model=rest)
    if batch_size is not None:
        do = "Pass data, or set the batch size where the objective is made."
        raise ValueError(explain("fit: batch_size", batch_size, "none, without data", do))
    if not isinstance(objective, Objective) and callable(objective):
        positional_count(objective, (1,), "L(model), or l(model, batch) with data")
    if isinstance(objective, Objective) or not jax.tree.leaves(rest):
        return as_objective(objective)
    return OfModel(as_pytree(objective), freeze(rest), accepts_key(objective))


def parameters_of(state: State) -> State:
    """The trained part of an optimiser's state: `parameters`, `position` or `players` where it has one of these."""
    for name in ("parameters", "position", "players"):
        if hasattr(state, name):
            return getattr(state, name)
    return state


class Measure(eqx.Module):
    """All metrics of a state, as one function of it; a pytree, so that a second `fit` does not compile again."""

    objective: Any
    key: Any
    metrics: dict[str, Any]
    frozen: Frozen

    def __call__(self, state: State) -> dict[str, Any]:
        parameters = parameters_of(state)
        model = eqx.combine(parameters, self.frozen.thaw())
        loss = self.objective(parameters, key=self.key)
        if isinstance(loss, tuple | list):
            # One row for all players of a game.
            loss = jnp.stack([jnp.asarray(own, float_dtype(loss)) for own in loss])
        return {"loss": loss, **{name: function(model) for name, function in self.metrics.items()}}


def measure_of(objective: Objective, key: Any, metrics: Any, rest: Any) -> Measure:
    """What is measured along a run: the loss on one batch, and the metrics of the user."""
    for name, function in _checked(metrics):
        if name == "loss":
            do = "Give it another name: the objective itself is measured under this one."
            raise ValueError(explain("fit: metrics", '"loss"', "names of your own", do))
        if not callable(function):
            do = "Pass a function of the model."
            raise TypeError(explain(f"fit: metrics[{name!r}]", type(function).__name__, "a function", do))
    fixed = None if key is None else jax.random.fold_in(key, _METRIC_STREAM)
    return Measure(objective, fixed, {name: as_pytree(f) for name, f in _checked(metrics)}, freeze(rest))


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
        return map.init(parameters)
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


def counts(steps: Any, start: Any, every: Any) -> tuple[int, int, int]:
    """Steps, the number of the first, and how many lie between measurements."""
    steps = ranges.whole("fit: steps", steps, "Say how many: steps=1000.", least=0)
    start = ranges.whole("fit: start", start, "Pass the number of the first step.", least=0)
    if every is None:
        return steps, start, max(1, steps // 100)
    return steps, start, ranges.whole("fit: every", every, "Leave it out for a hundredth of the run.")
