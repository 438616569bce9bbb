"""A run and what is measured along it: at the start, every so many steps, and at the last."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import all_finite, is_inexact, is_traced
from separatrix._types import State
from separatrix.evolution import Save, evolve
from separatrix.systems.map import Map, NearIdentityMap
from separatrix.systems.trajectory import Outcome, OutcomeKind, outcome


def schedule(start: int, steps: int, every: int) -> np.ndarray:
    """Numbers of the steps at which a run is measured: start, start + every, ..., and the last."""
    numbers = np.arange(start, start + steps + 1, every)
    return numbers if numbers[-1] == start + steps else np.append(numbers, start + steps)


def run(map: Map, state: State, measure: Any, every: int, settings: dict[str, Any]) -> tuple[State, Any, Outcome]:
    """Evolve; return the last good state, a row for each number of the schedule, and the outcome."""
    path = evolve(map, state, save=Save(every, measure), **settings)
    rows = path.states
    if settings["steps"] % every:
        rows = append(rows, blank_unless(path.outcome.completed, measured(measure, path.last)))
    return path.last, rows, path.outcome


@eqx.filter_jit
def measured(measure: Any, state: State) -> Any:
    """One row."""
    return jax.tree.map(jnp.asarray, measure(state))


def append(rows: Any, row: Any) -> Any:
    """Rows with one more."""
    return jax.tree.map(lambda old, new: jnp.concatenate([old, new[None].astype(old.dtype)]), rows, row)


def blank_unless(good: Any, row: Any) -> Any:
    """A row, NaN in its inexact leaves if it is not good."""
    return jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.nan) if is_inexact(leaf) else leaf, row)


def ended_of(kind: OutcomeKind, at: int | None, map: Map) -> Outcome:
    """The outcome of a run that ended so, at the first step that was not finite where it broke."""
    return outcome(kind, jnp.nan if at is None else at * _step_size(map))


def judged(ended: Outcome, losses: Any, end: int, map: Map) -> Outcome:
    """The outcome; not "completed" where the loss at the end is not finite."""
    good = ~ended.reached | all_finite(jax.tree.map(lambda leaf: leaf[-1], losses))
    at = jnp.asarray(end).astype(ended.at.dtype) * _step_size(map).astype(ended.at.dtype)
    code = jnp.where(good, ended.code, int(OutcomeKind.NON_FINITE))
    return outcome(code, jnp.where(good, ended.at, at), ended.estimate)


def stopped_at(ended: Outcome, map: Map) -> Any:
    """The number of the first step whose result was not finite, None where there is none; -1 for None in arrays."""
    number = jnp.rint(ended.at / _step_size(map).astype(ended.at.dtype))
    broke = ended.code == int(OutcomeKind.NON_FINITE)
    number = jnp.where(broke, number, -1).astype(int)
    if is_traced(number) or number.ndim:
        return number
    return int(number) if bool(broke) else None


def _step_size(map: Map) -> Any:
    return jnp.asarray(map.step_size if isinstance(map, NearIdentityMap) else 1.0)
