"""What can be done with the model of a run, and rows as text or CSV."""

import csv
import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from separatrix._errors import explain
from separatrix._files import write_whole
from separatrix.cli.command import Answer, columns
from separatrix.cli.runs import require_run

_SHOWN = 10


def model_of(folder: Path) -> tuple[Any, Any, Any]:
    """Run, recipe and model of a folder.

    **Raises:** `ValueError` where there is no run, no recipe, or no model yet.
    """
    run = require_run(folder)
    recipes = importlib.import_module("separatrix.training.recipes")
    recipe = recipes.recipe_of(run)
    if not run.checkpoints:
        do = f"Train it first: separatrix resume {folder}"
        raise ValueError(explain(f"run {folder}", "no model yet", "a run with a checkpoint", do))
    return run, recipe, recipes.model_in(run)


def deed(folder: Path, what: str, do: Callable[[Any, Any], Any]) -> Any:
    """Do something with the model of a run, where its recipe can."""
    recipes = importlib.import_module("separatrix.training.recipes")
    recipe = recipes.recipe_of(require_run(folder))
    if not hasattr(recipe, what):
        can = ", ".join(word for word in recipes.DEEDS if hasattr(recipe, word)) or "nothing but show and export"
        got = f"a run of {recipes.recipe_name(recipe)}, which cannot {what}"
        raise ValueError(explain(f"{what} {folder}", got, f"a run that can (this one can {can})", "Name another."))
    _, recipe, model = model_of(folder)
    return do(recipe, model)


def columns_told(found: dict[str, Any], out: Path | None) -> Answer:
    """Columns of equal length as an answer: the first rows as text, all as data, and as CSV in a file."""
    named = found["columns"]
    rows = list(zip(*named.values(), strict=True))
    shown = [tuple(named), *[tuple(_short(cell) for cell in row) for row in rows[:_SHOWN]]]
    lines = [columns(shown)]
    if len(rows) > _SHOWN:
        lines.append(f"... {len(rows)} rows in all" + ("" if out else "; --out FILE writes them, --json prints them"))
    lines += [f"note: {note}" for note in found["notes"]]
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, as_csv(named, rows))
        lines.append(f"written: {out}")
    return Answer({"columns": named, "notes": found["notes"]}, "\n".join(lines))


def as_csv(named: dict[str, Any], rows: list[tuple[Any, ...]]) -> str:
    """Rows as delimited text, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(named)
    writer.writerows(rows)
    return text.getvalue()


def _short(cell: Any) -> str:
    return f"{cell:.5g}" if isinstance(cell, float) else str(cell)
