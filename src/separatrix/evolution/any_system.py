r"""The one front door: run any system and say how it ended.

map   x[n+1] = F(n, x[n])        one scan over steps
flow  dx/dt = f(t, x)            adaptive steps; or fixed steps, which is a map
SDE   dx = f dt + g dW           fixed steps, which is a map; or diffrax's solvers
"""

from typing import Any, Literal

from separatrix._types import Checked, Function, Key, State
from separatrix.calculus.methods import Method
from separatrix.evolution._plan import EvolveOptions, Plan, plan_of
from separatrix.evolution.flows import evolve_continuous, names_forward_mode
from separatrix.evolution.grid import shift
from separatrix.evolution.maps import Progress, evolve_map
from separatrix.evolution.parallel import Parallel, evolve_parallel_map
from separatrix.evolution.save import Save
from separatrix.systems.base import System
from separatrix.systems.trajectory import Trajectory, raise_unless_reached

Gradient = Literal["replay", "checkpoint", "continuous", "forward"]
Memory = Literal["linear", "sqrt", "reversible"]


def evolve(
    system: Checked[System],
    state: Checked[State],
    *,
    steps: Checked[int | None] = None,
    times: Any = None,
    key: Checked[Key | None] = None,
    method: Checked[Method | Parallel | Any] = None,
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
    progress: Checked[Progress | None] = None,
    throw: Checked[bool] = False,
) -> Trajectory:
    r"""Run a system from a state and return its trajectory.

    **Arguments:** every option is used, or refused with the reason.

    - `system`: a `Map`, `Flow` or `SDE`.
    - `state`: where it starts: a pytree of arrays; floating point for flows and SDEs.
    - `steps`: how many steps a map takes; a `FiniteMap` takes all it has by default.
    - `times`: `(t0, ..., t1)`, increasing. With more than two entries it is also the grid that is kept.
    - `key`: randomness of maps and SDEs. Step n draws from `fold_in(key, n)`: the same key gives the same path, resumed or
      not.
    - `method`: for flows a diffrax solver (adaptive; Tsit5 by default) or a fixed-step method as `RK4()`; for SDEs a
      fixed-step method (`EulerMaruyama()` by default) or a diffrax solver; for maps `Parallel(...)`.
    - `step_size`: > 0, fixes the step of flows and SDEs. Of `times`, `step_size` and `steps`, two give the third. Beside a
      `controller` it is the first step.
    - `save`: `"all"`, `"last"`, every k steps, an array of steps or times, a function of the state, or `Save(at, fn)`.
      For adaptive evolutions `"all"` means: at `times`.
    - `start`: number of the first step of a map or of a fixed-step SDE, to go on where an earlier call stopped: its noise
      goes on too. A flow without `times` goes on from `start * step_size`.
    - `rtol`, `atol`: of adaptive evolutions, > 0; error per step, 1e-6 in float64 and 1e-4 in float32 by default; `atol` is
      a hundredth of `rtol` unless it is said. A `diffrax.PIDController` as `controller` brings its own.
    - `max_steps`: how many steps an adaptive evolution may try: 100,000; with dense output, which keeps them all, 4,096.
    - `dense`: keep an interpolation, so that `trajectory.evaluate(t)` works (adaptive flows).
    - `event`: a function g(t, x) or g(x) whose change of sign ends an adaptive evolution; or a boolean one, which ends it
      where it comes true. The time and the state of an event of a flow are differentiable.
    - `gradient`: of adaptive evolutions, in reverse mode: `"replay"` of the accepted steps (exact for the discretisation;
      all of the first 1,024 are kept, then fewer), `"checkpoint"` (the same with room for about sqrt(max_steps)), or the
      `"continuous"` adjoint of flows (O(1) memory, inexact). `"forward"` is for `jax.jvp` and `jax.jacfwd`.
    - `memory`: of gradients through fixed steps and maps: O(n) `"linear"`, O(sqrt n) `"sqrt"`, or O(1) `"reversible"` for
      an `InvertibleMap`.
    - `progress`: called as `progress(done, total)` at chunk borders of maps and fixed steps, outside of `jit`.
    - `throw`: raise if the end that was asked for is not reached.

    **Returns:** a `Trajectory` with `times`, `states` (leading axis of the same length; NaN past a break), `final` (the
    state at the end that was asked for, NaN if it was not reached), `last` and `last_time` (the last good state),
    `outcome` and `stats`. It never says "completed" where a state was not finite. Its values are the same with and without
    a gradient.

    **Raises:** `TypeError` or `ValueError` for input that cannot be run, before anything is compiled; with `throw`,
    `Diverged` with the text of the outcome (under `jit` a run-time error with the same cause and remedy).

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> pendulum = sx.as_flow(lambda x: jnp.stack([x[1], -jnp.sin(x[0])]))
    >>> path = sx.evolve(pendulum, jnp.array([1.0, 0.0]), times=jnp.linspace(0.0, 10.0, 101))
    >>> path.states.shape, str(path.outcome)
    ((101, 2), 'completed')
    """
    asked = EvolveOptions(
        steps, times, key, method, step_size, save, start, rtol, atol, controller, max_steps, dense, event, gradient,
        memory, progress, throw,
    )  # fmt: skip
    trajectory = run(plan_of(system, state, asked))
    return raise_unless_reached(trajectory, "evolve") if throw else trajectory


def run(plan: Plan) -> Trajectory:
    """Run what was planned."""
    if plan.control is not None and plan.how is not None:
        continuous = (plan.system, plan.state, plan.times, plan.saved, plan.fn, plan.control, plan.event, plan.key)
        with names_forward_mode("evolve"):
            return evolve_continuous(*continuous, plan.how)
    iterated: dict[str, Any] = {"steps": plan.steps, "key": plan.key, "save": plan.save, "start": plan.start}
    if plan.parallel is not None:
        trajectory = evolve_parallel_map(plan.system, plan.state, method=plan.parallel, **iterated)
    else:
        trajectory = evolve_map(plan.system, plan.state, progress=plan.progress, memory=plan.memory, **iterated)
    return trajectory if plan.origin is None else shift(trajectory, plan.origin)
