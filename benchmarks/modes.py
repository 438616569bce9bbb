"""GANs on rings and grids of Gaussians: how many modes over how many seeds, and an alarm on a population of runs.

The ring has the data, the networks and the batches of "The Numerics of GANs" (Mescheder, Nowozin & Geiger, 2017, section
6): eight Gaussians of deviation 1/100 around the unit circle, perceptrons of four layers of 16 units, 16 numbers of noise,
batches of 512. The grid has five by five Gaussians of deviation 1/20 one apart, perceptrons of three layers of 64 units,
batches of 256, and noise in the plane. Both are trained simultaneously by Adam (b1 = 0, b2 = 0.99) with a rate that falls
from 2e-3 by a cosine, from weights of variance 2/inputs, and sampled from the generator's running average (0.995). "paper"
is the ring as it was published: weights of variance 2/(inputs + outputs), RMSprop of 1e-4, and consensus of strength 10,
for 10,000 of its 50,000 steps. The wide ring has radius 2 and deviation 1/10, with perceptrons of two layers of 64 units
from Equinox's weights, batches of 256 and Adam (1e-3, b1 = 0.5).

Five seeds run in one `vmap` of `fit`. Three settings: non-saturating losses without a penalty; the same with the least
penalty that `advise` names at the networks of another seed after a sixth of the run, doubled; relativistic pairs with R1
and R2 (R3GAN). A mode is reached where it holds a quarter of its due within three deviations.

The alarm (`collapse_in`) is judged on 32 runs of each of three settings on a ring of radius 2: one that collapses often
(no penalty, a generator thirty times as fast), one that does not (R1 of 1), one that is slow (a hundredth of the step).
A run has collapsed in truth where at most two of the eight modes are reached at its end; a slow one has not, for it has
not begun. Chance is an alarm as often as ours, at random.

    python modes.py              all of it
    python modes.py ring         one part: ring, paper, wide, grid, turns or alarm

`turns` is of the rotation a step, predicted and measured (`disturbed`), at networks at the end of a run on the ring, the
grid and a small wide ring, with R1 and with R3GAN, three seeds each: predicted of the mean over eight batches, measured of
eight pairs of runs that go on with fresh batches.
"""

import dataclasses
import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import report

import separatrix as sx

SEEDS, FEW, RUNS, QUARTERS = 5, 3, 32, (0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A mixture, and how networks are trained on it."""

    name: str
    radius: float
    deviation: float
    latent: int
    width: int
    depth: int
    batch: int
    steps: int
    optimizer: Any
    start: str = "equinox"
    average: bool = False
    pairs: float = 0.5  # R1 and R2 of relativistic pairs
    slight: float = 1.0  # R1 where `advise` names none
    strength: float = 0.0  # of a consensus term

    @property
    def modes(self) -> Any:
        """The centres: of the grid where there is no radius."""
        if not self.radius:
            places = np.arange(5, dtype=np.float32) - 2
            return np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
        angles = 2 * np.pi * np.arange(8) / 8
        return self.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def draw(self, key: Any, count: int = 20_000) -> Any:
        """Points of the mixture."""
        which, noise = jax.random.split(key)
        centres = jnp.asarray(self.modes)[jax.random.randint(which, (count,), 0, len(self.modes))]
        return centres + self.deviation * jax.random.normal(noise, (count, 2), jnp.float32)

    def networks(self, key: Any) -> tuple[Any, Any]:
        """Generator and discriminator."""
        first, second = jax.random.split(key)
        sizes = {"width_size": self.width, "depth": self.depth, "activation": jax.nn.relu, "dtype": jnp.float32}
        both = eqx.nn.MLP(self.latent, 2, key=first, **sizes), eqx.nn.MLP(2, "scalar", key=second, **sizes)
        found = tuple(started(net, self.start, jax.random.fold_in(key, place)) for place, net in enumerate(both))
        return (*found, found[0]) if self.average else found

    def players(self, generator: float = 1.0, discriminator: float = 1.0) -> Any:
        """The optimisers, their steps multiplied."""
        both = [optax.chain(self.optimizer, optax.scale(factor)) for factor in (generator, discriminator)]
        follower = (optax.sgd(0.005),) if self.average else ()
        scheme = {"scheme": "consensus", "strength": self.strength} if self.strength else {}
        return sx.games.Players(*both, *follower, **scheme)


def started(net: Any, start: str, key: Any) -> Any:
    """A perceptron with weights of another variance, and no biases."""
    if start == "equinox":
        return net
    layers = []
    for layer, one in zip(net.layers, jax.random.split(key, len(net.layers)), strict=True):
        outputs, inputs = layer.weight.shape
        variance = 2 / inputs if start == "he" else 2 / (inputs + outputs)
        weight = np.float32(np.sqrt(variance)) * jax.random.normal(one, (outputs, inputs), jnp.float32)
        layers.append(eqx.tree_at(lambda a: (a.weight, a.bias), layer, (weight, jnp.zeros_like(layer.bias))))
    return eqx.tree_at(lambda net: net.layers, net, tuple(layers))


def falling(steps: int) -> Any:
    """Adam without momentum, at a rate that falls."""
    return optax.adam(optax.cosine_decay_schedule(2e-3, steps, 0.02), b1=0.0, b2=0.99)


HELD = {"start": "he", "average": True}
RING = Setting("8 on a ring", 1.0, 0.01, 16, 16, 4, 512, 6_000, falling(6_000), **HELD, pairs=0.05, slight=0.05)
RMSPROP = optax.rmsprop(1e-4, decay=0.9)
PAPER = Setting("8 on a ring, as published", 1.0, 0.01, 16, 16, 4, 512, 10_000, RMSPROP, "xavier", strength=10.0)
WIDE = Setting("8 on a wide ring", 2.0, 0.1, 8, 64, 2, 256, 3_000, optax.adam(1e-3, b1=0.5))
GRID = Setting("25 on a grid", 0.0, 0.05, 2, 64, 3, 256, 5_000, falling(5_000), **HELD, pairs=0.1, slight=0.1)
ALARM = Setting("the alarm", 2.0, 0.1, 8, 32, 2, 256, 1_500, optax.adam(1e-3, b1=0.5))
SMALL = dataclasses.replace(
    WIDE, name="8 on a wide ring, 2 x 32", width=32, batch=512, steps=1_000, optimizer=optax.adam(1e-3, b1=0.0)
)

MODES = {"RING": RING, "PAPER": PAPER, "WIDE": WIDE, "GRID": GRID}


def train(gan: Any, setting: Setting, players: Any, data: Any, key: Any, steps: int, begun: Any = None) -> Any:
    """One run: modes, quality and the alarm at each measurement, and the state at its end; from there, if one is begun."""

    def seen(model: Any) -> Any:
        samples = gan.sample(model[-1] if setting.average else model[0], jax.random.key(9), 1_000)
        found = sx.games.mode_coverage(samples, setting.modes, setting.deviation)
        return found.count, found.quality, sx.games.collapse(samples, data[:1_000])

    return sx.fit(
        gan, players, data, initial=setting.networks(key) if begun is None else begun.model, steps=steps,
        batch_size=setting.batch, key=key, metrics={"seen": seen}, every=setting.steps // 20,
    )  # fmt: skip


def over_seeds(gan: Any, setting: Setting, players: Any, data: Any, count: int) -> Any:
    """(modes, quality), each (seeds, measurements), and whether the alarm rings at the end, (seeds,)."""

    def one(key: Any) -> Any:
        count, quality, spread = train(gan, setting, players, data, key, setting.steps).metrics["seen"]
        return count, quality, sx.games.collapse_in(spread).collapsed

    @eqx.filter_jit
    def all_of(keys: Any) -> Any:
        return jax.vmap(one)(keys)

    return [np.asarray(values) for values in all_of(jax.random.split(jax.random.key(1), count))]


def ways(setting: Setting, data: Any) -> tuple[dict[str, Any], str]:
    """The three settings, and what `advise` said."""
    latent, players = setting.latent, setting.players()
    if setting.strength:
        return {f"consensus of {setting.strength:g}": sx.games.GAN(latent, penalty=None)}, "The paper's own cure."
    begun = train(sx.games.GAN(latent, penalty=0.0), setting, players, data, jax.random.key(0), setting.steps // 6)
    told = sx.games.advise(begun.map, begun.state, key=jax.random.key(2))
    least = float(told.penalty)
    named = np.isfinite(least) and least > 0
    cure = 2 * least if named else setting.slight
    words = f"{told.verdict}, {told.rotation:.3g} a step, times {told.decay:.5g}; least R1 {least:.3g}"
    return {
        "simultaneous": sx.games.GAN(latent, penalty=None),
        f"R1 of {cure:.3g}{'' if named else ' (advise names none)'}": sx.games.GAN(latent, penalty=cure),
        f"R3GAN, R1 and R2 of {setting.pairs:g}": sx.games.GAN(
            latent, "relativistic", setting.pairs, fake_penalty=setting.pairs
        ),
    }, words


def study_of_modes(setting: Setting) -> None:
    """Modes over time and over seeds."""
    data, rows = setting.draw(jax.random.key(0)), []
    found, words = ways(setting, data)
    whole = len(setting.modes)
    for way, gan in found.items():
        began = time.process_time()
        count, quality, _ = over_seeds(gan, setting, setting.players(), data, SEEDS)
        spent = time.process_time() - began
        places = [round(part * (count.shape[1] - 1)) for part in QUARTERS]
        over_time = " ".join(f"{value:.1f}" for value in count.mean(axis=0)[places])
        ends = " ".join(str(int(value)) for value in count[:, -1])
        held = np.mean(count[:, count.shape[1] // 2 :] == whole)
        rows.append([f"{setting.name}: {way}", over_time, ends, float(held), float(quality[:, -1].mean()), spent])
        print(rows[-1], flush=True)
    columns = [
        "setting",
        "mean over seeds at each quarter",
        "seeds at the end",
        "all held, second half",
        "quality",
        "CPU s",
    ]
    name = next(key for key, known in MODES.items() if known is setting)
    report(f"MODES_{name}", f"Modes reached, {setting.steps} steps", columns, rows, f"{setting.name}: {words}")


def study_of_turns() -> None:
    """Rotation a step of a small disturbance at the end of a run, predicted and measured, on batches of its own."""
    rows, cases = [], []
    for name, setting in (("ring", RING), ("grid", GRID), ("small ring", SMALL)):
        weight, both = setting.slight if setting.average else 1.0, setting.pairs
        cases.append((f"{name}, R1 of {weight:g}", setting, sx.games.GAN(setting.latent, penalty=weight)))
        pairs = sx.games.GAN(setting.latent, "relativistic", both, fake_penalty=both)
        cases.append((f"{name}, R3GAN of {both:g}", setting, pairs))
    for seed in range(FEW):
        for name, setting, gan in cases:
            data = setting.draw(jax.random.key(0))
            begun = train(gan, setting, setting.players(), data, jax.random.key(10 + seed), setting.steps)
            began = time.process_time()
            found = sx.games.disturbed(begun.map, begun.state, key=jax.random.key(2))
            spent = time.process_time() - began
            last = abs(float(np.angle(complex(found.later))))
            factors = (abs(complex(found.predicted)), abs(complex(found.measured)))
            numbers = (*found.rotation, float(found.scatter), 100 * found.error, last, *factors)
            more = float(found.size), float(found.residual), len(found.path) - 1, spent
            rows.append([f"{name}, seed {seed}", *numbers, *more])
            print(rows[-1], flush=True)
    columns = [
        "state", "radians predicted", "measured", "standard error", "off, %", "at the end", "factor predicted", "measured",
        "size", "residual", "steps", "CPU s",
    ]  # fmt: skip
    report("TURNS", "Rotation a step at the end of a run", columns, rows, "8 pairs of runs, the mean over 8 batches.")


def study_of_the_alarm() -> None:
    """Hits, misses and false alarms beside chance."""
    data, rows = ALARM.draw(jax.random.key(0)), []
    settings = {
        "no penalty, generator 30 times as fast": (None, (30.0, 1.0)),
        "R1 of 1": (1.0, (1.0, 1.0)),
        "R1 of 1, a hundredth of the step": (1.0, (0.01, 0.01)),
    }
    for name, (penalty, factors) in settings.items():
        gan = sx.games.GAN(ALARM.latent, penalty=penalty)
        count, _, alarm = over_seeds(gan, ALARM, ALARM.players(*factors), data, RUNS)
        truth, rung = (count[:, -1] <= 2) & (factors[0] >= 1), alarm
        hits, false = int(np.sum(truth & rung)), int(np.sum(~truth & rung))
        by_chance = float(rung.mean() * truth.sum())
        rows.append([name, int(truth.sum()), hits, int(truth.sum()) - hits, false, by_chance])
        print(rows[-1], flush=True)
    columns = ["setting", "collapsed", "hits", "misses", "false alarms", "hits by chance"]
    report("ALARM", f"The alarm on {RUNS} runs of each setting", columns, rows, f"{ALARM.steps} steps each.")


if __name__ == "__main__":
    parts = {name.lower(): lambda setting=setting: study_of_modes(setting) for name, setting in MODES.items()}
    parts |= {"turns": study_of_turns, "alarm": study_of_the_alarm}
    for part in sys.argv[1:] or parts:
        parts[part]()
