r"""P13: the fixed points of a trained network, from many states that it visits.

A GRU is trained on the flip-flop task (three bits; a pulse of +-1 on a channel sets it, the output holds what was set), then
frozen at input 0; starts are states along runs of the task plus noise. On the same network and starts, in one run:

- ours: `fixed_points`, and with `slow=True`, which gives minima of q = |F(x) - x|^2/2 too;
- a plain Newton that any user would write: `vmap(jacfwd)`, a batched solve, all starts until the slowest has settled;
- FixedPointFinder's method: all starts at once, Adam on the mean of q, its learning rate falling when the mean does not fall,
  until each q is below the tolerance or changes by less (Golub & Sussillo, *FixedPointFinder* (2018), its defaults: at most
  5,000 iterations, q <= 1e-12, learning rate 1e-2 by its schedule, which lowers it by 0.95 after 5 iterations without gain).
  The package is in no registry; this is its algorithm in JAX, compiled as one loop.

Reported are the median wall time of a call once compiled, over ours; how many starts ended at a root (|F(x) - x| <= 1e-9
max(1, |x|)); how many distinct points that makes; and the median residual of those that did.
"""

import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import interleaved, report

import separatrix as sx

BITS, STEPS, BATCH, TRAINING = 3, 64, 128, 600
ROOT = 1e-9


def flip_flops(key: Any, count: int) -> tuple[Any, Any]:
    """Pulses (count, T, bits) and what is held, the same shape."""
    pulses = jax.random.choice(key, jnp.array([-1.0, 0.0, 1.0]), (count, STEPS, BITS), p=jnp.array([0.1, 0.8, 0.1]))
    pulses = pulses.at[:, 0].set(jnp.where(pulses[:, 0] == 0, 1.0, pulses[:, 0]))

    def hold(kept: Any, pulse: Any) -> Any:
        kept = jnp.where(pulse == 0, kept, pulse)
        return kept, kept

    return pulses, jax.vmap(lambda row: jax.lax.scan(hold, jnp.zeros(BITS), row)[1])(pulses)


class Network(eqx.Module):
    """A GRU and what reads it."""

    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    def states(self, pulses: Any) -> Any:
        begin = jnp.zeros(self.cell.hidden_size, pulses.dtype)
        return jax.lax.scan(lambda x, u: (self.cell(u, x),) * 2, begin, pulses)[1]


def trained(units: int, steps: int) -> Network:
    """Trained in float32, returned in float64."""
    keys = jax.random.split(jax.random.key(0), 3)
    net = Network(
        eqx.nn.GRUCell(BITS, units, key=keys[0], dtype=jnp.float32),
        eqx.nn.Linear(units, BITS, key=keys[1], dtype=jnp.float32),
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3 * min(1.0, 64 / units)))
    state = optimiser.init(eqx.filter(net, eqx.is_array))

    @eqx.filter_jit
    def step(net: Any, state: Any, key: Any) -> Any:
        pulses, kept = (part.astype(jnp.float32) for part in flip_flops(key, BATCH))

        def loss(net: Any) -> Any:
            out = jax.vmap(lambda row: jax.vmap(net.head)(net.states(row)))(pulses)
            return jnp.mean((out - kept) ** 2)

        value, gradient = eqx.filter_value_and_grad(loss)(net)
        updates, state = optimiser.update(gradient, state)
        return eqx.apply_updates(net, updates), state, value

    value = np.inf
    for number in range(steps):
        net, state, value = step(net, state, jax.random.fold_in(keys[2], number))
    print(f"{units} units trained: mean squared error {float(value):.3g}", file=sys.stderr)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf, net)


def visited(net: Network, count: int) -> Any:
    """States of the task, each moved by noise of a tenth."""
    pulses, _ = flip_flops(jax.random.key(7), 32)
    states = jax.vmap(net.states)(pulses).reshape(-1, net.cell.hidden_size)
    keys = jax.random.split(jax.random.key(8))
    chosen = states[jax.random.permutation(keys[0], len(states))[:count]]
    return chosen + 0.1 * jax.random.normal(keys[1], chosen.shape)


@eqx.filter_jit
def plain_newton(cell: Any, starts: Any) -> Any:
    """x <- x - (DF - 1)^-1 (F(x) - x), until every start has settled or 50 steps."""
    equation = lambda x: cell(jnp.zeros(cell.input_size), x) - x  # noqa: E731

    def step(state: Any) -> Any:
        x, _, number = state
        d = jnp.linalg.solve(jax.vmap(jax.jacfwd(equation))(x), jax.vmap(equation)(x)[:, :, None])[:, :, 0]
        return x - d, jnp.max(jnp.abs(d)), number + 1

    going = lambda state: (state[1] > 1e-10) & (state[2] < 50)  # noqa: E731
    return jax.lax.while_loop(going, step, (starts, jnp.asarray(jnp.inf), jnp.asarray(0)))[0]


@eqx.filter_jit
def fixed_point_finder(cell: Any, starts: Any) -> Any:
    """Adam on the mean of q over all starts."""
    speeds = lambda x: 0.5 * jnp.sum((jax.vmap(lambda x: cell(jnp.zeros(cell.input_size), x))(x) - x) ** 2, axis=1)  # noqa: E731
    adam = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)

    def step(state: Any) -> Any:
        x, memory, _, change, best, worse, number = state
        (mean, q), gradient = jax.value_and_grad(lambda x: (jnp.mean(speeds(x)), speeds(x)), has_aux=True)(x)
        worse = jnp.where(mean < best, 0, worse + 1)
        rate = jnp.where(worse >= 5, 0.95 * memory.hyperparams["learning_rate"], memory.hyperparams["learning_rate"])
        memory.hyperparams["learning_rate"] = rate
        updates, memory = adam.update(gradient, memory)
        return x + updates, memory, q, jnp.abs(q - state[2]), jnp.minimum(best, mean), worse % 5, number + 1

    def going(state: Any) -> Any:
        settled = (state[2] < 1e-12) | (state[3] < 1e-12 * jnp.maximum(rate_of(state), 1e-30))
        return ~jnp.all(settled) & (state[6] < 5000)

    rate_of = lambda state: state[1].hyperparams["learning_rate"]  # noqa: E731
    none = jnp.full(len(starts), jnp.inf)
    start = (starts, adam.init(starts), none, none, jnp.asarray(jnp.inf), jnp.asarray(0), jnp.asarray(0))
    return jax.lax.while_loop(going, step, start)[0]


def judged(cell: Any, points: Any) -> tuple[int, int, float]:
    """Roots, distinct roots, and their median residual."""
    moved = jax.vmap(lambda x: cell(jnp.zeros(cell.input_size), x))(points) - points
    points = np.asarray(points)
    residuals = np.linalg.norm(moved, axis=1) / np.maximum(1, np.linalg.norm(points, axis=1))
    good = points[residuals <= ROOT]
    chosen: list[Any] = []
    for point in good:
        if not any(np.linalg.norm(point - other) <= 1e-4 * max(1, np.linalg.norm(point)) for other in chosen):
            chosen.append(point)
    return len(good), len(chosen), float(np.median(residuals[residuals <= ROOT])) if len(good) else np.nan


def rows_for(units: int, starts: int, steps: int, repeats: int) -> list[list[Any]]:
    """Every method on one network."""
    net = trained(units, steps)
    cell, guesses = net.cell, visited(net, starts)
    system = sx.as_map(lambda x: cell(jnp.zeros(BITS), x))
    functions = {
        "ours": lambda: sx.fixed_points(system, guesses).coordinates,
        "ours, slow points too": lambda: sx.fixed_points(system, guesses, slow=True).coordinates,
        "plain Newton": lambda: plain_newton(cell, guesses),
        "FixedPointFinder's method": lambda: fixed_point_finder(cell, guesses),
    }
    first, out = {}, []
    for name, function in functions.items():
        begin = time.process_time()
        jax.block_until_ready(function())
        first[name] = time.process_time() - begin
    median = interleaved(functions, repeats, 0)
    for name, function in functions.items():
        if name.startswith("ours"):
            found = sx.fixed_points(system, guesses, slow="slow" in name)
            real = ~np.asarray(found.slow)
            ended = (
                int(np.sum(np.asarray(found.counts)[real])),
                int(real.sum()),
                float(np.median(np.asarray(found.residuals)[real])) if real.any() else np.nan,
            )
        else:
            ended = judged(cell, function())
        cold = first[name]
        out.append(
            [f"{units} units, {starts} starts: {name}", median[name], median[name] / median["ours"], cold, *ended]
        )
    return out


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    rows = rows_for(64, 192, TRAINING, 3)
    if "--small" not in sys.argv:
        rows += rows_for(512, 64, 150, 1)
    columns = ["method", "seconds", "over ours", "first call, CPU s", "starts at a root", "points", "median residual"]
    notes = "A first call compiles. Ours gives spectra, kinds and counts as well; the others give points alone."
    report("P13", "fixed points of a GRU trained on three flip-flops, float64", columns, rows, notes)


if __name__ == "__main__":
    main()
