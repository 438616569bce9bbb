r"""The run behind Lyapunov exponents: a block of perturbations stretched and made orthonormal in turn, by `evolve`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import float_dtype, is_traced
from separatrix._types import State
from separatrix.diagnostics.along._lyapunov_plan import ExponentPlan, Layout, interval_of_flow
from separatrix.diagnostics.along._tangent_block import (
    BlockOfFlow,
    BlockOfMap,
    NoVolume,
    Record,
    SameState,
    Stretching,
    TangentBlock,
    first_block,
)
from separatrix.evolution import Save, evolve
from separatrix.evolution.maps import evolve_map
from separatrix.systems.map import FiniteMap
from separatrix.systems.trajectory import Outcome

# Orthonormalisation is next to free for so few rows.
_FEW = 4
_PROBE, _SETTLING = 48, 16
# Periods at which an orbit that has collapsed is looked for.
_PERIODS = 64


def run(plan: ExponentPlan, interval: int, borders: Any, first: Any) -> Any:
    """Evolve a block over intervals; at the borders, sums are read from (block, sums)."""
    ends = plan.start + interval * np.asarray([borders[0], borders[-1]])
    save = Save(borders, Record(plan.volume, ends))

    def along(interval: Any) -> Any:
        return evolve_map(Stretching(plan.block, interval), first, steps=int(borders[-1]), save=save)

    if not is_traced(plan.block, first):
        found = along(np.asarray(interval))
        if not is_traced(found):
            return found
    # Traced, visibly or in the closure of a function: only loops of a static length can be differentiated.
    return along(interval)


def chosen_interval(plan: ExponentPlan, state: State, count: int) -> int:
    """As many steps as part the fastest from the slowest row by a quarter of the digits, in the steps of a short orbit."""
    if plan.continuous or not isinstance(plan.block, BlockOfMap):
        return interval_of_flow(plan)
    if count <= _FEW or is_traced(plan.block, state):
        return 1
    steps = min(_PROBE, plan.steps)
    bare = plan._replace(block=BlockOfMap(plan.map, NoVolume(), plan.block.key))
    logs = np.asarray(run(bare, 1, np.arange(steps + 1), first_block(state, count, plan.start)).states)[:, :-1]
    logs = logs[min(_SETTLING, steps // 2) :]
    allowed = -np.log(float(jnp.finfo(float_dtype(state)).eps)) / 4
    for m in (32, 16, 8, 4, 2):
        grown = logs[m:] - logs[:-m]
        if len(grown) and np.max(np.ptp(grown, axis=1)) <= allowed and np.max(np.abs(grown)) <= 8 * allowed:
            return m
    return 1


def period_of(plan: ExponentPlan, layout: Layout, block: TangentBlock) -> Any:
    """The least period at which the orbit comes back to its last state exactly; 0 for none, or where it is not asked."""
    if isinstance(plan.block, BlockOfFlow):
        return jnp.asarray(block.resting).astype(int)
    if plan.block.key is not None or isinstance(plan.map, FiniteMap):
        return jnp.asarray(0)
    ahead = plan.start + layout.interval * int(layout.borders[-1])
    state = jax.lax.stop_gradient(block.state)
    back = evolve(plan.map, state, steps=_PERIODS, start=ahead, save=Save("all", SameState(state)))
    xp: Any = jnp if is_traced(back) else np
    same = xp.asarray(back.states)[1:] == 1
    return jnp.asarray(xp.where(xp.any(same), xp.argmax(same) + 1, 0))


def dated(outcome: Outcome, plan: ExponentPlan, interval: int) -> Outcome:
    """Return the outcome with its interval said as a step or a time."""
    if not is_traced(outcome) and bool(outcome.completed):
        return outcome
    at = (outcome.at * interval + plan.start) * jnp.asarray(plan.step, outcome.at.dtype)
    return eqx.tree_at(lambda o: o.at, outcome, at + jnp.asarray(plan.origin, at.dtype))
