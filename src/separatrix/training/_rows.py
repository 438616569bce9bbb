"""What was measured along a run: rows by step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from separatrix._tree import is_inexact


class Rows:
    """Rows of one form, by the step after which they were measured. `validation` has a value for some of them."""

    def __init__(self, validated: bool) -> None:
        self.steps: list[int] = []
        self.rows: list[Any] = []
        self.validation: dict[int, float] | None = {} if validated else None

    def add(self, step: int, row: Any) -> None:
        """Add a row of NumPy arrays; one that is there already is replaced."""
        if self.steps and self.steps[-1] == step:
            self.steps.pop()
            self.rows.pop()
        self.steps.append(step)
        self.rows.append(row)

    def add_piece(self, origin: int, every: int, before: int, piece: Any) -> list[int]:
        """Add the rows of a piece that began at step `before`; return their steps."""
        first = origin + ((before - origin) // every + 1) * every
        numbers = [first + i * every for i in range(piece.kept)]
        rows = jax.tree.map(lambda leaf: np.asarray(leaf[: piece.kept]), piece.rows) if numbers else None
        for i, number in enumerate(numbers):
            self.add(number, jax.tree.map(lambda leaf, i=i: leaf[i], rows))
        return numbers

    def named(self, i: int) -> dict[str, Any]:
        """Row i, with the validation where there is one."""
        step = self.steps[i]
        if self.validation is None or step not in self.validation:
            return dict(self.rows[i])
        return dict(self.rows[i]) | {"validation": self.validation[step]}

    def forget(self, after: int) -> None:
        """Leave out what was measured after a step."""
        while self.steps and self.steps[-1] > after:
            self.steps.pop()
            self.rows.pop()
        if self.validation is not None:
            self.validation = {step: value for step, value in self.validation.items() if step <= after}

    def blank(self, numbers: Any) -> None:
        """Add rows of NaN for the steps that were not reached."""
        gap = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan) if is_inexact(leaf) else leaf, self.rows[0])
        for number in numbers:
            if number > self.steps[-1]:
                self.add(int(number), gap)

    def arrays(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Steps, and by name arrays with a leading axis of rows."""
        metrics = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *self.rows)
        if self.validation is not None:
            values = [self.validation.get(step, np.nan) for step in self.steps]
            metrics = dict(metrics) | {"validation": jnp.asarray(np.asarray(values))}
        return np.asarray(self.steps), metrics

    def to_save(self) -> dict[str, Any]:
        """All of it as arrays by name, for a checkpoint."""
        leaves = [np.stack(column) for column in zip(*map(jax.tree.leaves, self.rows), strict=True)]
        saved = {"steps": np.asarray(self.steps, np.int64)} | {f"{i:06d}": leaf for i, leaf in enumerate(leaves)}
        if self.validation is not None:
            saved["validated"] = np.asarray(list(self.validation), np.int64)
            saved["validation"] = np.asarray(list(self.validation.values()), np.float64)
        return saved

    def take_up(self, saved: dict[str, Any], form: Any) -> None:
        """Go on from what a checkpoint holds, rows being of the form of one."""
        leaves = [saved[name] for name in sorted(saved) if name.isdecimal()]
        structure = jax.tree.structure(form)
        self.steps = saved["steps"].tolist()
        self.rows = [structure.unflatten([leaf[i] for leaf in leaves]) for i in range(len(self.steps))]
        if self.validation is not None:
            pairs = zip(saved["validated"].tolist(), saved["validation"].tolist(), strict=True)
            self.validation = dict(pairs)
