"""What can be done with the model of a run: texts, rows and pictures, said and written to files."""

import csv
import importlib
import io
from pathlib import Path
from typing import Any

from separatrix._errors import explain
from separatrix._files import write_whole
from separatrix.cli.carrying import number_rows
from separatrix.cli.command import Answer, columns
from separatrix.cli.fields import pair
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


def deed(folder: Path, what: str, own: tuple[Any, ...], settings: tuple[str, ...], out: Path | None) -> Answer:
    """Do something with the model of a run, where its recipe can, and say what came out.

    `own`: what the recipe's method takes after the model. `settings`: its options, as name=value. `out`: a file for it.
    """
    recipes = importlib.import_module("separatrix.training.recipes")
    recipe, words = recipes.recipe_of(require_run(folder)), [pair(what, text) for text in settings]
    if hasattr(recipe, what):
        _, recipe, model = model_of(folder)
    else:
        model = None
    return came_out(recipes.carry_out(recipe, what, model, own, words), out, folder / f"{what}.png")


def came_out(found: dict[str, Any], out: Path | None, place: Path) -> Answer:
    """What came out, as an answer and in a file: pictures as one PNG (by default at `place`), columns as CSV, or a text."""
    notes = list(found.get("notes", ()))
    data: dict[str, Any] = {"notes": notes} if notes or "columns" in found else {}
    lines: list[str] = []
    if "text" in found:
        data["text"] = found["text"]
        lines.append(found["text"])
    if "numbers" in found:
        data["numbers"] = found["numbers"]
        lines.append(columns(number_rows(found["numbers"])))
    if "columns" in found:
        data["columns"] = found["columns"]
        lines += _rows_told(found["columns"], out)
    lines += [f"note: {note}" for note in notes]
    for path, content in _files(found, out, place):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        data["written"] = str(path if out is None else out)
        lines += [f"written: {data['written']}"] if f"written: {data['written']}" not in lines else []
    return Answer(data, "\n".join(lines))


def _rows_told(named: dict[str, Any], out: Path | None) -> list[str]:
    rows = list(zip(*named.values(), strict=True))
    shown = [tuple(named), *[tuple(_short(cell) for cell in row) for row in rows[:_SHOWN]]]
    more = f"... {len(rows)} rows in all" + ("" if out else "; --out FILE writes them, --json prints them")
    return [columns(shown), *([more] if len(rows) > _SHOWN else [])]


def _files(found: dict[str, Any], out: Path | None, place: Path) -> list[tuple[Path, str | bytes]]:
    """What is written: of several kinds that which the suffix of `out` says."""
    if "pictures" in found and (out is None or out.suffix.lower() in ("", ".png")):
        import numpy as np

        from separatrix.data import picture_grid, picture_levels, png_bytes

        pictures = np.asarray(found["pictures"])
        if out is None or out.suffix:
            return [(out or place, png_bytes(picture_grid(pictures)))]
        digits = len(str(len(pictures)))
        levels = enumerate(picture_levels(pictures), 1)
        return [(out / f"{number:0{digits}d}.png", png_bytes(one)) for number, one in levels]
    if out is None:
        return []
    if "columns" in found:
        return [(out, as_csv(found["columns"], list(zip(*found["columns"].values(), strict=True))))]
    if "text" in found:
        return [(out, found["text"])]
    do = "Name a file ending in .png, or a folder." if "pictures" in found else "Leave it out."
    raise ValueError(explain(f"--out {out}", "nothing to write there", "what the model gives", do))


def as_csv(named: dict[str, Any], rows: list[tuple[Any, ...]]) -> str:
    """Rows as delimited text, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(named)
    writer.writerows(rows)
    return text.getvalue()


def _short(cell: Any) -> str:
    return f"{cell:.5g}" if isinstance(cell, float) else str(cell)
