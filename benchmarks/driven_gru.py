"""The leading 20 exponents of a GRU of 512 units that reads images row by row, in one call, over a plain scan.

1,000 rows of 8 pixels; the recurrent matrix is orthogonal times 1.5, float64. Plain is a `lax.scan` that pushes 20 tangents
by `vmap` of `jvp` and orthonormalises as often as ours, every 5 rows; CPU seconds of the process, after compilation.
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from _table import interleaved, report

import separatrix as sx

UNITS, COUNT, ROWS, WARM, EVERY = 512, 20, 1000, 200, 5


def main() -> None:
    """One row each."""
    record = jnp.asarray(sx.load("digits").inputs, jnp.float64).reshape(-1, 8)[: ROWS + WARM]
    cell = eqx.nn.GRUCell(8, UNITS, key=jax.random.key(0), dtype=jnp.float64)
    cell = sx.recurrent.with_recurrent_gain(cell, 1.5, key=jax.random.key(1))
    driven, zero = sx.from_cell(cell, record), jnp.zeros(UNITS)

    def ours() -> Any:
        return sx.lyapunov_spectrum(driven, zero, count=COUNT, transient=WARM, interval=EVERY, batches=50)

    @eqx.filter_jit
    def plain(cell: Any, record: Any) -> Any:
        def row(carried: Any, u: Any) -> tuple[Any, None]:
            x, v = carried
            push = lambda d: jax.jvp(lambda x: cell(u, x), (x,), (d,))[1]  # noqa: E731
            return (cell(u, x), jax.vmap(push, in_axes=1, out_axes=1)(v)), None

        def piece(carried: Any, rows: Any) -> tuple[Any, Any]:
            x, v = jax.lax.scan(row, carried, rows)[0]
            v, r = jnp.linalg.qr(v)
            return (x, v), jnp.log(jnp.abs(jnp.diagonal(r)))

        start = jax.random.normal(jax.random.key(2), (UNITS, COUNT))
        sums = jax.lax.scan(piece, (zero, jnp.linalg.qr(start)[0]), record.reshape(-1, EVERY, 8))[1]
        return jnp.sum(sums[WARM // EVERY :], axis=0) / ROWS

    begun = time.process_time()
    found = ours()
    first = time.process_time() - begun
    print(found)
    apart = float(jnp.max(jnp.abs(found.exponents - plain(cell, record))))
    spent = interleaved(
        {"ours": lambda: ours().exponents, "plain": lambda: plain(cell, record)}, repeats=2, clock=time.process_time
    )
    rows = [["20 exponents of 512 units, 1,000 rows", spent["ours"], spent["plain"], spent["ours"] / spent["plain"]]]
    notes = f"largest distance from the plain scan {apart:.1e} nats a step; a first call takes {first:.1f} CPU s"
    columns = ["exponents", "ours, CPU s", "plain, CPU s", "ratio"]
    report("driven_gru", "exponents of a driven GRU", columns, rows, notes)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
