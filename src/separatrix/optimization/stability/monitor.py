r"""`StabilityMonitor`: one line in a training loop.

Every k steps it takes the preconditioned sharpness, warm-started, beside the optimiser's own edge; just before, it watches
the coordinate along the last top direction for a few steps, to see whether the run alternates there. Where batches differ
it also takes the gradients of both halves of one, for the noise scale. Every tenth reading takes the plain sharpness, the
departure from gradient flow, the length of the update, and how fast an alternation would flatten the loss, which says how
high a burst will rise. What it notices it keeps as events; `report` says what they mean.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._tree import all_finite
from separatrix._types import Function
from separatrix.optimization.stability.history import History
from separatrix.optimization.stability.judge import judge
from separatrix.optimization.stability.oscillation import oscillation
from separatrix.optimization.stability.reading import along, nowhere, take
from separatrix.optimization.stability.report import Event, StabilityReport
from separatrix.optimization.stability.watched import Along, OnBatch, OnKey, watched
from separatrix.systems import ranges
from separatrix.systems.objective import Objective, without_objectives
from separatrix.systems.optax_maps import OptimizerState

# Steps just before a reading at which the coordinate along the top direction is noted.
BURST = 8
# Along a direction of ratio r descent multiplies by 1 - 2r, which alternates past a half alone.
_ALTERNATES = 0.5


class StabilityMonitor:
    r"""Watch a training run: its sharpness against its optimiser's own edge, and what follows from it.

    **Arguments:**

    - `loss`, `optimizer`: left out where the monitor goes to `fit(..., monitor=)`, which knows both.
    - `loss`: l(model, batch), l(model, *parts of a batch), or l(model), as the loop has it; a pair (loss, extras) is taken
      by its first. A model of equinox or a tree of arrays; of Flax, a function that puts `nnx.merge` first.
    - `optimizer`: the optax transformation of the loop, or a map of `separatrix.optimization`. Its edge is measured, not
      asked for: learning rates and momenta are not needed.
    - `every`: steps between readings. `wide_every`: readings between those that also take plain sharpness and departure
      from gradient flow.
    - `examples`: of a batch, so many are used for a reading; all by default. Sharpness of fewer is noisier.
    - `tol`: relative accuracy of the sharpness.
    - `notify`: called with each `Event` as it is noticed, as `print`.

    **Raises:** `ValueError` for an interval that leaves no room to watch, or an optimiser without an edge (signs).

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
        self.loss, self.every, self.wide_every, self.examples, self.tol = loss, every, wide_every, examples, tol
        self.notify, self.burst, self.history = notify, BURST, History(every)
        self.optimizer: Any = None
        self.objective: Any = None
        self.direction: Any = None
        self.coordinates: list[Any] = []
        self._batch: Any = None
        self._map: Any = None
        if optimizer is not None:
            self._measure_edge(optimizer)

    def _measure_edge(self, optimizer: Any) -> None:
        self.optimizer = watched(optimizer)
        if not np.isfinite(self.optimizer.edge):
            got = "no linear response to a small gradient"
            do = "Signs have no edge: lower the learning rate in time instead. Of a wrapper, pass what it wraps."
            raise ValueError(explain("StabilityMonitor: optimizer", got, "an optimiser with an edge", do))
        self.history.edge, self.history.growth = float(self.optimizer.edge), float(self.optimizer.linear.growth)

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
        if loss is not None:
            self.history.note_loss(step, loss)
        phase = step % self.every
        if self._watching and (phase == 0 or phase >= self.every - BURST):
            self.coordinates.append(along(self.direction.covector, eqx.filter(model, eqx.is_inexact_array)))
        if phase == 0:
            parameters, rest = eqx.partition(model, eqx.is_inexact_array)
            objective = OnBatch(self.loss, batch or None, rest).first(self.examples)
            parts, size = (None, 0) if self._same(objective.batch) else (objective.parts(), objective.size)
            self.read(step, objective, parameters, optimizer_state, parts=parts, batch_size=size)

    def read(
        self, step: int, objective: Objective, parameters: Any, inner: Any, *, key: Any = None, parts: Any = None,
        batch_size: int = 0,
    ) -> None:  # fmt: skip
        """Take a reading of an objective at parameters and an optimiser's state, and judge it.

        `batch_size`: examples a step of the run, 0 where all are taken.
        """
        swing, self.coordinates = oscillation([float(c) for c in self.coordinates]), []
        if not bool(all_finite(parameters)):
            self.history.broke(step)
            return self._tell(judge(self.history))
        if not (self.direction is not None or bool(self.optimizer.ready(inner, parameters))):
            return None
        wide = self.direction is None or len(self.history.steps) % self.wide_every == 0
        before = nowhere(parameters, self.tol) if self.direction is None else self.direction
        reading, self.direction = take(
            objective, parts, self.optimizer, parameters, inner, key, before, jnp.asarray(step), wide, self.tol
        )
        self.history.add(step, reading, swing, batch_size)
        self._tell(judge(self.history))

    def attach(self, map: Any) -> None:
        """Take loss and optimiser from a map that `fit` runs."""
        if not hasattr(map, "objective"):
            got, do = (
                type(map).__name__,
                "Follow a game by metrics=, or ask linear_stability(sx.games.field(game), players).",
            )
            raise TypeError(explain("StabilityMonitor: map", got, "an optimiser of one loss", do))
        self.objective, self._map = map.objective, without_objectives(map)
        self._measure_edge(map)

    def watch(self, n: int, state: Any, key: Any) -> None:
        """Take a reading of a state that `fit` has reached."""
        here = None if key is None else jax.random.fold_in(key, n)
        size = getattr(self.objective, "batch_size", None)
        parts = None if here is None or not size else tuple(_drawn(self.objective, k, size) for k in _split(here))
        inner = state.optimizer_state if isinstance(state, OptimizerState) else state
        self.read(n, self.objective, self._map.parameters(state), inner, key=here, parts=parts, batch_size=size or 0)

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
        return self.history.report()

    @property
    def _watching(self) -> bool:
        """Whether the run may alternate along the last direction."""
        return self.direction is not None and not self.history.ratios[-1] < _ALTERNATES

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


def _drawn(objective: Any, key: Any, size: int) -> OnKey:
    """The loss on half of a batch that a key draws."""
    count = max(1, size // 2)
    return OnKey(dataclasses.replace(objective, batch_size=count), key, count)


def _split(key: Any) -> Any:
    """Two keys, independent of those that the step itself splits off."""
    return jax.random.split(jax.random.fold_in(key, 1))
