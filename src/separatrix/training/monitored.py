"""Evolution in pieces, for someone who looks on: a monitor reads the state at every border.

What `fit(..., monitor=)` expects. Needed:

| name | what |
|---|---|
| `every` | steps between two looks |
| `attach(map)` | called once, before the first step, with the map that runs: `map.objective` is the loss |
| `watch(n, state, key)` | called at step 0, at each multiple of `every`, and at the end, with the state before step n |

`state` is that of the map: `OptimizerState(parameters, optimizer_state)` of an optax transformation. `key` is that of the
run, the same each time. A monitor changes no number of the run. What it raises goes to the caller of `fit`, so it should
raise nothing: `StabilityMonitor` warns, and is off.

If it wants single steps too, it has all of: `burst`, how many steps before each look are noted; `coordinate`, a function of
the state that is noted at them, compiled (None for nothing to note now); `note(values)`, which is given its values.

For the records of a run on disk: `latest(n)`, a dictionary of numbers read at step n (empty for none), which are logged as
metrics; `events`, a growing list of (step, kind, finding), each finding a `Finding`, which are logged as events.
"""

from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Function, Key, State
from separatrix.evolution import Save, evolve
from separatrix.systems import ranges
from separatrix.systems.map import Map
from separatrix.systems.trajectory import Outcome
from separatrix.training._course import CourseState
from separatrix.training._running import blank_unless, measured, schedule


class Monitor(Protocol):
    """What a monitor needs; what it may have besides is at the head of this page."""

    every: int

    def attach(self, map: Map) -> None: ...
    def watch(self, n: int, state: State, key: Key | None) -> None: ...


def run_monitored(
    map: Map, state: State, measure: Any, every: int, settings: dict[str, Any], monitor: Any, watched: Map
) -> tuple[State, Any, Outcome]:
    """Evolve with a monitor; return the last good state, a row for each number of the schedule, and the outcome.

    `every` is a multiple of the monitor's own interval. The monitor is told of the map as the user made it.
    """
    if is_traced(map, state, settings["key"]):
        do = "Leave the monitor out, or call fit outside of jit and vmap."
        raise TypeError(explain("fit: monitor", "a run that is being traced", "one whose numbers are known", do))
    monitor.attach(watched)
    steps, start, key, progress = (settings[name] for name in ("steps", "start", "key", "progress"))
    numbers, end, n = schedule(start, steps, every), start + steps, start
    rows = {start: measured(measure, state)}
    ended = evolve(map, state, steps=0, start=start, key=key, save="last").outcome
    for first in range(start, end, monitor.every):
        monitor.watch(first, inner_of(state), key)
        state, ended, n = _piece(map, state, monitor, first, min(first + monitor.every, end), key)
        if progress is not None:
            progress(n - start, steps)
        if not bool(ended.completed):
            break
        if n in numbers:
            rows[n] = measured(measure, state)
    monitor.watch(n, inner_of(state), key)
    blank = blank_unless(False, rows[start])
    kept = [rows.get(int(number), blank) for number in numbers]
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept), ended


def stride_of(monitor: Any, every: int) -> int:
    """Steps between measurements: as many of the monitor's own intervals as make `every` or just more."""
    needed = ("every", "attach", "watch") + (("coordinate", "note") if hasattr(monitor, "burst") else ())
    lacking = [name for name in ("every", "burst", "attach", "watch", "note") if not hasattr(monitor, name)]
    if any(not hasattr(monitor, name) for name in needed):
        got, do = f"{type(monitor).__name__} without {', '.join(lacking)}", "Pass sx.StabilityMonitor()."
        raise TypeError(explain("fit: monitor", got, "a monitor, see separatrix.training.monitored", do))
    own = ranges.whole("fit: monitor.every", monitor.every, "Say how many steps lie between looks.")
    return -(-every // own) * own


def burst_of(monitor: Any) -> int:
    """How many single steps before a look a monitor wants to note."""
    return int(getattr(monitor, "burst", 0))


def coordinate_of(monitor: Any) -> Function | None:
    """What it notes at them now; None for nothing."""
    return getattr(monitor, "coordinate", None)


def _piece(map: Map, state: State, monitor: Any, first: int, end: int, key: Key | None) -> tuple[State, Outcome, int]:
    """To the next border: quietly, then noting each of the last steps."""
    quiet = max(0, end - first - burst_of(monitor))
    path = evolve(map, state, steps=quiet, start=first, key=key, save="last")
    coordinate = coordinate_of(monitor)
    if not bool(path.outcome.completed):
        return path.last, path.outcome, first + int(path.stats["steps"])
    save = "last" if coordinate is None else Save(1, OfInner(coordinate))
    path = evolve(map, path.last, steps=end - first - quiet, start=first + quiet, key=key, save=save)
    if coordinate is not None:
        monitor.note(path.states)
    return path.last, path.outcome, first + quiet + int(path.stats["steps"])


class OfInner(eqx.Module):
    """A function of the optimiser's own state, whatever is carried beside it."""

    function: Any

    def __call__(self, state: State) -> Any:
        return self.function(inner_of(state))


def inner_of(state: State) -> State:
    """The optimiser's own state, without what is carried beside it."""
    return state.inner if isinstance(state, CourseState) else state
