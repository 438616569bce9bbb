"""Words to pictures: are captions drawn as they say, in combinations that training has not shown?

Captions over Fashion-MNIST, "two small sneakers, dark, on the left": 10 objects, one or two, small or large, dark or
bright, at three places: 240 combinations, of which 40 are withheld. A judge, trained on real composites of all
combinations, reads the five attributes; its own accuracy is that on real composites of the withheld combinations, made
of clothes that neither judge nor models have seen. (a) is latent diffusion, (b) unCLIP. CPU seconds count the training.

    python words.py judge | coder | latent | towers | unclip | measure | ship

Each goes on where it was stopped, in results/words/.
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
ATTRIBUTES = ("object", "count", "size", "brightness", "place")
NOUNS = sx.diffusion.NOUNS["fashion-mnist"]
WITHHELD = sx.diffusion.withheld(len(NOUNS))
EXAMPLES, EACH = 40_000, 12
JUDGE_STEPS, CODER_STEPS, STEPS, UNCLIP_STEPS = 2_800, 2_500, 5_000, 800
SCALES, COUNTS = (1.0, 2.0, 3.0, 4.0), (4, 10, 20)


def training(**settings: Any) -> Any:
    """Composites of the training part."""
    found = sx.load("fashion-mnist")
    return sx.diffusion.compose_pictures(found.inputs, found.targets, EXAMPLES, **settings)


def fresh() -> Any:
    """Composites of clothes of the part for testing, in combinations that were withheld."""
    found = sx.load("fashion-mnist")
    return sx.diffusion.compose_pictures(found.test_inputs, found.test_targets, 2000, only=WITHHELD, seed=5)


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
    settings = {"steps": JUDGE_STEPS, "batch_size": 64, "run": FOLDER / "judge", "progress": note}
    return sx.diffusion.CaptionJudge.fit(made.pictures, made.codes, len(NOUNS), key=jax.random.key(3), **settings)


def coder(note: Any = None) -> Any:
    """The autoencoder of recipe (a)."""
    settings = {"steps": CODER_STEPS, "run": FOLDER / "coder", "progress": note}
    pictures = training(without=WITHHELD, unsaid=0.1).pictures
    return sx.diffusion.train_autoencoder(pictures, key=jax.random.key(4), **settings)


def latent(note: Any = None) -> Any:
    """Recipe (a), on the latents of that autoencoder."""
    made = training(without=WITHHELD, unsaid=0.1)
    settings = {"vocabulary": sx.diffusion.composed_vocabulary(NOUNS), "autoencoder": coder()}
    settings |= {"steps": STEPS, "batch_size": 32, "run": FOLDER / "latent", "progress": note}
    return sx.diffusion.LatentDiffusion.fit(made.pictures, made.captions, key=jax.random.key(0), **settings)


def towers(note: Any = None) -> Any:
    """Two towers that choose among what was drawn, on pictures and combinations of training."""
    made = training(without=WITHHELD, unsaid=0.1)
    settings = {"vocabulary": sx.diffusion.composed_vocabulary(NOUNS), "run": FOLDER / "towers", "progress": note}
    return sx.diffusion.CaptionTowers.fit(made.pictures, made.captions, key=jax.random.key(8), **settings)


def unclip(note: Any = None) -> Any:
    """Recipe (b)."""
    made = training(without=WITHHELD)
    vocabulary = sx.diffusion.composed_vocabulary(NOUNS)
    settings = {"vocabulary": vocabulary, "steps": UNCLIP_STEPS, "batch_size": 32, "progress": note}
    settings["run"] = FOLDER / "unclip"
    return sx.diffusion.Unclip.fit(made.pictures, made.captions, key=jax.random.key(0), **settings)


def asked() -> tuple[np.ndarray, list[str]]:
    """Codes and captions of the withheld combinations, each as often."""
    codes = np.repeat(WITHHELD, EACH, axis=0)
    return codes, [sx.diffusion.caption_of(NOUNS, row) for row in codes]


def row(name: str, right: np.ndarray) -> list[Any]:
    """All five right, its standard error, then each."""
    every = right.all(axis=1)
    return [name, float(every.mean()), float(every.std() / len(right) ** 0.5), *right.mean(axis=0).tolist()]


def kept(name: str, make: Any) -> list[Any]:
    """A row, measured once: a measurement that was stopped goes on with the next one."""
    path = FOLDER / "rows.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    if name not in rows:
        rows[name] = row(name, make())
        path.write_text(json.dumps(rows))
        print(rows[name], flush=True)
    return rows[name]


def drawn(name: str, model: Any, ruler: Any, **settings: Any) -> list[Any]:
    """How one way of drawing does on the withheld combinations; a grid of it is written."""

    def right() -> np.ndarray:
        codes, captions = asked()
        pictures = np.asarray(model.sample(captions, jax.random.key(7), len(captions), batch_size=60, **settings))
        (FOLDER / f"{name.replace(' ', '_')}.png").write_bytes(png_bytes(picture_grid(pictures[:: EACH // 2])))
        return ruler.right(pictures, codes)

    return kept(name, right)


def ranked(name: str, model: Any, ruler: Any, **settings: Any) -> list[Any]:
    """The same for the best of eight, as two towers see it."""

    def right() -> np.ndarray:
        codes, captions = asked()
        some = slice(None, None, 2)
        pictures = sx.diffusion.best_drawn(
            model, towers(), captions[some], jax.random.key(7), batch_size=60, **settings
        )
        (FOLDER / f"{name.replace(' ', '_')}.png").write_bytes(png_bytes(picture_grid(pictures[:: EACH // 4])))
        return ruler.right(pictures, codes[some])

    return kept(name, right)


def seconds(name: str) -> float:
    """CPU seconds of a training."""
    return sum(float(line) for line in (FOLDER / f"{name}.seconds").read_text().split())


def ship() -> None:
    """The weights that come with the package."""
    latent().save(Path(sx.__file__).parent / "diffusion" / "words" / "fashion_captions.safetensors")


def measure() -> None:
    """The table."""
    ruler, real, found = judge(), fresh(), latent()

    def coded() -> np.ndarray:
        through = jax.vmap(lambda x: found.pair.autoencoder.decode(found.pair.autoencoder.encode(x)[0]))
        again = through((real.pictures - found.center) / found.spread) * found.spread + found.center
        return ruler.right(np.clip(again, 0, 1), real.codes)

    rows = [kept("real composites, never seen", lambda: ruler.right(real.pictures, real.codes))]
    rows.append(kept("the same through the autoencoder", coded))
    rows += [drawn(f"latent, scale {scale:g}, 10 steps", found, ruler, scale=scale) for scale in SCALES]
    rows += [drawn(f"latent, scale 3, {n} steps", found, ruler, scale=3.0, steps=n) for n in COUNTS if n != 10]
    rows += [ranked(f"latent, scale {scale:g}, the best of 8", found, ruler, scale=scale) for scale in SCALES[:3]]
    times = {name: seconds(name) for name in ("judge", "coder", "latent", "towers")}
    if (FOLDER / "unclip").exists():
        other = unclip()
        rows += [drawn(f"unclip, scale {scale:g}, 10 steps", other, ruler, scale=scale) for scale in SCALES[:2]]
        times["unclip"] = seconds("unclip")
    columns = ["", "all right", "error", *ATTRIBUTES]
    notes = "CPU seconds of training: " + ", ".join(f"{name} {value:.0f}" for name, value in times.items())
    title = f"captions in {len(WITHHELD)} combinations never shown, {EACH} pictures each"
    report("words", title, columns, rows, notes)


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "measure"
    stages = {"judge": judge, "coder": coder, "latent": latent, "towers": towers, "unclip": unclip}
    if what in stages:
        timed(what, stages[what])
    else:
        {"ship": ship, "measure": measure}[what]()
