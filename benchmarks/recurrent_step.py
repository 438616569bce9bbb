r"""Row P8: a training step of an LSTM, batch 64, 128 steps, 256 units, 64 inputs: ours, a scan, PyTorch, and the floor.

The loss is the mean square of an affine readout of each state against targets; Adam of rate 1e-3; float32. Ours is `fit`
of a `SequenceLabeler`; plain is `lax.scan` over equinox's cell and optax; PyTorch is `torch.nn.LSTM` and
`torch.optim.Adam`, eagerly. The floor is the arithmetic that cannot be avoided, 3 x 2 x B T x 4 H (I + H) operations, as
products of matrices of all steps at once, by XLA. More rows say where the time of a scan goes:

- products one step at a time: the same three, in a scan, without gates;
- gates alone: the scan forth and back without products;

- input product outside: W u of all steps is one product before the scan;
- weight gradients outside too: the way back carries the gradient of the state alone, and the gradient of the recurrent
  matrix is one product over all steps, sum_n dz[n] h[n-1]^T, where plain reverse mode adds up 128 of them.

The process keeps to one core, and CPU seconds are counted, so that threads and other work do not matter.
"""

import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import interleaved, report

import separatrix as sx

BATCH, STEPS, UNITS, INPUTS, TAKEN = 64, 128, 256, 64, 8


def data() -> tuple[Any, Any]:
    """One batch: inputs (B, T, I), targets (B, T, 1)."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(BATCH, STEPS, INPUTS)).astype(np.float32)
    return inputs, np.tanh(inputs.cumsum(axis=1)[..., :1] / 5)


def model() -> Any:
    """A cell with its readout."""
    cell = eqx.nn.LSTMCell(INPUTS, UNITS, key=jax.random.key(0), dtype=jnp.float32)
    return sx.recurrent.SequenceLabeler(cell, 1, key=jax.random.key(1))


def ours(batch: Any) -> Callable[[], Any]:
    """`fit`, so many steps of it."""

    def loss(model: Any, batch: Any) -> Any:
        return jnp.mean((jax.vmap(model)(batch[0]) - batch[1]) ** 2)

    start, adam = model(), optax.adam(1e-3)
    return lambda: eqx.filter(
        sx.fit(loss, adam, batch, initial=start, steps=TAKEN, key=jax.random.key(2), every=TAKEN).model, eqx.is_array
    )


def by_hand(batch: Any, states: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    """So many steps of Adam on what `states` (cell, inputs) gives, (T, B, H)."""
    start, adam = model(), optax.adam(1e-3)
    inputs, targets = (jnp.asarray(part).swapaxes(0, 1) for part in batch)

    def loss(model: Any) -> Any:
        hidden = states(model.cell, inputs)
        return jnp.mean((hidden @ model.readout.weight.T + model.readout.bias - targets) ** 2)

    @eqx.filter_jit
    def step(model: Any, memory: Any) -> tuple[Any, Any]:
        updates, memory = adam.update(eqx.filter_grad(loss)(model), memory)
        return eqx.apply_updates(model, updates), memory

    def run() -> Any:
        now = start, adam.init(eqx.filter(start, eqx.is_array))
        for _ in range(TAKEN):
            now = step(*now)
        return eqx.filter(now[0], eqx.is_array)

    return run


def scanned(cell: Any, inputs: Any) -> Any:
    """Equinox's cell, step by step."""

    def step(state: Any, u: Any) -> tuple[Any, Any]:
        state = jax.vmap(cell)(u, state)
        return state, state[0]

    zero = jnp.zeros((BATCH, UNITS), jnp.float32)
    return jax.lax.scan(step, (zero, zero), inputs)[1]


def gates(z: Any, c: Any) -> tuple[Any, Any]:
    """(h', c') of the four fields, in equinox's order."""
    i, f, g, o = jnp.split(z, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def input_outside(cell: Any, inputs: Any) -> Any:
    """W u of all steps before the scan."""

    def step(state: Any, fields: Any) -> tuple[Any, Any]:
        state = gates(fields + state[0] @ cell.weight_hh.T, state[1])
        return state, state[0]

    zero = jnp.zeros((BATCH, UNITS), jnp.float32)
    return jax.lax.scan(step, (zero, zero), inputs @ cell.weight_ih.T + cell.bias)[1]


@jax.custom_vjp
def _loop(fields: Any, weight: Any) -> Any:
    return _loop_forth(fields, weight)[0]


def _loop_forth(fields: Any, weight: Any) -> tuple[Any, Any]:
    def step(state: Any, field: Any) -> tuple[Any, Any]:
        z = field + state[0] @ weight.T
        after = gates(z, state[1])
        return after, (after[0], z, *state)

    zero = jnp.zeros((BATCH, UNITS), jnp.float32)
    hidden, *kept = jax.lax.scan(step, (zero, zero), fields)[1]
    return hidden, (*kept, weight)


def _loop_back(kept: Any, along: Any) -> tuple[Any, Any]:
    fields, before, cells, weight = kept

    def step(carried: Any, row: Any) -> tuple[Any, Any]:
        of_h, of_c = carried
        z, c, given = row
        of_z, of_c = jax.vjp(gates, z, c)[1]((of_h + given, of_c))
        return (of_z @ weight, of_c), of_z

    zero = jnp.zeros((BATCH, UNITS), jnp.float32)
    of_fields = jax.lax.scan(step, (zero, zero), (fields, cells, along), reverse=True)[1]
    rows = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
    return of_fields, rows(of_fields).T @ rows(before)


_loop.defvjp(_loop_forth, _loop_back)


def gradients_outside(cell: Any, inputs: Any) -> Any:
    """And the gradient of the recurrent matrix after it."""
    return _loop(inputs @ cell.weight_ih.T + cell.bias, cell.weight_hh)


def floor() -> Callable[[], Any]:
    """The operations of so many steps as large products: forth, to the states, to the weights."""
    rows = jnp.ones((BATCH * STEPS, INPUTS + UNITS), jnp.float32)
    weight = jnp.ones((4 * UNITS, INPUTS + UNITS), jnp.float32)

    @jax.jit
    def products(rows: Any, weight: Any) -> Any:
        fields = rows @ weight.T
        return fields @ weight, fields.T @ rows

    return lambda: [products(rows, weight) for _ in range(TAKEN)]


def in_turn(products: bool) -> Callable[[], Any]:
    """The products of each step in its turn without gates, or the gates and their gradients without products."""
    weight = jnp.full((4 * UNITS, INPUTS + UNITS), 0.01, jnp.float32)
    row, fields = jnp.ones((BATCH, INPUTS + UNITS), jnp.float32), jnp.ones((STEPS, BATCH, 4 * UNITS), jnp.float32)

    def multiplied(carried: Any, _: Any) -> tuple[Any, None]:
        row, total = carried
        z = row @ weight.T
        return (z @ weight * 1e-3, total + z.T @ row), None

    def gated(fields: Any) -> Any:
        zero = jnp.zeros((BATCH, UNITS), jnp.float32)
        step = lambda c, z: gates(z, c)[::-1]  # noqa: E731
        return jnp.sum(jax.lax.scan(step, zero, fields)[1])

    once = jax.jit(lambda: jax.lax.scan(multiplied, (row, jnp.zeros_like(weight)), None, STEPS)[0])
    also = jax.jit(jax.grad(gated))
    return lambda: [once() if products else also(fields) for _ in range(TAKEN)]


def torch_eager(batch: Any) -> Callable[[], Any]:
    """PyTorch as its users write it."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, readout = torch.nn.LSTM(INPUTS, UNITS, batch_first=True), torch.nn.Linear(UNITS, 1)
    adam = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=1e-3)
    inputs, targets = map(torch.from_numpy, batch)

    def run() -> None:
        for _ in range(TAKEN):
            adam.zero_grad()
            torch.mean((readout(net(inputs)[0]) - targets) ** 2).backward()
            adam.step()

    return run


def main() -> None:
    """All in turn, in CPU milliseconds a step and over PyTorch."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    batch = data()
    same = [by_hand(batch, states)() for states in (scanned, gradients_outside)]
    apart = max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, same), strict=True))
    runs = {
        "ours, fit of a SequenceLabeler": ours(batch),
        "plain scan over equinox's cell": by_hand(batch, scanned),
        "plain, input product outside": by_hand(batch, input_outside),
        "plain, weight gradients outside too": by_hand(batch, gradients_outside),
        "products one step at a time": in_turn(True),
        "gates alone": in_turn(False),
        "floor: the products alone": floor(),
    }
    if importlib.util.find_spec("torch"):
        runs["PyTorch, eager"] = torch_eager(batch)
    found = interleaved(runs, repeats=3, clock=time.process_time)
    peer = found.get("PyTorch, eager")
    work = 6 * BATCH * STEPS * 4 * UNITS * (INPUTS + UNITS) * TAKEN / 1e9
    rows = [[name, 1e3 * spent / TAKEN, spent / peer if peer else None, work / spent] for name, spent in found.items()]
    columns = ["step", "CPU ms", "over PyTorch", "Gflop a CPU second"]
    report("recurrent_step", "LSTM, batch 64, 128 steps, 256 units", columns, rows,
           f"weights after {TAKEN} steps with gradients outside: within {apart:.1e} of the plain scan's")  # fmt: skip


if __name__ == "__main__":
    main()
