"""What the stability instrument costs: an optax loop with the one line, with the one word, and without.

Adam on a 670k-parameter network 784-512-512-10, float32, on 1,024 enlarged handwritten digits: all the same ones, or drawn
anew each step. A reading every 20 steps, every tenth of the monitor's a wide one, all as by default. Timed are 200 steps of
a run that is under way, one wide reading among them: CPU seconds, each kind beside the loop without in turn. A gradient a
reading is 5 % of 20 steps. Products are per reading, the first search among them.
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

WARM, STEPS, EXAMPLES, TURNS = 110, 200, 1024, 2


def problem() -> tuple[Any, Any, Any]:
    """A network, and digits enlarged to 28 x 28."""
    digits = sx.load("digits")
    images = np.kron(digits.inputs.reshape(-1, 8, 8), np.ones((1, 4, 4)))[:, 2:30, 2:30]
    model = eqx.nn.MLP(784, 10, 512, 2, jnp.tanh, key=jax.random.key(0), dtype=jnp.float32)
    return model, jnp.asarray(images.reshape(len(images), -1), jnp.float32), jnp.asarray(digits.targets)


def loss(model: Any, inputs: Any, labels: Any) -> Any:
    """Mean cross entropy."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(inputs), labels))


MODEL, INPUTS, LABELS = problem()
ADAM = optax.adam(1e-3)
KINDS = {
    "without": (ADAM, False, False),
    "the line": (ADAM, True, False),
    "the word": (sx.watch(ADAM), False, False),
    "the word, value_fn": (sx.watch(ADAM), False, True),
}


def run(kind: str, drawn: bool) -> tuple[float, float]:
    """(CPU seconds of the steps that are timed, products a reading)."""
    optimizer, has_monitor, has_loss = KINDS[kind]
    parameters, rest = eqx.partition(MODEL, eqx.is_inexact_array)
    monitor, rng = sx.StabilityMonitor(loss, optimizer) if has_monitor else None, np.random.default_rng(0)

    @eqx.filter_jit
    def step(parameters: Any, inner: Any, inputs: Any, labels: Any) -> Any:
        function = lambda p: loss(eqx.combine(p, rest), inputs, labels)  # noqa: E731
        value, slope = jax.value_and_grad(function)(parameters)
        extra = {"value": value, "value_fn": function} if has_loss else {}
        updates, inner = optax.with_extra_args_support(optimizer).update(slope, inner, parameters, **extra)
        return optax.apply_updates(parameters, updates), inner, value

    inner, value, began = optimizer.init(parameters), None, 0.0
    batch = INPUTS[:EXAMPLES], LABELS[:EXAMPLES]
    for n in range(WARM + STEPS):
        if n == WARM:
            jax.block_until_ready(value)
            began = time.process_time()
        if drawn:
            chosen = rng.integers(0, len(LABELS), EXAMPLES)
            batch = INPUTS[chosen], LABELS[chosen]
        if monitor is not None:
            monitor(n, eqx.combine(parameters, rest), inner, *batch)
        parameters, inner, value = step(parameters, inner, *batch)
    jax.block_until_ready(value)
    took = time.process_time() - began
    if monitor is None:
        monitor = sx.StabilityMonitor()
        if kind != "without":
            monitor.read(inner)
    found = monitor.report()
    return took, found.products / max(len(found.steps), 1)


def main() -> None:
    """Measure, print and write the table."""
    rows = []
    for drawn in (False, True):
        taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
        products = {}
        for _ in range(TURNS):
            for kind in KINDS:
                seconds, products[kind] = run(kind, drawn)
                taken[kind].append(seconds)
        bare = statistics.median(taken["without"])
        for kind, seconds in taken.items():
            middle = statistics.median(seconds)
            rows.append([kind, "drawn" if drawn else "all", middle, 100 * (middle / bare - 1), products[kind] or None])
    columns = ["readings by", "batches", "CPU s", "% more", "products a reading"]
    report("monitor", f"{STEPS} steps of training with a reading every 20", columns, rows, f"Medians of {TURNS} runs.")


if __name__ == "__main__":
    main()
