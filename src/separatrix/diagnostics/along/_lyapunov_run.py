r"""The run behind Lyapunov exponents: a block of perturbations stretched and made orthonormal in turn, by `evolve`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._tree import float_dtype, is_traced
from separatrix._types import State
from separatrix.diagnostics.along._lyapunov_plan import Layout, Plan
from separatrix.diagnostics.along._tangent_block import (
    NoVolume,
    Record,
    Recurrence,
    Stretching,
    TangentBlock,
    first_block,
)
from separatrix.evolution import Save, evolve
from separatrix.systems.iterate import iterate
from separatrix.systems.map import FiniteMap
from separatrix.systems.trajectory import Outcome

# Orthonormalisation is next to free for so few rows; a step of a flow turns and stretches little.
_FEW, _FLOW_INTERVAL = 4, 4
_PROBE, _SETTLING = 48, 16
# Periods at which an orbit that has collapsed is looked for.
_PERIODS = 64


def run(plan: Plan, interval: int, intervals: int, state: State, count: int, key: Any, save: Save) -> Any:
    """Evolve a block over intervals; what is saved is read from (block, sums)."""
    block = TangentBlock(plan.map, plan.volume, key)
    stretching = Stretching(iterate(block, interval) if interval > 1 else block)
    return evolve(stretching, first_block(state, count, plan.start), steps=intervals, save=save)


def chosen_interval(plan: Plan, state: State, count: int, key: Any) -> int:
    """As many steps as part the fastest from the slowest row by a quarter of the digits, in the steps of a short orbit."""
    if plan.continuous:
        return _FLOW_INTERVAL
    if count <= _FEW or is_traced(plan.map, state, key):
        return 1
    steps = min(_PROBE, plan.steps)
    bare = plan._replace(volume=NoVolume())
    logs = np.asarray(run(bare, 1, steps, state, count, key, Save("all", Record(NoVolume()))).states)[:, :-1]
    logs = logs[min(_SETTLING, steps // 2) :]
    allowed = -np.log(float(jnp.finfo(float_dtype(state)).eps)) / 4
    for m in (32, 16, 8, 4, 2):
        grown = logs[m:] - logs[:-m]
        if len(grown) and np.max(np.ptp(grown, axis=1)) <= allowed and np.max(np.abs(grown)) <= 8 * allowed:
            return m
    return 1


def period_of(plan: Plan, layout: Layout, state: State, key: Any) -> Array:
    """The least period at which the orbit comes back to its last state exactly; 0 for none, or where it is not asked."""
    if key is not None or isinstance(plan.map, FiniteMap):
        return jnp.asarray(0)
    ahead = plan.start + layout.interval * int(layout.borders[-1])
    state = jax.lax.stop_gradient(state)
    back = evolve(plan.map, state, steps=_PERIODS, start=ahead, save=Save("all", Recurrence(state)))
    same = back.states[1:] == 1
    return jnp.where(jnp.any(same), jnp.argmax(same) + 1, 0)


def dated(outcome: Outcome, plan: Plan, interval: int) -> Outcome:
    """Return the outcome with its interval said as a step or a time."""
    at = (outcome.at * interval + plan.start) * jnp.asarray(plan.step, outcome.at.dtype)
    return eqx.tree_at(lambda o: o.at, outcome, at + jnp.asarray(plan.origin, at.dtype))
