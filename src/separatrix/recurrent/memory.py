r"""Memory capacity: how much of its past input a net holds in its state, for a linear readout.

    MC_k = squared correlation of u[n-k] and its best linear readout from x[n+1],      u[n] independent

MC = sum over k >= 0, where delay 0 is the input heard last; Jaeger's sum is over k >= 1. For a linear net x' = W x + v
u of N units, with K = (v, W v, W^2 v, ...) and C = K K^T,

    MC_k = (W^k v)^T C^-1 (W^k v),      sum over k >= 0  =  trace(C^-1 C)  =  rank of K  <=  N.

For a cycle of weight r and v on one unit, MC_k = (1 - r^(2N)) r^(2N floor(k/N)): Jaeger's sum is N - 1 + r^(2N).

**Reference:** Jaeger, *Short term memory in echo state networks* (2001), definition 1 and proposition 2; Rodan & Tino
(2011), theorem 1; Dambre et al., *Information processing capacity of dynamical systems* (2012), for the bias of a
finite record.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Checked, Key
from separatrix.diagnostics.result import Result, Row
from separatrix.recurrent.nets import cell_size
from separatrix.recurrent.reservoirs import collected, ridge_readout
from separatrix.systems import ranges

_PARTS = 16


class MemoryCapacity(Result):
    """What is held of each delay: `capacities` MC_0, ..., MC_K, with `errors` (zero where exact); `total`, from delay
    0; `jaeger`, from delay 1; and the errors of both sums."""

    capacities: Float[Array, " delays"]
    errors: Float[Array, " delays"]
    total: Float[Array, ""]
    total_error: Float[Array, ""]
    jaeger: Float[Array, ""]
    jaeger_error: Float[Array, ""]
    units: int = eqx.field(static=True)

    def rows(self) -> list[Row]:
        return [
            Row("sum from delay 0", self.total, self.total_error),
            Row("sum from delay 1 (Jaeger)", self.jaeger, self.jaeger_error),
            Row("units, at most", str(self.units)),
            Row("delay 0, 1, ...", self.capacities, self.errors),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        if float(self.capacities[-1]) > 2 * float(self.errors[-1]) + 1e-3:
            return ("the longest delay is still remembered: ask for more delays",)
        return ()


def linear_memory(weight: Any, inputs: Any, *, delays: Checked[int]) -> MemoryCapacity:
    r"""Return the memory of the linear net x' = W x + v u, from its matrices alone.

        MC_k = (W^k v)^T C^-1 (W^k v),      C = W C W^T + v v^T

    **Arguments:** W, shape (N, N), of spectral radius below 1; v, shape (N,); `delays`: K, the longest.

    **Returns:** a `MemoryCapacity`. Directions that hold less than 1e-14 of the largest part of C are left out:
    rounding has them, and their memory is lost in practice as well.

    **Raises:** `ValueError` for shapes that do not fit, or a radius of 1 and more.

    **Example:** ten units in a cycle of weight 0.9.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> cell = sx.recurrent.cycle_reservoir(1, 10, 0.9, key=jax.random.key(0), activation="identity")
    >>> found = sx.recurrent.linear_memory(cell.matrix, jnp.eye(10)[0], delays=2000)
    >>> round(float(found.jaeger), 6), round(float(found.total), 6)
    (9.121577, 10.0)

    **Reference:** Jaeger (2001), section 4; Rodan & Tino (2011), theorem 1.
    """
    w, v = np.asarray(weight, float), np.asarray(inputs, float)
    if w.ndim != 2 or v.shape != w.shape[:1] or w.shape[0] != w.shape[1]:
        got, do = f"shapes {w.shape} and {v.shape}", "Pass the matrix and one column of input weights."
        raise ValueError(explain("linear_memory: weight, inputs", got, "(N, N) and (N,)", do))
    ranges.finite("linear_memory: weight", w, "Repair the matrix.")
    ranges.finite("linear_memory: inputs", v, "Repair the vector.")
    delays = ranges.whole("linear_memory: delays", delays, "Take twice as many as units.")
    radius = float(np.max(np.abs(np.linalg.eigvals(w))))
    if not radius < 1:
        do = "Scale it by with_spectral_radius."
        raise ValueError(explain("linear_memory: spectral radius of weight", f"{radius:.6g}", "below 1", do))
    values, vectors = np.linalg.eigh(scipy.linalg.solve_discrete_lyapunov(w, np.outer(v, v)))
    kept = values > 1e-14 * values[-1]
    whiten = (vectors[:, kept] / np.sqrt(values[kept])).T
    held = np.empty(delays + 1)
    for k in range(delays + 1):
        held[k], v = np.sum((whiten @ v) ** 2), w @ v
    return _of(held, np.zeros_like(held), 0.0, 0.0, len(w))


def memory_capacity(
    cell: Any,
    *,
    delays: Checked[int],
    key: Key,
    steps: Checked[int] = 8_000,
    washout: Checked[int] = 200,
    ridge: Any = 1e-10,
) -> MemoryCapacity:
    r"""Measure the memory of a net driven by numbers drawn evenly from (-1, 1).

    **Arguments:**

    - `cell`: with one input. `delays`: K, the longest. `key`: the inputs.
    - `steps`: T, after the first `washout`, which do not count: half of them train the readouts, half test them.
    - `ridge`: as of `ridge_readout`.

    **Returns:** a `MemoryCapacity`: 1 - (mean squared error)/(variance) on the half that was not trained on, with
    errors over 16 parts of it. A readout of N units that holds nothing scores about -2 N/T: this bias is not taken off.

    **Raises:** `ValueError` for a cell with other than one input, or fewer steps than 4 units and delays.

    **Example:**

    >>> import jax, separatrix as sx
    >>> cell = sx.recurrent.cycle_reservoir(1, 5, 0.8, key=jax.random.key(0), input_gain=0.05)
    >>> found = sx.recurrent.memory_capacity(cell, delays=12, steps=2000, key=jax.random.key(1))
    >>> 4.0 < float(found.total) < 5.05
    True

    **Reference:** Jaeger (2001), section 3; Dambre et al. (2012), section 2 of the supplement.
    """
    size, heard = cell_size(cell, "hidden_size"), cell_size(cell, "input_size")
    if heard != 1:
        raise ValueError(explain("memory_capacity: cell", f"{heard} inputs", "one", "Pass a cell with one input."))
    delays = ranges.whole("memory_capacity: delays", delays, "Take twice as many as units.", least=0)
    washout = ranges.whole("memory_capacity: washout", washout, "Take 200.", least=0)
    steps = ranges.whole("memory_capacity: steps", steps, "Take 8,000.", least=max(64, 4 * (size + delays)))
    record = jax.random.uniform(key, (washout + delays + steps, 1), minval=-1, maxval=1)
    states = collected(cell, record)[0][washout + delays :]
    rows = np.arange(washout + delays, len(record))[:, None] - np.arange(delays + 1)
    targets = record[:, 0][rows]
    half = steps // 2
    weights = ridge_readout(states[:half], targets[:half], ridge)
    errors = np.asarray((states[half:] @ weights[:, 1:].T + weights[None, :, 0] - targets[half:]) ** 2)
    length = len(errors) // _PARTS
    in_parts = lambda rows: np.asarray(rows)[: _PARTS * length].reshape(_PARTS, length, -1).mean(axis=1)  # noqa: E731
    parts = 1 - in_parts(errors) / in_parts(targets[half:] ** 2)
    bars = parts.std(axis=0, ddof=1) / _PARTS**0.5
    total, jaeger = (float(block.sum(axis=1).std(ddof=1)) / _PARTS**0.5 for block in (parts, parts[:, 1:]))
    whole = 1 - errors.mean(axis=0) / np.asarray(targets[half:] ** 2).mean(axis=0)
    return _of(whole, bars, total, jaeger, size)


def _of(held: Any, errors: Any, total: float, jaeger: float, size: int) -> MemoryCapacity:
    numbers = (held, errors, held.sum(), total, held[1:].sum(), jaeger)
    return MemoryCapacity(*(jnp.asarray(number) for number in numbers), units=size)
