"""The record of a monitor: readings, losses of steps, and events that are not over."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from separatrix.optimization.stability.oscillation import Oscillation
from separatrix.optimization.stability.reading import Reading
from separatrix.optimization.stability.report import SEVERITY, Event, StabilityReport
from separatrix.optimization.stability.responses import ANSWERS, RESTS

# Averages of the noise scale forget within ten readings, as many as the rule of a flat loss looks at.
_MEMORY = 0.9
# Readings after which a kind of event counts as over.
_QUIET = 5


class History:
    """Numbers of all readings, on the host, in the order of steps."""

    def __init__(self, every: int):
        self.every, self.growth, self.batch_size, self.products = every, float("nan"), 0, 0
        self.names: list[str] = []
        self.classes: int | None = None
        self.flattening, self.sharpening = float("nan"), 0.0
        self.steps: list[int] = []
        self.ratios: list[float] = []
        self.errors: list[float] = []
        self.losses: list[float] = []
        self.sharpness: list[float] = []
        self.responses: list[float] = []
        self.departures: list[float] = []
        self.updates: list[float] = []
        self.noise_scales: list[float] = []
        self.swings: list[Oscillation] = []
        self.events: list[Event] = []
        self.active: dict[str, int] = {}
        self.knows_losses = True
        self.climbing: list[float] = []
        self.idle: list[float] = []
        self.still: list[int] = []
        self.edgeless: dict[int, int] = {}
        self._fates: Any = None
        self.first, self.least, self.rise, self.peak, self.before_rise = np.nan, np.inf, 1.0, 0, np.nan
        self._noted: deque[tuple[int, Any]] = deque(maxlen=2 * every)
        self._seen = 0
        self._signal, self._noise = np.nan, np.nan

    def note_loss(self, step: int, loss: Any) -> None:
        """Keep the loss of a step; it is not waited for."""
        self._noted.append((step, loss))

    def add(self, step: int, reading: Reading, swing: Oscillation, batch_size: int) -> None:
        """Add a reading."""
        self.batch_size = batch_size
        self._watch_rises(step, float(reading.loss))
        self._average(float(reading.signal), float(reading.noise))
        self.products += int(reading.products)
        if np.isfinite(float(reading.flattening)):
            self.flattening, self.growth = float(reading.flattening), float(reading.growth)
        self._see_fates(np.asarray(reading.fate))
        self.climbing.append(float(reading.climbing))
        self.idle.append(float(reading.idle))
        self._append(
            step,
            float(reading.ratio),
            float(reading.ratio_error),
            float(reading.loss),
            float(reading.sharpness),
            float(reading.response),
            float(reading.departure),
            float(reading.update_ratio),
            swing,
        )
        self._sharpen()

    def _watch_rises(self, step: int, loss: float) -> None:
        """Keep the largest rise of the loss over the least before it, from the losses noted since the last reading."""
        noted = [(n, float(value)) for n, value in self._noted if n >= self._seen]
        self._seen = step
        for n, value in [*noted, (step, loss)]:
            self.first = value if np.isnan(self.first) else self.first
            # Of a loss that may be negative no ratio says anything.
            if self.least > 0 and value / self.least > self.rise:
                self.rise, self.peak, self.before_rise = value / self.least, n, self.least
            self.least = min(self.least, value)

    def see(self, losses: tuple[float, float, float, float]) -> None:
        """Take over what a loop itself has seen of its losses: first, least, largest rise, and its step."""
        if np.isfinite(losses[0]) and losses[2] > self.rise:
            self.first, self.least, self.rise, self.peak = losses[0], losses[1], losses[2], int(losses[3])
            self.before_rise = self.first

    def early(self) -> list[tuple[int, float]]:
        """Losses noted so far in the first interval."""
        return [(n, float(value)) for n, value in self._noted if n < self.every]

    def _see_fates(self, fates: np.ndarray) -> None:
        """Which arrays two steps left as they were, while others moved; and which have an optimiser without an edge."""
        before, self._fates = self._fates, fates
        same = np.zeros_like(fates, bool) if before is None or len(before) != len(fates) else fates == before
        moved = np.any(fates != RESTS)
        self.still = np.flatnonzero(same & (fates == RESTS) & moved).tolist()
        self.edgeless = {int(i): int(fates[i]) for i in np.flatnonzero(same & (fates != RESTS) & (fates != ANSWERS))}

    def amplitude(self) -> float:
        """c of the alternation at the newest reading, 0 where there is none."""
        swing = self.swings[-1]
        return swing.amplitude if swing.flip > 0 and np.isfinite(swing.amplitude) else 0.0

    def _sharpen(self) -> None:
        """Keep how fast the ratio rises by itself: its slope between two readings, where no alternation flattens."""
        if len(self.ratios) < 2:
            return
        slope = (self.ratios[-1] - self.ratios[-2]) / self.every
        if slope > 0 and self.flattening * self.amplitude() ** 2 / 2 < 0.1 * slope:
            self.sharpening = slope

    def height(self) -> float:
        r"""The energy along v at which the alternation will turn, in units of the loss; NaN where b is not known.

        With r = ratio - 1, (ln c)' = kappa r and r' = a - b c^2/2 keep kappa r^2/2 - a ln c + b c^2/4, so that r = 0 at
        c*^2 = c^2 + (2 kappa r^2 + 4 a ln(c*/c))/b.
        """
        r, now = self.ratios[-1] - 1, self.amplitude()
        if not now > 0 or not self.flattening > 0 or not np.isfinite(self.growth):
            return np.nan
        square = now**2 + 2 * self.growth * r**2 / self.flattening
        for _ in range(3):  # the logarithm changes little
            rest = 4 * self.sharpening * np.log(max(1.0, np.sqrt(square) / now)) / self.flattening
            square = now**2 + 2 * self.growth * r**2 / self.flattening + rest
        return square / 2

    def broke(self, step: int) -> None:
        """Add a reading of parameters that are not finite."""
        nan = float("nan")
        self.climbing.append(nan)
        self.idle.append(nan)
        self._append(step, nan, nan, nan, nan, nan, nan, nan, Oscillation(nan, nan, nan))

    def _append(self, step: int, *numbers: Any) -> None:
        self.steps.append(step)
        kept = (
            self.ratios, self.errors, self.losses, self.sharpness, self.responses, self.departures, self.updates,
            self.swings,
        )  # fmt: skip
        for values, number in zip(kept, numbers, strict=True):
            values.append(number)
        self.noise_scales.append(self.noise_scale())

    def _average(self, signal: float, noise: float) -> None:
        if not np.isfinite(noise):
            return
        first = not np.isfinite(self._noise)
        self._signal = signal if first else _MEMORY * self._signal + (1 - _MEMORY) * signal
        self._noise = noise if first else _MEMORY * self._noise + (1 - _MEMORY) * noise

    def noise_scale(self) -> float:
        """tr Sigma/|g|^2 of averages, in examples; infinite where the mean gradient is not seen."""
        if not np.isfinite(self._noise):
            return np.nan
        if not self._noise > 0:
            return 0.0
        return self._noise / self._signal if self._signal > 0 else np.inf

    def since(self, condition: Callable[[float], bool]) -> int:
        """The step from which on all ratios satisfy a condition."""
        first = self.steps[-1]
        for step, ratio in zip(reversed(self.steps), reversed(self.ratios), strict=True):
            if not condition(ratio):
                break
            first = step
        return first

    def rising(self) -> bool:
        """Whether the loss is above that of the last reading."""
        return len(self.losses) > 1 and self.losses[-1] > self.losses[-2]

    def flat(self) -> bool:
        """Whether the loss has not fallen by two of its standard errors between the halves of the last ten readings."""
        recent = np.asarray(self.losses[-10:])
        if len(recent) < 10:
            return False
        early, late = recent[:5], recent[5:]
        error = np.sqrt((early.var(ddof=1) + late.var(ddof=1)) / 5)
        return bool(early.mean() - late.mean() < 2 * error)

    def recent_losses(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and losses noted since two intervals ago."""
        steps = np.array([step for step, _ in self._noted], int)
        return steps, np.array([float(loss) for _, loss in self._noted])

    def new(self, events: list[Event]) -> list[Event]:
        """Keep those of a kind that has been quiet for some readings."""
        now = max(len(self.steps), 1)
        fresh = [event for event in events if now - self.active.get(event.kind, -_QUIET) >= _QUIET]
        self.active |= {event.kind: now for event in events}
        self.events += fresh
        return fresh

    def report(self, off: str | None = None) -> StabilityReport:
        """Everything, as a result; `off` says why there is no more of it."""
        going_on = [kind for kind, at in self.active.items() if len(self.steps) - at < _QUIET]
        state = max(going_on, key=SEVERITY.index, default="stable" if self.steps else "not watched")
        last = {event.kind: event.finding for event in self.events if event.kind in going_on}
        return StabilityReport(
            np.array(self.steps, int),
            np.array(self.ratios, float),
            np.array(self.sharpness, float),
            np.array(self.losses, float),
            np.array(self.departures, float),
            np.array(self.updates, float),
            np.array(self.noise_scales, float),
            self.products,
            tuple(self.events),
            tuple(last.values()),
            state,
            off,
        )
