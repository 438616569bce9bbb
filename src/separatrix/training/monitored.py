"""Evolution in pieces, for someone who looks on: a monitor reads the state at every border.

A monitor is anything with `every`, how many steps lie between borders; `attach(map)`, called once; `watch(n, state, key)`,
at each border; `coordinate`, a function of the state noted at each of the last `burst` steps before a border (None for
nothing to note), and `note(values)`, which is given those values.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._types import Function, Key, State
from separatrix.evolution import Save, evolve
from separatrix.systems.map import Map
from separatrix.systems.trajectory import Outcome


class Monitor(Protocol):
    """What `fit` tells of a run; see the head of this page."""

    every: int
    burst: int

    @property
    def coordinate(self) -> Function | None: ...
    def attach(self, map: Map) -> None: ...
    def watch(self, n: int, state: State, key: Key | None) -> None: ...
    def note(self, values: Any) -> None: ...


def evolve_monitored(
    map: Map, state: State, monitor: Any, *, steps: int, start: int, key: Key | None, measure: Function, every: int,
    progress: Function | None,
) -> tuple[State, Any, Outcome, np.ndarray]:  # fmt: skip
    """Evolve with a monitor; return the last state, measurements every `every` steps, the outcome, and their steps.

    `every` is a multiple of the monitor's own interval.
    """
    monitor.attach(map)
    rows, numbers, end = [measure(state)], [start], start + steps
    outcome = evolve(map, state, steps=0, start=start, key=key, save="last").outcome
    for first in range(start, end, monitor.every):
        monitor.watch(first, state, key)
        state, outcome, n = _piece(map, state, monitor, first, min(first + monitor.every, end), key)
        if progress is not None:
            progress(n - start, steps)
        if not bool(outcome.completed):
            monitor.watch(n, state, key)
            break
        if (n - start) % every == 0:
            rows.append(measure(state))
            numbers.append(n)
    else:
        monitor.watch(end, state, key)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows), outcome, np.array(numbers)


def _piece(map: Map, state: State, monitor: Any, first: int, end: int, key: Key | None) -> tuple[State, Outcome, int]:
    """To the next border: quietly, then noting each of the last steps."""
    quiet = max(0, end - first - monitor.burst)
    path = evolve(map, state, steps=quiet, start=first, key=key, save="last")
    coordinate = monitor.coordinate
    if not bool(path.outcome.completed):
        return path.final, path.outcome, first + int(path.stats["steps"])
    save = "last" if coordinate is None else Save(1, coordinate)
    path = evolve(map, path.final, steps=end - first - quiet, start=first + quiet, key=key, save=save)
    if coordinate is not None:
        monitor.note(path.states)
    return path.final, path.outcome, first + quiet + int(path.stats["steps"])
