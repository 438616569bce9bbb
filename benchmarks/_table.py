"""What every benchmark shares: a median of repeated runs, a table on the screen, and the same table as JSON.

Machines are shared, so an absolute time means nothing. A row of a table is a ratio of medians after warm-up, taken in
one run on one machine, with the time to compile apart.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("jax", "equinox", "diffrax", "optax", "numpy", "torch", "torchdiffeq", "torchode", "torchsde")


def _wait(value: Any) -> Any:
    """Wait for what was computed: JAX returns before its arrays are ready."""
    import sys

    jax = sys.modules.get("jax")
    return jax.block_until_ready(value) if jax is not None else value


def median_time(fn: Callable[[], Any], repeats: int = 11, warmup: int = 1) -> float:
    """Median wall time of `fn()` in seconds, after `warmup` calls that are not counted; results are waited for."""
    return statistics.median(times(fn, repeats, warmup))


def times(
    fn: Callable[[], Any], repeats: int = 11, warmup: int = 1, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Time of each of `repeats` calls in seconds, in order: that of the wall, or by another clock."""
    for _ in range(warmup):
        _wait(fn())
    out = []
    for _ in range(repeats):
        start = clock()
        _wait(fn())
        out.append(clock() - start)
    return out


def interleaved(
    fns: dict[str, Callable[[], Any]],
    repeats: int = 11,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median time of each function, called in turn: what slows the machine for a while slows them all alike.

    `clock`: of the wall; `time.process_time` counts this process alone, for a machine that others load.
    """
    for fn in fns.values():
        for _ in range(warmup):
            _wait(fn())
    rounds = [{name: times(fn, 1, 0, clock)[0] for name, fn in fns.items()} for _ in range(repeats)]
    return {name: statistics.median(r[name] for r in rounds) for name in fns}


def machine() -> dict[str, Any]:
    """Cores and memory, and nothing else of where this ran."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "memory_gib": round(pages / 2**30)}


def versions() -> dict[str, str]:
    """Installed versions of what is compared."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "-" if value is None else str(value)


def _text(columns: list[str], rows: list[list[Any]]) -> str:
    """A table in Markdown that also reads in a terminal: first column to the left, numbers to the right."""
    cells = [columns, *[[_cell(value) for value in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    rest = [f"{':':->{width + 2}}" for width in widths[1:]]
    rule = "|".join(["", "-" * (widths[0] + 2), *rest, ""])
    return "\n".join([_line(columns, widths), rule, *[_line(row, widths) for row in cells[1:]]])


def _line(row: list[str], widths: list[int]) -> str:
    first, *rest = zip(row, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *[cell.rjust(width) for cell, width in rest]]) + " |"


def report(row: str, title: str, columns: list[str], rows: list[list[Any]], notes: str = "") -> Path:
    """Print one table and write it as `results/<row>.json`.

    `row` names the row of the performance table ("P9"); `rows` hold text, numbers or None, one entry a column; `notes`
    say what was compared, in which units, and where we lose. Returns the file's path.
    """
    here = machine()
    print(f"\n{row}: {title}  ({here['cores']} cores, {here['memory_gib']} GiB)\n")
    print(_text(columns, rows))
    if notes:
        print(f"\n{notes}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{row.lower().replace(' ', '_')}.json"
    record = {"row": row, "title": title, "columns": columns, "rows": rows, "notes": notes}
    path.write_text(json.dumps(record | {"machine": here, "versions": versions()}, indent=1) + "\n")
    return path
