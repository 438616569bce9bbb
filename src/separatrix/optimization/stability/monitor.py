r"""`StabilityMonitor`: one line in a training loop.

Every k steps it takes the largest curvature over the optimiser's own edge, followed from reading to reading. Just before,
it watches the coordinate along the last top direction for a few steps, to see whether the run alternates there. If batches
differ it also takes the gradients of both halves of one, for the noise scale. Every tenth reading takes the plain
sharpness, the departure from gradient flow, the length of the update, and how fast an alternation would flatten the loss,
which says how high a burst will rise. It looks at the loss in the first steps too, where a run jumps if it does. What it
notices it keeps as events; `report` says what they mean.

It never ends a run: what goes wrong in it is said once, as a warning, and then it is off.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import all_finite
from separatrix._types import Function
from separatrix.linear.following import EXACT_BELOW
from separatrix.optimization.stability.binding import (
    fitting_state,
    in_single_precision,
    optimizer_state_of,
    pure,
    split_model,
)
from separatrix.optimization.stability.edges import probed
from separatrix.optimization.stability.history import History
from separatrix.optimization.stability.judge import judge, judge_losses
from separatrix.optimization.stability.kept import kept_readings
from separatrix.optimization.stability.oscillation import oscillation
from separatrix.optimization.stability.reading import Halves, along, no_direction, reading_at
from separatrix.optimization.stability.report import Event, StabilityReport
from separatrix.optimization.stability.responses import SIGNS, UNKNOWN, WHY, Checks, no_checks, refusal
from separatrix.optimization.stability.watched import (
    SIGNED,
    Along,
    OfTransformation,
    classes_of,
    halves_of,
    in_a_loop,
    loss_at,
    on_single_precision,
    size_of,
    watched,
)
from separatrix.systems import ranges
from separatrix.systems.content import by_content
from separatrix.systems.objective import FunctionObjective, without_objectives
from separatrix.systems.optax_maps import OptimizerState

# Steps just before a reading at which the coordinate along the top direction is noted.
BURST = 8
# First steps at which the loss is looked at.
EARLY = (1, 2, 3, 5, 8, 13)
# Along a direction of ratio r descent multiplies by 1 - 2r, which alternates past a half alone.
_ALTERNATES = 0.5
# Readings without a linear response after which there is none. Examples of a batch that the noise scale is taken of.
_PATIENCE, _NOISE_EXAMPLES = 2, 512


class StabilityMonitor:
    r"""Watch a training run: its sharpness against its optimiser's own edge, and what follows from it.

    **Arguments:**

    - `loss`, `optimizer`: left out where the monitor goes to `fit(..., monitor=)`, which knows both, or reads what `watch`
      keeps.
    - `loss`: l(model, batch), l(model, *parts of a batch), or l(model), as the loop has it; a pair (loss, extras) is taken
      by its first. A model of equinox or of Flax, or a tree of arrays; of `nnx.state(model, nnx.Param)` a function that
      puts `nnx.merge` first.
    - `optimizer`: the optax transformation of the loop, `nnx.Optimizer`, or a map of `separatrix.optimization`. Its edge is
      measured at its own state: learning rates, momenta, schedules and weight decay are not needed.
    - `every`: steps between readings. `wide_every`: readings between those that also take plain sharpness and departure
      from gradient flow.
    - `examples`: of a batch, so many are used for a reading; all by default. Sharpness of fewer is noisier.
    - `tol`: relative accuracy of the sharpness. Below 1 % products are derivatives and not differences of gradients, which
      costs three times as much.
    - `notify`: called with each `Event` as it is noticed, as `print`.

    **Raises:** `ValueError` for an interval that leaves no room to watch, or an optimiser without an edge (steps along
    signs, or of a given length). Once a run is under way nothing is raised: the monitor warns and is off.

    **Example:** gradient descent past its edge.

    >>> import jax, jax.numpy as jnp, optax, separatrix as sx
    >>> loss = lambda x: jnp.sum(jnp.array([1.0, 50.0]) * x**2) / 2
    >>> optimizer = optax.sgd(0.041)
    >>> x, inner = jnp.array([1.0, 1e-3]), optimizer.init(jnp.zeros(2))
    >>> monitor = sx.StabilityMonitor(loss, optimizer)
    >>> for n in range(61):
    ...     monitor(n, x, inner)  # the one line
    ...     updates, inner = optimizer.update(jax.grad(loss)(x), inner)
    ...     x = optax.apply_updates(x, updates)
    >>> monitor.report().state, monitor.events[0].step
    ('spike ahead', 20)

    **Reference:** Cohen et al., *Gradient descent on neural networks typically occurs at the edge of stability* (2021);
    Damian, Nichani & Lee, *Self-stabilization* (2023), section 4, for the height of a burst;
    Cohen et al., *Adaptive gradient methods at the edge of stability* (2022); Lewkowycz et al., *The large learning rate
    phase of deep learning* (2020); McCandlish et al., *An empirical model of large-batch training* (2018).
    """

    def __init__(
        self,
        loss: Function | None = None,
        optimizer: Any = None,
        *,
        every: int = 20,
        wide_every: int = 10,
        examples: int | None = None,
        tol: float = 0.03,
        notify: Callable[[Event], Any] | None = None,
    ):
        if every <= BURST:
            raise ValueError(explain("StabilityMonitor: every", every, f"more than {BURST} steps", "Pass every=20."))
        ranges.whole("StabilityMonitor: every", every, "Pass every=20.")
        ranges.whole("StabilityMonitor: wide_every", wide_every, "Leave it out for 10.")
        if examples is not None:
            ranges.whole("StabilityMonitor: examples", examples, "Leave it out for all.")
        ranges.positive("StabilityMonitor: tol", tol, "Leave it out for 3 %.")
        self.loss: Any = None if loss is None else by_content(loss)
        self.every, self.wide_every, self.examples, self.tol = every, wide_every, examples, tol
        self.notify, self.burst, self.history = notify, BURST, History(every)
        self.optimizer: Any = None
        self.objective: Any = None
        self.direction: Any = None
        self.coordinates: list[Any] = []
        self.off: str | None = None
        self._batch: Any = None
        self._map: Any = None
        self._divides: bool | None = None
        self._strikes = 0
        self._cold = True
        self._checks: Checks | None = None
        if optimizer is not None:
            self.optimizer = watched(optimizer)
            _require_edge(self.optimizer)

    @property
    def events(self) -> list[Event]:
        """What was noticed so far, each kind once until it is over."""
        return self.history.events

    def __call__(self, step: int, model: Any, optimizer_state: Any = None, *batch: Any, loss: Any = None) -> None:
        """Note one step of a loop.

        **Arguments:** the number of the step, the model and the optimiser's state before it, the batch it will take (in as
        many parts as the loss takes), and the loss it had where it is at hand.
        """
        if self.optimizer is None or self.loss is None:
            do = "Pass both to StabilityMonitor(loss, optimizer), or the monitor to fit(..., monitor=)."
            raise ValueError(explain("StabilityMonitor", "no loss or no optimiser", "both, in a loop of one's own", do))
        self._safely(step, self._note_step, model, optimizer_state, batch, loss)

    def read(self, optimizer_state: Any) -> None:
        """Judge what `watch` keeps in an optimiser's state, as far as it is new.

        **Arguments:** the state of the optimiser, or what holds it: `nnx.Optimizer`, a train state, a tree of them.
        """
        self._safely(None, self._read_kept, optimizer_state)

    def attach(self, map: Any) -> None:
        """Take loss and optimiser from a map that `fit` runs."""
        if not hasattr(map, "objective"):
            got, do = (
                type(map).__name__,
                "Follow a game by metrics=, or ask linear_stability(sx.games.field(game), players).",
            )
            raise TypeError(explain("StabilityMonitor: map", got, "an optimiser of one loss", do))

        def attach(_: Any) -> None:
            self.objective, self._map = map.objective, without_objectives(map)
            self.optimizer = watched(map)
            _require_edge(self.optimizer)

        self._safely(None, attach)

    def watch(self, n: int, state: Any, key: Any) -> None:
        """Take a reading of a state that `fit` has reached."""
        self._safely(n, self._watch, state, key)

    @property
    def coordinate(self) -> Function | None:
        """The coordinate along the last top direction, as a function of the state that `fit` runs."""
        return Along(self.direction.covector, self._map) if self._watching else None

    def note(self, values: Any) -> None:
        """Note coordinates of successive steps."""
        self.coordinates += list(np.asarray(values))

    def latest(self, step: int) -> dict[str, float]:
        """Ratio to the edge and plain sharpness of a reading at this step, for the records of a run; empty without one."""
        history = self.history
        if not history.steps or history.steps[-1] != step:
            return {}
        return {"sharpness_over_edge": history.ratios[-1], "sharpness": history.sharpness[-1]}

    def report(self) -> StabilityReport:
        """Return what was noticed, and the history of the readings."""
        return self.history.report(self.off)

    def _safely(self, step: int | None, function: Function, *arguments: Any) -> None:
        """Do it; if it fails say so once, and be off."""
        if self.off is not None:
            return
        try:
            function(step, *arguments)
        except Exception as error:  # whatever it is: the run goes on
            where = "" if step is None else f" at step {step}"
            reason = " ".join(str(error).split())[:400] or type(error).__name__
            self.off = f"switched off{where}: {reason}"
            warnings.warn(f"StabilityMonitor {self.off}. The run goes on unwatched.", RuntimeWarning, stacklevel=4)

    def _note_step(self, step: int, model: Any, state: Any, batch: Any, loss: Any) -> None:
        phase = step % self.every
        due, early = phase == 0, step in EARLY and step < self.every
        watching = self._watching and (due or phase >= self.every - BURST)
        if loss is not None:
            self.history.note_loss(step, loss)
        if not (due or watching or early):
            return
        parameters, parts = split_model(model)
        if watching:
            self.coordinates.append(along(self.direction.covector, parameters))
        wide = parameters
        if due or (early and loss is None):
            wide, parts = in_single_precision(self.loss, parts, parameters, batch or None)
        objective = in_a_loop(self.loss, batch, parts, wide, self.examples)
        if early and loss is None:
            self.history.note_loss(step, loss_at(objective, wide))
        if early:
            self._tell(judge_losses(self.history))
        if not due:
            return
        inner = optimizer_state_of(state)
        if isinstance(self.optimizer, OfTransformation):
            inner = fitting_state(self.optimizer.transformation, inner, model, parameters)
        self.history.names = names_of(parameters)
        self.history.classes = classes_of(batch)
        same = self._same(objective.data)
        halves, size = (None, 0) if same else (self._halves(objective, wide), size_of(objective))
        self._take(step, objective, wide, inner, parts=halves, batch_size=size)

    def _watch(self, n: int, state: Any, key: Any) -> None:
        here = None if key is None else jax.random.fold_in(key, n)
        size = getattr(self.objective, "batch_size", None)
        parts = None if here is None or not size else _drawn(self.objective, here, size)
        inner = state.optimizer_state if isinstance(state, OptimizerState) else state
        parameters = self._map.parameters(state)
        self.history.names, objective = names_of(parameters), self.objective
        if isinstance(self.optimizer, OfTransformation):
            if parts is not None:
                less = on_single_precision(parts.objective, parameters, here)[0]
                parts = Halves(less, parts.sides, parts.size, True)
            objective, parameters = on_single_precision(objective, parameters, here)
        self._take(n, objective, parameters, inner, key=here, parts=parts, batch_size=size or 0)

    def _take(
        self, step: int, objective: Any, parameters: Any, inner: Any, *, key: Any = None, parts: Any = None,
        batch_size: int = 0,
    ) -> None:  # fmt: skip
        """Take a reading of an objective at parameters and an optimiser's state, and judge it.

        `batch_size`: examples a step of the run, 0 where all are taken.
        """
        swing, self.coordinates = oscillation([float(c) for c in self.coordinates]), []
        if not bool(all_finite(parameters)):
            self.history.broke(step)
            return self._tell(judge(self.history))
        wide = self._cold or self._checks is None or len(self.history.steps) % self.wide_every == 0
        before = no_direction(parameters) if self.direction is None else self.direction
        tol = jnp.asarray(self.tol, before.gap.dtype)
        reading, found, checks = reading_at(
            objective, parts, self.optimizer, parameters, inner, key, before, jnp.asarray(step), jnp.asarray(wide), tol,
            self.tol < EXACT_BELOW, no_checks(parameters) if self._checks is None else self._checks,
        )  # fmt: skip
        sound = float(checks.unknown) < 1 and refusal(checks) is None
        self._checks = checks if sound else None
        if not self._has_edge(checks):
            # Nothing has a gradient, which is worth a reading; or moments have no scale yet.
            if not (step > 0 and float(reading.idle) == 1):
                return self.history.note_loss(step, float(reading.loss))
            reading = eqx.tree_at(lambda r: r.ratio, reading, jnp.full_like(reading.ratio, jnp.nan))
        self.direction, self._cold = found, bool(found.cold)
        self.history.add(step, reading, swing, batch_size)
        self._tell(judge(self.history))

    def _has_edge(self, checks: Checks) -> bool:
        """Whether the optimiser answers linearly. It may not yet, while its moments have no scale; in the end it is off."""
        if float(checks.unknown) == 1:
            return False
        why = refusal(checks)
        if why is None:
            self._strikes = 0
            return True
        self._strikes += 1
        if self._strikes >= _PATIENCE and not self.history.steps:
            do = "Lower the learning rate in time instead, and follow sx.curvature(...)."
            raise ValueError(explain("optimizer", why, "an optimiser with an edge", do))
        return False

    def _read_kept(self, _: Any, state: Any) -> None:
        last = self.history.steps[-1] if self.history.steps else -1
        kept = kept_readings(pure(getattr(state, "opt_state", state)), last)
        self.history.names, self.history.knows_losses = kept.names, bool(np.isfinite(kept.losses[0]))
        for step, reading, swing, checks in kept.readings:
            if self._has_edge(checks):
                self.history.add(step, reading, swing, 0)
                self.history.see(kept.losses)
                self._tell(judge(self.history))

    @property
    def _watching(self) -> bool:
        """Whether the run may alternate along the last direction."""
        return self.off is None and self.direction is not None and not self.history.ratios[-1] < _ALTERNATES

    def _halves(self, objective: FunctionObjective, parameters: Any) -> Halves | None:
        """The loss on both halves of a batch; None if it does not take them: a batch need not have an axis of examples."""
        halves = halves_of(objective, _NOISE_EXAMPLES)
        if halves is not None and self._divides is None:
            try:
                jax.eval_shape(lambda x: halves.loss(jax.tree.map(lambda leaf: leaf[0], halves.sides), x), parameters)
                self._divides = True
            except (TypeError, ValueError):
                self._divides = False
        return halves if self._divides else None

    def _same(self, batch: Any) -> bool:
        """Whether the batch is that of the reading before: a run on all its data has no noise."""
        before, self._batch = self._batch, batch
        if before is None:
            return False
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(batch), strict=False)
        return all(old is new for old, new in pairs) or bool(eqx.tree_equal(before, batch))

    def _tell(self, events: list[Event]) -> None:
        for event in self.history.new(events):
            if self.notify is not None:
                self.notify(event)


def _require_edge(optimizer: Any) -> None:
    """Refuse at once what steps along signs, as far as one entry shows it; the rest is seen at the run's own state."""
    try:
        why = _first_refusal(optimizer)
    except Exception:  # a mask, labels, a line search: it cannot be asked like this
        return
    if why is not None:
        do = "Lower the learning rate in time instead. Of a wrapper, pass what it wraps."
        raise ValueError(explain("StabilityMonitor: optimizer", why, "an optimiser with an edge", do))


def _first_refusal(optimizer: Any) -> str | None:
    """Why an optimiser of two parameters has no edge after a step; a method of this family is asked at the run's own."""
    if not isinstance(optimizer, OfTransformation):
        return WHY[SIGNS] if isinstance(optimizer.map, SIGNED) else None
    found = _first_checks(optimizer.transformation)
    return WHY[UNKNOWN] if float(found.unknown) == 1 else refusal(found)


@eqx.filter_jit
def _first_checks(transformation: Any) -> Checks:
    return probed(transformation, jnp.array([1.0, -0.7]), 1).checks


def names_of(parameters: Any) -> list[str]:
    """The path of each array of the parameters."""
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(parameters)]


def _drawn(objective: Any, key: Any, size: int) -> Halves:
    """The loss on two halves of a batch, each drawn by a key that is independent of those the step splits off."""
    count = max(1, size // 2)
    keys = jax.random.split(jax.random.fold_in(key, 1))
    return Halves(dataclasses.replace(objective, batch_size=count), keys, count, True)
