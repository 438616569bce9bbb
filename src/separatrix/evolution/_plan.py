"""What was asked of an evolution, as one typed record, made and checked here and nowhere else.

`EvolveOptions` holds the options as they were given. From the system and from them follows the kind of evolution; the
table says which options each kind uses, and every other one that was given is refused. `Plan` is what is left to run.
"""

import dataclasses
import enum
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_traced
from separatrix._types import Function, Key, State
from separatrix.calculus.discretization import discretize
from separatrix.calculus.methods import RK4, EulerMaruyama, Method
from separatrix.evolution import checks as check
from separatrix.evolution._adaptive_step import Control, control_of
from separatrix.evolution._event import EventRule, as_event
from separatrix.evolution._tolerances import tolerances
from separatrix.evolution.flows import Solve
from separatrix.evolution.grid import fixed_grid
from separatrix.evolution.maps import Progress
from separatrix.evolution.parallel import Parallel
from separatrix.evolution.save import Save, check_rows_fit, resolve
from separatrix.systems.clock import from_time
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap, Map, NearIdentityMap
from separatrix.systems.sde import SDE

# A solve tries at most so many steps; one that keeps them all for dense output has room for fewer.
MAX_STEPS = 100_000
DENSE_STEPS = 4096


@dataclasses.dataclass(frozen=True)
class EvolveOptions:
    """The options of `evolve` as they were given; None where they were not."""

    steps: Any = None
    times: Any = None
    key: Any = None
    method: Any = None
    step_size: Any = None
    save: Any = "all"
    start: Any = None
    rtol: Any = None
    atol: Any = None
    controller: Any = None
    max_steps: Any = None
    dense: Any = None
    event: Any = None
    gradient: Any = None
    memory: Any = None
    progress: Any = None
    throw: Any = False


class Kind(enum.Enum):
    """The kinds of evolution, in the words of a message."""

    MAP = "a map"
    PARALLEL = "a map in parallel over time"
    FIXED_FLOW = "a flow by fixed steps"
    FIXED_SDE = "an SDE by fixed steps"
    ADAPTIVE_FLOW = "a flow by adaptive steps"
    ADAPTIVE_SDE = "an SDE by adaptive steps"
    SOLVER_FLOW = "a flow by fixed steps of a diffrax solver"
    SOLVER_SDE = "an SDE by fixed steps of a diffrax solver"


_ITERATED = {Kind.MAP, Kind.FIXED_FLOW, Kind.FIXED_SDE}
_SOLVED = {Kind.ADAPTIVE_FLOW, Kind.ADAPTIVE_SDE, Kind.SOLVER_FLOW, Kind.SOLVER_SDE}
_ADAPTIVE = {Kind.ADAPTIVE_FLOW, Kind.ADAPTIVE_SDE}
_RANDOM = {Kind.MAP, Kind.PARALLEL, Kind.FIXED_SDE, Kind.ADAPTIVE_SDE, Kind.SOLVER_SDE}
_ALL = set(Kind)

# Which kinds use an option, and what to do instead. `times` and `step_size` have conditions of their own below.
USES: dict[str, tuple[set[Kind], str]] = {
    "steps": (_ALL - _ADAPTIVE, "Fix the step with step_size=, or leave steps out: the tolerances choose them."),
    "times": (_ALL, ""),
    "key": (_RANDOM, "Leave it out: a flow is not random."),
    "method": (_ALL, ""),
    "step_size": (_ALL - {Kind.MAP, Kind.PARALLEL}, "Set the map's own step_size when you build it."),
    "save": (_ALL, ""),
    "start": ({Kind.MAP, Kind.PARALLEL, Kind.FIXED_FLOW, Kind.FIXED_SDE}, "Begin at another time: times=(t0, t1)."),
    "rtol": (_SOLVED, "Leave it out, or take an adaptive method: method=diffrax.Tsit5() without step_size."),
    "atol": (_SOLVED, "Leave it out, or take an adaptive method: method=diffrax.Tsit5() without step_size."),
    "controller": (_SOLVED, "Leave it out, or take an adaptive method: method=diffrax.Tsit5()."),
    "max_steps": (_SOLVED, "Leave it out: steps says how many there are."),
    "dense": (_SOLVED, 'Keep every step, save="all", or take an adaptive method of a flow.'),
    "event": (_SOLVED, "Take an adaptive method of a flow, or look for the sign change in the states that are kept."),
    "gradient": (_SOLVED, 'Choose what the gradient keeps by memory="linear", "sqrt" or "reversible".'),
    "memory": (_ITERATED, 'Choose the gradient of adaptive steps by gradient="replay", "checkpoint", ...'),
    "progress": (_ITERATED, "Leave it out: there are no borders at which to report."),
    "throw": (_ALL, ""),
}

GRADIENTS = ("replay", "checkpoint", "continuous", "forward")
MEMORIES = ("linear", "sqrt", "reversible")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be run. The first part is for all, the second for what is iterated, the third for what is solved."""

    kind: Kind
    system: Any
    state: State
    fn: Function
    key: Key | None

    steps: int = 0
    start: int = 0
    save: Save | None = None
    origin: Any = None
    memory: str = "linear"
    progress: Progress | None = None
    parallel: Parallel | None = None

    times: Any = None
    saved: Any = None
    control: Control | None = None
    event: EventRule | None = None
    how: Solve | None = None


def plan_of(system: Any, state: Any, asked: EvolveOptions, *, what: str = "evolve") -> Plan:
    """Check what was asked, and say what is to be run.

    **Raises:** `TypeError` or `ValueError` for a system, a state or an option that cannot be used.
    """
    check.check_system(system, what)
    kind = _kind_of(system, asked, what)
    _refuse_unused(kind, asked, what)
    _check_values(kind, asked, what)
    state = check.check_state(state, differentiable=not isinstance(system, Map), what=f"{what}: state")
    if kind in _SOLVED:
        return _solved(kind, system, state, asked, what)
    return _iterated(kind, system, state, asked, what)


def _kind_of(system: Any, asked: EvolveOptions, what: str) -> Kind:
    method, is_fixed = asked.method, asked.step_size is not None or asked.steps is not None
    if isinstance(method, type):
        got = f"the class {method.__name__}"
        raise TypeError(explain(f"{what}: method", got, "an instance", f"Write {method.__name__}()."))
    controller = None if isinstance(asked.controller, diffrax.ConstantStepSize) else asked.controller
    match system:
        case Map():
            if method is None or isinstance(method, Parallel):
                return Kind.MAP if method is None else Kind.PARALLEL
            expected = "Parallel(...) or none, for a map"
            do = "Methods such as RK4() belong to flows."
            raise TypeError(explain(f"{what}: method", type(method).__name__, expected, do))
        case Flow():
            if isinstance(method, Method) or (method is None and is_fixed and asked.controller is None):
                return Kind.FIXED_FLOW
            _require_solver(system, method, what)
            return Kind.SOLVER_FLOW if is_fixed and controller is None else Kind.ADAPTIVE_FLOW
        case SDE():
            if method is None or isinstance(method, Method):
                return Kind.FIXED_SDE
            _require_solver(system, method, what)
            return Kind.SOLVER_SDE if is_fixed and controller is None else Kind.ADAPTIVE_SDE
    raise TypeError(explain(f"{what}: system", type(system).__name__, "a Map, Flow or SDE", "Use one of these kinds."))


def _require_solver(system: Any, method: Any, what: str) -> None:
    """A solver of diffrax that takes such a system."""
    kind, ours = ("Flow", "RK4()") if isinstance(system, Flow) else ("SDE", "EulerMaruyama()")
    expected, do = f"a method for a {kind}, as {ours}, or a diffrax solver", f"Pass an instance: method={ours}."
    if method is None:
        return
    if not isinstance(method, diffrax.AbstractSolver):
        raise TypeError(explain(f"{what}: method", repr(method), expected, do))
    name, form = type(method).__name__, method.term_structure
    if isinstance(system, Flow) and form not in (diffrax.AbstractTerm, diffrax.ODETerm):
        raise TypeError(
            explain(f"{what}: method", f"{name}, which steps along {form}", "a solver of one velocity field",
                    "Take Tsit5(), Kvaerno5(), ...; for a split system SymplecticEuler() or Leapfrog().")
        )  # fmt: skip
    ito_or_stratonovich: Any = (diffrax.AbstractItoSolver, diffrax.AbstractStratonovichSolver)
    if isinstance(system, SDE) and not (isinstance(method, ito_or_stratonovich) and "Langevin" not in str(form)):
        raise TypeError(
            explain(
                f"{what}: method", name, "a diffrax solver for an SDE", "Take EulerMaruyama(), diffrax.ShARK(), ..."
            )
        )


def _refuse_unused(kind: Kind, asked: EvolveOptions, what: str) -> None:
    """Every option that was given is used, or refused with its name and the kind of evolution."""
    for field in dataclasses.fields(asked):
        value = getattr(asked, field.name)
        kinds, do = USES[field.name]
        if value is None or value is False or kind in kinds:
            continue
        raise ValueError(explain(f"{what}: {field.name}", _shown(value), f"no {field.name} for {kind.value}", do))
    if kind is Kind.FIXED_FLOW and asked.times is not None and asked.start is not None:
        do = "Leave start out, or leave times out: steps and step_size then go on from start * step_size."
        raise ValueError(explain(f"{what}: start", asked.start, "no start for a flow over an interval of time", do))
    if asked.controller is not None and (asked.rtol is not None or asked.atol is not None):
        got, do = "rtol or atol beside a controller", "Say them once: diffrax.PIDController(rtol=..., atol=...)."
        raise ValueError(explain(f"{what}: controller", got, "tolerances in the controller alone", do))
    is_explicit = not isinstance(asked.method, diffrax.AbstractImplicitSolver)
    for name in ("rtol", "atol"):
        if getattr(asked, name) is not None and kind in _SOLVED - _ADAPTIVE and is_explicit:
            expected = f"no {name} for {kind.value} that solves no equation inside"
            raise ValueError(explain(f"{what}: {name}", getattr(asked, name), expected, USES[name][1]))


def _shown(value: Any) -> str:
    if isinstance(value, jax.Array) and value.ndim == 0 and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return "a PRNG key"
    if callable(value):
        return f"the function {getattr(value, '__name__', type(value).__name__)}"
    return type(value).__name__ if len(repr(value)) > 60 else repr(value)


def _check_values(kind: Kind, asked: EvolveOptions, what: str) -> None:
    check.check_key(asked.key, what)
    if kind in {Kind.FIXED_SDE, Kind.ADAPTIVE_SDE, Kind.SOLVER_SDE} and asked.key is None:
        raise ValueError(explain(f"{what}: an SDE is random", "key=None", "a PRNG key", "Pass key=jax.random.key(0)."))
    for name in ("rtol", "atol", "step_size"):
        check.check_positive(getattr(asked, name), f"{what}: {name}")
    if asked.max_steps is not None:
        check.check_steps(asked.max_steps, "max_steps", least=1, where=what)
    for name, words in (("gradient", GRADIENTS), ("memory", MEMORIES)):
        check.check_word(getattr(asked, name), words, f"{what}: {name}")
    for name in ("dense", "throw"):
        if not isinstance(getattr(asked, name), bool | np.bool_ | None):
            do = "It is known before compiling."
            raise TypeError(explain(f"{what}: {name}", repr(getattr(asked, name)), "True or False", do))
    for name in ("event", "progress"):
        if getattr(asked, name) is not None and not callable(getattr(asked, name)):
            do = "Pass a function." if name == "event" else "It is called as progress(done, total)."
            raise TypeError(explain(f"{what}: {name}", repr(getattr(asked, name)), "a function", do))
    if kind in _SOLVED:
        _check_controller(kind, asked, what)
        if asked.gradient == "continuous" and (kind is not Kind.ADAPTIVE_FLOW or asked.dense):
            got = f'"continuous" for {kind.value}' + (" with dense output" if asked.dense else "")
            do = 'Leave gradient out for "replay".'
            raise ValueError(explain(f"{what}: gradient", got, "a flow by adaptive steps, without dense output", do))


def _check_controller(kind: Kind, asked: EvolveOptions, what: str) -> None:
    method, controller = asked.method, asked.controller
    if not isinstance(controller, diffrax.PIDController | diffrax.ConstantStepSize | None):
        expected = "a diffrax.PIDController, or ConstantStepSize() with step_size"
        do = "Choose one of these; for other controllers call diffrax itself."
        raise TypeError(explain(f"{what}: controller", type(controller).__name__, expected, do))
    if isinstance(controller, diffrax.PIDController):
        for name in ("rtol", "atol"):
            check.check_positive(getattr(controller, name), f"{what}: controller.{name}")
    if kind not in _ADAPTIVE:
        return
    if isinstance(controller, diffrax.ConstantStepSize):
        raise ValueError(explain(f"{what}: controller", "ConstantStepSize without a step", "step_size or steps",
                                 "Give step_size=."))  # fmt: skip
    if asked.step_size is not None and controller is None:
        raise ValueError(explain(f"{what}: step_size", asked.step_size, "a controller, whose first step it is",
                                 "Leave step_size out, or leave the controller in."))  # fmt: skip
    if kind is Kind.ADAPTIVE_FLOW and not isinstance(method, diffrax.AbstractAdaptiveSolver | None):
        expected = "a solver with an error estimate, or a fixed step"
        do = "Give step_size=, or wrap it: diffrax.HalfSolver(...)."
        raise ValueError(explain(f"{what}: method", f"{type(method).__name__} without a step", expected, do))


def _iterated(kind: Kind, system: Any, state: State, asked: EvolveOptions, what: str) -> Plan:
    """A map; or a flow or SDE with a fixed step, which is a map."""
    save, start = resolve(asked.save), check.check_steps(0 if asked.start is None else asked.start, "start", where=what)
    steps = None if asked.steps is None else check.check_steps(asked.steps, "steps", where=what)
    times = None if asked.times is None else check.check_times(asked.times, float_dtype(state), what)
    if isinstance(times, np.ndarray) and times.dtype.itemsize == 2:
        times = times.astype(np.float32)  # the clock of a map is cast to the state's dtype by itself
    origin: Any = None
    if kind in {Kind.MAP, Kind.PARALLEL}:
        map = system
        if times is not None:
            if not isinstance(map, NearIdentityMap) or steps is not None:
                raise ValueError(
                    explain(f"{what}: times", asked.times, "steps, for a map", "Give steps= instead of times=.")
                )
            origin, _, steps, save = fixed_grid(times, map.step_size, None, save, start)
        steps = _steps_of(map, steps, start, what)
    else:
        default = RK4() if isinstance(system, Flow) else EulerMaruyama()
        origin, step_size, steps, save = fixed_grid(times, asked.step_size, steps, save, start)
        map = discretize(system, asked.method or default, step_size)
    if asked.progress is not None and is_traced(map, state, asked.key):
        raise ValueError(explain(f"{what}: progress", "a progress function inside jit, grad or vmap",
                                 "a call outside of them", "Leave it out here."))  # fmt: skip
    check_rows_fit(save, steps, state, what)
    if times is None:
        origin = None
    else:
        map = from_time(map, origin)
    return Plan(
        kind, map, state, save.fn, asked.key, steps=steps, start=start, save=save, origin=origin,
        memory=asked.memory or "linear", progress=asked.progress,
        parallel=asked.method if kind is Kind.PARALLEL else None,
    )  # fmt: skip


def _steps_of(map: Map, steps: int | None, start: int, what: str) -> int:
    """The number of steps: as said, or all that a finite map has left."""
    if not isinstance(map, FiniteMap):
        if steps is None:
            raise ValueError(explain(f"{what}: steps", "None", "a whole number of steps", "Say how many: steps=100."))
        return steps
    left = map.length - start
    if left < 0 or (steps is not None and steps > left):
        got = f"start={start}" if left < 0 else steps
        expected = f"at most {max(left, 0)}, of the {map.length} this map has"
        raise ValueError(explain(f"{what}: steps", got, expected, "Take fewer steps, or leave steps out for all."))
    return left if steps is None else steps


def _solved(kind: Kind, system: Any, state: State, asked: EvolveOptions, what: str) -> Plan:
    """A flow or an SDE by steps with an error estimate, or by the fixed steps of a solver of diffrax."""
    save, dtype = resolve(asked.save), float_dtype(state)
    fixed = kind in {Kind.SOLVER_FLOW, Kind.SOLVER_SDE}
    if fixed and asked.times is None:
        steps = check.check_steps(asked.steps, "steps", least=1, where=what) if asked.steps is not None else None
        if steps is None or asked.step_size is None:
            raise ValueError(explain(f"{what}: times", "None", "times=(t0, ..., t1)", "Say from when to when."))
        times = check.check_times(np.array([0.0, 1.0]), dtype, what) * asked.step_size * steps
    else:
        times = check.check_times(asked.times, dtype, what)
    saved = _times_to_save(save, times, what)
    method = diffrax.Tsit5() if asked.method is None else asked.method
    rtol, atol = tolerances(dtype, asked.rtol, asked.atol, adaptive=not fixed, what=what)
    controller = asked.controller if isinstance(asked.controller, diffrax.PIDController) else None
    control = control_of(controller, rtol, atol)._replace(fixed=fixed, first=_first(asked, times, fixed, what))
    dense = bool(asked.dense)
    most = asked.max_steps or (DENSE_STEPS if dense else MAX_STEPS)
    event = None if asked.event is None else as_event(asked.event, jnp.asarray(times[0]), state)
    how = Solve(method, int(most), dense, asked.gradient or "replay")
    return Plan(kind, system, state, save.fn, asked.key, times=jnp.asarray(times), saved=saved, control=control,
                how=how, event=event)  # fmt: skip


def _first(asked: EvolveOptions, times: Any, fixed: bool, what: str) -> Any:
    """The size of the first step: of all of them, if it is fixed."""
    if asked.steps is None or not fixed:
        return asked.step_size
    steps = check.check_steps(asked.steps, "steps", least=1, where=what)
    size = (times[-1] - times[0]) / steps
    if asked.step_size is None or is_traced(size, asked.step_size):
        return size
    if abs(float(asked.step_size) - float(size)) > 1e-6 * float(size):
        got = f"{asked.step_size} beside {steps} steps over {float(times[-1] - times[0]):g}"
        raise ValueError(explain(f"{what}: step_size", got, f"{float(size):g}", "Leave one of the three out."))
    return size


def _times_to_save(save: Save, times: Any, what: str) -> Any:
    """The times of the rows; none for the end alone."""
    if isinstance(save.at, str):
        return jnp.asarray(times) if save.at == "all" else jnp.asarray(times)[:0]
    if isinstance(save.at, int):
        do = "Give an array of times, or fix the step with step_size=."
        raise ValueError(explain(f"{what}: save", save.at, "times to keep, for adaptive steps", do))
    kept = save.at if is_traced(save.at) else np.asarray(save.at, times.dtype)
    if not is_traced(times, kept):
        first, last = float(times[0]), float(times[-1])
        if not ((np.diff(kept) > 0).all() and kept[0] >= first and kept[-1] <= last):
            do = "Save at times inside the interval."
            raise ValueError(explain(f"{what}: save", kept, f"increasing times within {first:g} to {last:g}", do))
    return jnp.asarray(kept, times.dtype)


def is_pair(plan: Plan) -> bool:
    """Whether members of a batch may step apart: adaptive steps of an explicit pair, and nothing else to keep."""
    from separatrix.evolution._tableau import can_run

    how = plan.how
    return (
        plan.kind is Kind.ADAPTIVE_FLOW and how is not None and can_run(how.method) and not how.dense
        and plan.event is None and how.gradient in ("replay", "forward")
    )  # fmt: skip
