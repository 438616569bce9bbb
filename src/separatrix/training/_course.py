r"""Training as one map: an optimiser's step, and what is carried beside it, each only where it is asked for.

    x[n+1] = F(x[n]; B[n])                    the optimiser on the batch of step n
    a[n+1] = d a[n] + (1 - d) theta[n+1]      the average of the parameters; d may depend on n
    s[n+1]                                    what the layers carry
    theta[n+1] = theta[n] + c (F - theta[n])  after going back c times slower
    x[n+1] = x[n], where F is not finite      skipping: neither parameters nor moments see the step

All of it is state of the map, so a run that goes on from its state goes on with all of it.
"""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import all_finite, is_inexact, where
from separatrix._types import Key, State, StepIndex
from separatrix.systems.map import Map
from separatrix.systems.objective import FunctionObjective
from separatrix.systems.optax_maps import OptaxMap, finite_part
from separatrix.training._batches import Batches, Source
from separatrix.training._devices import same, shared_out
from separatrix.training._guard import changed, objective_of, weighted
from separatrix.training.averaging import PowerAverage

# More steps than these in a row that are not finite are no bad luck.
MOST_SKIPS = 10


class CourseState(NamedTuple):
    """The state of the optimiser's map, and beside it what was asked for; None for what was not.

    - `average`: of the parameters. `layers`: what the model's layers carry.
    - `skipped`: how many steps were skipped, how many of them in a row just now, and the number of the last.
    - `slowdown`: the factor of all updates.
    """

    inner: Any
    average: Any = None
    layers: Any = None
    skipped: Any = None
    slowdown: Any = None


class Course(Map):
    """A guarded map on batches by step, with what is carried beside it."""

    map: Map
    batches: Batches | None
    source: Source | None
    decay: Any
    layers: Any
    divergence: str = eqx.field(static=True)
    mesh: Any = eqx.field(static=True, default=None)

    def init(self, parameters: State) -> CourseState:
        """Return the state to start from."""
        zeros = jnp.zeros(3, jnp.int32)
        return CourseState(
            self.map.init(parameters),  # pyright: ignore[reportAttributeAccessIssue]
            None if self.decay is None else jax.tree.map(jnp.asarray, parameters),
            self.layers,
            zeros if self.divergence == "skip" else None,
            jnp.ones(()) if self.divergence == "roll_back" else None,
        )

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        following, layers = self._descended(n, state, key)
        following = following if state.slowdown is None else slowed(self.map, state.inner, following, state.slowdown)
        average = state.average
        if average is not None:
            average = self._averaged(n, average, self.map.parameters(following))
        after = CourseState(following, average, layers, state.skipped, state.slowdown)
        return same(after if state.skipped is None else _skipping(self.map, n, state, after), self.mesh)

    def parameters(self, state: State) -> State:
        """Return those of the optimiser's map."""
        return self.map.parameters(state.inner)

    def _descended(self, n: Any, state: CourseState, key: Key | None) -> tuple[State, Any]:
        """The optimiser's state after step n, and what the layers carry."""
        batches = self.batches
        if batches is None:
            map = self.map
            if self.mesh is not None:
                map = changed(map, lambda objective: shared_out(objective, self.mesh))
            return _one_step(map, n, state, key)

        def on(size: int) -> tuple[State, Any]:
            map = changed(self.map, lambda objective: self._on_batch(objective, n, key, size))
            return _one_step(map if size == batches.size else weighted(map, size / batches.size), n, state, key)

        if not batches.rest:
            return on(batches.size)
        return jax.lax.cond(batches.is_last(n), lambda: on(batches.rest), lambda: on(batches.size))

    def _on_batch(self, objective: Any, n: Any, key: Key | None, size: int) -> Any:
        if self.source is not None:
            objective = objective.on_batch(jax.lax.optimization_barrier(self.source.batch(n, size)))
            return shared_out(objective, self.mesh)
        assert self.batches is not None
        return shared_out(barred(objective.at(self.batches.places(n, key, size))), self.mesh)

    def _averaged(self, n: Any, average: Any, parameters: Any) -> Any:
        factor = self.decay.factor(n) if isinstance(self.decay, PowerAverage) else self.decay

        def leaf(old: Any, new: Any) -> Any:
            decay = jnp.asarray(factor, old.dtype)
            return decay * old + (1 - decay) * new

        return jax.tree.map(leaf, average, parameters)


def barred(objective: Any) -> Any:
    """An objective whose batch is computed before it is used: its numbers are then those of a batch from elsewhere."""
    return dataclasses.replace(objective, data=jax.lax.optimization_barrier(objective.data))


def with_parameters(map: Map, state: State, parameters: State) -> State:
    """The state of a map with other parameters."""
    leaves, structure = jax.tree.flatten(state)
    for place, leaf in zip(places_of(map, state), jax.tree.leaves(parameters), strict=True):
        leaves[place] = leaf
    return structure.unflatten(leaves)


def places_of(map: Map, state: State) -> list[int]:
    """Which leaves of its state a map calls its parameters.

    **Raises:** `TypeError` where these are computed, and are no leaves of the state.
    """
    leaves, structure = jax.tree.flatten(state)
    marks = [np.full((), place) for place in range(len(leaves))]
    try:
        found = jax.tree.leaves(map.parameters(structure.unflatten(marks)))
    except (TypeError, AttributeError, IndexError):
        found = [None]
    places = [next((place for place, mark in enumerate(marks) if mark is leaf), None) for leaf in found]
    if None in places:
        do = 'Leave divergence="stop", or keep the parameters as a part of the state.'
        expected = "parameters that are a part of its state, to skip a step or to slow it"
        raise TypeError(explain("fit: divergence", f"{type(map).__name__}, which computes them", expected, do))
    return places  # pyright: ignore[reportReturnType]


def slowed(map: Map, before: State, after: State, factor: Any) -> State:
    """The state after a step whose update is multiplied; bit for bit `after` where the factor is one."""

    def leaf(old: Any, new: Any) -> Any:
        return jnp.where(factor == 1, new, old + factor.astype(new.dtype) * (new - old))

    return with_parameters(map, after, jax.tree.map(leaf, map.parameters(before), map.parameters(after)))


def with_layers(objective: Any, layers: Any) -> Any:
    """The objective of a model whose layers carry this."""
    if layers is None or not isinstance(objective, FunctionObjective):
        return objective
    return objective.carrying(layers)


def _one_step(map: Any, n: Any, state: CourseState, key: Key | None) -> tuple[State, Any]:
    if state.layers is None:
        return map.step(n, state.inner, key=key), None
    map = changed(map, lambda objective: with_layers(objective, state.layers))
    if isinstance(map, OptaxMap):
        return map.descend(state.inner, lambda values: map.objective.with_layers(values, key=key))  # pyright: ignore[reportAttributeAccessIssue]
    # Another optimiser may ask for the loss as often as it likes; what the layers carry is asked for once more.
    carried = objective_of(map).with_layers(map.parameters(state.inner), key=key)[1]
    return map.step(n, state.inner, key=key), carried


def _skipping(map: Map, n: Any, before: CourseState, after: CourseState) -> CourseState:
    """The state after, or before where the step is not finite; after too many of these in a row it is let through."""
    # Moments may hold infinity from the start: what counts is what was finite and is no more.
    fresh = jax.tree.map(
        lambda old, new: jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old)) if is_inexact(new) else jnp.asarray(True),
        before.inner, after.inner,
    )  # fmt: skip
    good = all_finite(finite_part((after.inner, after.layers))) & jnp.stack(jax.tree.leaves(fresh)).all()
    total, row, last = before.skipped
    counted = jnp.stack([total + 1, row + 1, jnp.asarray(n).astype(jnp.int32) + 1])
    skipped = jnp.where(good, jnp.stack([total, jnp.zeros_like(row), last]), counted)
    kept = where(good, after._replace(skipped=None), before._replace(skipped=None))
    # Parameters of NaN end the run, whatever the optimiser made of the gradient.
    ends = row >= MOST_SKIPS
    broken = jax.tree.map(lambda leaf: jnp.where(~good & ends, jnp.nan, leaf), map.parameters(kept.inner))
    return kept._replace(inner=with_parameters(map, kept.inner, broken), skipped=skipped)
