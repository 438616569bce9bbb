r"""What a model draws on the way: a few pictures at an eighth, a quarter, a half and the end of a run.

    RUN/samples/70.png, 140.png, 280.png, 560.png        a row of pictures each, by the number of its step

They are drawn at the first measurement at or after each of these steps, by the averaged weights where there are such, and
always from the same noise. So the same picture is seen to come out, and a run that was killed and goes on draws the same
ones.
"""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from separatrix._files import remove_strays, write_whole
from separatrix.data import picture_grid, png_bytes

SHARES = (0.125, 0.25, 0.5, 1.0)
FOLDER = "samples"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """What is drawn on the way, and at which shares of a run: model -> pictures in [0, 1], (n, height, width[, 3])."""

    draw: Callable[[Any], Any]
    shares: tuple[float, ...] = SHARES


class Strip:
    """A callback of `fit` that keeps what is drawn of the model in the folder of a run."""

    def __init__(self, drawing: Drawing, home: Path, steps: int) -> None:
        self._drawing, self._folder, self._steps = drawing, home / FOLDER, steps

    def __call__(self, step: int, model: Any, metrics: Any, *, averaged: Any = None) -> None:
        """Draw, if a share of the run has been reached for which there is no picture."""
        kept = steps_in(self._folder)
        starts = [share * self._steps for share in self._drawing.shares if share * self._steps <= step]
        if not starts or any(starts[-1] <= number <= step for number in kept):
            return
        try:
            pictures = np.asarray(self._drawing.draw(model if averaged is None else averaged))
        except ValueError as error:  # no finite number: of a model that has learned nothing yet, or diverges
            reason = " ".join(str(error).split())
            warnings.warn(f"no picture is kept of step {step}: {reason}", stacklevel=2)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / f"{step}.png"
        remove_strays(place)
        write_whole(place, png_bytes(picture_grid(pictures, len(pictures))))


def steps_in(folder: Path) -> list[int]:
    """The numbers of the steps whose pictures lie in a folder."""
    return sorted(int(file.stem) for file in folder.glob("*.png") if file.stem.isdigit()) if folder.is_dir() else []


def samples_of(run: Any) -> list[tuple[int, bytes]]:
    """The pictures that a run kept on the way: step and PNG file."""
    folder = run.path / FOLDER
    return [(step, (folder / f"{step}.png").read_bytes()) for step in steps_in(folder)]
