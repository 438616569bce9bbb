"""Words to pictures: are captions drawn as they say, in combinations that training has not shown?

Captions over Fashion-MNIST, "two small sneakers, dark, on the left": 10 objects, one or two, small or large, dark or
bright, at three places: 240 combinations, of which 40 are withheld. A judge, trained on real composites of all
combinations, reads the five attributes; its own accuracy is that on real composites of the withheld combinations, made
of clothes that neither judge nor models have seen. (a) is latent diffusion, (b) unCLIP. CPU seconds count the training.

    python words.py judge | latent | unclip | measure      each goes on where it was stopped, in results/words/
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from _table import RESULTS, report

import separatrix as sx
from separatrix.data import picture_grid, png_bytes

FOLDER = RESULTS / "words"
NOUNS = sx.diffusion.NOUNS["fashion-mnist"]
WITHHELD = sx.diffusion.withheld(len(NOUNS))
EXAMPLES, STEPS, JUDGE_STEPS, EACH = 20_000, 3_000, 1_500, 12
SCALES, COUNTS = (1.0, 2.0, 4.0), (4, 10, 20)


def training(**settings: Any) -> Any:
    """Composites of the training part."""
    found = sx.load("fashion-mnist")
    return sx.diffusion.compose(found.inputs, found.targets, EXAMPLES, **settings)


def fresh() -> Any:
    """Composites of clothes of the part for testing, in combinations that were withheld."""
    found = sx.load("fashion-mnist")
    return sx.diffusion.compose(found.test_inputs, found.test_targets, 2000, only=WITHHELD, seed=5)


def timed(name: str, call: Any) -> Any:
    """The result of a call, its CPU seconds added to those of earlier attempts."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    start, record = time.process_time(), FOLDER / f"{name}.seconds"
    begun = len(record.read_text().split()) if record.exists() else 0
    said = time.monotonic()

    def note(done: int, total: int) -> None:
        nonlocal said
        lines = record.read_text().split("\n")[:begun] if record.exists() else []
        record.write_text("\n".join([*lines, f"{time.process_time() - start:.0f}"]))
        if time.monotonic() - said > 30:
            said = time.monotonic()
            print(name, done, "of", total, flush=True)

    return call(note)


def judge(note: Any = None) -> Any:
    """The judge, trained where it is not yet."""
    made = training(seed=1)
    settings = {"steps": JUDGE_STEPS, "run": FOLDER / "judge", "progress": note}
    return sx.diffusion.CaptionJudge.fit(made.pictures, made.codes, len(NOUNS), key=jax.random.key(3), **settings)


def latent(note: Any = None) -> Any:
    """Recipe (a)."""
    made = training(without=WITHHELD, unsaid=0.1)
    vocabulary = sx.diffusion.composed_vocabulary(NOUNS)
    settings = {"vocabulary": vocabulary, "depth": 3, "steps": STEPS, "run": FOLDER / "latent", "progress": note}
    return sx.diffusion.LatentDiffusion.fit(made.pictures, made.captions, key=jax.random.key(0), **settings)


def asked() -> tuple[np.ndarray, list[str]]:
    """Codes and captions of the withheld combinations, each as often."""
    codes = np.repeat(WITHHELD, EACH, axis=0)
    return codes, [sx.diffusion.caption_of(NOUNS, row) for row in codes]


def shares(right: np.ndarray) -> list[float]:
    """All five right, its standard error, then each."""
    every = right.all(axis=1)
    return [float(every.mean()), float(every.std() / len(every) ** 0.5), *right.mean(axis=0).tolist()]


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "measure"
    if what in ("judge", "latent"):
        timed(what, {"judge": judge, "latent": latent}[what])
