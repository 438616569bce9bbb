"""GANs on rings and grids of Gaussians: how many modes over how many seeds, and an alarm on a population of runs.

Two perceptrons of two layers of 32 units on batches of 256, Adam (1e-3, b1 = 0.5), simultaneous steps, 5 seeds in one
`vmap` of `fit`. Three settings: non-saturating losses without a penalty; the same with the R1 penalty that `advise`
names at the networks after a sixth of the run (twice the least that contracts); relativistic pairs with R1 and R2 of
1/2 (R3GAN). A mode is reached where it holds a quarter of its due.

The alarm (`collapse`) is judged on 32 runs of each of three settings on the ring: one that collapses often (no penalty,
a ten times longer step), one that does not (R1 of 1), one that is slow (a hundredth of the step). A run has collapsed
in truth where at most two of the eight modes are reached at its end. Chance is an alarm as often as ours, at random.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import report

import separatrix as sx

LATENT, STEPS, SEEDS, RUNS, SHORT = 8, 3_000, 5, 32, 1_500


def ring() -> tuple[Any, float]:
    """Eight centres of radius 2, and the deviation."""
    angles = 2 * np.pi * np.arange(8) / 8
    return 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), 0.1


def grid() -> tuple[Any, float]:
    """Five by five centres, one apart."""
    places = np.arange(5, dtype=np.float32) - 2
    return np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2), 0.05


def draw(key: Any, modes: Any, deviation: float, count: int = 20_000) -> Any:
    """Points of the mixture."""
    which, noise = jax.random.split(key)
    centres = jnp.asarray(modes)[jax.random.randint(which, (count,), 0, len(modes))]
    return centres + deviation * jax.random.normal(noise, (count, 2), jnp.float32)


def networks(key: Any) -> tuple[Any, Any]:
    """Generator and discriminator, 2 x 32."""
    first, second = jax.random.split(key)
    return (
        eqx.nn.MLP(LATENT, 2, 32, 2, jax.nn.relu, key=first, dtype=jnp.float32),
        eqx.nn.MLP(2, "scalar", 32, 2, jax.nn.relu, key=second, dtype=jnp.float32),
    )


def train(gan: Any, players: Any, data: Any, mixture: Any, key: Any, steps: int) -> Any:
    """One run: modes, quality and the alarm at each measurement, and the state at its end."""
    modes, deviation = mixture

    def seen(model: Any) -> Any:
        samples = gan.sample(model[0], jax.random.key(9), 1_000)
        found, spread = sx.games.mode_coverage(samples, modes, deviation), sx.games.collapse(samples, data[:1_000])
        return found.count, found.quality, spread.collapsed

    return sx.fit(
        gan, players, data, initial=networks(key), steps=steps, batch_size=256, key=key, metrics={"seen": seen},
        every=steps // 30,
    )  # fmt: skip


def over_seeds(gan: Any, players: Any, data: Any, mixture: Any, count: int, steps: int) -> Any:
    """(modes, quality, alarm), each (seeds, measurements)."""

    @eqx.filter_jit
    def all_of(keys: Any) -> Any:
        return jax.vmap(lambda key: train(gan, players, data, mixture, key, steps).metrics["seen"])(keys)

    return [np.asarray(values) for values in all_of(jax.random.split(jax.random.key(1), count))]


def settings(data: Any, mixture: Any) -> tuple[dict[str, Any], Any]:
    """The three settings, and what `advise` said."""
    players = sx.games.Players(optax.adam(1e-3, b1=0.5))
    begun = train(sx.games.GAN(LATENT, penalty=0.0), players, data, mixture, jax.random.key(0), STEPS // 6)
    told = sx.games.advise(begun.map, begun.state, key=jax.random.key(2))
    least = float(told.penalty)
    cure = 2 * least if np.isfinite(least) and least > 0 else 1.0
    return {
        "simultaneous": (sx.games.GAN(LATENT, penalty=None), players),
        f"R1 of {cure:.3g}, named by advise": (sx.games.GAN(LATENT, penalty=cure), players),
        "R3GAN": (sx.games.GAN(LATENT, "relativistic", 0.5, fake_penalty=0.5), players),
    }, told


def study_of_modes() -> None:
    """Modes over seeds."""
    rows, notes = [], []
    for name, mixture in (("8 on a ring", ring()), ("25 on a grid", grid())):
        data = draw(jax.random.key(0), *mixture)
        ways, told = settings(data, mixture)
        notes.append(f"{name}: {told.verdict}, {told.rotation:.3g} a step, times {told.decay:.5g}")
        for way, (gan, players) in ways.items():
            count, quality, _ = over_seeds(gan, players, data, mixture, SEEDS, STEPS)
            whole = len(mixture[0])
            held = np.mean(count[:, count.shape[1] // 2 :] == whole)
            rows.append([f"{name}: {way}", *count[:, -1].tolist(), float(held), float(quality[:, -1].mean())])
    columns = ["setting", *[f"seed {seed}" for seed in range(SEEDS)], "all held", "quality"]
    report("MODES", "Modes reached at the end, by seed", columns, rows, "; ".join(notes))


def study_of_the_alarm() -> None:
    """Hits, misses and false alarms beside chance."""
    mixture = ring()
    data, rows = draw(jax.random.key(0), *mixture), []
    ways = {
        "no penalty, ten times the step": (None, optax.adam(1e-2)),
        "R1 of 1": (1.0, optax.adam(1e-3, b1=0.5)),
        "a hundredth of the step": (1.0, optax.adam(1e-5, b1=0.5)),
    }
    for name, (penalty, adam) in ways.items():
        gan, players = sx.games.GAN(LATENT, penalty=penalty), sx.games.Players(adam)
        count, _, alarm = over_seeds(gan, players, data, mixture, RUNS, SHORT)
        truth, rung = count[:, -1] <= 2, alarm[:, -1]
        hits, false = int(np.sum(truth & rung)), int(np.sum(~truth & rung))
        by_chance = float(rung.mean() * truth.sum())
        rows.append([name, int(truth.sum()), hits, int(truth.sum()) - hits, false, by_chance])
    columns = ["setting", "collapsed", "hits", "misses", "false alarms", "hits by chance"]
    report("ALARM", f"The alarm on {RUNS} runs of each setting", columns, rows, f"{SHORT} steps each.")


if __name__ == "__main__":
    study_of_modes()
    study_of_the_alarm()
