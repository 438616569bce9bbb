"""The command about many runs: `sweep`, and what `show` says of one."""

import dataclasses
import html
import importlib
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from separatrix._errors import explain, unknown
from separatrix._files import write_whole
from separatrix.cli.climate import compute
from separatrix.cli.command import Answer, Command

_KEYS = ("recipe", "fixed", "space", "trials", "draw", "seed", "key", "shard", "together", "search")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(Command):
    """Run a function, or train a recipe, at every point of a space that a file says; killed, the same words go on.

    SPEC is a TOML file: a table [space] with a list of values a name, or {low, high, count, log, whole}; [fixed] values;
    and recipe, trials, draw, seed, key, shard, together, search. See docs/sweeps.md.
    """

    spec_file: Annotated[Positional[Path], arg(metavar="SPEC")]
    """The TOML file."""
    function: str | None = None
    """MODULE:NAME of the function of a trial, unless the file names a recipe."""
    out: Path | None = None
    """Folder of the sweep; sweeps/NAME of the file by default. One that is there is gone on with."""
    executor: Literal["here", "pool", "slurm", "ray"] = "here"
    """Where trials are computed."""
    workers: int = 2
    """Processes of the pool, or of Ray."""
    address: str | None = None
    """Of a cluster of Ray."""
    option: UseAppendAction[tuple[str, ...]] = ()
    """An option of SLURM's jobs, as slurm_partition=cpu."""
    goal: str | None = None
    """The number of which the least is shown."""
    html: Path | None = None
    """Write a page with the phase diagram to this file."""

    @classmethod
    def prepared(cls, words: list[str]) -> list[str]:
        """The words as they are: the spec is no file of options."""
        return words

    def run(self) -> Answer:
        from separatrix.cli.refusals import their_code
        from separatrix.cli.target import function_of, module_of

        compute()
        room = importlib.import_module("separatrix.training.sweeps")
        asked = read_spec(self.spec_file)
        what = self._recipe(asked) if "recipe" in asked else function_of(self._function(), asked.get("fixed", {}))
        out = self.out or Path("sweeps", self.spec_file.stem)
        options = {name: asked[name] for name in ("trials", "draw", "seed", "shard", "together") if name in asked}
        if "key" in asked:
            options["key"] = importlib.import_module("jax").random.key(asked["key"])
        if "search" in asked:
            options["search"] = room.Search(**_only("search", asked["search"], ("goal", "largest", "sampler")))
        space = {name: _axis(room, name, axis) for name, axis in asked["space"].items()}
        with _progress() as say, their_code(f"sweep: {self.function}", module_of(self.function or "")):
            room.sweep(what, space, out=out, executor=self._executor(room, out), progress=say, **options)
        return show_sweep(out, self.html, (), self.goal)

    def _function(self) -> str:
        if self.function is None:
            do = 'Give --function MODULE:NAME, or write recipe = "..." in the file.'
            raise ValueError(explain("sweep: --function", "nothing", "the function of a trial", do))
        return self.function

    def _recipe(self, asked: dict[str, Any]) -> Any:
        if self.function is not None:
            do = "Leave one of them out."
            raise ValueError(explain("sweep: --function", "a function and a recipe", "one of them", do))
        recipes = importlib.import_module("separatrix.training.recipes")
        return recipes.recipe_from(asked["recipe"], asked.get("fixed", {}))

    def _executor(self, room: Any, out: Path) -> Any:
        match self.executor:
            case "pool":
                return room.Pool(self.workers)
            case "slurm":
                pairs = [text.partition("=") for text in self.option]
                options = {name: int(value) if value.isdecimal() else value for name, _, value in pairs}
                return room.Slurm(str(out.with_name(f"{out.name}-jobs")), options)
            case "ray":
                return room.Ray(None if self.address else self.workers, self.address)
        return room.Here()


def read_spec(path: Path) -> dict[str, Any]:
    """What the file of a sweep says, its keys checked.

    **Raises:** `ValueError` that names the file and the key.
    """
    try:
        asked = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            explain(f"sweep: {path}", error.strerror or error, "a file to read", "Check the path.")
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(explain(f"sweep: {path}", str(error), "a TOML file", "Repair that place.")) from error
    for key in asked:
        if key not in _KEYS:
            raise ValueError(unknown(f"sweep: {path}: key", key, _KEYS, "Leave it out."))
    kinds = {"space": dict, "fixed": dict, "search": dict, "recipe": str, "draw": str, "together": bool}
    kinds |= dict.fromkeys(("trials", "seed", "key", "shard"), int)
    for key, value in asked.items():
        if type(value) is not kinds[key]:
            word = {dict: "a table", str: "a text", bool: "true or false", int: "a whole number"}[kinds[key]]
            raise ValueError(explain(f"sweep: {path}: {key}", repr(value)[:80], word, "Repair that line."))
    if not asked.get("space"):
        do = "Add a table [space] with a line such as learning_rate = [0.1, 0.2]"
        raise ValueError(explain(f"sweep: {path}: space", "no axis", "one axis or more", do))
    return asked


def _axis(room: Any, name: str, axis: Any) -> Any:
    if not isinstance(axis, dict):
        return axis
    return room.Range(**_only(f"space: {name}", axis, ("low", "high", "count", "log", "whole"), ("low", "high")))


def _only(where: str, table: dict[str, Any], known: tuple[str, ...], needed: tuple[str, ...] = ()) -> dict[str, Any]:
    for key in table:
        if key not in known:
            raise ValueError(unknown(f"sweep: {where}", key, known, "Leave it out."))
    for key in needed:
        if key not in table:
            raise ValueError(explain(f"sweep: {where}: {key}", "nothing", "a number", f"Add {key} = ..."))
    return table


def show_sweep(folder: Path, page: Path | None, axes: tuple[str, ...], goal: str | None) -> Answer:
    """How a sweep stands: fates, the best trial, and the phase diagram over two axes."""
    found = importlib.import_module("separatrix.training.sweeps").read_sweep(folder)
    for axis in axes:
        if axis not in found.axes:
            raise ValueError(unknown(f"show {folder}: --axes", axis, found.axes, "Name two axes of the sweep."))
    lines = [str(found), *_best(found, goal), f"sweep: {folder}"]
    if not found.is_whole:
        lines.append("go on: the same `separatrix sweep` once more")
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_whole(page, _page(folder, found, axes, goal))
        lines.append(f"page: {page}")
    broken = found.counts().get("failed", 0)
    return Answer(found.to_dict() | {"sweep": str(folder)}, "\n".join(lines), ok=not len(found) or broken < len(found))


def _best(found: Any, goal: str | None) -> list[str]:
    goal = goal or next((name for name in found.numbers if "loss" in name or name == "value"), None)
    if goal is None:
        return []
    try:
        row = found.best(goal)
    except ValueError:
        if goal in found.numbers:
            return [f"no trial completed with a finite {goal}"]
        raise
    point = ", ".join(
        f"{name} {row[name]:.4g}" if isinstance(row[name], float) else f"{name} {row[name]}" for name in found.axes
    )
    return [f"least {goal}: {row[goal]:.6g} at {point} (trial {row['trial']})"]


def _page(folder: Path, found: Any, axes: tuple[str, ...], goal: str | None) -> str:
    from separatrix.plotting import as_svg, plot_phase_diagram

    style = files("separatrix.tour").joinpath("report.css").read_text(encoding="utf-8")
    parts = [f"<p>{html.escape(line)}</p>" for line in [*str(found).splitlines(), *_best(found, goal)]]
    real = [name for name in found.axes if found.table[name].dtype.kind in "fiu"]
    chosen = list(axes) or real[:2]
    if len(chosen) == 2 and len(found):
        x, y = chosen
        log = "".join(sign for sign, name in zip("xy", chosen, strict=True) if name in found.logarithmic)
        whole = found.shape is not None and found.is_whole and list(found.axes) == chosen
        fig = plot_phase_diagram(
            found[x], found[y], found.fates, names=chosen, log=log, shape=found.shape if whole else None
        )
        parts.append(f"<figure>{as_svg(fig)}</figure>")
    counts = [("fate", "trials"), *((name, str(count)) for name, count in found.counts().items())]
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in counts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(str(folder))}</title>'
        f"<style>{style}</style></head><body><main><h1>Sweep {html.escape(str(folder))}</h1>{''.join(parts)}"
        f"<table>{rows}</table></main></body></html>\n"
    )


class _progress:
    """Says how many trials are done, on standard error."""

    def __enter__(self) -> Any:
        self._told = -1.0
        return self._say

    def __exit__(self, *_: Any) -> None:
        if sys.stderr.isatty() and self._told >= 0:
            print(file=sys.stderr)

    def _say(self, done: int, total: int) -> None:
        share = done / max(total, 1)
        if sys.stderr.isatty():
            print(f"\r{share:4.0%}  {done}/{total} trials", end="", file=sys.stderr, flush=True)
        elif done == total or share >= self._told + 0.05:
            print(f"{share:4.0%}  {done}/{total} trials", file=sys.stderr, flush=True)
        self._told = share
