"""What `fit` costs: Adam on batches drawn by the step's key, over a bare `lax.scan` of the same steps.

A network 64-W-W-10 on the handwritten digits, batches of 64, float32; W is chosen so that a bare step takes about 1 ms, and
one so small that a step is all overhead. All are timed in turn, after a call that compiles, by the time that this process
computes, which other work on the machine does not change. The columns are `fit` as it comes (a hundred measurements), with
one measurement, with epochs, and with a run folder.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from _table import interleaved, report

import separatrix as sx

KEY = jax.random.key(0)
BATCH = 64


def loss(net: Any, batch: Any) -> Any:
    """Mean cross entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(net)(batch[0]), batch[1]).mean()


def bare(net: Any, data: Any, steps: int) -> Any:
    """The loop written by hand."""
    parameters, rest = eqx.partition(net, eqx.is_inexact_array)
    optimizer = optax.adam(1e-3)

    @jax.jit
    def run(parameters: Any, inner: Any) -> Any:
        def step(carry: Any, n: Any) -> Any:
            parameters, inner = carry
            chosen = jax.random.randint(jax.random.fold_in(KEY, n), (BATCH,), 0, data[1].shape[0])
            batch = data[0][chosen], data[1][chosen]
            slope = jax.grad(lambda values: loss(eqx.combine(values, rest), batch))(parameters)
            updates, inner = optimizer.update(slope, inner, parameters)
            return (optax.apply_updates(parameters, updates), inner), None

        return jax.lax.scan(step, (parameters, inner), jnp.arange(steps))[0]

    inner = optimizer.init(parameters)
    return lambda: jax.block_until_ready(run(parameters, inner))


def main() -> None:
    """Measure, print and write the table."""
    digits = sx.load("digits").flat()
    data = jnp.asarray(digits.inputs, jnp.float32), jnp.asarray(digits.targets)
    rows = []
    folder = Path(tempfile.mkdtemp())
    for width, steps, repeats in ((16, 10_000, 5), (256, 1000, 7)):
        net = eqx.nn.MLP(64, 10, width, 2, jnp.tanh, key=KEY, dtype=jnp.float32)
        optimizer, count = optax.adam(1e-3), iter(range(10**6))
        settings = {"initial": net, "batch_size": BATCH, "key": KEY}

        def train(settings=settings, optimizer=optimizer, **more: Any) -> Any:
            return jax.block_until_ready(sx.fit(loss, optimizer, data, **(settings | more)).state)

        found = interleaved(
            {
                "bare": bare(net, data, steps),
                "fit": lambda train=train, steps=steps: train(steps=steps),
                "one": lambda train=train, steps=steps: train(steps=steps, every=steps),
                "epochs": lambda train=train, steps=steps: train(steps=steps, every=steps, draw="epochs"),
                "run": lambda train=train, steps=steps, n=count: train(steps=steps, run=folder / f"{next(n)}-{steps}"),
            },
            repeats,
            clock=time.process_time,
        )
        over = [found[name] / found["bare"] for name in ("fit", "one", "epochs", "run")]
        rows.append([f"64-{width}-{width}-10", steps, 1e3 * found["bare"] / steps, *over])
    shutil.rmtree(folder)
    columns = ["network", "steps", "ms a bare step", "fit", "one measurement", "epochs", "run folder"]
    report(
        "fit", "training through `fit`, over a bare scan", columns, rows, "CPU time. Medians of runs in turn; ratios."
    )


if __name__ == "__main__":
    main()
