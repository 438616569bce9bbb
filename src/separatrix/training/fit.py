r"""`fit`: training is the evolution of an optimiser on mini-batches.

    theta[n+1] = F(theta[n]; B[n]),    B[n] drawn from fold_in(key, n),

one scan in chunks, the host only at their borders. Nothing here is a loop: `fit` builds a map of objective, data and
optimiser, asks `evolve` for metrics every k steps, and says how it ended. What an optimiser is stays open: an optax
transformation, or any function that makes a map of an objective, so that descent with a limit, games and score models
train through the same door.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import Diverged, explain
from separatrix._types import Function, State
from separatrix.evolution import Save, evolve
from separatrix.systems._signature import Frozen, accepts_key, as_pytree, freeze
from separatrix.systems.from_optax import from_optax
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.trajectory import Outcome, OutcomeKind
from separatrix.training.monitored import evolve_monitored
from separatrix.training.sampled import OfModel, sampled
from separatrix.training.supervised import Supervised

# The metric of a sampled loss is taken on one batch that stays the same all along the run, drawn from its own stream.
_METRIC_STREAM = 2**31 - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """What training gave.

    - `model`: the trained model, in the form of `initial`; at the last finite step where training diverged.
    - `state`: the whole state of the optimiser's map, to go on from.
    - `steps`, shape (R,), and `metrics`, a dictionary of arrays with leading axis R: what was measured, and when.
    - `outcome`: how it ended; `stopped_at` the step that broke, or None.
    - `map`: the map that was evolved, to ask it anything else.
    """

    model: Any
    state: State
    steps: np.ndarray
    metrics: Mapping[str, Any]
    outcome: Outcome
    stopped_at: int | None
    map: Map

    @property
    def losses(self) -> Any:
        """`metrics["loss"]`."""
        return self.metrics["loss"]

    def to_dict(self) -> dict[str, Any]:
        """Return steps, metrics and outcome as plain values."""
        metrics = {name: jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), v) for name, v in self.metrics.items()}
        return {
            "steps": self.steps.tolist(),
            "metrics": metrics,
            "outcome": str(self.outcome),
            "stopped_at": self.stopped_at,
        }

    def __repr__(self) -> str:
        ends = ", ".join(
            f"{name} {_short(first)} -> {_short(last)}" for name, (first, last) in _ends(self.metrics).items()
        )
        how = "completed" if self.stopped_at is None else f"diverged at step {self.stopped_at}"
        return f"Fit({how}; {self.steps[-1]} steps; {ends})"


def fit(
    objective: Function,
    optimizer: Any,
    data: Any = None,
    *,
    initial: Any = None,
    steps: Any,
    batch_size: Any = None,
    key: Any = None,
    metrics: Mapping[str, Function] | None = None,
    every: int | None = None,
    state: Any = None,
    start: int = 0,
    progress: Function | None = None,
    monitor: Any = None,
    throw: bool = False,
) -> Fit:
    r"""Train a model: evolve an optimiser on mini-batches.

    **Arguments:**

    - `objective`: with data, a loss l(model, batch) or l(model, batch, *, key); without, L(model) or L(model, *, key); or
      what `supervised` makes, which holds model and data. For a game: a tuple of losses, one a player.
    - `optimizer`: an optax transformation; or a function that makes a map of an objective, as
      `lambda loss: sx.GradientDescent(loss, 0.1)`.
    - `data`: arrays with the examples on the first axis (a tree of them), or a data set.
    - `initial`: the model to start from: any tree, whose floating-point arrays are trained. An objective that holds
      `initial` needs none.
    - `steps`: how many. `batch_size`: examples a step, drawn with replacement; None for all.
    - `key`: randomness of batches and losses. Step n draws from `fold_in(key, n)`, resumed or not. None: no randomness.
    - `metrics`: name to function of the model, measured every `every` steps (a hundredth of the run by default) beside
      "loss", the objective on one fixed batch.
    - `state`, `start`: go on from an earlier `Fit.state` at its step number.
    - `progress`: called as `progress(done, total)` at chunk borders.
    - `monitor`: looks on at borders between pieces of the run, as a `StabilityMonitor` does; metrics are then measured at
      every so many of its intervals.
    - `throw`: raise `Diverged` instead of warning where training stops being finite.

    **Returns:** a `Fit`.

    **Raises:** `ValueError` or `TypeError` for data, model or optimiser that cannot be used, before anything is compiled;
    `Diverged` where `throw` is set.

    **Example:** the mean of some numbers, by Adam.

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> loss = lambda centre, points: jnp.mean((points - centre) ** 2)
    >>> found = sx.fit(loss, optax.adam(0.1), jnp.array([1.0, 3.0]), initial=jnp.array(0.0), steps=300)
    >>> round(float(found.model), 3)
    2.0
    """
    initial = _initial(objective, initial)
    parameters, rest = eqx.partition(initial, eqx.is_inexact_array)
    bound = _bind(objective, data, batch_size, rest)
    map = map_of(bound, optimizer)
    start_state = map.init(parameters) if state is None else state  # pyright: ignore[reportAttributeAccessIssue]
    fixed = None if key is None else jax.random.fold_in(key, _METRIC_STREAM)
    functions = {name: as_pytree(function) for name, function in (metrics or {}).items()}
    measure = Measure(bound, fixed, functions, freeze(rest))
    every = max(1, steps // 100) if every is None else every
    settings = {"steps": steps, "key": key, "start": start, "progress": progress}
    if monitor is None:
        path = evolve(map, start_state, save=Save(every, measure), **settings)
        final, values, outcome = path.final, path.states, path.outcome
        numbers = np.arange(start, start + steps + 1, every)
    else:
        stride = -(-every // monitor.every) * monitor.every
        measure = eqx.filter_jit(measure)
        final, values, outcome, numbers = evolve_monitored(
            map, start_state, monitor, measure=measure, every=stride, **settings
        )
    stopped = _stopped_at(outcome, map)
    if stopped is not None:
        _tell(stopped, outcome, throw)
    return Fit(eqx.combine(parameters_of(final), rest), final, numbers, values, outcome, stopped, map)


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
        return {"loss": loss, **{name: function(model) for name, function in self.metrics.items()}}


def _initial(objective: Any, initial: Any) -> Any:
    if initial is None:
        held = getattr(objective, "initial", None)
        initial = objective.model(held) if isinstance(objective, Supervised) else held
    if not jax.tree.leaves(eqx.filter(initial, eqx.is_inexact_array)):
        got = "nothing to train" if initial is None else f"{type(initial).__name__} without floating-point arrays"
        raise ValueError(explain("fit: initial", got, "the model to start from", "Pass initial=model."))
    return initial


def _bind(objective: Any, data: Any, batch_size: int | None, rest: Any) -> Any:
    """The objective as a function of the parameters alone."""
    if isinstance(objective, Supervised):
        return objective.on(data, batch_size)
    if data is not None:
        return sampled(objective, data, batch_size=batch_size, model=rest)
    if batch_size is not None:
        do = "Pass data, or set the batch size where the objective is made."
        raise ValueError(explain("fit: batch_size", batch_size, "none, without data", do))
    if isinstance(objective, Objective) or not jax.tree.leaves(rest):
        return as_objective(objective)
    return OfModel(as_pytree(objective), freeze(rest), accepts_key(objective))


def map_of(objective: Any, optimizer: Any) -> Any:
    """The map of an optax transformation on an objective, or the one that a function makes of it."""
    if hasattr(optimizer, "update") and hasattr(optimizer, "init"):
        return from_optax(objective, optimizer)
    map = optimizer(objective) if callable(optimizer) and not isinstance(optimizer, Map) else None
    if not isinstance(map, Map) or not hasattr(map, "init"):
        got = type(optimizer).__name__ if map is None else f"a function that returns {type(map).__name__}"
        expected = "an optax transformation, or a function from an objective to a map with `init`"
        do = "Pass optax.adam(1e-3), or lambda loss: sx.GradientDescent(loss, 0.1)."
        raise TypeError(explain("fit: optimizer", got, expected, do))
    return map


def _stopped_at(outcome: Outcome, map: Map) -> int | None:
    """The number of the first step whose result was not finite."""
    if int(outcome.code) == int(OutcomeKind.COMPLETED):
        return None
    at = float(outcome.at)
    return round(at / float(map.step_size)) if isinstance(map, NearIdentityMap) else round(at)


def _tell(step: int, outcome: Outcome, throw: bool) -> None:
    do = "Lower the learning rate, clip gradients, or go on from `state`, the last finite one."
    message = explain("fit: training diverged", f"a state that is not finite at step {step}", "finite parameters", do)
    if throw:
        raise Diverged(message)
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _ends(metrics: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (jax.tree.map(lambda v: v[0], m), jax.tree.map(lambda v: v[-1], m)) for name, m in metrics.items()}


def _short(value: Any) -> str:
    return ", ".join(f"{float(jnp.ravel(leaf)[0]):.3g}" for leaf in jax.tree.leaves(value))
