r"""Fixed steps in continuous time.

A flow or an SDE with a fixed step is its discretisation, a map, and goes through the loop over maps. Of the interval
t1 - t0, the step size h and the number of steps N = (t1 - t0)/h, two give the third. Brownian increments are
counter-based: those of step n come from `fold_in(key, n)`, so that a path does not depend on how it is cut.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix.evolution.save import Save
from separatrix.systems.trajectory import Trajectory


def shift(trajectory: Trajectory, origin: Any) -> Trajectory:
    """Count the times of a trajectory from that of step 0."""
    old = (trajectory.times, trajectory.last_time, trajectory.outcome.at)
    new = tuple(time + jnp.asarray(origin, time.dtype) for time in old)
    return eqx.tree_at(lambda t: (t.times, t.last_time, t.outcome.at), trajectory, new)


def fixed_grid(times: Any, step_size: Any, steps: Any, save: Save, start: int) -> tuple[Any, Any, int, Save]:
    """Return (time of step 0, step size, number of steps, what to save by step number) of a fixed-step evolution.

    Two of interval, step size and number of steps give the third. Over an interval, `start` numbers the steps (and so their
    noise), and the first of them begins at its left end.
    """
    if times is None:
        steps = _require(steps, "steps")
        return 0.0, _require(step_size, "step_size"), steps, _by_number(save, 0.0, step_size, None, 0)
    duration = times[-1] - times[0]
    if step_size is None:
        step_size = duration / _at_least_one(_require(steps, "steps or step_size"))
    else:
        counted = _whole_number(duration, step_size, "times[-1] - times[0]") if steps is None else None
        steps = counted if steps is None else _consistent(duration, step_size, steps)
    grid = times if times.shape[0] > 2 else None
    origin = times[0] if start == 0 else times[0] - start * step_size
    return origin, step_size, steps, _by_number(save, times[0], step_size, grid, start)


def _at_least_one(steps: int) -> int:
    if steps < 1:
        do = "Give how many steps to cut the interval into."
        raise ValueError(explain("evolve: steps", steps, "a whole number >= 1 over an interval", do))
    return steps


def _consistent(duration: Any, step_size: Any, steps: int) -> int:
    """The number of steps, which must be duration / step_size."""
    if is_traced(duration, step_size):
        do = "Leave one of the three out."
        raise ValueError(explain("evolve: steps", "steps beside traced times and step_size", "two of the three", do))
    if _whole_number(duration, step_size, "times[-1] - times[0]") != steps:
        got = f"{steps} steps of {float(step_size):g} over an interval of {float(duration):g}"
        raise ValueError(explain("evolve: steps", got, "steps * step_size = times[-1] - times[0]",
                                 "Leave one of the three out."))  # fmt: skip
    return steps


def _require(value: Any, name: str) -> Any:
    if value is None:
        raise ValueError(
            explain(
                f"evolve: {name}",
                "None",
                "a fixed step: times and step_size, times and steps, or steps and step_size",
                f"Give {name}.",
            )
        )
    return value


def _whole_number(duration: Any, step_size: Any, what: str) -> int:
    """duration / step_size, which must be whole: to 1e-6 of a step, a bound on the rounding of decimal inputs."""
    if is_traced(duration, step_size):
        raise ValueError(
            explain(
                "evolve: step_size",
                "a traced step size or interval without steps",
                "a number of steps known while tracing",
                "Give steps= as a Python int.",
            )
        )
    ratio = float(duration) / float(step_size)
    tolerance = max(1e-6, 4 * float(jnp.finfo(jnp.result_type(duration)).eps) * abs(ratio))
    if not np.isfinite(ratio) or ratio < 0 or abs(ratio - round(ratio)) > tolerance:
        raise ValueError(
            explain(
                f"evolve: step_size={float(step_size):g}",
                f"{what} = {ratio:g} steps",
                "a whole number of steps",
                "Give steps= with times=(t0, t1) instead, or another step.",
            )
        )
    return round(ratio)


def _by_number(save: Save, origin: Any, step_size: Any, grid: Any, start: int) -> Save:
    """Times to save as step numbers."""
    at = save.at
    if isinstance(at, str) and at == "all" and grid is not None:
        at = grid
    if isinstance(at, str | int):
        return Save(at, save.fn)
    numbers = [_whole_number(t - origin, step_size, f"time {float(t):g} - t0") for t in np.asarray(at)]
    return Save(np.asarray(numbers) + start, save.fn)
