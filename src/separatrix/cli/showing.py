"""How a run stands, as text, data or a page; again and again while it goes on."""

import importlib
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np

from separatrix._files import write_whole
from separatrix.cli.command import Answer, columns
from separatrix.cli.doing import model_of
from separatrix.cli.runs import require_run

_AGAIN = 2.0  # seconds
_QUIET = ("start", "resume", "end")


def show(folder: Path, html: Path | None, follow: bool) -> Answer:
    """The answer of `show`; with `follow`, when the run is no longer running."""
    run = require_run(folder)
    while follow and run.status == "running":
        if html is not None:
            _write(html, run, refresh=True)
        print(_line(run), file=sys.stderr, flush=True)
        time.sleep(_AGAIN)
    found = facts(run)
    text = _text(found)
    if html is not None:
        _write(html, run)
        text += f"\npage: {html}"
    return Answer(found, text)


def facts(run: Any) -> dict[str, Any]:
    """What there is to say of a run, as plain values."""
    recipes = importlib.import_module("separatrix.training.recipes")
    steps, metrics, status = run.steps, run.metrics, run.status
    flat = {name: values for name, values in metrics.items() if values.ndim == 1}
    return {
        "run": str(run.path), "recipe": run.recipe, "status": status, "created": run.created,
        "step": int(steps[-1]) if len(steps) else 0, "checkpoints": run.checkpoints,
        "resume": f"separatrix resume {run.path}" if status in ("killed", "interrupted", "failed") else None,
        "findings": [finding.to_dict() for finding in recipes.findings_of(run)],
        "last": {name: _last(values) for name, values in flat.items()},
        "steps": steps.tolist(), "metrics": {name: _plain(values) for name, values in flat.items()},
        "events": run.events, "results": recipes.results_of(run), "spec": run.spec, "can": _can(run),
        "samples": [{"step": step, "png": b64encode(png).decode("ascii")} for step, png in recipes.samples_of(run)],
    }  # fmt: skip


def _can(run: Any) -> dict[str, dict[str, Any]]:
    """What can be done with the model of a run, and the options of each deed."""
    recipes = importlib.import_module("separatrix.training.recipes")
    if run.recipe is None or not run.checkpoints:
        return {}
    recipe = recipes.recipe_class(run.recipe)
    return {what.replace("_", "-"): recipes.deed_options(recipe, what) for what in recipes.deeds_of(recipe)}


def deed_said(what: str, run: str, options: dict[str, Any]) -> str:
    """A command that can be typed, with the options of the recipe."""
    needs = " --data FILE" if what in ("predict", "log-density") else ""
    more = "".join(
        f" [--{name.replace('_', '-')} {'...' if value is None else value}]" for name, value in options.items()
    )
    return f"separatrix {what} {run}{needs}{more}"


def diagnosis(folder: Path) -> Answer:
    """The findings of a run, and those of the system that its recipe says it is."""
    import separatrix

    run = require_run(folder)
    recipes = importlib.import_module("separatrix.training.recipes")
    findings = recipes.findings_of(run)
    data: dict[str, Any] = {"run": str(folder), "findings": [finding.to_dict() for finding in findings]}
    lines = [f"{finding.status}: {finding}" for finding in findings] or ["nothing was measured yet"]
    good = bool(findings) and not any(finding.status == "BROKEN" for finding in findings)
    if run.recipe is not None and hasattr(recipes.recipe_class(run.recipe), "diagnose") and run.checkpoints:
        _, recipe, model = model_of(folder)
        system, state, *key = recipe.diagnose(model)
        found = separatrix.diagnose(system, state, key=key[0] if key else None)
        data["system"] = {"verdict": found.verdict} | found.to_dict()
        lines += ["", "the model as a system:", str(found)]
        good = good and found.exit_code == 0
    return Answer(data, "\n".join(lines), good)


def _write(html: Path, run: Any, refresh: bool = False) -> None:
    from separatrix.cli.run_page import page

    html.parent.mkdir(parents=True, exist_ok=True)
    write_whole(html, page(facts(run), refresh))


def _line(run: Any) -> str:
    steps, metrics = run.steps, run.metrics
    numbers = ", ".join(f"{name} {_last(v):.4g}" for name, v in metrics.items() if v.ndim == 1 and _last(v) is not None)
    return f"step {int(steps[-1]) if len(steps) else 0}: {numbers}"


def _text(found: dict[str, Any]) -> str:
    from separatrix.cli.carrying import chosen, test_rows

    parts = [f"{found['recipe'] or 'run'}: {found['status']} at step {found['step']}"]
    rows = [(name.replace("_", " "), f"{value:.5g}") for name, value in found["last"].items() if value is not None]
    parts += [columns(rows, indent="  ")] if rows else []
    results = found["results"]
    if results is not None:
        parts += [columns(test_rows(results), indent="  ")] if results["test"] else []
        parts += [f"  {line}" for line in results.get("text", ())]
        parts += [f"note: {note}" for note in [*results["notes"], *chosen(results)]]
    parts += [
        f"step {event.get('step', 0)}: {said(event)}" for event in found["events"] if event["event"] not in _QUIET
    ]
    parts += [f"{one['status']}: {finding_text(one)}" for one in found["findings"]]
    if found["samples"]:
        steps = ", ".join(str(one["step"]) for one in found["samples"])
        parts += [f"drawn on the way, at steps {steps}: {Path(found['run'], 'samples')}"]
    parts += [f"go on: {found['resume']}"] if found["resume"] else []
    parts += [f"next: {deed_said(what, found['run'], options)}" for what, options in found["can"].items()]
    return "\n".join(parts)


def said(event: dict[str, Any]) -> str:
    """An event in words."""
    if event["event"] == "noticed":
        return f"{event.get('kind')}"
    rest = ", ".join(f"{name} {value}" for name, value in event.items() if name not in ("event", "time", "step"))
    return event["event"].replace("_", " ") + (f" ({rest})" if rest else "")


def marks(found: dict[str, Any]) -> list[tuple[int, str]]:
    """The events that a picture marks: those with a step, and where a run was taken up again."""
    kept = []
    for event in found["events"]:
        if event["event"] == "resume" and event.get("at"):
            kept.append((int(event["at"]), "resumed"))
        elif event["event"] not in _QUIET and isinstance(event.get("step"), int):
            kept.append((event["step"], said(event).partition(" (")[0]))
    return kept


def finding_text(one: dict[str, Any]) -> str:
    """A finding as a sentence, from its plain values."""
    finding = importlib.import_module("separatrix.diagnostics").Finding
    return str(finding(**{name: one[name] for name in finding.__dataclass_fields__}))


def _last(values: Any) -> float | None:
    good = np.asarray(values, float)[np.isfinite(values)]
    return float(good[-1]) if good.size else None


def _plain(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in np.asarray(values, float)]
