"""Runs of every kind killed while they train, and taken up again: they must end with the bytes of runs that were not."""

import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from separatrix.training.run import Run

PROGRAM = Path(__file__).resolve().parents[1] / "tests" / "training" / "_resumed.py"
NAMES = ("full", "epochs", "adam", "mapped", "rolling", "sde", "recurrent", "gan", "diffusion")
# Kills of one process, with all its runs, before these are let run to their ends.
_KILLS = 3


def _program(folder: Path, pause: float) -> Any:
    command = [sys.executable, str(PROGRAM), str(folder), str(pause), *NAMES]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _ends(folder: Path) -> dict[str, str]:
    with _program(folder, 0) as program:
        lines = program.communicate()[0].splitlines()
    return dict(line.split()[1:] for line in lines if line.startswith("done"))


def _kill(folder: Path, looks: int) -> set[str]:
    """Kill after so many looks; return the runs that were under way."""
    with _program(folder, 0.1) as program:
        for _ in range(looks):
            program.stdout.readline()
        program.send_signal(signal.SIGKILL)
        program.communicate()
    return {
        name for name in NAMES if (folder / name / "run.json").exists() and Run.open(folder / name).status == "killed"
    }


def resumed(folder: Path, count: int) -> list[list[Any]]:
    """Rows of the table for at least `count` runs that were killed and taken up again."""
    instants = random.Random(count)
    whole = _ends(_made(folder))
    tried, wrong = 0, len(set(NAMES) - set(whole))
    while tried < count:
        place = _made(folder)
        kills = [_kill(place, instants.randint(9, 40)) for _ in range(_KILLS)]
        found = _ends(place)
        tried += sum(len(under_way) for under_way in kills)
        wrong += sum(found.get(name) != whole.get(name) for name in NAMES)
    return [["killed while training, resumed", tried, wrong, f"the same bytes: {', '.join(NAMES)}"]]


def _made(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))
