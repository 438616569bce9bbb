"""What training gave."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import is_traced
from separatrix._types import State
from separatrix.systems.map import Map
from separatrix.systems.trajectory import Outcome


class Events(tuple[dict[str, Any], ...]):
    """What happened along a run, in order: `{"event": name, "step": n, ...}`."""

    def __hash__(self) -> int:
        return hash(repr(self))


class Fit(eqx.Module):
    """What training gave; a pytree, so that it goes through `jax.vmap` and `jax.jit` as a trajectory does.

    - `model`: the trained model, in the form of `initial`; where training diverged, the last one that was finite, at which
      the step that broke was tried.
    - `state`: the whole state of the optimiser's map, to go on from.
    - `steps`, shape (R,), and `metrics`, a dictionary of arrays with leading axis R: what was measured, and when. The last
      step is always among them. Rows past a break are NaN.
    - `outcome`: how it ended; `stopped_at` the step that broke, or None. In a batch and while tracing, an array of integers
      with -1 for None. "stopped_early" is an end that was asked for; "interrupted" is not.
    - `map`: the map of the optimiser on the objective, to ask it anything else.
    - `averaged`: the model of the averaged parameters, None without `average`.
    - `best`, `best_step`: the model of the lowest validation (the averaged one, where there is an average) and its step;
      None without `validation`.
    - `events`: what happened: steps skipped, ways back, how it ended before its end.
    """

    model: Any
    state: State
    steps: Any
    metrics: dict[str, Any]
    outcome: Outcome
    stopped_at: Any
    map: Map
    averaged: Any = None
    best: Any = None
    best_step: int | None = None
    events: Events = eqx.field(static=True, default=Events())

    @property
    def losses(self) -> Any:
        """`metrics["loss"]`: shape (R,); (R, players) for a game."""
        return self.metrics["loss"]

    def to_dict(self) -> dict[str, Any]:
        """Return steps, metrics and outcome as plain values."""
        metrics = {name: jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), v) for name, v in self.metrics.items()}
        return {
            "steps": np.asarray(self.steps).tolist(),
            "metrics": metrics,
            "outcome": str(self.outcome),
            "stopped_at": self.stopped_at if self.stopped_at is None else np.asarray(self.stopped_at).tolist(),
            "best_step": self.best_step,
            "events": [dict(event) for event in self.events],
        }

    def __repr__(self) -> str:
        if is_traced(self.outcome, self.metrics):
            return "Fit(traced)"
        if np.ndim(self.outcome.code):
            return f"Fit({self.outcome}; {int(np.max(self.steps))} steps each)"
        stopped = -1 if self.stopped_at is None else int(self.stopped_at)
        kind = str(self.outcome.name).replace("_", " ")
        how = kind if stopped < 0 else f"diverged at step {stopped}"
        measured = np.asarray(self.steps)
        last = -1 if stopped < 0 else max(0, int(np.searchsorted(measured, stopped)) - 1)
        ends = ", ".join(f"{name} {_short(v, 0)} -> {_short(v, last)}" for name, v in self.metrics.items())
        told = f"; {self.outcome.advice}" if self.outcome.advice else ""
        return f"Fit({how}; {measured[-1]} steps; {ends}{told})"


def _short(values: Any, row: int) -> str:
    leaves = jax.tree.leaves(values)
    return ", ".join(f"{float(number):.3g}" for leaf in leaves for number in jnp.ravel(jnp.asarray(leaf)[row])[:2])
