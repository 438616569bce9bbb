r"""Weights that are written down beside weights that are trained: N points steered to N targets by 2 N pieces.

Points and targets are drawn from the normal law in the plane. `steer` writes 2 N switches down. Its trained counterpart is
the same neural ODE, x' = w relu(a . x + b) with as many pieces, weights free and drawn at random, trained by `fit` (Adam,
STEPS steps, the best of three rates) on the mean squared distance at the end. A point arrives if no other target is
nearer to where it ends. Distances are the largest over points.

The second table is of the transport equation: the uniform law of a square is taken to that of a disk by strips of equal
mass, gathered and steered. W_1 is between 1,024 moved points and as many of the disk, by assignment; between two samples of
the disk it is the floor. The third is of approximation: cells of a square are gathered and led to f = sin(3 x) cos(2 y).

    python benchmarks/steering.py [--steps 2000] [--counts 8 16]
"""

import argparse
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from _table import report

import separatrix as sx

COUNTS, RATES = (8, 16, 32, 64, 128), (3e-3, 1e-2, 3e-2)


@eqx.filter_jit
def ends_of(flow: Any, points: Any) -> Any:
    pieces = flow.exact()
    return jax.vmap(lambda x: sx.evolve(pieces, x, save="last").final)(points)


def arrived(ends: Any, targets: Any) -> tuple[float, float]:
    """The share of points whose own target is the nearest, and the largest distance."""
    apart = np.linalg.norm(np.asarray(ends)[:, None] - np.asarray(targets)[None], axis=-1)
    return float(np.mean(np.argmin(apart, axis=1) == np.arange(len(apart)))), float(np.diag(apart).max())


def trained(points: Any, targets: Any, steps: int) -> Any:
    """The best flow of three learning rates, all as one program."""
    loss = sx.residual.steering_loss()

    def one(rate: Any) -> Any:
        first = sx.residual.random_neurons(2 * len(points), 2, key=jax.random.key(0))
        schedule = optax.cosine_decay_schedule(1.0, steps)
        optimizer = optax.chain(
            optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale_by_schedule(schedule), optax.scale(-rate)
        )
        found = sx.fit(loss, optimizer, (points, targets), initial=first, steps=steps)
        return found.model, found.losses[-1]

    flows, losses = eqx.filter_jit(eqx.filter_vmap(one))(jnp.array(RATES))
    best = int(np.nanargmin(np.asarray(losses)))
    return jax.tree.map(lambda leaf: leaf[best], flows)


def points_table(counts: Any, steps: int) -> None:
    rows = []
    for count in counts:
        points, targets = jnp.asarray(np.random.default_rng(count).normal(size=(2, count, 2)))
        clock = time.process_time()
        written = sx.residual.steer(points, targets)
        first = time.process_time() - clock
        clock = time.process_time()
        learned = jax.block_until_ready(trained(points, targets, steps))
        second = time.process_time() - clock
        rows.append(
            [str(count), written.pieces, *arrived(ends_of(written, points), targets), first, learned.pieces,
             *arrived(ends_of(learned, points), targets), second]
        )  # fmt: skip
        print(rows[-1], flush=True)
    columns = ["N", "pieces", "arrive", "worst", "CPU s", "trained: pieces", "arrive", "worst", "CPU s"]
    report("steering", "N points to N targets at once", columns, rows)


def distance(first: Any, second: Any) -> float:
    cost = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return float(cost[scipy.optimize.linear_sum_assignment(cost)].mean())


def disk(rng: Any, count: int) -> Any:
    turn, radius = 2 * np.pi * rng.uniform(size=count), np.sqrt(rng.uniform(size=count))
    return np.stack([3 + radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def density_table() -> None:
    rng, rows = np.random.default_rng(0), []
    sample, wanted = rng.uniform(size=(1024, 2)), disk(rng, 1024)
    floor = distance(disk(rng, 1024), wanted)
    for count in COUNTS:
        k = np.arange(count) + 0.5
        spiral = np.sqrt(k / count)[:, None] * np.stack([np.cos(2.399963 * k), np.sin(2.399963 * k)], axis=1)
        gathered = sx.residual.gather([np.linspace(0, 1, count + 1), [0.0, 1.0]], core=0.999, shrink=1e-12)
        middles = np.stack([k / count, np.full(count, 0.5)], axis=1)
        flow = gathered.then(sx.residual.steer(middles, spiral + np.array([3.0, 0.0])))
        found = distance(np.asarray(ends_of(flow, jnp.asarray(sample))), wanted)
        rows.append([str(count), flow.pieces, found, found * np.sqrt(count), floor])
    report("transport", "a square to a disk", ["strips", "pieces", "W_1", "W_1 sqrt(N)", "floor"], rows)


def approximation_table() -> None:
    rng, rows = np.random.default_rng(1), []
    inputs = rng.uniform(size=(4096, 2))

    def f(x: Any) -> Any:
        return np.sin(3 * x[..., 0]) * np.cos(2 * x[..., 1])

    for side in (2, 4, 8, 16):
        edges = np.linspace(0, 1, side + 1)
        inner = (np.arange(side) + 0.5) / side
        middles = np.stack(np.meshgrid(inner, inner, indexing="ij"), axis=-1).reshape(-1, 2)
        # The second coordinate is read out; the first tells the cells apart.
        targets = np.stack([np.arange(len(middles)) / len(middles), f(middles)], axis=1)
        flow = sx.residual.gather([edges, edges], core=0.999, shrink=1e-12).then(sx.residual.steer(middles, targets))
        out = np.asarray(ends_of(flow, jnp.asarray(inputs)))[:, 1]
        error = float(np.sqrt(np.mean((out - f(inputs)) ** 2)))
        rows.append([f"{side} x {side}", flow.pieces, error, error * side])
    report("approximation", "sin(3 x) cos(2 y) on a square", ["cells", "pieces", "L2 error", "times side"], rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS, help="for the first table")
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    density_table()
    approximation_table()
    points_table(asked.counts, asked.steps)


if __name__ == "__main__":
    main()
