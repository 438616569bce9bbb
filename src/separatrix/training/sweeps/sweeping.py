r"""`sweep`: a function, or a recipe, at every point of a space.

    space -> trials 0, ..., N - 1 -> shards of K -> executor -> shards/*.parquet -> one table

Trials follow from the space and the seed, shards from the numbers of their trials, and a shard's file is there whole or not
at all. So a sweep that is killed goes on with the shards that are missing, and each trial is recorded once.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from separatrix._errors import explain
from separatrix._files import remove_strays, write_whole
from separatrix._types import Checked
from separatrix.systems import ranges
from separatrix.training._fingerprint import digest_of
from separatrix.training.run import Lock, OtherRun, StorageError, fingerprint, make_folder
from separatrix.training.sweeps.executors import Executor, Here
from separatrix.training.sweeps.result import Swept, swept_of
from separatrix.training.sweeps.search import Search, rounds
from separatrix.training.sweeps.space import Design, Range, design_of
from separatrix.training.sweeps.trials import Calls, RecipeTrials, trials_of
from separatrix.training.sweeps.work import Shard, ShardWork, require_parquet, shard_path, table_in

ABOUT = "sweep.json"
_SHARD = 256
_SETTINGS = ("jax_enable_x64", "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


def sweep(
    what: Checked[Any],
    space: Checked[Mapping[str, Any]],
    *,
    trials: Checked[int | None] = None,
    draw: Checked[str | None] = None,
    seed: Checked[int] = 0,
    key: Any = None,
    out: Checked[Any] = None,
    shard: Checked[int | None] = None,
    together: Checked[bool | None] = None,
    executor: Checked[Executor | None] = None,
    search: Checked[Search | None] = None,
    retries: Checked[int] = 3,
    progress: Checked[Callable[[int, int], Any] | None] = None,
) -> Swept:
    r"""Run a function, or train a recipe, at every point of a space.

    **Arguments:**

    - `what`: a function of the names of the space, and of `key` if it has such an argument; or a recipe, whose fields the
      names are. The function returns a number, numbers by name, a `Trajectory` or a `Fit`, or these under a name.
    - `space`: name to values, or to a `Range`. Sequences and ranges with a count make a grid; others are drawn from.
    - `trials`, `draw`, `seed`: how many, "grid", "random" or "sobol", and from which seed.
    - `key`: randomness of the trials. Trial i gets `fold_in(key, i)`, whatever shard it is in.
    - `out`: a folder for the results. The same call goes on with what is there; a recipe needs one, for its runs.
    - `shard`: trials that are computed together and written as one file: 256, or one for a recipe.
    - `together`: True for trials in one compiled `vmap`, where all but floating-point numbers (and whole ones that are no
      shapes) agree; False for one after another; None for the first if the function can be traced, else the second.
    - `executor`: `Here()`, `Pool(workers)`, `Slurm(...)`, `Ray(...)`.
    - `search`: let Optuna choose the trials in place of `draw`: `Search("loss")`.
    - `retries`: how often a shard whose worker died is tried again before its trials count as failed.
    - `progress`: called as progress(done, total) after each shard.

    **Returns:** a `Swept`, a row a trial. A trial that diverges is a result; one that raises is recorded with its error.

    **Raises:** `ValueError` or `TypeError` for a space or a function that does not fit, before anything is run;
    `OtherRun` for a folder of another sweep; `CannotWrite` where the disk refuses: what is finished is kept.

    **Example:** the edge of stability of gradient descent on x^2 / 2 is at 2.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> def descend(learning_rate):
    ...     descent = sx.optimization.GradientDescent(sx.as_objective(lambda x: x**2 / 2), learning_rate)
    ...     return sx.evolve(descent, jnp.array(1e30, jnp.float32), steps=100, save="last")
    >>> found = sx.sweep(descend, {"learning_rate": [0.5, 1.5, 2.5, 3.5]})
    >>> found["outcome"].tolist()
    ['completed', 'completed', 'non_finite', 'non_finite']
    """
    design = design_of(space, trials, draw, seed)
    trial = trials_of(what, list(design.axes))
    executor = Here() if executor is None else executor
    _check(executor, trial, out, key, progress)
    ranges.whole("sweep: retries", retries, "Take 3.", least=0)
    usual = 1 if isinstance(trial, RecipeTrials) else _SHARD
    size = min(ranges.whole("sweep: shard", usual if shard is None else shard, "Take 256."), design.trials)
    folder = None if out is None else Path(out)
    data = None if key is None else np.asarray(jax.random.key_data(key))
    settings = {name: getattr(jax.config, name) for name in _SETTINGS}
    work = ShardWork(trial, size, data, folder, together, settings)
    course = _Course(work, design, executor, retries, progress)
    if search is not None:
        _require_search(search, design, folder)
    if folder is None:
        return course.in_memory() if search is None else course.searched(search)
    about = {"design": design.plain(), "shard": size, "trial": _identity(trial), "key": digest_of(data)}
    about |= {"search": None if search is None else search.plain()}
    with _taken(folder, about):
        return course.on_disk() if search is None else course.searched(search)


def read_sweep(folder: Any) -> Swept:
    """What a sweep's folder holds, whether it is finished, goes on, or was killed.

    **Raises:** `StorageError` where there is none.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        design = _design(about["design"])
        size, count = int(about["shard"]), design.trials
    except (OSError, ValueError, KeyError, TypeError) as error:
        do = "Name the folder that a sweep made."
        raise StorageError(
            explain(f"{folder}", "no sweep.json that can be read", "the folder of a sweep", do)
        ) from error
    found = [table_in(shard_path(folder, number)) for number in range(math.ceil(count / size))]
    there = [one for one in found if one is not None]
    return swept_of([table for table, _ in there], design, folder, [note for _, note in there if note])


def is_sweep(folder: Any) -> bool:
    """Whether a folder is that of a sweep."""
    return (Path(folder) / ABOUT).is_file()


class _Course:
    """A sweep under way."""

    def __init__(self, work: ShardWork, design: Design, executor: Executor, retries: int, progress: Any) -> None:
        self._work, self._design, self._executor = work, design, executor
        self._retries, self._progress = retries, progress
        self._notes: list[str] = []

    def shards(self) -> list[Shard]:
        """All shards, in order."""
        size, count = self._work.size, self._design.trials
        every = self._design.columns(np.arange(count))
        return [
            Shard(i, np.arange(at, min(at + size, count)), {name: v[at : at + size] for name, v in every.items()})
            for i, at in enumerate(range(0, count, size))
        ]

    def in_memory(self) -> Swept:
        """All trials in this process, nothing written."""
        shards, tables = self.shards(), []
        for shard in shards:
            table, note = self._work.table(shard)
            tables.append(table)
            self._notes += [note] if note else []
            self._say(len(tables), len(shards))
        return swept_of(tables, self._design, None, self._notes)

    def on_disk(self) -> Swept:
        """The shards that are missing, in a folder; then all of them, read back."""
        shards, folder = self.shards(), self._work.folder
        assert folder is not None
        missing = [shard for shard in shards if not _is_there(folder, shard)]
        self._carry_out(missing, len(shards))
        found = read_sweep(folder)
        return swept_of([found.table], self._design, folder, [*found.notes, *self._notes])

    def searched(self, search: Search) -> Swept:
        """Shards whose trials Optuna chooses, each after those before it."""
        folder, tables = self._work.folder, []
        total = math.ceil(self._design.trials / self._work.size)
        for shard in rounds(search, self._design, self._work.size, tables):
            there = None if folder is None else table_in(shard_path(folder, shard.number))
            if there is None and folder is None:
                there = self._work.table(shard)
            elif there is None and folder is not None:
                self._carry_out([shard], total)
                there = table_in(shard_path(folder, shard.number))
            assert there is not None
            tables.append(there[0])
            self._say(len(tables), total)
        return swept_of(tables, self._design, folder, self._notes)

    def _carry_out(self, missing: list[Shard], total: int) -> None:
        deaths: dict[int, int] = {}
        done = total - len(missing)
        self._say(done, total)
        while missing:
            again = []
            for shard, why in self._executor.carry_out(self._work, missing):
                if why is None:
                    done += 1
                    self._say(done, total)
                    continue
                deaths[shard.number] = deaths.get(shard.number, 0) + 1
                if deaths[shard.number] <= self._retries:
                    again.append(shard)
                    continue
                self._work.write(shard, self._work.lost(shard, f"{why}, {deaths[shard.number]} times"), "")
                done += 1
            missing = again
        if deaths:
            self._notes.append(f"workers died {sum(deaths.values())} times; their shards were computed again")

    def _say(self, done: int, total: int) -> None:
        if self._progress is not None:
            trials = min(done * self._work.size, self._design.trials) if done < total else self._design.trials
            self._progress(trials, self._design.trials)


def _check(executor: Any, trial: Calls | RecipeTrials, out: Any, key: Any, progress: Any) -> None:
    if not callable(getattr(executor, "carry_out", None)):
        do = "Pass Here(), Pool(4), Slurm(...) or Ray(...)."
        raise TypeError(explain("sweep: executor", type(executor).__name__, "an executor", do))
    if out is None and (isinstance(trial, RecipeTrials) or not isinstance(executor, Here)):
        what = "a recipe" if isinstance(trial, RecipeTrials) else "another executor than Here()"
        raise ValueError(explain("sweep: out", f"none, with {what}", "a folder for the results", "Pass out=FOLDER."))
    if isinstance(trial, RecipeTrials) and key is not None:
        do = 'Put "seed" into the space.'
        raise ValueError(explain("sweep: key", "a key, with a recipe", "the recipe's own seed", do))
    if isinstance(trial, Calls) and trial.keyed and key is None:
        raise ValueError(
            explain("sweep: key", "None", "a key, which the function takes", "Pass key=jax.random.key(0).")
        )
    if isinstance(trial, Calls) and not trial.keyed and key is not None:
        do = "Leave it out, or give the function an argument `key`."
        raise ValueError(explain("sweep: key", "a key", "none: the function takes none", do))
    if progress is not None and not callable(progress):
        do = "Pass progress(done, total)."
        raise TypeError(explain("sweep: progress", type(progress).__name__, "a function", do))


def _require_search(search: Any, design: Design, folder: Path | None) -> None:
    if not isinstance(search, Search):
        raise TypeError(explain("sweep: search", type(search).__name__, "a Search", 'Pass Search("loss").'))
    if design.draw == "grid":
        do = "Say trials=100."
        raise ValueError(explain("sweep: trials", "none, with a search", "how many trials", do))


def _is_there(folder: Path, shard: Shard) -> bool:
    found = table_in(shard_path(folder, shard.number))
    return found is not None and np.array_equal(found[0]["trial"], shard.trials)


def _identity(trial: Calls | RecipeTrials) -> dict[str, Any]:
    if isinstance(trial, RecipeTrials):
        return {"recipe": trial.recipe, "spec": dict(trial.spec)}
    name = getattr(trial.function, "__qualname__", type(trial.function).__name__)
    return {"function": name, "digest": digest_of(trial.function)}


@contextlib.contextmanager
def _taken(folder: Path, about: dict[str, Any]) -> Iterator[None]:
    """Hold a sweep's folder, which is new, or of this very sweep.

    **Raises:** `OtherRun`, `RunLocked`, `CannotWrite`.
    """
    require_parquet()
    place = folder / ABOUT
    if folder.is_dir() and not place.exists() and any(entry.name != "lock" for entry in folder.iterdir()):
        do = "Choose another folder."
        raise StorageError(explain(f"{folder}", "a folder that holds something else", "a new or empty one", do))
    make_folder(folder / "shards")
    lock = Lock(folder / "lock")
    try:
        if place.exists():
            _require_same(folder, place, about)
        else:
            write_whole(place, json.dumps(about | {"fingerprint": fingerprint(about)}, indent=1) + "\n")
        for path in (folder / "shards").glob(".*.tmp"):
            remove_strays(path.with_name(path.name[1:].partition(".parquet")[0] + ".parquet"))
        yield
    finally:
        lock.release()


def _require_same(folder: Path, place: Path, about: dict[str, Any]) -> None:
    try:
        before = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if before.get("fingerprint") == fingerprint(about):
        return
    differs = [name for name in about if before.get(name) != about[name]]
    do = "Make the call that made it, or give another folder."
    got = f"a sweep with another {' and '.join(differs) or 'call'}"
    raise OtherRun(explain(f"sweep: {folder}", got, "the sweep of this call", do))


def _design(plain: Mapping[str, Any]) -> Design:
    axes = {name: Range(**axis) if isinstance(axis, dict) else np.array(axis) for name, axis in plain["space"].items()}
    return Design(axes, plain["draw"], int(plain["trials"]), int(plain["seed"]))
