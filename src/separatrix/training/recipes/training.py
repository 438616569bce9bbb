r"""What all recipes share: where the data lies, how long training takes, and going on with a run.

    settled recipe  ->  task  ->  fit(..., run=folder)  ->  results.json beside the checkpoints

The folder holds everything: name and fields of the recipe, metrics, events, checkpoints, and at the end the results on
the part for testing. A run that was stopped or killed goes on from there, with the fields it was begun with.
"""

import abc
import dataclasses
import io
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from separatrix._errors import Diverged, SeparatrixError, explain
from separatrix._files import remove_strays, write_whole
from separatrix.data import read_npy
from separatrix.data.loading import both_there, named_set
from separatrix.systems.trajectory import OutcomeKind
from separatrix.training._devices import by_the_first, is_follower
from separatrix.training.averaging import PowerAverage
from separatrix.training.fitting import fit
from separatrix.training.recipes.recipe import Task, recipe_from, recipe_name, spec_of
from separatrix.training.recipes.strip import Strip
from separatrix.training.run import Run

RESULTS = "results.json"
_WATCHED = 2_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(abc.ABC):
    """The fields that every recipe has."""

    data: Path
    """The file or folder to learn from, or the name of a data set of `separatrix data list`; ./NAME is a folder."""
    epochs: int = 50
    """How often every example is used, if `steps` is not given."""
    steps: int | None = None
    """How many steps to take."""
    batch_size: int = 64
    """Examples a step; all, where there are fewer."""
    learning_rate: float = 1e-3
    """Of Adam."""
    patience: int | None = None
    """Stop after so many measurements without a lower validation loss; a run has a hundred."""
    seed: int = 0
    """Decides the split, the first weights and the batches."""
    average: float | None = None
    """Keep an average of the weights, a <- d a + (1 - d) w with this d, such as 0.999: the model is that."""
    average_width: float | None = None
    """The same with a memory that grows with the run: its relative width, such as 0.1. A given `average` goes before it."""
    watch: int | None = None
    """Steps between readings of the sharpness; 0 for none. A hundredth of a run of 2,000 steps or more by default."""
    save_every: int | None = None
    """Steps between checkpoints; about every five seconds by default."""
    on_disk: bool = False
    """Keep the examples in files of the run and read batches from there, for a device that does not hold them all."""
    digest: str = ""
    """Settled from the data: its SHA-256, so that a run goes on with the data it began with."""

    @abc.abstractmethod
    def settled(self) -> "Training":
        """The recipe with what it learns from the data in its fields."""

    @abc.abstractmethod
    def task(self) -> Task:
        """What to train."""

    @abc.abstractmethod
    def model(self, key: Any) -> Any:
        """A new model of a settled recipe."""

    @abc.abstractmethod
    def results(self, model: Any) -> dict[str, Any]:
        """What a model does on the part for testing."""

    def template(self) -> Any:
        """The form of a model of a settled recipe."""
        return eqx.filter_eval_shape(self.model, jax.random.key(0))

    def resume(self, run: Run, **options: Any) -> Run:
        """Go on with a run of this recipe, to its end."""
        taken = by_the_first(lambda: Run.reopen(run.path), run.path)
        asked = {name: options.pop(name, None) for name in ("monitor", "progress", "tracker")}
        return _carried_out(self, self.task(), taken, **asked)


class Stopped(SeparatrixError):
    """Somebody asked to stop; what there is was saved."""

    exit_code: int = 130


def train(recipe: Any, path: Any, *, monitor: Any = None, progress: Any = None, tracker: Any = None) -> Run:
    """Settle a recipe, make the folder of its run, and carry it out.

    **Arguments:**

    - `recipe`: as `recipe_from` gives it. `path`: a new or empty folder.
    - `monitor`: the class `StabilityMonitor`, for runs that are watched. `progress`, `tracker`: as `fit` has them.

    **Returns:** the run, with its results.

    **Raises:** as the readers, for data that cannot be used; `ValueError` for a bare name that is a data set and a folder
    or file here too; `StorageError` for a folder that cannot be; `Diverged`; `Stopped` after Ctrl-C.
    """
    require_counts(recipe)
    if (both := both_there(getattr(recipe, "data", None))) is not None:
        raise ValueError(both)
    settled = recipe.settled()
    if hasattr(settled, "data") and named_set(settled.data) is None:
        settled = dataclasses.replace(settled, data=settled.data.absolute())  # so that it goes on from any folder
    task = settled.task()
    _require_batches(settled, task)
    run = by_the_first(lambda: Run.create(path, recipe=recipe_name(settled), spec=spec_of(settled)), path)
    try:
        return _carried_out(settled, task, run, monitor, progress, tracker)
    except (ValueError, TypeError):
        run.close()
        if not run.checkpoints and not len(run.steps):
            _discard(run.path)  # what was asked cannot be: nothing was begun
        raise


def _require_batches(recipe: Any, task: Task) -> None:
    """Refuse to keep examples on disk where every step takes them all, or where several processes would write them."""
    if recipe.on_disk and jax.process_count() > 1:
        got, do = "true, in one of several processes", "Leave it out."
        raise ValueError(explain(f"{recipe_name(recipe)}: on_disk", got, "false there", do))
    if recipe.on_disk and task.options.get("batch_size") is None:
        got, do = "true, with all examples in every step", "Give a smaller batch_size, or leave it out."
        raise ValueError(explain(f"{recipe_name(recipe)}: on_disk", got, "steps that take a part of them", do))


def _discard(path: Path) -> None:
    """Take away what a new run has left in its folder."""
    for entry in path.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _carried_out(recipe: Any, task: Task, run: Run, monitor: Any, progress: Any, tracker: Any) -> Run:
    """Carry out a run that is open for writing, from where it stands, and note its results."""
    path, steps = run.path, steps_of(recipe, len(jax.tree.leaves(task.data)[0]))
    devices = "all" if jax.process_count() > 1 else None
    if devices is not None:
        monitor = None  # it reads the model in programs of its own, which others would not take part in
    every, data = watched_every(recipe, steps), _on_disk(task.data, path) if recipe.on_disk else task.data
    options = {"average": average_of(recipe), "save_every": recipe.save_every} | dict(task.options)
    if task.drawn is not None and devices is None:
        options["callback"] = Strip(task.drawn, path, steps)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fit: training diverged", category=RuntimeWarning)  # said below
        found = fit(
            task.objective, task.optimizer, data, initial=task.initial, run=run, key=jax.random.key(recipe.seed),
            monitor=None if monitor is None or every is None else monitor(every=every), progress=progress,
            tracker=tracker, devices=devices, **options,
        )  # fmt: skip
    if found.stopped_at is not None:
        got = f"a loss or a step that is not finite at step {found.stopped_at} of {steps}"
        do = f"Train again with a lower learning rate (it was {recipe.learning_rate:g}). See: separatrix show {path}"
        raise Diverged(explain(f"{path}: training diverged", got, "finite numbers to the end", do))
    if int(found.outcome.code) == OutcomeKind.INTERRUPTED:
        done = Run.open(path)
        at = done.checkpoints[-1] if done.checkpoints else 0
        raise Stopped(f"interrupted; {path} is saved at step {at} of {steps}\n  Go on: separatrix resume {path}")
    averaged = found.model if found.averaged is None else found.averaged
    chosen = averaged if found.best is None else found.best
    results = recipe.results(chosen) | {"notes": list(task.notes), "best_step": found.best_step}
    if not is_follower():
        write_whole(path / RESULTS, json.dumps(results, allow_nan=False) + "\n")
    return Run.open(path)


def _on_disk(data: Any, path: Path) -> Any:
    """Arrays as files of a run, mapped into memory; written anew, so that they are whole."""
    home = path / "examples"
    home.mkdir(exist_ok=True)
    leaves, form = jax.tree.flatten(data)
    mapped = []
    for number, leaf in enumerate(leaves):
        place, content = home / f"{number}.npy", io.BytesIO()
        remove_strays(place)
        np.save(content, np.asarray(leaf))
        write_whole(place, content.getbuffer())
        mapped.append(read_npy(place, mmap=True))
    return jax.tree.unflatten(form, mapped)


def watched_every(recipe: Any, steps: int) -> int | None:
    """Steps between two readings of a run; None for one that is not watched."""
    if recipe.watch is None:
        # Compiling the readings takes as long as some thousand steps of a small network.
        return max(20, steps // 100) if steps >= _WATCHED else None
    return recipe.watch or None


def results_of(run: Run) -> dict[str, Any] | None:
    """What `train` noted when a run was at its end; None before."""
    path = run.path / RESULTS
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"test", "notes"} <= set(found) else None


def recipe_of(run: Run) -> Any:
    """The recipe of a run, as it was settled.

    **Raises:** `ValueError` for a run that no recipe made.
    """
    if run.recipe is None:
        do = "Open it in Python: sx.Run.open(path).model_like(template)."
        raise ValueError(explain(str(run.path), "a run without a recipe", "one that `separatrix train` made", do))
    return _found_again(recipe_from(run.recipe, run.spec), run.path)


def _found_again(recipe: Any, home: Path) -> Any:
    """The recipe with its data where they are: with a project that was moved as a whole, or begun in another folder.

    What is found is known to be the same by its digest, when it is read.
    """
    data = getattr(recipe, "data", None)
    if data is None or named_set(data) is not None or data.exists():
        return recipe
    inside = data.parts[1:] if data.is_absolute() else data.parts
    places = (above.joinpath(*inside[at:]) for at in range(len(inside)) for above in home.absolute().parents)
    there = next((place for place in places if place.exists()), None)
    return recipe if there is None else dataclasses.replace(recipe, data=there)


def require_counts(recipe: Any) -> None:
    """Refuse a recipe whose numbers can mean nothing, before its data is read."""
    for name in ("epochs", "steps", "batch_size", "patience", "save_every", "width", "depth", "length"):
        value = getattr(recipe, name, None)
        if value is not None and value < 1:
            raise ValueError(explain(f"{recipe_name(recipe)}: {name}", value, "at least 1", "Repair the value."))
    if not 0 < recipe.learning_rate < 10:
        do = "Take 0.001."
        raise ValueError(explain(f"{recipe_name(recipe)}: learning_rate", recipe.learning_rate, "0 to 10", do))
    if recipe.average is not None and not 0 <= recipe.average < 1:
        do = "Take 0.999, or leave it out."
        raise ValueError(explain(f"{recipe_name(recipe)}: average", recipe.average, "0 or more, and below 1", do))
    average_of(recipe)
    if not 0 <= recipe.seed < 2**31:
        raise ValueError(explain(f"{recipe_name(recipe)}: seed", recipe.seed, "0 to 2^31", "Take 0."))


def average_of(recipe: Any) -> Any:
    """The average that `fit` is asked for; None for none."""
    width = getattr(recipe, "average_width", None)
    plain = getattr(recipe, "average", None)
    return PowerAverage(width) if plain is None and width is not None else plain


def require_same_data(recipe: Any, digest: str) -> None:
    """Refuse data that are not those that the recipe was settled on."""
    if recipe.digest and recipe.digest != digest:
        do = "Put the old file back, or train a new run on the new one."
        got = f"data of SHA-256 {digest[:12]}..."
        raise ValueError(explain(str(recipe.data), got, f"{recipe.digest[:12]}..., with which the run began", do))


def validated_by(recipe: Any, held: Any) -> dict[str, Any]:
    """What `fit` is told of validation; `held` is the part for it, or None.

    **Raises:** `ValueError` for patience without one.
    """
    if held is None and recipe.patience is not None:
        do = "Leave it out, or give a part for validation."
        where = f"{recipe_name(recipe)}: patience"
        raise ValueError(explain(where, recipe.patience, "none: no part of the data validates", do))
    return {} if held is None else {"validation": held, "patience": recipe.patience}


def length_of(recipe: Any) -> dict[str, Any]:
    """The length of a run as `fit` has it. Batches are of shuffled epochs, whatever says how many."""
    return {"epochs": recipe.epochs} if recipe.steps is None else {"steps": recipe.steps, "draw": "epochs"}


def steps_of(recipe: Any, examples: int) -> int:
    """How many steps a run takes."""
    return (
        recipe.steps if recipe.steps is not None else recipe.epochs * -(-examples // min(recipe.batch_size, examples))
    )


def model_in(run: Run) -> Any:
    """The model of a run that a recipe made.

    That of the lowest validation loss where there is one, else the averaged one, else the last.
    """
    template = recipe_of(run).template()
    if (run.path / "best.safetensors").exists():
        return run.model_like(template, named="best")
    averaged = average_of(recipe_of(run))
    return run.load(template, at="averaged").tree if averaged is not None else run.model_like(template)
