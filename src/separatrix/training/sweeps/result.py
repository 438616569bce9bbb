r"""What a sweep gave: one row a trial, and what can be read off it.

The separatrix of a grid lies between neighbours of different fates. The fate of a trial is its outcome where it did not
complete; else the number that the function returned under "fate"; else "completed".
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from separatrix._errors import explain, unknown
from separatrix.training.sweeps.space import Design
from separatrix.training.sweeps.work import FAILED


@dataclasses.dataclass(frozen=True, eq=False)
class Swept:
    """The trials of a sweep.

    - `table`: name to a column, one entry a trial: "trial", the axes, the numbers that the function returned, "outcome",
      "at" (the step that broke, NaN for none), and "error" (what the trial raised, or an empty text).
    - `axes`, `numbers`: the names of both kinds. `trials`: how many trials there are in all.
    - `shape`: of the grid; None for trials that were drawn. `folder`: where the shards lie; None for nowhere.
    - `notes`: what must be reported: how often workers died, why trials ran one by one.
    """

    table: dict[str, np.ndarray]
    axes: tuple[str, ...]
    logarithmic: tuple[str, ...]
    shape: tuple[int, ...] | None
    trials: int
    folder: Path | None
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of what the function returned."""
        return tuple(name for name in self.table if name not in (*self.axes, "trial", "outcome", "at", "error"))

    @property
    def is_whole(self) -> bool:
        """Whether every trial is there."""
        return len(self.table["trial"]) == self.trials

    @property
    def fates(self) -> np.ndarray:
        """The fate of each trial, as a text."""
        names = np.array([str(name) for name in self.table["outcome"]], object)
        if "fate" not in self.table:
            return names
        own = np.array([f"{number:g}" for number in self.table["fate"]], object)
        return np.where(names == "completed", own, names)

    def __len__(self) -> int:
        return len(self.table["trial"])

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.table:
            raise KeyError(unknown("sweep: column", name, self.table, "Ask for one of these."))
        return self.table[name]

    def best(self, goal: str, *, largest: bool = False) -> dict[str, Any]:
        """The row of the completed trial with the least, or the largest, of a number.

        **Raises:** `ValueError` for a name that is no number, or where no trial completed.
        """
        if goal not in self.numbers:
            raise ValueError(unknown("sweep: best", goal, self.numbers, "Name a number that the function returned."))
        good = (self.table["outcome"] == "completed") & np.isfinite(self.table[goal].astype(float))
        if not good.any():
            do = "Look at the outcomes: sweep.counts()."
            raise ValueError(explain("sweep: best", "no trial that completed", "one at least", do))
        values = np.where(good, self.table[goal].astype(float), -np.inf if largest else np.inf)
        row = int(values.argmax() if largest else values.argmin())
        return {name: _plain(column[row]) for name, column in self.table.items()}

    def counts(self) -> dict[str, int]:
        """How many trials had which fate."""
        names, counts = np.unique(self.fates.astype(str), return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    def boundary(self, x: str, y: str) -> np.ndarray:
        r"""The separatrix of a grid over two axes, as pairs of neighbours with different fates: shape (P, 2, 2).

        Entry [p, 0] is (x, y) of one trial and [p, 1] that of its neighbour; the separatrix passes between them.

        **Raises:** `ValueError` unless the sweep is a whole grid over just these axes.
        """
        if self.shape is None or not self.is_whole or set(self.axes) != {x, y} or x == y:
            got = f"{'a grid' if self.shape else 'trials'} over {', '.join(self.axes)}"
            raise ValueError(
                explain("sweep: boundary", got, f"a whole grid over {x} and {y}", "Sweep these two alone.")
            )
        points = np.stack([self.table[x], self.table[y]], axis=-1).astype(float).reshape(*self.shape, 2)
        fates = self.fates.reshape(self.shape)
        pairs = []
        for one, other in ((np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:])):
            differ = fates[one] != fates[other]
            pairs.append(np.stack([points[one][differ], points[other][differ]], axis=1))
        return np.concatenate(pairs)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values; what is not finite as None."""
        columns = {name: [_plain(value) for value in column] for name, column in self.table.items()}
        return {
            "trials": self.trials, "done": len(self), "axes": list(self.axes), "numbers": list(self.numbers),
            "fates": self.counts(), "notes": list(self.notes), "table": columns,
        }  # fmt: skip

    def __repr__(self) -> str:
        told = ", ".join(f"{name}: {count}" for name, count in self.counts().items())
        part = "" if self.is_whole else f" of {self.trials}"
        return f"Swept({len(self)}{part} trials over {', '.join(self.axes)}; {told})"

    def __str__(self) -> str:
        lines = [repr(self), *(f"note: {note}" for note in self.notes)]
        failed = self.table["outcome"] == FAILED
        if failed.any():
            row = int(failed.argmax())
            lines.append(f"trial {self.table['trial'][row]} raised: {self.table['error'][row]}")
        return "\n".join(lines)


def swept_of(tables: list[dict[str, np.ndarray]], design: Design, folder: Path | None, notes: list[str]) -> Swept:
    """The tables of shards as one, in the order of the trials."""
    names = list(dict.fromkeys(name for table in tables for name in table))
    last = ("outcome", "at", "error")
    names = [name for name in names if name not in last] + list(last)
    columns = {name: np.concatenate([_column(table, name) for table in tables]) for name in names} if tables else {}
    order = np.argsort(columns["trial"], kind="stable") if tables else np.zeros(0, int)
    table = {name: column[order] for name, column in columns.items()}
    table = table or {name: np.zeros(0) for name in ("trial", *design.axes, *last)}
    shape = None
    if design.draw == "grid":
        shape = tuple(len(np.unique(design.columns(np.arange(design.trials))[name])) for name in design.axes)
    logarithmic = tuple(name for name, axis in design.axes.items() if getattr(axis, "log", False))
    return Swept(table, tuple(design.axes), logarithmic, shape, design.trials, folder, tuple(dict.fromkeys(notes)))


def _column(table: dict[str, np.ndarray], name: str) -> np.ndarray:
    return table[name] if name in table else np.full(len(table["trial"]), np.nan)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
