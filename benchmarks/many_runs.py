"""Row P6: 1,024 training runs at once, over learning rate and seed.

A network 64-16-10 on 256 handwritten digits, 200 full-batch steps of SGD: a run for each of 32 learning rates and 32
seeds. Ours is one `evolve` under `vmap`, the learning rate a leaf of the map. The peers are a Python loop over runs and
steps, each step compiled by optax's users as they write it, measured on a few runs and scaled; and torch.func.vmap over
the same steps where torch is there. The floor is one batched step (its gradient under `vmap`), times the number of steps.
"""

import importlib.util
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import interleaved, report

import separatrix as sx

RATES, SEEDS, STEPS, FEW = 32, 32, 200, 8


def problem() -> tuple[Any, Any, Any]:
    """Digits, and one-hot targets, float32."""
    digits = sx.load("digits").flat()
    inputs = jnp.asarray(digits.inputs[:256], jnp.float32)
    return inputs, jax.nn.one_hot(jnp.asarray(digits.targets[:256]), 10, dtype=jnp.float32), (64, 16, 10)


def start(key: Any, sizes: tuple[int, int, int]) -> list[Any]:
    """Weights and biases of both layers."""
    first, second = jax.random.split(key)
    d, h, o = sizes
    return [
        jax.random.normal(first, (d, h), jnp.float32) / d**0.5, jnp.zeros(h, jnp.float32),
        jax.random.normal(second, (h, o), jnp.float32) / h**0.5, jnp.zeros(o, jnp.float32),
    ]  # fmt: skip


def torch_runs(inputs: Any, targets: Any, starts: Any, rates: Any) -> Any:
    """The same runs by torch.func.vmap, or None."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    x, y = torch.tensor(np.array(inputs)), torch.tensor(np.array(targets))
    leaves = [torch.tensor(np.array(leaf)) for leaf in starts]
    steps = torch.tensor(np.array(rates))

    def loss(parameters: Any) -> Any:
        w1, b1, w2, b2 = parameters
        return (((torch.tanh(x @ w1 + b1) @ w2 + b2) - y) ** 2).sum(1).mean() / 2

    slope = torch.func.vmap(torch.func.grad(loss))

    def run() -> Any:
        parameters = leaves
        for _ in range(STEPS):
            slopes = slope(parameters)
            parameters = [
                p - steps.reshape(-1, *[1] * (p.ndim - 1)) * g for p, g in zip(parameters, slopes, strict=True)
            ]
        return parameters[0].sum().item()

    return run


def main() -> None:
    """Measure, print and write the table."""
    inputs, targets, sizes = problem()
    rates = jnp.repeat(jnp.geomspace(0.01, 1.0, RATES, dtype=jnp.float32), SEEDS)
    keys = jnp.tile(jax.random.split(jax.random.key(0), SEEDS), RATES)
    starts = jax.vmap(lambda key: start(key, sizes))(keys)

    def loss(p: Any) -> Any:
        return jnp.mean(jnp.sum((jnp.tanh(inputs @ p[0] + p[1]) @ p[2] + p[3] - targets) ** 2, axis=1)) / 2

    objective = sx.as_objective(loss)

    @jax.jit
    def ours(rates: Any, starts: Any) -> Any:
        def one(rate: Any, begin: Any) -> Any:
            return sx.evolve(sx.optimization.GradientDescent(objective, rate), begin, steps=STEPS, save="last").final

        return jax.vmap(one)(rates, starts)

    slope = jax.jit(jax.vmap(jax.grad(loss)))

    def floor() -> Any:
        value: Any = None
        for _ in range(STEPS):
            value = jax.block_until_ready(slope(starts))
        return value

    @eqx.filter_jit
    def step(parameters: Any, state: Any, rate: Any) -> Any:
        updates, state = optax.scale_by_learning_rate(rate).update(jax.grad(loss)(parameters), state)
        return optax.apply_updates(parameters, updates), state

    def loop() -> Any:
        value: Any = None
        for run in range(FEW):
            value, state = jax.tree.map(lambda leaf, i=run: leaf[i], starts), optax.EmptyState()
            for _ in range(STEPS):
                value, state = step(value, state, rates[run * SEEDS])
            jax.block_until_ready(value)
        return value

    began = time.perf_counter()
    jax.block_until_ready(ours(rates, starts))
    first = {"ours": time.perf_counter() - began}

    def trial(rate: Any, seed: Any) -> Any:
        begin = start(jax.random.split(jax.random.key(0), SEEDS)[jnp.asarray(seed)], sizes)
        descent = sx.optimization.GradientDescent(objective, jnp.asarray(rate, jnp.float32))
        path = sx.evolve(descent, begin, steps=STEPS, save="last")
        return {"path": path, "loss": loss(path.last)}

    space = {"rate": sx.Range(0.01, 1.0, count=RATES, log=True), "seed": range(SEEDS)}

    def swept() -> Any:
        return sx.sweep(trial, space, shard=RATES * SEEDS, together=True)["loss"]

    work = {"ours": lambda: ours(rates, starts), "sweep": swept, "floor": floor, "loop": loop}
    torch_run = torch_runs(inputs, targets, starts, rates)
    if torch_run is not None:
        work["torch.func.vmap"] = torch_run
    taken = interleaved(work, 5)
    # Time of the processor counts what all cores did: so it compares what one core gets done.
    core = interleaved(work, 3, 0, time.process_time)
    for found in (taken, core):
        found["loop"] *= RATES * SEEDS / FEW
    rows = [
        [name, seconds, seconds / taken["ours"], core[name], core[name] / core["ours"], first.get(name)]
        for name, seconds in taken.items()
    ]
    notes = (
        f"Seconds for {RATES * SEEDS} runs of {STEPS} steps, of the wall and of the cores together; the loop "
        f"measured on {FEW} runs and scaled. `sweep` compiles at each call, makes a table and checks each run."
    )
    columns = ["what", "seconds", "/ ours", "core seconds", "/ ours", "first call"]
    report("P6", "1,024 training runs at once", columns, rows, notes)


if __name__ == "__main__":
    main()
