r"""Batches: x_i' = f_i(t, x_i), i = 1, ..., n, each with steps of its own.

Under `vmap` an adaptive solve lasts as long as its slowest member, for all members. Here the batch shrinks as members
finish (`_compaction`), so that one call costs about what its parts would cost apart. Maps and fixed steps have no slow
members: they run under `vmap`.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Checked, Function, Key, State
from separatrix.evolution._adaptive_loop import LoopPlan as Loop, Solved
from separatrix.evolution._adaptive_step import Span
from separatrix.evolution._form import form_of
from separatrix.evolution._members import Batch, MemberField, solve_members, solve_members_by_replay
from separatrix.evolution._plan import EvolveOptions, is_pair, plan_of
from separatrix.evolution.any_system import Gradient, Memory, run
from separatrix.evolution.checks import check_field, check_state, check_system
from separatrix.evolution.flows import names_forward_mode, read_trajectory, room_for, stepper_of, without_gradient
from separatrix.evolution.save import Save
from separatrix.systems.base import System
from separatrix.systems.map import Map
from separatrix.systems.trajectory import Trajectory, raise_unless_reached


def ensemble(
    system: Checked[System],
    states: Checked[State],
    *,
    batched_system: bool = False,
    steps: Checked[int | None] = None,
    times: Any = None,
    key: Checked[Key | None] = None,
    method: Any = None,
    step_size: Any = None,
    save: Checked[Save | str | int | Function | Any] = "all",
    start: Checked[int | None] = None,
    rtol: Any = None,
    atol: Any = None,
    controller: Any = None,
    max_steps: Checked[int | None] = None,
    dense: Checked[bool] = False,
    event: Checked[Function | None] = None,
    gradient: Checked[Gradient | None] = None,
    memory: Checked[Memory | None] = None,
    throw: Checked[bool] = False,
) -> Trajectory:
    r"""Evolve many members at once, from many states or with many parameters, none waiting for another.

    **Arguments:**

    - `system`: a `Map`, `Flow` or `SDE`, shared by all members; or, with `batched_system`, one whose every array has a
      leading axis of one entry a member, as `equinox.filter_vmap(make_system)(parameters)` builds it.
    - `states`: the initial states, with a leading axis of length n in every leaf.
    - `key`: randomness. Member i draws from `fold_in(key, i)`, and its step m from `fold_in(fold_in(key, i), m)`: a
      member's path does not depend on how many others there are.
    - `gradient`: as for `evolve`; `"replay"` goes through the accepted steps of all members in step with the longest.
    - `throw`: raise if any member did not reach its end.
    - the others: as for `evolve`, the same for all members.

    **Returns:** a `Trajectory` every array of which has a leading axis of length n: times, states, final, outcome (a
    code a member) and stats. Each member's is that of `evolve` alone.

    Adaptive flows step independently with explicit pairs (`method=` none, Tsit5, Dopri5, Bosh3, ...). Other solvers of
    diffrax, dense output, events, and adaptive SDEs run under `vmap` and wait for their slowest member.

    **Raises:** `ValueError` where leading axes differ, and as `evolve` does.

    **Example:** sixteen pendulums, and one that is a hundred times faster.

    >>> import equinox as eqx, jax.numpy as jnp, separatrix as sx
    >>> class Pendulum(sx.Flow):
    ...     frequency: jnp.ndarray
    ...     def velocity(self, t, state):
    ...         return jnp.stack([state[1], -self.frequency**2 * jnp.sin(state[0])])
    >>> pendulums = Pendulum(jnp.array([1.0] * 16 + [100.0]))
    >>> starts = jnp.tile(jnp.array([1.0, 0.0]), (17, 1))
    >>> paths = sx.ensemble(pendulums, starts, times=(0.0, 1.0), batched_system=True)
    >>> paths.final.shape, str(paths.outcome)
    ((17, 2), 'completed: 17')
    """
    check_system(system, "ensemble")
    states = check_state(states, differentiable=not isinstance(system, Map), what="ensemble: states")
    count = _check_count(system if batched_system else None, states)
    asked = EvolveOptions(
        steps, times, key, method, step_size, save, start, rtol, atol, controller, max_steps, dense, event, gradient,
        memory, None, throw,
    )  # fmt: skip
    first = jax.tree.map(lambda leaf: leaf[0], states)
    own, shared = eqx.partition(system, eqx.is_array) if batched_system else (None, system)
    plan = plan_of(eqx.combine(jax.tree.map(lambda leaf: leaf[0], own), shared), first, asked, what="ensemble")
    if is_pair(plan):
        with names_forward_mode("ensemble"):
            trajectory = _adaptive(own, shared, states, plan.times, plan.saved, plan.fn, plan.control, plan.how)
    else:
        trajectory = _mapped(system, states, batched_system, count, asked)
    return raise_unless_reached(trajectory, "ensemble") if throw else trajectory


def _mapped(system: System, states: State, batched: bool, count: int, asked: EvolveOptions) -> Trajectory:
    """Every member by itself, under `vmap`."""

    def one(system: System, state: State, member: Any) -> Trajectory:
        key = None if asked.key is None else jax.random.fold_in(asked.key, member)
        return run(plan_of(system, state, dataclasses.replace(asked, key=key), what="ensemble"))

    axes = (eqx.if_array(0) if batched else None, 0, 0)
    return eqx.filter_vmap(one, in_axes=axes)(system, states, jnp.arange(count))


def _check_count(system: System | None, states: State) -> int:
    """The number of members: the leading axis of every array."""
    named = [("states", states)] + ([("system", system)] if system is not None else [])
    leaves = [
        (f"ensemble: {name}{jax.tree_util.keystr(path)}", jnp.shape(leaf))
        for name, tree in named
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if eqx.is_array_like(leaf)
    ]
    count = leaves[0][1][0] if leaves[0][1] else 0
    for name, shape in leaves:
        if not shape or shape[0] != count or count == 0:
            expected = f"a leading axis of {count} members" if count else "a leading axis of one entry a member"
            raise ValueError(explain(name, f"shape {shape}", expected,
                                     "Stack the members first: (members, ...)."))  # fmt: skip
    return count


@eqx.filter_jit
def _adaptive(
    own: Any, shared: Any, states: State, times: Any, saved: Any, fn: Function, control: Any, how: Any
) -> Trajectory:
    first, state = jax.tree.map(lambda leaf: leaf[0], (own, states))
    form, t0, t1 = form_of(state), times[0], times[-1]
    check_field(eqx.combine(first, shared), t0, state)

    def velocity(own: Any, t: Any, x: Any) -> Any:
        return form.flatten(eqx.combine(own, shared).velocity(t, form.restore(x)))

    closed = eqx.filter_closure_convert(velocity, first, t0, form.flatten(state))
    stepper = stepper_of(how, MemberField(closed, first), control, t0, form.flatten(state))
    batch = Batch(closed, own, jax.vmap(form.flatten)(states), (t0, t1, saved))
    plan = Loop(stepper, control, Span(t0, t1, how.max_steps), saved, kept=room_for(how))
    if how.gradient == "forward":
        carry, rows = solve_members(batch, plan)
    else:
        carry, rows = solve_members_by_replay(batch, without_gradient(plan))

    def read(carry: Any, rows: Any) -> Trajectory:
        end = (carry.t, form.restore(carry.x))
        return read_trajectory(Solved(carry, rows, (), carry.t), end, saved, fn, form, stepper, None)

    return jax.vmap(read)(carry, rows)
