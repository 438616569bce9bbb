r"""P13: the fixed points of a trained network, from many states that it visits.

A GRU is trained on the flip-flop task (three bits; a pulse of +-1 on a channel sets it, the output holds what was set) and
frozen at input 0; starts are states along runs of the task plus noise. On the same network and starts, in one run:

- ours: `fixed_points`, and with `slow=True`, which gives minima of q = |F(x) - x|^2/2 too;
- a plain Newton that any user would write: `vmap(jacfwd)`, a batched solve, all starts until the slowest has settled;
- FixedPointFinder's method: Adam on the mean of q over all starts, by the defaults of its PyTorch version: rate 0.05, times
  0.7 every 500 iterations, until every q is below 1e-12 or changes by less than 1e-20, 5,000 iterations at most (Golub &
  Sussillo, *FixedPointFinder* (2018)). The package is in no registry: this is its algorithm in JAX, as one compiled loop.

Reported are the median wall time of a call once compiled, also over ours; how many starts ended at a root,
|F(x) - x| <= tol max(1, |x|) with tol = 1e-9 (2e-6 for FixedPointFinder's method, which stops there); how many points that
makes; and the median residual there.
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
ROOT, FINDER_ROOT = 1e-9, 2e-6


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


def trained(units: int, steps: int, batch: int = BATCH) -> Network:
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
        pulses, kept = (part.astype(jnp.float32) for part in flip_flops(key, batch))

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
    adam = optax.adam(optax.exponential_decay(0.05, 500, 0.7, staircase=True))

    def mean(x: Any) -> Any:
        q = speeds(x)
        return jnp.mean(q), q

    def step(state: Any) -> Any:
        x, memory, before, _, number = state
        (_, q), gradient = jax.value_and_grad(mean, has_aux=True)(x)
        updates, memory = adam.update(gradient, memory)
        settled = jnp.all((q < 1e-12) | (jnp.abs(q - before) < 1e-20))
        return x + updates, memory, q, settled, number + 1

    start = (starts, adam.init(starts), jnp.full(len(starts), jnp.inf), jnp.asarray(False), jnp.asarray(0))
    return jax.lax.while_loop(lambda state: ~state[3] & (state[4] < 5000), step, start)[0]


def judged(cell: Any, points: Any, tol: float) -> tuple[int, int, float]:
    """Roots, distinct roots, and their median residual."""
    moved = jax.vmap(lambda x: cell(jnp.zeros(cell.input_size), x))(points) - points
    points = np.asarray(points)
    residuals = np.linalg.norm(moved, axis=1) / np.maximum(1, np.linalg.norm(points, axis=1))
    good = points[residuals <= tol]
    chosen: list[Any] = []
    for point in good:
        if not any(np.linalg.norm(point - other) <= 1e-4 * max(1, np.linalg.norm(point)) for other in chosen):
            chosen.append(point)
    return len(good), len(chosen), float(np.median(residuals[residuals <= tol])) if len(good) else np.nan


def rows_for(net: Network, starts: int, repeats: int, finder: bool = True) -> list[list[Any]]:
    """Every method on one network."""
    units = net.cell.hidden_size
    cell, guesses = net.cell, visited(net, starts)
    system = sx.as_map(lambda x: cell(jnp.zeros(BITS), x))
    functions = {
        "ours": lambda: sx.fixed_points(system, guesses).coordinates,
        "ours, slow points too": lambda: sx.fixed_points(system, guesses, slow=True).coordinates,
        "plain Newton": lambda: plain_newton(cell, guesses),
        "FixedPointFinder's method": lambda: fixed_point_finder(cell, guesses),
    }
    if not finder:
        functions.pop("FixedPointFinder's method")
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
            ended = judged(cell, function(), ROOT if "Newton" in name else FINDER_ROOT)
        cold = first[name]
        out.append(
            [f"{units} units, {starts} starts: {name}", median[name], median[name] / median["ours"], cold, *ended]
        )
    return out


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    rows = rows_for(trained(64, TRAINING), 192, 3)
    if "--small" not in sys.argv:
        # Trained for a while only; there the gradient's method takes minutes a call.
        rows += rows_for(trained(512, 60, 32), 64, 1, finder=False)
    columns = ["method", "seconds", "over ours", "first call, CPU s", "starts at a root", "points", "median residual"]
    notes = "A first call compiles. Ours gives spectra, kinds and counts as well; the others give points alone."
    report("P13", "fixed points of a GRU trained on three flip-flops, float64", columns, rows, notes)


if __name__ == "__main__":
    main()
