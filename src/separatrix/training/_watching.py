"""A monitor between the pieces of a run: they end where it reads, and are single steps while it notes a coordinate."""

from typing import Any

import equinox as eqx

from separatrix._types import Key, State
from separatrix.training.monitored import burst_of, coordinate_of, inner_of


class Watching:
    """Tells a monitor of a run in pieces; see `monitored` for what a monitor is."""

    def __init__(self, monitor: Any, map: Any) -> None:
        self._monitor, self._told = monitor, 0
        monitor.attach(map)

    def border(self, n: int) -> int:
        """Where the piece from step n must end: at the next reading, where noting before it begins, or after one step."""
        every, burst = self._monitor.every, burst_of(self._monitor)
        reading, quiet = (n // every + 1) * every, coordinate_of(self._monitor) is None
        if quiet or n < reading - burst:
            return reading - (0 if quiet else burst)
        return n + 1

    def step(self, n: int, state: State) -> None:
        """Note the coordinate, if step n is one of the last before a reading."""
        coordinate = coordinate_of(self._monitor)
        if coordinate is not None and -n % self._monitor.every <= burst_of(self._monitor):
            self._monitor.note([_noted(coordinate, inner_of(state))])

    def is_due(self, n: int, end: int) -> bool:
        """Whether there is a reading at step n."""
        return n % self._monitor.every == 0 or n == end

    def read(self, n: int, state: State, key: Key | None) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Take a reading: its numbers, and what was noticed since the last one, for the records of a run."""
        self._monitor.watch(n, inner_of(state), key)
        numbers = self._monitor.latest(n) if hasattr(self._monitor, "latest") else {}
        events = list(getattr(self._monitor, "events", ()))
        fresh, self._told = events[self._told :], len(events)
        return numbers, [_told(event) for event in fresh]


@eqx.filter_jit
def _noted(coordinate: Any, state: State) -> Any:
    return coordinate(state)


def _told(event: Any) -> dict[str, Any]:
    """An event of a monitor as plain values, its finding in full."""
    step, kind, finding = event
    return {
        "event": "noticed", "step": int(step), "kind": kind, "name": finding.name, "evidence": float(finding.evidence),
        "relation": finding.relation, "threshold": float(finding.threshold), "cause": finding.cause,
        "remedy": finding.remedy,
    }  # fmt: skip
