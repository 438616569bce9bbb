r"""Fashion-MNIST by class: samplers at 5 to 50 evaluations, and MeanFlow at 1 and 2, at equal times of training.

    python benchmarks/fashion.py --minutes 15 --out FOLDER          all of it; the same call goes on where it was killed
    python benchmarks/fashion.py --minutes 15 --out FOLDER --stage train|mean|gan|draw|table

`train` is the recipe `diffusion` as `separatrix train diffusion --data fashion-mnist` carries it out, `gan` the recipe
`gan` with `--by-class`. `mean` trains MeanFlow with the same U-Net of two clocks. Each takes so many steps as fit into the
CPU minutes given, by the time of a warm step. What is drawn has each class equally often.

The distance is Frechet's in features of our own: the 32 units before the last of a classifier that is trained on the
training part. Another sample of real test pictures, of as many, is its floor. `right` is how often that classifier finds
the class that was asked for. `nearest` is the root mean square distance of a picture to the nearest of 20,000 training
examples, over that of real test pictures: a copy would be near 0. The pictures are written beside the table: two rows of
each sampler, the third the examples that are nearest to the first.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import report

import separatrix as sx
from separatrix.data import load, png_bytes
from separatrix.diffusion.diffusion_model import predicted
from separatrix.training import PowerAverage
from separatrix.training.recipes import model_in, recipe_from, recipe_of, train
from separatrix.training.run import Run

D = sx.diffusion
BATCH, WIDTH, LOW = 32, 24, 0.004
EVALUATIONS = (5, 10, 20, 50)
GAN = {"data": "fashion-mnist", "by_class": True}
SAMPLERS = {
    "DDIM": (D.DDIM(), 1), "DPM-Solver++ 2M": (D.DPMSolver(), 1), "Heun (EDM)": (D.ChurnedHeun(), 2),
    "ancestral": (D.Ancestral(), 1),
}  # fmt: skip


def plan(folder: Path, minutes: float, data: Any) -> dict[str, int]:
    """Steps of both trainings, by the CPU time of a warm step; kept with the run."""
    path = folder / "plan.json"
    if path.exists():
        return json.loads(path.read_text())
    x, labels = data
    batch = (jnp.asarray(x[:BATCH]), jnp.asarray(labels[:BATCH], jnp.int32))
    steps = {}
    for name, (loss, model) in {"train": edm(data), "mean": mean_flow()}.items():
        slope = eqx.filter_jit(eqx.filter_value_and_grad(lambda m, b, k, loss=loss: loss(m, b, key=k)))
        jax.block_until_ready(slope(model, batch, jax.random.key(0)))
        begun = time.process_time()
        for n in range(4):
            jax.block_until_ready(slope(model, batch, jax.random.key(n)))
        steps[name] = round(60 * minutes * 4 / (time.process_time() - begun))
    path.write_text(json.dumps(steps))
    return steps


def plan_of_gan(folder: Path, minutes: float) -> int:
    """Steps of the recipe `gan`, by the CPU time between two short fits; kept beside the others."""
    path = folder / "plan.json"
    steps = json.loads(path.read_text())
    if "gan" not in steps:
        task, spent = recipe_from("gan", GAN | {"steps": 1}).settled().task(), []
        options = {name: value for name, value in task.options.items() if name not in ("steps", "epochs")}
        for count in (500, 500, 2500):  # the first one compiles
            begun = time.process_time()
            fit = sx.fit(task.objective, task.optimizer, task.data, initial=task.initial, steps=count,
                         key=jax.random.key(0), **options)  # fmt: skip
            jax.block_until_ready(jax.tree.leaves(eqx.filter(fit.model, eqx.is_array)))
            spent.append(time.process_time() - begun)
        steps["gan"] = round(60 * minutes * 2000 / (spent[2] - spent[1]))
        path.write_text(json.dumps(steps))
    return steps["gan"]


def gan_trained(folder: Path, minutes: float) -> None:
    """The recipe `gan`, begun or gone on with."""
    steps, path = plan_of_gan(folder, minutes), folder / "gan"
    if path.exists():
        run = Run.open(path)
        if not (path / "results.json").exists():
            recipe_of(run).resume(run)
        return
    train(recipe_from("gan", GAN | {"steps": steps}), path)


def gan_drawn(folder: Path, labels: Any, recipe: Any) -> None:
    """Pictures of the GAN, of the same classes, on the scale of the diffusion's."""
    path = folder / "GAN_1.npy"
    if path.exists() or not (folder / "gan" / "results.json").exists():
        return
    run = Run.open(folder / "gan")
    own, model = recipe_of(run), model_in(run)
    pictures = np.zeros((len(labels), 28, 28), np.float32)
    for label, name in enumerate(own.classes):
        places = np.flatnonzero(labels == label)
        pictures[places] = own.sample(model, count=len(places), class_=name, seed=label)["pictures"]
    np.save(path, (pictures - recipe.center) / recipe.spread)


def edm(data: Any) -> tuple[Any, Any]:
    """The loss and the network of the recipe."""
    inside = D.SmallUNet(data[0].shape[1:], WIDTH, 1, 10, key=jax.random.key(0))
    return D.EDMMatching(D.EDM(), 1.0, -0.5, 1.2), D.Preconditioned(inside, D.EDM(), 1.0)


def mean_flow() -> tuple[Any, Any]:
    """MeanFlow, and the same U-Net with two clocks."""
    return D.MeanFlow(), D.SmallUNet((28, 28), WIDTH, 1, 10, 2, key=jax.random.key(0))


def trained(folder: Path, steps: int) -> None:
    """The recipe, begun or gone on with."""
    if (folder / "diffusion" / "results.json").exists():
        return
    if (folder / "diffusion").exists():
        run = Run.open(folder / "diffusion")
        recipe_of(run).resume(run)
        return
    spec = {"data": "fashion-mnist", "steps": steps, "batch_size": BATCH, "width": WIDTH, "watch": 0}
    train(recipe_from("diffusion", spec), folder / "diffusion")


def mean_trained(folder: Path, steps: int, data: Any) -> Any:
    """The averaged network of MeanFlow, from its run."""
    loss, network = mean_flow()
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, max(1, steps // 100), steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    batch = (jnp.asarray(data[0]), jnp.asarray(data[1], jnp.int32))
    found = sx.fit(
        loss, optimizer, batch, initial=network, steps=steps, batch_size=BATCH, key=jax.random.key(1),
        average=PowerAverage(0.1), run=folder / "mean",
    )  # fmt: skip
    return found.averaged


class Judge(eqx.Module):
    """A perceptron on patches: 4 x 4 patches, mixed once, 32 features, ten classes."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear
    last: eqx.nn.Linear

    def __init__(self, key: Any):
        keys = jax.random.split(key, 3)
        self.first = eqx.nn.Linear(784, 256, key=keys[0], dtype=jnp.float32)
        self.second = eqx.nn.Linear(256, 32, key=keys[1], dtype=jnp.float32)
        self.last = eqx.nn.Linear(32, 10, key=keys[2], dtype=jnp.float32)

    def features(self, x: Any) -> Any:
        """The units before the last layer."""
        return jax.nn.relu(self.second(jax.nn.relu(self.first(x.ravel()))))

    def __call__(self, x: Any) -> Any:
        return self.last(self.features(x))


def judge(data: Any) -> Judge:
    """Trained on the training part."""

    def loss(model: Any, batch: Any) -> Any:
        x, labels = batch
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), labels))

    batch = (jnp.asarray(data[0]), jnp.asarray(data[1], jnp.int32))
    rate = optax.cosine_decay_schedule(1e-3, 6000)
    return sx.fit(
        loss, optax.adamw(rate), batch, initial=Judge(jax.random.key(5)), steps=6000, batch_size=128,
        key=jax.random.key(6),
    ).model  # fmt: skip


def drawings(model: Any, network: Any, labels: Any) -> dict[str, tuple[int, Any]]:
    """Name and evaluations to scaled pictures, one function each to draw them."""

    def by_sampler(sampler: Any, steps: int) -> Any:
        schedule = D.KarrasLevels(LOW)

        def one(part: Any, key: Any) -> Any:
            settings: dict[str, Any] = {"steps": steps, "method": sampler, "schedule": schedule, "dtype": jnp.float32}
            return D.sample(model.process, predicted(model, part, 1.0), key, (len(part), 28, 28), **settings).final

        return eqx.filter_jit(one)

    def by_map(times: list[float]) -> Any:
        def one(part: Any, key: Any) -> Any:
            start = jax.random.normal(key, (len(part), 28, 28), jnp.float32)
            return sx.evolve(D.MeanFlowMap(network, times, part), start, save="last").final

        return eqx.filter_jit(one)

    wanted = {}
    for name, (sampler, cost) in SAMPLERS.items():
        for count in EVALUATIONS:
            # Heun's last step, to no noise, takes one evaluation: n steps take 2 n - 1.
            wanted[f"{name} {count}"] = (count, by_sampler(sampler, count if cost == 1 else (count + 1) // 2))
    if network is not None:
        wanted["MeanFlow 1"] = (1, by_map([1.0, 0.0]))
        wanted["MeanFlow 2"] = (2, by_map([1.0, 0.5, 0.0]))
    return wanted


def draw(folder: Path, model: Any, network: Any, labels: Any) -> None:
    """Each drawing into a file of its own; those that are there already are kept."""
    for name, (_, one) in sorted(drawings(model, network, labels).items(), key=lambda pair: pair[1][0]):
        path = folder / f"{name.replace(' ', '_')}.npy"
        if path.exists():
            continue
        parts = [one(jnp.asarray(labels[at : at + 50]), jax.random.fold_in(jax.random.key(7), at))
                 for at in range(0, len(labels), 50)]  # fmt: skip
        np.save(path, np.concatenate([np.asarray(part) for part in parts]))


def nearest(drawn: Any, examples: Any) -> tuple[Any, Any]:
    """Root mean square distance to the nearest example, and which it is."""
    first, second = (np.asarray(a, np.float32).reshape(len(a), -1) for a in (drawn, examples))
    squares = np.sum(first**2, 1)[:, None] + np.sum(second**2, 1)[None] - 2 * first @ second.T
    return np.sqrt(np.maximum(squares.min(1), 0) / first.shape[1]), squares.argmin(1)


def table(folder: Path, recipe: Any, data: Any, test: Any, labels: Any, steps: dict[str, int], minutes: float) -> None:
    """Distances, classes and neighbours of all that was drawn; the pictures beside them."""
    seen = judge(data)
    features = jax.jit(lambda x: jax.vmap(seen.features)(jnp.asarray(x)))
    guess = jax.jit(lambda x: jnp.argmax(jax.vmap(seen)(jnp.asarray(x)), axis=1))
    order = np.random.default_rng(0).permutation(len(test[0]))
    count = len(labels)
    real, other = (test[0][order[at : at + count]] for at in (0, count))
    accuracy = float(np.mean(np.asarray(guess(test[0])) == test[1]))
    usual = float(nearest(other, data[0][:20_000])[0].mean())

    def row(name: str, evaluations: int | None, x: Any, wanted: Any) -> list[Any]:
        found = sx.frechet_distance(x, real, key=jax.random.key(8), features=features, permutations=0)
        right = float(np.mean(np.asarray(guess(x)) == wanted))
        return [name, evaluations, float(found.value), float(found.error), right,
                float(nearest(x, data[0][:20_000])[0].mean()) / usual]  # fmt: skip

    rows = [row("real, another half", None, other, test[1][order[count : 2 * count]])]
    order_of = lambda path: (path.stem.rsplit("_", 1)[0], int(path.stem.rsplit("_", 1)[1]))  # noqa: E731
    for path in sorted(folder.glob("*_*.npy"), key=order_of):
        name, evaluations = path.stem.replace("_", " ").rsplit(" ", 1)
        x = np.load(path)
        rows.append(row(name, int(evaluations), x, labels))
        close = data[0][nearest(x[:10], data[0][:20_000])[1]]
        (folder / f"{path.stem}.png").write_bytes(png_bytes(tiled(recipe, [x[:10], x[10:20], close])))
    columns = ["what", "evaluations", "Frechet", "error", "right", "nearest / real"]
    notes = (
        f"{minutes:g} CPU minutes of training each: {steps['train']} steps of EDM, {steps['mean']} of MeanFlow, "
        f"{steps.get('gan', 0)} of the GAN; batches of {BATCH}. The classifier is right on {accuracy:.3f} of the test "
        f"part. {count} pictures each."
    )
    report("Fashion", "Fashion-MNIST by class", columns, rows, notes)
    figure(folder, rows)


def tiled(recipe: Any, rows: list[Any]) -> Any:
    """Rows of scaled pictures as one sheet of levels, three times as large."""
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    levels = np.round(255 * np.clip(sheet * recipe.spread + recipe.center, 0, 1)).astype(np.uint8)
    return levels.repeat(3, axis=0).repeat(3, axis=1)


def figure(folder: Path, rows: list[list[Any]]) -> None:
    """Distance over evaluations, a line a sampler."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6, 4), layout="constrained")
    axes = drawing.subplots()
    for name in dict.fromkeys(row[0] for row in rows[1:]):
        points = sorted((row[1], row[2], row[3]) for row in rows[1:] if row[0] == name)
        axes.errorbar(*zip(*[(n, value) for n, value, _ in points], strict=True), [e for *_, e in points], label=name)
    axes.axhline(rows[0][2], color="black", linestyle=":", label=rows[0][0])
    axes.set(xscale="log", yscale="log", xlabel="evaluations of the network", ylabel="Frechet distance")
    axes.set_xticks([1, 2, *EVALUATIONS], ["1", "2", *map(str, EVALUATIONS)])
    axes.minorticks_off()
    axes.legend(fontsize="small")
    drawing.savefig(folder / "fashion.png", dpi=150)


def main() -> None:
    """Train what is not trained, draw what is not drawn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fashion")
    parser.add_argument("--count", type=int, default=1000, help="pictures of each sampler")
    parser.add_argument("--stage", choices=("train", "mean", "gan", "draw", "table"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    pictures = load("fashion-mnist")
    center, spread = float(pictures.inputs.mean()), float(pictures.inputs.std())
    data = ((pictures.inputs - center) / spread, pictures.targets)
    steps = plan(asked.out, asked.minutes, data)
    if asked.stage in (None, "train"):
        trained(asked.out, steps["train"])
    if asked.stage in (None, "gan"):
        gan_trained(asked.out, asked.minutes)
    if asked.stage in ("train", "gan"):
        return
    run = Run.open(asked.out / "diffusion")
    recipe, model, network = recipe_of(run), model_in(run), None
    scaled = ((pictures.inputs - recipe.center) / recipe.spread, pictures.targets)
    test = ((pictures.test_inputs - recipe.center) / recipe.spread, pictures.test_targets)
    labels = np.arange(asked.count) % 10
    if asked.stage in (None, "mean", "draw"):
        network = mean_trained(asked.out, steps["mean"], data)
    if asked.stage in (None, "draw"):
        draw(asked.out, model, network, labels)
        gan_drawn(asked.out, labels, recipe)
    if asked.stage in (None, "table"):
        table(asked.out, recipe, scaled, test, labels, json.loads((asked.out / "plan.json").read_text()), asked.minutes)


if __name__ == "__main__":
    main()
