"""What the stability instrument costs: an optax loop with the one line and without.

Adam on a 670k-parameter network 784-512-512-10, full batches of 1,024 enlarged handwritten digits, float32; a reading every
20 steps, every tenth of them wide, all as by default. The line is tried on the whole batch and on its first half, quarter
and eighth (`examples=`); the last column says how far the part's ratio is from that of the whole at worst. Products are per
reading, those of wide readings among them; a product's floor is two gradients, and one gradient is 5 % of 20 steps.
"""

import statistics
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import report

import separatrix as sx

STEPS, EXAMPLES, TURNS = 400, 1024, 3


def problem() -> tuple[Any, Any, Any]:
    """A network, and digits enlarged to 28 x 28."""
    digits = sx.load("digits")
    images = np.kron(digits.inputs[:EXAMPLES].reshape(-1, 8, 8), np.ones((1, 4, 4)))[:, 2:30, 2:30]
    model = eqx.nn.MLP(784, 10, 512, 2, jnp.tanh, key=jax.random.key(0), dtype=jnp.float32)
    return model, jnp.asarray(images.reshape(EXAMPLES, -1), jnp.float32), jnp.asarray(digits.targets[:EXAMPLES])


def loss(model: Any, inputs: Any, labels: Any) -> Any:
    """Mean cross entropy."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(inputs), labels))


def main() -> None:
    """Measure, print and write the table."""
    model, inputs, labels = problem()
    optimizer = optax.adam(1e-3)

    @eqx.filter_jit
    def step(model: Any, inner: Any) -> Any:
        value, slope = eqx.filter_value_and_grad(loss)(model, inputs, labels)
        updates, inner = optimizer.update(slope, inner, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), inner, value

    def run(monitor: Any) -> tuple[list[float], Any]:
        """Seconds of the first and of the second half."""
        here, inner, value = model, optimizer.init(eqx.filter(model, eqx.is_inexact_array)), None
        seconds = []
        for first in (0, STEPS // 2):
            began = time.perf_counter()
            for n in range(first, first + STEPS // 2):
                if monitor is not None:
                    monitor(n, here, inner, inputs, labels)
                here, inner, value = step(here, inner)
            jax.block_until_ready(value)
            seconds.append(time.perf_counter() - began)
        return seconds, monitor

    kinds = {
        "without": None, "whole batch": EXAMPLES, "a half": EXAMPLES // 2, "a quarter": EXAMPLES // 4,
        "an eighth": EXAMPLES // 8,
    }  # fmt: skip
    seconds: dict[str, list[list[float]]] = {name: [] for name in kinds}
    found: dict[str, Any] = {}
    for turn in range(1 + TURNS):
        for name, examples in kinds.items():
            monitor = None if examples is None else sx.StabilityMonitor(loss, optimizer, examples=examples)
            taken, monitor = run(monitor)
            if turn:
                seconds[name].append(taken)
            found[name] = None if monitor is None else monitor.report()
    halves = {name: [statistics.median(half) for half in zip(*taken, strict=True)] for name, taken in seconds.items()}
    rows = []
    for name, (early, late) in halves.items():
        before, after = halves["without"]
        row = [name, early, 100 * (early / before - 1), late, 100 * (late / after - 1)]
        report_of = found[name]
        if report_of is not None:
            off = float(np.nanmax(np.abs(report_of.ratios / found["whole batch"].ratios - 1)))
            row += [report_of.products / len(report_of.steps), off]
        rows.append(row + [None] * (7 - len(row)))
    columns = [
        "readings on", "s, first half", "% more", "s, second half", "% more", "products a reading", "largest difference",
    ]  # fmt: skip
    notes = f"Medians of {TURNS} runs after one that compiles. The first half holds the search from nothing."
    report("monitor", f"{STEPS} steps of training with a reading every 20", columns, rows, notes)


if __name__ == "__main__":
    main()
