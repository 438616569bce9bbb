"""What the instrument says: events as they came, and findings with evidence, cause and remedy."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.result import Result, Row

# What a run may be told to be, from the harmless to the lost.
SEVERITY = (
    "stable", "without updates", "without an edge", "catapult", "edge of stability", "noise", "oscillation", "bad batch",
    "spike ahead",
    "vanishing denominators", "dead network", "jump", "diverging", "climbing", "non-finite",
)  # fmt: skip


class Event(NamedTuple):
    """Something that was noticed: at which step, of what kind (see `SEVERITY`), and the finding that says it."""

    step: int
    kind: str
    finding: Finding

    def __str__(self) -> str:
        return f"step {self.step}: {self.kind}: {self.finding}"


class StabilityReport(Result):
    """History of the readings and what was noticed in them.

    - `steps`, shape (R,), and beside each: `ratios` (preconditioned sharpness over the optimiser's edge), `sharpness`,
      `losses`, `departures` from gradient flow, `updates` (length of a step over that of the parameters), `noise_scales`
      in examples. NaN where a number was not taken.
    - `events`: what was noticed, in order. `findings`: what holds at the end of the history.
    - `state`: "stable", or the gravest kind of event that is not over; "not watched" without a single reading.
    - `products`: Hessian-vector products taken in all. `off`: why the monitor switched itself off, None if it did not.
    """

    steps: Int[np.ndarray, " readings"]
    ratios: Float[np.ndarray, " readings"]
    sharpness: Float[np.ndarray, " readings"]
    losses: Float[np.ndarray, " readings"]
    departures: Float[np.ndarray, " readings"]
    updates: Float[np.ndarray, " readings"]
    noise_scales: Float[np.ndarray, " readings"]
    products: int = eqx.field(static=True)
    events: tuple[Event, ...] = eqx.field(static=True)
    findings: tuple[Finding, ...] = eqx.field(static=True)
    state: str = eqx.field(static=True)
    off: str | None = eqx.field(static=True, default=None)

    def rows(self) -> list[Row]:
        """State, the last numbers, events, and findings that do not hold."""
        last = [
            Row("state", self.state),
            Row("readings", f"{len(self.steps)}, {self.products} Hessian-vector products"),
            Row("sharpness over the edge, last and largest", _last_and_largest(self.ratios)),
            Row("sharpness, last and largest", _last_and_largest(self.sharpness)),
            Row("update over parameters, last and largest", _last_and_largest(self.updates)),
        ]
        noticed = [Row(event.kind, f"step {event.step}: {event.finding}") for event in self.events]
        return last + noticed

    @property
    def cautions(self) -> tuple[str, ...]:
        """Few readings, or numbers from one batch."""
        found = []
        if len(self.steps) < 3:
            found.append(f"{len(self.steps)} readings: no trend can be told from fewer than 3")
        if self.off is not None:
            found.append(self.off)
        return tuple(found)


def _last_and_largest(values: Any) -> str:
    seen = np.asarray(values)[np.isfinite(values)]
    return f"{seen[-1]:.4g}, {seen.max():.4g}" if seen.size else "not taken"
