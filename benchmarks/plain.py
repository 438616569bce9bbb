r"""P11: each question beside the plain loop that a user would write in twenty lines of JAX.

First the loops and questions of `_plain_questions.py`: the median of the CPU seconds of warm calls, taken in turn. Then the
exponents.

Three plain forms of the same run (RK4 with a fixed step, QR every so many steps, sums of logarithms):

    vmap     jax.vmap of jax.jvp of the whole step
    jacfwd   the Jacobian formed once a stage, one product of matrices
    rows     state and tangents as rows of one array, the product rule written out by hand

and of a map the first two. Ours is the bare call on the same interval of time, with its standard errors, its choice of step
and its checks. Times are medians of calls taken in turn; the first call of each, with its compilation, stands apart.
"""

import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
from _table import interleaved, report

jax.config.update("jax_enable_x64", True)

from _plain_questions import questions

import separatrix as sx


def lorenz(x: Any) -> Any:
    return jnp.stack([10.0 * (x[1] - x[0]), x[0] * (28.0 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


def lorenz_rows(z: Any) -> Any:
    x, v = z[0], z[1:]
    top = lorenz(x)
    tangents = jnp.stack(
        [
            10.0 * (v[:, 1] - v[:, 0]),
            v[:, 0] * (28.0 - x[2]) - x[0] * v[:, 2] - v[:, 1],
            v[:, 0] * x[1] + x[0] * v[:, 1] - 8 / 3 * v[:, 2],
        ],
        axis=1,
    )
    return jnp.concatenate([top[None], tangents])


def ring(x: Any) -> Any:
    return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + 8.0


def ring_rows(z: Any) -> Any:
    def shifted(k: int) -> Any:
        return jnp.roll(z, k, axis=1)

    a, b, c = shifted(-1), shifted(2), shifted(1)
    difference = a - b
    tangents = difference[1:] * c[0] + difference[0] * c[1:] - z[1:]
    top = difference[0] * c[0] - z[0] + 8.0
    return jnp.concatenate([top[None], tangents])


def rk4(velocity: Any, h: float) -> Any:
    def step(x: Any) -> Any:
        k1 = velocity(x)
        k2 = velocity(x + h / 2 * k1)
        k3 = velocity(x + h / 2 * k2)
        k4 = velocity(x + h * k3)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step


def by_vmap(step: Any) -> Any:
    def both(z: Any) -> Any:
        pushed = jax.vmap(lambda v: jax.jvp(step, (z[0],), (v,))[1])(z[1:])
        return jnp.concatenate([step(z[0])[None], pushed])

    return both


def by_jacfwd(velocity: Any, h: float) -> Any:
    def both(z: Any) -> Any:
        return jnp.concatenate([velocity(z[0])[None], z[1:] @ jax.jacfwd(velocity)(z[0]).T])

    return rk4(both, h)


def scan(step: Any, start: Any, count: int, steps: int, every: int) -> Any:
    """All of it: sums of ln R_ii over the whole run, from which the exponents follow."""

    @jax.jit
    def run(x: Any) -> Any:
        def interval(carry: Any, _: Any) -> Any:
            z = jax.lax.fori_loop(0, every, lambda i, z: step(z), carry, unroll=False)
            q, r = jnp.linalg.qr(z[1:].T)
            return jnp.concatenate([z[:1], q.T]), jnp.log(jnp.abs(jnp.diagonal(r)))

        rows = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (x.size, count)))[0].T
        z = jnp.concatenate([x[None], rows])
        return jax.lax.scan(interval, z, length=steps // every)[1]

    return lambda: run(start)


def cases() -> dict[str, tuple[dict[str, Any], Any]]:
    """Name to (plain forms, our call)."""
    found: dict[str, tuple[dict[str, Any], Any]] = {}
    start = jnp.array([1.0, 2.0, 20.0])
    flow = sx.as_flow(lorenz)
    h, steps, every = 0.01, 100_000, 10
    found["Lorenz-63, T 1,000"] = (
        {
            "vmap": scan(by_vmap(rk4(lorenz, h)), start, 3, steps, every),
            "jacfwd": scan(by_jacfwd(lorenz, h), start, 3, steps, every),
            "rows": scan(rk4(lorenz_rows, h), start, 3, steps, every),
        },
        lambda: sx.lyapunov_spectrum(flow, start, times=(0.0, 1_000.0)),
    )
    entry = sx.catalogue.entry("lorenz-96")
    ring_flow, ring_start = entry.build(), 8.0 + jnp.sin(jnp.arange(40.0))
    h, steps, every = 0.05, 2_000, 10
    found["Lorenz-96, N 40, T 100"] = (
        {
            "vmap": scan(by_vmap(rk4(ring, h)), ring_start, 40, steps, every),
            "jacfwd": scan(by_jacfwd(ring, h), ring_start, 40, steps, every),
            "rows": scan(rk4(ring_rows, h), ring_start, 40, steps, every),
        },
        lambda: sx.lyapunov_spectrum(ring_flow, ring_start, times=(0.0, 100.0)),
    )
    network = sx.recurrent.random_network(512, 1.5, key=jax.random.key(0))
    hidden = jax.random.normal(jax.random.key(1), (512,))

    def network_step(x: Any) -> Any:
        return network.step(0, x)

    for count, steps in ((20, 1_000), (512, 1_000)):
        found[f"network, N 512, {count} exponents, {steps} steps"] = (
            {"vmap": scan(by_vmap(network_step), hidden, count, steps, 1)},
            lambda count=count, steps=steps: sx.lyapunov_spectrum(network, hidden, count=count, steps=steps),
        )
    return found


def cpu_seconds(call: Any) -> float:
    began = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - began


def of_questions(words: list[str], repeats: int = 9) -> None:
    """Median CPU time of warm calls, taken in turn."""
    rows = []
    for name, (plain, ours) in questions(words).items():
        cold = cpu_seconds(plain), cpu_seconds(ours)
        pairs = [(cpu_seconds(plain), cpu_seconds(ours)) for _ in range(repeats)]
        first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append([name, 1e3 * first, 1e3 * second, second / first, *cold])
        print(rows[-1], file=sys.stderr, flush=True)
    columns = ["question", "plain, ms", "separatrix, ms", "ratio", "first call, plain", "ours"]
    report("P11 questions", "questions beside plain loops, CPU time", columns, rows)


def main() -> None:
    of_questions(sys.argv[1:])
    if not sys.argv[1:]:
        of_exponents()


def of_exponents() -> None:
    rows = []
    for name, (plain, ours) in cases().items():
        fns = {**plain, "separatrix": lambda ours=ours: ours().exponents}
        cold = {}
        for form, fn in fns.items():
            began = time.perf_counter()
            jax.block_until_ready(fn())
            cold[form] = time.perf_counter() - began
        medians = interleaved(fns, repeats=3 if "512 exp" in name else 7, warmup=0)
        best = min(medians[form] for form in plain)
        rows += [[name, form, medians[form], medians[form] / best, cold[form]] for form in fns]
    report(
        "P11", "exponents beside plain scans", ["run", "form", "seconds", "of the best plain form", "first call"], rows
    )


if __name__ == "__main__":
    main()
