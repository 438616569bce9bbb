r"""A run in pieces: what happens between them.

    a piece -> rows -> at every k-th step: validation, best, mark, callback -> checkpoint -> progress -> the next piece

Where pieces end changes no number of the run (`evolution.pieces`), so they end where somebody wants to look on, and at the
latest after a quarter of a second. Whatever is decided here is decided by the numbers of steps and what was measured at
them, never by the clock: so a run that was killed and goes on decides the same.
"""

import dataclasses
import signal
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._types import Function
from separatrix.evolution.pieces import Piece, advance
from separatrix.systems.signature import takes
from separatrix.systems.trajectory import OutcomeKind
from separatrix.training._binding import Metrics, layers_of, with_form
from separatrix.training._course import CourseState
from separatrix.training._devices import agreed, gathered
from separatrix.training._feeding import Feeder
from separatrix.training._forms import ModelForm
from separatrix.training._keeping import FoundRun, Keeper, rows_of_numpy
from separatrix.training._progress import Silent
from separatrix.training._rows import Rows
from separatrix.training._running import measured
from separatrix.training._validation import Patience, Validation
from separatrix.training._watching import Watching
from separatrix.training.run import stop_asked

MOST_ROLLS = 8
_SLOWER = 0.5
_SECONDS = 0.25
# Rows that a piece has room for, and bytes that they may take.
_ROWS = 256
_BYTES = 1 << 26


@dataclasses.dataclass
class Trip:
    """What a run is made of. `validation`, `callback`, `feeder`: None where there is none."""

    map: Any
    key: Any
    start: int
    end: int
    every: int
    measure: Metrics
    form: ModelForm
    divergence: str
    keeper: Keeper
    teller: Silent
    patience: Patience
    validation: Validation | None = None
    callback: Function | None = None
    feeder: Feeder | None = None
    per_epoch: int | None = None
    watching: Watching | None = None
    mesh: Any = None


class Best(NamedTuple):
    """The parameters and layers of the lowest validation."""

    parameters: Any
    layers: Any


class Mark(NamedTuple):
    """A state to go back to."""

    n: int
    state: Any


class Driver:
    """Takes a trip. Afterwards: `state` and `n`, `rows`, `events`, `best`, how it `ended`, and the step that `broke`."""

    def __init__(self, trip: Trip, state: Any) -> None:
        self.trip, self.state, self.n = trip, state, trip.start
        self.rows = Rows(trip.validation is not None)
        self.events: list[dict[str, Any]] = []
        self.best: Best | None = None
        self.ended: OutcomeKind | None = None
        self.broke: int | None = None
        self._mark = Mark(trip.start, state)
        self._pace = Pace()
        # Somebody looks on at each row; else pieces need not end there.
        self._looked_on = bool(trip.validation or trip.callback or trip.divergence == "roll_back")

    def go(self) -> None:
        """To the end, or to where it breaks or is stopped."""
        with stop_asked() as stop:
            try:
                self._begin()
                while self.ended is None:
                    steps, asked = agreed(self.trip.mesh, self._pace.steps, stop.asked)
                    self._pace.steps = steps
                    if asked and self.trip.mesh is not None:
                        self._end(OutcomeKind.INTERRUPTED, step=self.n)
                        break
                    self._piece()
                    if stop.asked and self.ended is None and self.trip.mesh is None:
                        self._end(OutcomeKind.INTERRUPTED, step=self.n)
                self._finish()
            except BaseException as error:
                self.trip.keeper.give_up(error)
                raise
            finally:
                self.trip.teller.close()
                if self.trip.feeder is not None:
                    self.trip.feeder.close()
        if stop.signal == signal.SIGTERM:
            # Who asked the whole process to end is obeyed, now that its work is saved.
            signal.raise_signal(signal.SIGTERM)

    def take_up(self, found: FoundRun) -> None:
        """Go on from what a run folder holds."""
        row = rows_of_numpy(measured(self.trip.measure, found.state))
        self.state, self.n = found.state, found.step
        self.rows.take_up(found.rows, row)
        self._mark = Mark(self.n, self.state)
        self.best = found.best
        for event in found.events:
            self._add(event)
        if found.patience is not None:
            self.trip.patience.take_up(found.patience)

    def model(self, parameters: Any = None, layers: Any = None) -> Any:
        """The model of the last good state, or of these parameters and layers."""
        trip = self.trip
        if parameters is None:
            parameters, layers = self.trip.map.parameters(self.state), layers_of(self.state)
        return with_form(trip.form, layers).model(parameters)

    @property
    def averaged(self) -> Any:
        """The model of the averaged parameters; None without."""
        average = self.state.average if isinstance(self.state, CourseState) else None
        return None if average is None else self.model(average, layers_of(self.state))

    # Between two pieces

    def _begin(self) -> None:
        if not self.rows.steps:
            self._measure()
            self._note([self.n])
        self._watch()
        if self.n >= self.trip.end or self.trip.patience.is_over:
            over = self.trip.patience.is_over and self.n < self.trip.end
            self.ended = OutcomeKind.STOPPED_EARLY if over else OutcomeKind.COMPLETED

    def _piece(self) -> None:
        trip, before = self.trip, self.n
        map, stop = self._map_and_stop()
        piece = advance(
            map, self.state, before, stop, key=trip.key, fn=trip.measure, origin=trip.start, every=trip.every,
            places=self._places,
        )  # fmt: skip
        self._pace.took(piece.n - before)
        self._count_skips(piece)
        self.state, self.n = piece.state, piece.n
        numbers = self.rows.add_piece(trip.start, trip.every, before, piece)
        self._watch()
        if piece.good and self.n == trip.end and self.rows.steps[-1] != self.n:
            self._measure()
            numbers.append(self.n)
        self._note(numbers)
        if not piece.good:
            self._broken()
            return
        if self._is_due():
            self._save(wait=False)
        trip.teller.say(self.n - trip.start, self.rows.named(len(self.rows.steps) - 1))
        if self.n == trip.end and self.ended is None:
            self.ended = OutcomeKind.COMPLETED

    def _watch(self) -> None:
        """Let the monitor look on, and keep what it read and noticed."""
        watching, n = self.trip.watching, self.n
        if watching is None:
            return
        watching.step(n, self.state)
        if watching.is_due(n, self.trip.end):
            numbers, events = watching.read(n, self.state, self.trip.key)
            if numbers:
                self.trip.keeper.log(n, numbers)
            for event in events:
                self._tell(event)

    @property
    def _places(self) -> int:
        if self._looked_on:
            return 1
        row = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self.rows.rows[0]))
        most = min(_ROWS, max(1, _BYTES // max(row, 1)))
        return min(most, (self.trip.end - self.trip.start) // self.trip.every + 1)

    def _map_and_stop(self) -> tuple[Any, int]:
        """The map of the next piece, and where it ends."""
        trip, n = self.trip, self.n
        since = n - trip.start
        stop = min(trip.end, n + self._pace.steps, trip.start + (since // trip.every + self._places) * trip.every)
        if trip.watching is not None:
            stop = min(stop, trip.watching.border(n))
        if trip.keeper.every is not None:
            stop = min(stop, (n // trip.keeper.every + 1) * trip.keeper.every)
        if trip.feeder is None:
            return trip.map, stop
        source, border = trip.feeder.source(n)
        return eqx.tree_at(lambda map: map.source, trip.map, source, is_leaf=lambda leaf: leaf is None), min(
            stop, border
        )

    def _measure(self) -> None:
        self.rows.add(self.n, rows_of_numpy(measured(self.trip.measure, self.state)))

    def _note(self, numbers: list[int]) -> None:
        """Look at the rows that are new, of which the last may be of this very step."""
        first = len(self.rows.steps) - len(numbers)
        for i, number in enumerate(numbers, start=first):
            if number == self.n and self._looked_on:
                self._look(number, i)
            else:
                self.trip.keeper.log(number, self.rows.named(i))

    def _look(self, number: int, i: int) -> None:
        trip = self.trip
        if trip.validation is not None and self.rows.validation is not None:
            self.rows.validation[number] = self._validate(trip.validation)
        row = self.rows.named(i)
        trip.keeper.log(number, row)
        if trip.validation is not None:
            self._judge(number, row["validation"])
        if trip.divergence == "roll_back" and self._is_good(row["loss"]):
            self._mark = Mark(number, self.state)
        if trip.callback is not None and number > trip.start:
            more = {"averaged": self.averaged} if takes(trip.callback, "averaged") else {}
            if trip.callback(number, self.model(), row, **more) is True:
                self._end(OutcomeKind.STOPPED_EARLY, step=number, why="the callback returned True")

    def _validate(self, validation: Validation) -> float:
        state = self.state
        average = state.average if isinstance(state, CourseState) else None
        return validation(self.trip.map.parameters(state) if average is None else average, layers_of(state))

    def _judge(self, number: int, value: float) -> None:
        patience, state = self.trip.patience, self.state
        if patience.sees(number, value):
            average = state.average if isinstance(state, CourseState) else None
            self.best = Best(self.trip.map.parameters(state) if average is None else average, layers_of(state))
        elif patience.is_over and number < self.trip.end:
            why = f"no lower validation than {patience.lowest:.6g} of step {patience.step} in {patience.since} looks"
            self._end(OutcomeKind.STOPPED_EARLY, step=number, why=why)

    # What can go wrong

    def _is_good(self, loss: Any) -> bool:
        """Whether a loss is no sign of having left: at most as far above the lowest as the first was, or as it is high."""
        losses = np.stack([np.asarray(row["loss"]) for row in self.rows.rows])
        first, lowest = losses[0], np.fmin.reduce(losses, axis=0)
        return bool(np.all(loss <= lowest + np.maximum(first - lowest, np.abs(lowest))))

    def _broken(self) -> None:
        """A step is not finite: go back and on more slowly, or end."""
        trip, at = self.trip, self.n + 1
        if trip.divergence != "roll_back" or float(self.state.slowdown) <= _SLOWER**MOST_ROLLS:
            self.broke = at
            self._end(OutcomeKind.NON_FINITE, step=at)
            return
        n, state = self._mark
        factor = state.slowdown * jnp.asarray(_SLOWER, state.slowdown.dtype)
        self.state, self.n = state._replace(slowdown=factor), n
        self._mark = Mark(n, self.state)
        self.rows.forget(n)
        trip.keeper.forget(n)
        self._save(wait=True, again=True)
        self._tell({"event": "roll_back", "step": n, "broke_at": at, "factor": float(factor)})

    def _count_skips(self, piece: Piece) -> None:
        if self.trip.divergence != "skip":
            return
        before, after = np.asarray(self.state.skipped), np.asarray(piece.state.skipped)
        if after[0] == before[0]:
            return
        self._tell({"event": "skip", "step": int(after[2]), "count": int(after[0] - before[0])})

    def _end(self, kind: OutcomeKind, **fields: Any) -> None:
        self.ended = kind
        self._tell({"event": kind.name.lower()} | fields)

    def _tell(self, event: dict[str, Any]) -> None:
        self.trip.keeper.event(event)
        self._add(event)

    def _add(self, event: dict[str, Any]) -> None:
        if event["event"] == "skip" and self.events and self.events[-1]["event"] == "skip":
            # Pieces end by the clock; what is told does not.
            event = event | {"count": event["count"] + self.events.pop()["count"]}
        self.events.append(event)

    # What is kept

    def _is_due(self) -> bool:
        if self.trip.divergence != "roll_back":
            return self.trip.keeper.is_due(self.n)
        # What is saved is what would be gone back to: so a run that goes on from it goes back as it would have.
        return self.n == self._mark.n and self.trip.keeper.is_due(self.n, least=True)

    def _save(self, *, wait: bool, again: bool = False) -> None:
        trip = self.trip
        tree = {"model": self.model(), "state": self.state, "rows": self.rows.to_save()}
        if self.averaged is not None:
            tree["averaged"] = self.averaged
        if self.best is not None:
            tree |= {"best": self.best, "patience": trip.patience.to_save()}
        per = trip.per_epoch
        cursor = {"step": self.n} | ({} if per is None else {"epoch": self.n // per, "batch": self.n % per})
        tree, key = gathered((tree, trip.key), trip.mesh)
        trip.keeper.save(self.n, tree, key, cursor, wait=wait, again=again)

    def _finish(self) -> None:
        """Save the end, and say how it ended."""
        trip, keeper = self.trip, self.trip.keeper
        # What goes on from a roll-back's checkpoint must be able to go back as this run would have.
        if self.ended is not OutcomeKind.INTERRUPTED or trip.divergence != "roll_back" or self.n == self._mark.n:
            self._save(wait=True)
        if self.best is not None and self.trip.patience.step is not None:
            keeper.save_best(self.trip.patience.step, gathered(self.model(*self.best), trip.mesh))
        words = {OutcomeKind.INTERRUPTED: "interrupted", OutcomeKind.NON_FINITE: "diverged"}
        early = {"early": True} if self.ended is OutcomeKind.STOPPED_EARLY else {}
        assert self.ended is not None
        keeper.finish(words.get(self.ended, "finished"), **early)


class Pace:
    """How many steps a piece takes, so that it takes a quarter of a second."""

    def __init__(self) -> None:
        self.steps, self._at = 1, None

    def took(self, steps: int) -> None:
        """So many steps were taken since the last call. The first is not timed: it compiles."""
        now = time.perf_counter()
        if self._at is not None and steps:
            rate = steps / max(now - self._at, 1e-9)
            self.steps = int(np.clip(rate * _SECONDS, 1, 16 * self.steps))
        elif self._at is None:
            self.steps = 8
        self._at = now
