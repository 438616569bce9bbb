"""Runs from the command line: carried out with progress on standard error, ended by a signal with all saved."""

import importlib
from pathlib import Path
from typing import Any

from separatrix.cli.command import Answer, columns
from separatrix.cli.runs import require_run
from separatrix.cli.signals import carrying_out


def free_folder(name: str) -> Path:
    """runs/NAME-1, or with the next number that is free."""
    number = 1
    while Path("runs", f"{name}-{number}").exists():
        number += 1
    return Path("runs", f"{name}-{number}")


def trained(recipe: Any, path: Path, trackers: tuple[str, ...] = ()) -> Any:
    """Train by a recipe in a new folder."""
    recipes = importlib.import_module("separatrix.training.recipes")
    carrying_out(path)
    return recipes.train(recipe, path, **_options(trackers))


def resumed(path: Path, trackers: tuple[str, ...] = ()) -> Any:
    """Go on with a run; one that is finished is as it is."""
    run = require_run(path)
    recipes = importlib.import_module("separatrix.training.recipes")
    recipe = recipes.recipe_of(run)
    if run.status == "finished" and recipes.results_of(run) is not None:
        return run
    carrying_out(path)
    return recipe.resume(run, **_options(trackers))


def _options(trackers: tuple[str, ...]) -> dict[str, Any]:
    named = importlib.import_module("separatrix.training.trackers").tracker_named
    monitor = importlib.import_module("separatrix.optimization").StabilityMonitor
    return {"monitor": monitor, "progress": True, "tracker": [named(text) for text in trackers]}


def told(run: Any) -> Answer:
    """What came out of a run."""
    recipes = importlib.import_module("separatrix.training.recipes")
    found = recipes.results_of(run) or {"test": {}, "notes": []}
    step = run.checkpoints[-1] if run.checkpoints else 0
    lines = [f"{run.recipe}: {run.status} at step {step}"]
    lines += [f"note: {note}" for note in [*found["notes"], *chosen(found)]]
    lines += [columns(test_rows(found))] if found["test"] else []
    lines += [str(line) for line in found.get("text", ())]
    lines += [f"run: {run.path}", f"see: separatrix show {run.path} --html {run.path}/report.html"]
    data = {"run": str(run.path), "recipe": run.recipe, "status": run.status, "step": step}
    return Answer(data | {"test": found["test"], "notes": found["notes"]}, "\n".join(lines))


def chosen(found: dict[str, Any]) -> list[str]:
    """Which model of a run is used, if it is not the last."""
    step = found.get("best_step")
    return [] if step is None else [f"the model is that of step {step}, where the validation loss was lowest"]


def test_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Each number on the part for testing with its standard error."""
    return [(f"test {name}", *rest) for name, *rest in number_rows(found["test"])]


def number_rows(numbers: dict[str, Any]) -> list[tuple[str, ...]]:
    """Numbers with their standard errors, and what they are of."""
    return [
        (name.replace("_", " "), with_error(one), f"{one['about']} (of {one['of']})".strip())
        for name, one in numbers.items()
    ]


def with_error(one: dict[str, Any]) -> str:
    """A number and its standard error.

    >>> with_error({"value": 0.92593, "error": 0.0504})
    '0.926 ± 0.050'
    """
    value, error = one["value"], one["error"]
    if value is None:
        return "not finite"
    if error is None or not error > 0:
        return f"{value:.4g}"
    digits = max(0, min(8, 1 - int(f"{error:e}".partition("e")[2])))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
