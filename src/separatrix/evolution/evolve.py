r"""The one front door: run any system and say how it ended.

map   x[n+1] = F(n, x[n])        one scan over steps
flow  dx/dt = f(t, x)            adaptive steps; or fixed steps, which is a map
SDE   dx = f dt + g dW           fixed steps, which is a map; or diffrax's adaptive solvers
"""

from typing import Any

import diffrax
import numpy as np

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_traced
from separatrix._types import Function, State
from separatrix.calculus.discretize import discretize
from separatrix.calculus.methods import RK4, EulerMaruyama, Method
from separatrix.evolution._checks import check_key, check_state, check_steps, check_system, check_times
from separatrix.evolution._grid import fixed_grid, from_time, shift
from separatrix.evolution._save import Save, resolve
from separatrix.evolution.flows import evolve_flow
from separatrix.evolution.maps import Progress, evolve_map
from separatrix.evolution.parallel import Parallel, evolve_parallel_map
from separatrix.evolution.sdes import evolve_sde_adaptive
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map, NearIdentityMap
from separatrix.systems.sde import SDE
from separatrix.systems.trajectory import Trajectory


def evolve(
    system: Any,
    state: Any,
    *,
    steps: Any = None,
    times: Any = None,
    key: Any = None,
    method: Any = None,
    step_size: Any = None,
    save: Any = "all",
    start: Any = 0,
    rtol: Any = None,
    atol: Any = None,
    controller: Any = None,
    max_steps: int | None = None,
    dense: bool = False,
    event: Function | None = None,
    gradient: str = "replay",
    memory: str = "linear",
    progress: Progress | None = None,
) -> Trajectory:
    r"""Run a system from a state and return its trajectory.

    **Arguments:**

    - `system`: a `Map`, `Flow` or `SDE`.
    - `state`: where it starts: a pytree of arrays; floating point for flows and SDEs.
    - `steps`: how many steps a map takes; a `FiniteMap` takes all it has by default.
    - `times`: `(t0, ..., t1)`, increasing. With more than two entries it is also the grid that is kept.
    - `key`: randomness. Step n draws from `fold_in(key, n)`: the same key gives the same path, resumed or not.
    - `method`: for flows a diffrax solver (adaptive; Tsit5 by default) or a fixed-step method as `RK4()`; for SDEs a
      fixed-step method (`EulerMaruyama()` by default) or a diffrax solver; for maps `Parallel(...)`.
    - `step_size`: fixes the step of flows and SDEs. Of `times`, `step_size` and `steps`, two give the third.
    - `save`: `"all"`, `"last"`, every k steps, an array of steps or times, a function of the state, or `Save(at, fn)`.
      For adaptive evolutions `"all"` means: at `times`.
    - `start`: number of the first step of a map, to go on where an earlier call stopped.
    - `rtol`, `atol`, `controller`, `max_steps`: of adaptive evolutions; tolerances are per step, 1e-6 and 1e-8 in
      float64 by default (1e-4 and 1e-6 in float32); a `diffrax.PIDController` may say more. A solve may take 100,000
      steps by default, one that stores them (gradient, dense output) 4,096.
    - `dense`: keep an interpolation, so that `trajectory.evaluate(t)` works (adaptive flows).
    - `event`: a function g(t, x) or g(x) whose change of sign ends an adaptive flow.
    - `gradient`: of adaptive flows: `"replay"` of the accepted steps (exact for the discretisation), diffrax's
      recursive `"checkpoint"`, the `"continuous"` adjoint (O(1) memory, inexact), or `"forward"` mode.
    - `memory`: of gradients through fixed steps: O(n) `"linear"`, O(sqrt n) `"sqrt"`, or O(1) `"reversible"` for an
      `InvertibleMap`.
    - `progress`: called as `progress(done, total)` at chunk borders, where no tracing is under way.

    **Returns:** a `Trajectory` with `times`, `states` (leading axis of the same length; NaN past a break), `final` (the
    last good state), `outcome` and `stats`. It never says "completed" where a state was not finite.

    **Raises:** `TypeError` or `ValueError` for input that cannot be run, before anything is compiled.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> pendulum = sx.as_flow(lambda x: jnp.stack([x[1], -jnp.sin(x[0])]))
    >>> path = sx.evolve(pendulum, jnp.array([1.0, 0.0]), times=jnp.linspace(0.0, 10.0, 101))
    >>> path.states.shape, str(path.outcome)
    ((101, 2), 'completed')
    """
    check_system(system)
    check_key(key)
    save = resolve(save)
    start = check_steps(start, "start")
    steps = None if steps is None else check_steps(steps)
    fixed = {"save": save, "key": key, "start": start, "progress": progress, "memory": memory}
    adaptive = {"rtol": rtol, "atol": atol, "controller": controller, "max_steps": max_steps}
    match system:
        case Map():
            state = check_state(state, differentiable=False)
            return _map(system, state, steps, times, method, step_size, fixed)
        case Flow() if _is_fixed(method, step_size, steps):
            state = check_state(state, differentiable=True)
            return _fixed(system, state, steps, times, method or RK4(), step_size, fixed)
        case Flow():
            state = check_state(state, differentiable=True)
            extra = {"dense": dense, "event": event, "gradient": gradient}
            return _adaptive_flow(system, state, times, method, step_size, save, adaptive | extra)
        case SDE() if method is None or isinstance(method, Method):
            _require_key(key, system)
            state = check_state(state, differentiable=True)
            return _fixed(system, state, steps, times, method or EulerMaruyama(), step_size, fixed)
        case SDE():
            _require_key(key, system)
            state = check_state(state, differentiable=True)
            _require_diffrax(method, "SDE")
            adaptive["max_steps"] = max_steps or 4096
            return evolve_sde_adaptive(
                system, state, check_times(times), key=key, save=save, method=method, step_size=step_size, **adaptive
            )
    raise TypeError(explain("evolve: system", type(system).__name__, "a Map, Flow or SDE", "Use one of these kinds."))


def _is_fixed(method: Any, step_size: Any, steps: int | None) -> bool:
    """A fixed-step method of ours, or a default method whose step is said."""
    return isinstance(method, Method) or (method is None and (step_size is not None or steps is not None))


def _map(map: Map, state: State, steps: Any, times: Any, method: Any, step_size: Any, fixed: dict) -> Trajectory:
    if step_size is not None:
        raise ValueError(
            explain(
                "evolve: step_size",
                step_size,
                "no step_size for a map",
                "Set the map's own step_size when you build it.",
            )
        )
    if times is not None:
        return _map_in_time(map, state, steps, times, method, fixed)
    steps = _steps_of(map, steps, fixed["start"])
    match method:
        case None:
            return evolve_map(map, state, steps=steps, **fixed)
        case Parallel():
            return evolve_parallel_map(
                map, state, steps=steps, method=method, key=fixed["key"], save=fixed["save"], start=fixed["start"]
            )
    raise TypeError(
        explain(
            "evolve: method",
            type(method).__name__,
            "Parallel(...) or none, for a map",
            "Methods such as RK4() belong to flows.",
        )
    )


def _map_in_time(map: Map, state: State, steps: Any, times: Any, method: Any, fixed: dict) -> Trajectory:
    """A near-identity map over an interval of its own time t = n h."""
    if not isinstance(map, NearIdentityMap) or steps is not None:
        raise ValueError(explain("evolve: times", times, "steps, for a map", "Give steps= instead of times=."))
    origin, _, steps, save = fixed_grid(check_times(times), map.step_size, None, fixed["save"])
    trajectory = _map(from_time(map, origin), state, steps, None, method, None, fixed | {"save": save})
    return shift(trajectory, origin)


def _steps_of(map: Map, steps: Any, start: int) -> int:
    """The number of steps: as said, or all that a finite map has left."""
    if not isinstance(map, FiniteMap):
        if steps is None:
            raise ValueError(explain("evolve: steps", "None", "a whole number of steps", "Say how many: steps=100."))
        return steps
    left = map.length - start
    if steps is not None and steps > left:
        raise ValueError(
            explain(
                "evolve: steps",
                steps,
                f"at most {left}, of the {map.length} this map has",
                "Take fewer steps, or leave steps out for all.",
            )
        )
    return left if steps is None else steps


def _fixed(
    system: Any, state: State, steps: Any, times: Any, method: Any, step_size: Any, fixed: dict[str, Any]
) -> Trajectory:
    """A flow or SDE with a fixed step: its discretisation, evolved as a map."""
    times = None if times is None else check_times(times).astype(float_dtype(state))
    origin, step_size, steps, save = fixed_grid(times, step_size, steps, fixed["save"])
    map = from_time(discretize(system, method, step_size), origin)
    return shift(evolve_map(map, state, steps=steps, **{**fixed, "save": save}), origin)


def _adaptive_flow(
    flow: Flow, state: State, times: Any, method: Any, step_size: Any, save: Save, settings: dict[str, Any]
) -> Trajectory:
    if method is not None:
        _require_diffrax(method, "Flow")
    times = check_times(times).astype(float_dtype(state))
    match save.at:
        case str() if save.at == "all":
            saved = times
        case str():
            saved = None
        case int():
            raise ValueError(
                explain(
                    "evolve: save",
                    save.at,
                    "times to keep, for adaptive steps",
                    "Give an array of times, or fix the step with step_size=.",
                )
            )
        case _:
            saved = save.at if is_traced(save.at) else np.asarray(save.at, times.dtype)
    settings = {name: value for name, value in settings.items() if value is not None}
    return evolve_flow(flow, state, times, save_times=saved, fn=save.fn, method=method, step_size=step_size, **settings)


def _require_key(key: Any, sde: SDE) -> None:
    if key is None:
        raise ValueError(
            explain(f"evolve: {type(sde).__name__} is random", "key=None", "a PRNG key", "Pass key=jax.random.key(0).")
        )


def _require_diffrax(method: Any, kind: str) -> None:
    if not isinstance(method, diffrax.AbstractSolver):
        ours = "RK4()" if kind == "Flow" else "EulerMaruyama()"
        raise TypeError(
            explain(
                "evolve: method",
                repr(method),
                f"a method for a {kind}, as {ours}, or a diffrax solver",
                f"Pass an instance: method={ours}.",
            )
        )
