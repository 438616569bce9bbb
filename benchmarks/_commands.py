"""Runs of the command line killed while they train, and resumed: they must end with the bytes of runs that were not.

    separatrix train RECIPE ... --out RUN  ->  SIGKILL  ->  separatrix resume RUN  ->  SIGKILL  ->  ...  ->  to its end

Each recipe has validation and an average of its weights, and its examples in memory or in files of the run.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from separatrix.training.run import Run

_CLI = [sys.executable, "-m", "separatrix.cli"]
_SHARED = ["--average", "0.9", "--save-every", "20", "--steps", "8000", "--watch", "0"]
USES = {
    "classifier": ["--data", "table.csv", "--target", "kind", "--width", "16"],
    "regressor": ["--data", "table.csv", "--target", "z", "--width", "16"],
    "language": ["--data", "text.txt", "--width", "16", "--length", "16"],
}
_KILLS = 2  # of one run, before it is let run to its end


def files(folder: Path) -> None:
    """A table and a text to learn from."""
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(200, 3))
    rows = [f"{a:.4f},{b:.4f},{c:.4f},{'up' if a * b > 0 else 'down'},{a - b * c:.4f}" for a, b, c in x]
    (folder / "table.csv").write_text("\n".join(["a,b,c,kind,z", *rows]))
    words = ["the map ", "a flow ", "to rest ", "in time ", "and back "]
    (folder / "text.txt").write_text("".join(words[i] for i in numbers.integers(0, len(words), 800)))


def commanded(_: Path, count: int) -> list[list[Any]]:
    """A row of the table for at least `count` kills of commands."""
    instants, tried, wrong, number = random.Random(count), 0, 0, 0
    whole: dict[tuple[str, bool], Any] = {}
    kinds = [(recipe, on_disk) for on_disk in (False, True) for recipe in USES]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files(folder)
        while tried < count:
            recipe, on_disk = kind = kinds[number % len(kinds)]
            out, number = f"run{number}", number + 1
            train = ["train", recipe, *USES[recipe], *_SHARED, *(["--on-disk"] if on_disk else [])]
            if kind not in whole:
                _to_end([*train, "--out", f"whole{number}"], folder)
                whole[kind] = bytes_of(folder / f"whole{number}")
            tried += sum(
                _killed([*train, "--out", out] if kill == 0 else ["resume", out], folder, out, instants)
                for kill in range(_KILLS)
            )
            _to_end(["resume", out], folder)
            wrong += bytes_of(folder / out) != whole[kind]
    notes = f"the same bytes: {', '.join(USES)}, with average and validation, in memory and on disk"
    return [["commands killed while training, resumed", tried, wrong, notes]]


def bytes_of(path: Path) -> list[Any]:
    """All arrays that a run ends with, and its results."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(Run.open(path).latest().tree) if hasattr(leaf, "dtype")]
    return [(path / "results.json").read_text(), *((leaf.dtype, leaf.tobytes()) for leaf in arrays)]


def _start(words: list[str], folder: Path) -> Any:
    return subprocess.Popen([*_CLI, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _to_end(words: list[str], folder: Path) -> None:
    with _start(words, folder) as process:
        if process.wait():
            raise RuntimeError(f"separatrix {' '.join(words)} ended with {process.returncode}")


def _killed(words: list[str], folder: Path, out: str, instants: random.Random) -> int:
    """Kill a command some while after it saved its first state; 1 where the run was under way."""
    path = folder / out
    before = Run.open(path).checkpoints[-1:] if (path / "run.json").exists() else []
    with _start(words, folder) as process:
        while process.poll() is None and (
            not (path / "run.json").exists() or Run.open(path).checkpoints[-1:] in ([], before)
        ):
            time.sleep(0.005)
        time.sleep(instants.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    return int(Run.open(path).status == "killed")
