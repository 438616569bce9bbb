"""Pictures drawn by the recipes `gan` and `diffusion`, at equal CPU time, beside real ones.

Both are trained as a user trains them, `separatrix train RECIPE --data digits --steps N`, with their defaults; N is the
number of steps that the budget pays for, by the pace of two short runs. A run that is killed goes on where it was when
this is called again.

Judged are 400 samples (180 of the digits) beside as many real examples of the part for testing, which nobody trained on.
Features are the means over the picture that our small convolution network has before its readout, trained to tell the
classes on 4 in 5 of the examples; and the first 20 principal components. "Real halves" are other real examples in the
place of samples: what nobody can beat.

    python pictures.py train digits gan 120        CPU seconds
    python pictures.py judge digits gan diffusion
"""

import json
import resource
import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import RESULTS, report

import separatrix as sx
from separatrix.training.recipes import model_in, recipe_of
from separatrix.training.recipes.nets import ConvNet
from separatrix.training.run import Run

RUNS, JUDGED = RESULTS / "pictures", 400


def spent(words: list[str]) -> float:
    """CPU seconds of a call of the command line, which must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "separatrix.cli", *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def paid_for(data: str, recipe: str, budget: float, options: list[str]) -> int:
    """How many steps a budget pays for."""
    kept = RUNS / f"{data}-{recipe}.json"
    if not kept.exists():
        counts, seconds = (100, 400), []
        for steps in counts:
            folder = RUNS / f"pace-{data}-{recipe}-{steps}"
            words = ["train", recipe, "--data", data, "--steps", str(steps), "--out", str(folder), *options]
            seconds.append(spent(words))
        pace = (seconds[1] - seconds[0]) / (counts[1] - counts[0])
        kept.write_text(json.dumps({"steps": round(budget / pace), "pace": pace}) + "\n")
    return json.loads(kept.read_text())["steps"]


def train(data: str, recipe: str, budget: str, *options: str) -> None:
    """Train, or go on."""
    RUNS.mkdir(parents=True, exist_ok=True)
    folder, steps = RUNS / f"{data}-{recipe}", paid_for(data, recipe, float(budget), list(options))
    words = ["resume", str(folder)]
    if not folder.exists():
        words = ["train", recipe, "--data", data, "--steps", str(steps), "--out", str(folder), *options]
    print(f"{data} {recipe}: {steps} steps, {spent(words):.0f} CPU seconds", flush=True)


def network_of(examples: Any, labels: Any) -> Any:
    """The features of a small convolution network that tells the classes, and its accuracy on the last fifth."""
    order = np.random.default_rng(0).permutation(len(examples))
    cut = 4 * len(order) // 5
    kept, rest = (order[:cut], order[cut:][:2_000])

    def loss(net: Any, batch: Any) -> Any:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(jax.vmap(net)(batch[0]), batch[1]))

    net = ConvNet(1, int(labels.max()) + 1, 24, 3, key=jax.random.key(0))
    found = sx.fit(
        loss, optax.adam(optax.cosine_decay_schedule(3e-3, 1_500)), (examples[kept], labels[kept]), initial=net,
        steps=1_500, batch_size=64, key=jax.random.key(1),
    ).model  # fmt: skip
    before = eqx.tree_at(lambda net: net.readout, found, lambda means: means)
    told = np.concatenate([jax.vmap(found)(part).argmax(axis=1) for part in np.array_split(examples[rest], 8)])

    def features(pictures: Any) -> Any:
        parts = np.array_split(np.asarray(pictures, np.float32), max(1, len(pictures) // 250))
        return np.concatenate([jax.vmap(before)(part) for part in parts])

    return features, float(np.mean(told == labels[rest]))


def judge(data: str, *recipes: str) -> None:
    """The table of one set."""
    known = sx.load(data)
    examples = np.asarray(known.inputs, np.float32)
    features, accuracy = network_of(examples, np.asarray(known.targets))
    order = np.random.default_rng(1).permutation(len(examples))
    tests = np.asarray(known.test_inputs, np.float32)
    places = np.random.default_rng(1).permutation(len(tests))
    count = min(JUDGED, len(tests) // 2)
    real, other = tests[places[:count]], tests[places[count : 2 * count]]
    sets, rows, key = {"real halves": other}, [], jax.random.key(0)
    for recipe in recipes:
        run = Run.open(RUNS / f"{data}-{recipe}")
        sets[recipe] = recipe_of(run).sample(model_in(run), count=count)["pictures"]
    components = sx.diagnostics.principal_features(examples[order[:5_000]], 20)
    scale = np.maximum(features(real).std(axis=0), 1e-6)
    for name, pictures in sets.items():
        row: list[Any] = [name]
        for space in (lambda x: features(x) / scale, lambda x: np.asarray(components(np.asarray(x, np.float32)))):
            pair = space(pictures), space(real)
            row.append(float(sx.frechet_distance(*pair, key=key, permutations=0).value))
            row.append(float(sx.classifier_two_sample(*pair, key=key, permutations=0).value))
        rows.append(row)
        print(row, flush=True)
    columns = ["samples", "Frechet, network", "two-sample, network", "Frechet, 20 components", "two-sample, components"]
    notes = (
        f"{count} samples and as many examples; the network tells classes in {100 * accuracy:.1f} % of held-out ones."
    )
    report(f"PICTURES_{data}", f"Pictures of {data}", columns, rows, notes)


if __name__ == "__main__":
    {"train": train, "judge": judge}[sys.argv[1]](*sys.argv[2:])
