r"""Batches: x_i' = f_i(t, x_i), i = 1, ..., n, each with steps of its own.

Under `vmap` an adaptive solve lasts as long as its slowest member, for all members. Here the batch shrinks as members
finish (`_compaction`), so that one call costs about what its parts would cost apart. Maps and fixed steps have no slow
members: they run under `vmap`.
"""

import dataclasses
from typing import Any, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import float_dtype
from separatrix._types import Function, Key, State
from separatrix.evolution._adaptive_loop import Plan, Solved
from separatrix.evolution._adaptive_step import Control, control_of
from separatrix.evolution._checks import check_key, check_state, check_system, check_times
from separatrix.evolution._form import form_of
from separatrix.evolution._members import Batch, MemberField, solve_members, solve_members_by_replay
from separatrix.evolution._save import Save, resolve
from separatrix.evolution._tableau import Tableau, can_run, tableau_of
from separatrix.evolution.evolve import evolve
from separatrix.evolution.flows import (
    _LONG,
    _MAX_STEPS,
    _STORED_STEPS,
    _check_inside,
    _length,
    _tolerances,
    _trajectory,
)
from separatrix.systems.base import System
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map
from separatrix.systems.trajectory import Trajectory


def ensemble(
    system: System,
    states: State,
    *,
    batched_system: bool = False,
    steps: int | None = None,
    times: Any = None,
    key: Key | None = None,
    method: Any = None,
    step_size: Any = None,
    save: Any = "all",
    start: int = 0,
    rtol: Any = None,
    atol: Any = None,
    controller: Any = None,
    max_steps: int | None = None,
    gradient: Literal["replay", "forward"] = "replay",
) -> Trajectory:
    r"""Evolve many members at once, from many states or with many parameters, none waiting for another.

    **Arguments:**

    - `system`: a `Map`, `Flow` or `SDE`, shared by all members; or, with `batched_system`, one whose every array has a
      leading axis of one entry a member, as `equinox.filter_vmap(make_system)(parameters)` builds it.
    - `states`: the initial states, with a leading axis of length n in every leaf.
    - `key`: randomness. Member i draws from `fold_in(key, i)`, and its step m from `fold_in(fold_in(key, i), m)`: a
      member's path does not depend on how many others there are.
    - `gradient`: of adaptive flows. `"replay"`, in reverse mode, goes through the accepted steps of all members in step
      with the longest, and stores up to `max_steps` (by default 4,096) states a member; `"forward"` is for `jax.jvp`
      and `jax.jacfwd`.
    - the others: as for `evolve`, the same for all members.

    **Returns:** a `Trajectory` every array of which has a leading axis of length n: times, states, final, outcome (a
    code a member) and stats. Each member's is that of `evolve` alone.

    Adaptive flows step independently with explicit pairs (`method=` none, Tsit5, Dopri5, Bosh3, ...). Other solvers of
    diffrax, and adaptive SDEs, run under `vmap` and wait for their slowest member.

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
    check_system(system)
    check_key(key)
    states = check_state(states, differentiable=not isinstance(system, Map), what="ensemble: states")
    count = _check_count(system if batched_system else None, states)
    adaptive = steps is None and step_size is None and isinstance(controller, diffrax.PIDController | None)
    if isinstance(system, Flow) and adaptive and (method is None or can_run(method)):
        times = check_times(times).astype(float_dtype(states))
        return _adaptive(system, states, batched_system, times, resolve(save), method or diffrax.Tsit5(), rtol, atol,
                         controller, max_steps, gradient)  # fmt: skip
    settings = {"steps": steps, "times": times, "method": method, "step_size": step_size, "save": save, "start": start,
                "rtol": rtol, "atol": atol, "controller": controller, "max_steps": max_steps}  # fmt: skip

    def one(system: System, state: State, member: Any) -> Trajectory:
        return evolve(system, state, key=None if key is None else jax.random.fold_in(key, member), **settings)

    axes = (eqx.if_array(0) if batched_system else None, 0, 0)
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


def _adaptive(
    flow: Flow, states: State, batched: bool, times: Any, save: Save, method: Any, rtol: Any, atol: Any,
    controller: Any, max_steps: int | None, gradient: str,
) -> Trajectory:  # fmt: skip
    if gradient not in ("replay", "forward"):
        raise ValueError(explain("ensemble: gradient", repr(gradient), '"replay" or "forward"',
                                 'Leave it out for "replay".'))  # fmt: skip
    if isinstance(save.at, int):
        raise ValueError(explain("ensemble: save", save.at, "times to keep, for adaptive steps",
                                 "Give an array of times, or fix the step with step_size=."))  # fmt: skip
    named = {"all": times, "last": times[:0]} if isinstance(save.at, str) else {}
    saved = named[save.at] if named else jnp.asarray(save.at, times.dtype)
    _check_inside(times, None if saved.shape[0] == 0 else saved)
    control = control_of(controller, *_tolerances(times.dtype, rtol, atol))
    limits = (max_steps or _MAX_STEPS, max_steps or _STORED_STEPS)
    return _run(flow, states, batched, times[0], times[-1], saved, save.fn, tableau_of(method), limits, control,
                gradient)  # fmt: skip


@eqx.filter_jit
def _run(
    flow: Flow, states: State, batched: bool, t0: Any, t1: Any, saved: Any, fn: Function, tableau: Tableau,
    limits: tuple[int, int], control: Control, gradient: str,
) -> Trajectory:  # fmt: skip
    own, shared = eqx.partition(flow, eqx.is_array) if batched else (None, flow)
    first, state = jax.tree.map(lambda leaf: leaf[0], (own, states))
    form = form_of(state)

    def velocity(own: Any, t: Any, x: Any) -> Any:
        return form.flatten(eqx.combine(own, shared).velocity(t, form.restore(x)))

    closed = eqx.filter_closure_convert(velocity, first, t0, form.flatten(state))
    tableau = rolled_if_long(tableau, MemberField(closed, first), t0, form.flatten(state))
    batch = Batch(closed, own, jax.vmap(form.flatten)(states), (t0, t1, saved))
    if gradient == "forward":
        carry, rows = solve_members(batch, Plan(tableau, limits[0], control, t0, t1, saved))
    else:
        carry, rows = solve_members_by_replay(batch, tableau, limits, control)
    read = jax.vmap(lambda solved: _trajectory(solved, saved, t1, fn, form, tableau, None))
    return read(Solved(carry, rows, ()))


def rolled_if_long(tableau: Tableau, field: Any, t: Any, x: Any) -> Tableau:
    """As for `evolve`: a long velocity is compiled once, not once a stage."""
    return dataclasses.replace(tableau, rolled=_length(field, t, x) > _LONG)
