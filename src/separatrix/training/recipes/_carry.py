"""A task in the folder of a run: for now in pieces."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from separatrix._errors import SeparatrixError
from separatrix.training.fit import fit, parameters_of
from separatrix.training.recipes.recipe import Task
from separatrix.training.run import Run, stop_asked


class Stopped(SeparatrixError):
    """Somebody asked to stop; what there is was saved."""


class _Keeper:
    def __init__(self, run: Run, task: Task, rest: Any, monitor: Any, progress: Any, stop: Any, total: int) -> None:
        self.run, self.task, self.rest, self.inner, self.progress, self.stop = run, task, rest, monitor, progress, stop
        self.total = total
        self.every = monitor.every if monitor else max(1, total // 100)
        self.burst = monitor.burst if monitor else 0
        self.metrics = {n: eqx.filter_jit(f) for n, f in task.options.get("metrics", {}).items()}
        self.loss = None
        self.seen = 0

    @property
    def coordinate(self):
        return self.inner.coordinate if self.inner else None

    def attach(self, map):
        self.map = map
        self.loss = eqx.filter_jit(lambda p: map.objective(p, key=jax.random.key(0)))
        if self.inner:
            self.inner.attach(map)

    def note(self, values):
        self.inner.note(values)

    def watch(self, n, state, key):
        row = {}
        if self.inner:
            self.inner.watch(n, state, key)
            h = self.inner.history
            if h.steps and h.steps[-1] == n:
                row = {"sharpness_over_edge": h.ratios[-1], "sharpness": h.sharpness[-1]}
            for event in h.events[self.seen :]:
                found = event.finding
                self.run.event(
                    "noticed", step=int(event.step), kind=event.kind, name=found.name, evidence=found.evidence,
                    relation=found.relation, threshold=found.threshold, cause=found.cause, remedy=found.remedy,
                )  # fmt: skip
            self.seen = len(h.events)
        model = eqx.combine(parameters_of(state), self.rest)
        row |= {"loss": self.loss(parameters_of(state))} | {k: f(model) for k, f in self.metrics.items()}
        self.run.log(n, row)
        if self.progress:
            self.progress(n, self.total, row)
        self.run.save(n, {"model": model, "state": state})
        if self.stop.asked:
            raise Stopped


def carry(task: Task, path: Any, *, monitor: Any = None, progress: Any = None) -> Any:
    total = task.options["steps"]
    with Run.reopen(Path(path)) as run, stop_asked() as stop:
        rest = eqx.partition(task.initial, eqx.is_inexact_array)[1]
        keeper = _Keeper(run, task, rest, monitor, progress, stop, total)
        options = dict(key=jax.random.key(0), batch_size=task.options.get("batch_size"))
        first = fit(task.objective, task.optimizer, task.data, initial=task.initial, steps=0, **options)
        saved = run.restore({"model": task.initial, "state": first.state})
        start, state = (0, None) if saved is None else (saved.step, saved.tree["state"])
        found = fit(task.objective, task.optimizer, task.data, initial=task.initial, steps=total - start, start=start,
                    state=state, monitor=keeper, throw=True, **options)  # fmt: skip
    return found.model
