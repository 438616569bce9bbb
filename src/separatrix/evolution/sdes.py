"""Adaptive paths of SDEs: diffrax's solvers over its virtual Brownian tree."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._tree import float_dtype
from separatrix._types import Key, State
from separatrix.evolution._save import Save
from separatrix.systems.sde import SDE
from separatrix.systems.trajectory import OutcomeKind, Trajectory, outcome


def evolve_sde_adaptive(
    sde: SDE,
    state: State,
    times: jax.Array,
    *,
    key: Key,
    save: Save,
    method: Any,
    step_size: Any,
    controller: Any,
    rtol: Any,
    atol: Any,
    max_steps: int,
) -> Trajectory:
    """Run an SDE with one of diffrax's solvers, in the sense (Ito or Stratonovich) that the solver has."""
    times = jnp.asarray(times, float_dtype(state))
    saved = times if isinstance(save.at, str) and save.at == "all" else times[-1:]
    saved = saved if isinstance(save.at, str) else jnp.asarray(save.at, times.dtype)
    noise = eqx.filter_eval_shape(sde.diffusion, times[0], state).in_structure()
    first_step = step_size if step_size is not None else None
    spacing = (times[-1] - times[0]) * 2.0**-20 if step_size is None else jnp.asarray(step_size, times.dtype) / 2
    brownian = diffrax.VirtualBrownianTree(
        times[0], times[-1], spacing, noise, key, levy_area=diffrax.SpaceTimeLevyArea
    )
    terms = diffrax.MultiTerm(
        diffrax.ODETerm(lambda t, x, args: sde.drift(jnp.asarray(t), x)),
        diffrax.ControlTerm(lambda t, x, args: sde.diffusion(jnp.asarray(t), x), brownian),
    )
    fixed = diffrax.ConstantStepSize()
    adaptive = controller or diffrax.PIDController(rtol=rtol or 1e-3, atol=atol or 1e-5)
    solution = diffrax.diffeqsolve(
        terms, method, times[0], times[-1], first_step, state,
        saveat=diffrax.SaveAt(subs=[diffrax.SubSaveAt(ts=saved, fn=lambda t, x, args: save.fn(x)),
                                    diffrax.SubSaveAt(t1=True)]),
        stepsize_controller=fixed if step_size is not None and controller is None else adaptive,
        max_steps=max_steps, throw=False,
    )  # fmt: skip
    return _trajectory(solution, saved)


def _trajectory(solution: Any, saved: jax.Array) -> Trajectory:
    rows, ends = solution.ys
    final = jax.tree.map(lambda leaf: leaf[-1], ends)
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((final, rows))]).all()
    ran = solution.result == diffrax.RESULTS.successful
    limit = solution.result == diffrax.RESULTS.max_steps_reached
    failed = jnp.where(limit, int(OutcomeKind.STEP_LIMIT), int(OutcomeKind.NON_FINITE))
    kind = jnp.where(ran & finite, int(OutcomeKind.COMPLETED), failed)
    rows = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, jnp.nan), rows)
    return Trajectory(saved, rows, final, outcome(kind), {"steps": solution.stats["num_steps"]})
