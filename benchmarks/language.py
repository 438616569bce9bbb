"""A character model of the King James Bible from the command line, stopped and resumed, beside Kneser-Ney n-grams.

    separatrix train language --data king-james ...  ->  Ctrl-C  ->  separatrix resume RUN  ->  ...  ->  bits a character

The first nine tenths of the text train, the next 100,000 characters test. N-grams read on from the training part; so does
the net: each row of 100 characters is predicted after the 200 before it were read. Run it as

    python benchmarks/language.py [RUN] [SECONDS]

With SECONDS it trains for so long, stops, and goes on when it is called again with the same folder.
"""

import json
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _table import report

import separatrix as sx
from separatrix.training.recipes import Stopped, model_in, recipe_of, results_of

_CLI = [sys.executable, "-m", "separatrix.cli"]
_NET = ["--cell", "gru", "--width", "384", "--length", "100", "--batch-size", "64", "--epochs", "6"]
_HOW = ["--watch", "0", "--learning-rate", "0.003", "--average-width", "0.1", "--set", "fractions=[0.9, 0.0, 0.1]"]
_TESTED, _PIECE, _HEARD = 100_000, 100, 200


def trained(path: Path, seconds: float | None) -> bool:
    """Train for so long, or to the end; whether it is there."""
    begun = (path / "run.json").exists()
    words = ["resume", str(path)] if begun else ["train", "language", "--data", "king-james", *_NET, *_HOW]
    words += [] if begun else ["--out", str(path)]
    with subprocess.Popen([*_CLI, *words]) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
        if process.returncode not in (0, Stopped.exit_code):
            raise SystemExit(process.returncode)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    log = path.with_suffix(".json")
    before = json.loads(log.read_text()) if log.exists() else []
    log.write_text(json.dumps([*before, spent.ru_utime + spent.ru_stime]) + "\n")
    return results_of(sx.Run.open(path)) is not None


def bits_in_context(model: Any, codes: Any, first: int) -> tuple[float, float]:
    """Mean of -log2 p over the tested characters and its error over pieces."""
    starts = np.arange(first, first + _TESTED, _PIECE)
    rows = np.stack([codes[at - _HEARD : at + _PIECE] for at in starts])

    each = eqx.filter_jit(jax.vmap(lambda row: sx.recurrent.bits_per_symbol(model, row[None], heard=_HEARD - 1)))
    found = np.concatenate([np.asarray(each(jnp.asarray(part))) for part in np.array_split(rows, 10)])
    return float(found.mean()), float(found.std(ddof=1) / len(found) ** 0.5)


def main(path: Path, seconds: float | None) -> None:
    """Train, and the table at the end."""
    if not trained(path, 60.0 if seconds is None else seconds) and (seconds is not None or not trained(path, None)):
        print(f"stopped; go on with the same folder: {path}")
        return
    run = sx.Run.open(path)
    recipe = recipe_of(run)
    place = {symbol: code for code, symbol in enumerate(recipe.vocabulary)}
    codes = np.array([place[letter] for letter in bytes(sx.load("king-james").inputs).decode("ascii")], np.int32)
    cut = len(codes) * 9 // 10
    spent = json.loads(path.with_suffix(".json").read_text())
    rows: list[list[Any]] = []
    for order in (5, 8):
        bits = sx.recurrent.kneser_ney_bits(
            codes[:cut], codes[cut : cut + _TESTED], order, symbols=len(recipe.vocabulary)
        )
        pieces = bits.reshape(-1, _PIECE).mean(axis=1)
        rows.append([f"Kneser-Ney, {order} characters", bits.mean(), pieces.std(ddof=1) / len(pieces) ** 0.5, None, 0])
    what = f"{recipe.cell} of {recipe.width} units, {recipe.epochs} epochs"
    rows.append([what, *bits_in_context(model_in(run), codes, cut), sum(spent), len(spent) - 1])
    columns = ["model", "bits a character", "error", "CPU seconds", "times stopped and resumed"]
    report("language", "100,000 characters of the King James Bible after the first nine tenths", columns, rows)
    print(recipe.sample(model_in(run), length=400, prompt="And God said", temperature=0.7))


if __name__ == "__main__":
    given = sys.argv[1:]
    folder = Path(given[0]) if given else Path(tempfile.mkdtemp()) / "king-james"
    main(folder, float(given[1]) if len(given) > 1 else None)
