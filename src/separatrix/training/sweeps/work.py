r"""A shard: some trials in a row, computed together, and written as one file.

    numbers, points -> groups of one shape -> vmap, compiled once -> a table -> shards/00007.parquet, by rename

The unit of work is the shard, not the trial: one compiled call takes hundreds. A shard follows from its numbers alone, so
computing it twice does no harm: it is written whole under its final name or not at all.
"""

import dataclasses
import io
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import explain
from separatrix._files import write_whole
from separatrix.systems.trajectory import OutcomeKind
from separatrix.training.recipes import Stopped
from separatrix.training.run import CannotWrite, StorageError
from separatrix.training.sweeps.trials import AT, CODE, NOWHERE, Calls, RecipeTrials

FAILED = "failed"
_NAMES = [kind.name.lower() for kind in OutcomeKind]
_BROKEN = _NAMES.index("non_finite")
Table = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """Trials in a row: the number of the shard, those of its trials, and their values by name."""

    number: int
    trials: np.ndarray
    points: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class ShardWork:
    """What is done with a shard, in this process or another.

    - `trial`: what one trial is. `size`: trials a shard. `key`: data of the random key, None without.
    - `folder`: where results go; None for nowhere. `together`: whether trials become one compiled call; None: if they can.
    - `settings`: JAX's settings where the sweep was begun, which another process has to take over.
    """

    trial: Calls | RecipeTrials
    size: int
    key: np.ndarray | None
    folder: Path | None
    together: bool | None
    settings: dict[str, Any]
    programs: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"programs": {}}

    def __call__(self, shard: Shard) -> None:
        """Compute a shard and write its file."""
        for name, value in self.settings.items():
            jax.config.update(name, value)
        self.write(shard, *self.table(shard))

    def checkpoint(self, shard: Shard) -> Any:
        """What SLURM does with a shard whose job it takes off the machine: it is asked for again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, shard)

    def write(self, shard: Shard, table: Table, note: str) -> None:
        """Write the table of a shard under its final name, by rename.

        **Raises:** `CannotWrite`.
        """
        assert self.folder is not None
        path = shard_path(self.folder, shard.number)
        try:
            write_whole(path, parquet_of(table, note))
        except OSError as error:
            do = "Free some space, or check that the folder may be written. What is finished is kept; then ask again."
            got = (error.strerror or str(error)).lower()
            raise CannotWrite(explain(f"{path}: cannot be written", got, "a disk that takes it", do)) from error

    def lost(self, shard: Shard, why: str) -> Table:
        """The table of a shard that could not be computed."""
        count = len(shard.trials)
        return self._table(
            shard, {}, np.full(count, FAILED, object), np.full(count, NOWHERE), np.full(count, why, object)
        )

    def table(self, shard: Shard) -> tuple[Table, str]:
        """The results of a shard, and a note of how they were computed."""
        why, levels = "", self._levels(shard)
        if self.together is not False and self.trial.can_be_traced:
            for traced in levels:
                try:
                    return self._together(shard, traced), ""
                except StorageError:
                    raise
                except Exception as error:
                    if self.together and traced == levels[-1]:
                        raise
                    why = why or f"trials ran one by one: {_first_line(error).partition('. ')[0][:160]}"
        return self._apart(shard), why

    def _levels(self, shard: Shard) -> list[tuple[str, ...]]:
        """Which values are traced: all numbers, or, where whole numbers are shapes, floating-point ones alone."""
        kinds = {name: values.dtype.kind for name, values in shard.points.items()}
        numbers = tuple(name for name, kind in kinds.items() if kind in "fiu")
        floats = tuple(name for name, kind in kinds.items() if kind == "f")
        return list(dict.fromkeys([numbers, floats]))

    def _together(self, shard: Shard, traced: tuple[str, ...]) -> Table:
        """Trials that differ in traced values alone are one compiled call."""
        fixed = [name for name in shard.points if name not in traced]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i in range(len(shard.trials)):
            groups.setdefault(tuple(shard.points[name][i] for name in fixed), []).append(i)
        parts = []
        for values, places in groups.items():
            size = self.size if len(groups) == 1 else 1 << (len(places) - 1).bit_length()
            padded = np.array(places + places[-1:] * (size - len(places)))
            program = self._program(dict(zip(fixed, values, strict=True)), traced)
            points = {name: jnp.asarray(shard.points[name][padded]) for name in traced}
            found = program(points, jnp.asarray(shard.trials[padded]), self._key())
            parts.append((places, {name: np.asarray(leaf)[: len(places)] for name, leaf in found.items()}))
        numbers = {name: np.full(len(shard.trials), np.nan) for name in dict.fromkeys(n for _, f in parts for n in f)}
        for places, found in parts:
            for name, values in found.items():
                numbers[name][places] = values
        codes = numbers.pop(CODE).astype(int)
        at, names = numbers.pop(AT), np.array(_NAMES, object)
        return self._table(shard, numbers, names[codes], at, np.full(len(codes), "", object))

    def _program(self, fixed: dict[str, Any], traced: tuple[str, ...]) -> Any:
        place = (*sorted(fixed.items()), traced)
        if place not in self.programs:
            plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in fixed.items()}

            def one(point: Any, number: Any, key: Any) -> Any:
                return self.trial(plain | point, number, key, None)

            self.programs[place] = eqx.filter_jit(
                lambda points, numbers, key: jax.vmap(one, (0, 0, None))(points, numbers, key)
            )
        return self.programs[place]

    def _apart(self, shard: Shard) -> Table:
        """One trial after another; what one raises is recorded with it."""
        found, codes, ats, errors = [], [], [], []
        home = None if self.folder is None else self.folder / "runs"
        for i, number in enumerate(shard.trials):
            point = {name: values[i].item() for name, values in shard.points.items()}
            try:
                one = dict(self.trial(point, int(number), self._key(), home))
                if int(one[CODE]) == OutcomeKind.INTERRUPTED:
                    raise KeyboardInterrupt  # of a `fit`, which takes it for itself: the trial is not done
                code, at, error = _NAMES[int(one.pop(CODE))], float(one.pop(AT)), ""
            except (StorageError, Stopped):
                raise
            except Exception as caught:
                one, code, at, error = {}, FAILED, NOWHERE, _first_line(caught)
            found.append({name: float(value) for name, value in one.items()})
            codes.append(code)
            ats.append(at)
            errors.append(error)
        names = dict.fromkeys(name for one in found for name in one)
        numbers = {name: np.array([one.get(name, np.nan) for one in found]) for name in names}
        return self._table(shard, numbers, np.array(codes, object), np.array(ats), np.array(errors, object))

    def _table(self, shard: Shard, numbers: Table, outcomes: np.ndarray, at: np.ndarray, errors: np.ndarray) -> Table:
        """Trials, points, numbers, and how each ended; what is not finite did not complete."""
        bad = np.zeros(len(shard.trials), bool)
        for values in numbers.values():
            bad |= ~np.isfinite(values.astype(float))
        outcomes = np.where(bad & (outcomes == _NAMES[0]), _NAMES[_BROKEN], outcomes)
        at = np.where(at < 0, np.nan, at)
        clash = sorted(set(numbers) & set(shard.points))
        numbers = {(f"{name}_found" if name in clash else name): values for name, values in numbers.items()}
        return {"trial": shard.trials} | shard.points | numbers | {"outcome": outcomes, "at": at, "error": errors}

    def _key(self) -> Any:
        return None if self.key is None else jax.random.wrap_key_data(jnp.asarray(self.key))


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


def shard_path(folder: Path, number: int) -> Path:
    """Where the file of a shard lies."""
    return folder / "shards" / f"{number:05d}.parquet"


def parquet_of(table: Table, note: str) -> bytes:
    """A table as the bytes of a Parquet file, with a checksum a page."""
    pyarrow, parquet = require_parquet()
    made = pyarrow.table({name: pyarrow.array(list(v) if v.dtype == object else v) for name, v in table.items()})
    made = made.replace_schema_metadata({"note": note})
    sink = io.BytesIO()
    parquet.write_table(made, sink, write_page_checksum=True)
    return sink.getvalue()


def table_in(path: Path) -> tuple[Table, str] | None:
    """The table of a file and its note; None for one that is not there, or is not whole."""
    pyarrow, parquet = require_parquet()
    if not path.exists():
        return None
    try:
        found = parquet.read_table(path, page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError, ValueError):
        return None
    note = (found.schema.metadata or {}).get(b"note", b"").decode("utf-8", "replace")
    return {name: found.column(name).to_numpy() for name in found.column_names}, note


def require_parquet() -> tuple[Any, Any]:
    """pyarrow and its Parquet part.

    **Raises:** `StorageError` where they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        do = 'Type: pip install "separatrix[data]"'
        raise StorageError(
            explain("sweep: out", "no package pyarrow", "pyarrow, to write Parquet files", do)
        ) from error
    return pyarrow, pyarrow.parquet
