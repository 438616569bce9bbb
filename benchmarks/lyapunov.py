r"""P4: Lyapunov spectra.

    Lorenz-63, all 3, to T = 1,000      lyapax, pynamicalsys, jitcode: at steps or tolerances that keep the sum to 1e-6
    Lorenz-96, N = 40, all 40, T = 100  jitcode (code in C from symbols, and a compiler)
    tanh network, N = 512, all, 1,000   the floor: one product J V and one Householder QR a step

Ours is called as a user calls it, with its standard errors and the sum rule beside it, which no peer measures.
"""

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _table import interleaved, report

jax.config.update("jax_enable_x64", True)

import separatrix as sx

END, LONG, STEPS = 1_000.0, 100.0, 1_000
STEP = 0.03125
START = np.array([1.0, 2.0, 20.0])


def lorenz(state: Any) -> Any:
    """The velocity, for those who take JAX."""
    x, y, z = state[0], state[1], state[2]
    return jnp.stack([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8 / 3 * z])


def ours() -> Any:
    """All three exponents, from the first step on."""
    found = sx.lyapunov_spectrum(FLOW, jnp.asarray(START), times=(0.0, END), step_size=STEP, transient=0.0)
    return found.exponents


FLOW = sx.as_flow(lorenz)


def with_lyapax() -> Any:
    """RK4 at 0.0025, renormalised every 8 steps; None where it is not installed."""
    try:
        import lyapax
    except ImportError:
        return None
    step = lyapax.rk4_step(lorenz, 0.0025)
    count = round(END / 0.0025)
    return lambda: lyapax.lyapunov_spectrum(step, jnp.asarray(START), 0.0025, count, renorm_every=8).exponents


def with_pynamicalsys() -> Any:
    """RK4 at 0.0025 in numba; None where it is not installed."""
    try:
        from pynamicalsys import ContinuousDynamicalSystem
    except ImportError:
        return None
    system = ContinuousDynamicalSystem(model="lorenz system")
    system.integrator("rk4", time_step=0.0025)
    return lambda: system.lyapunov(START, END, parameters=[10.0, 28.0, 8 / 3])


def with_jitcode(velocity: Any, start: np.ndarray, end: float, every: float) -> Any:
    """dop853 at 1e-9 over compiled C, orthonormalised each `every`; None where it is not installed."""
    try:
        from jitcode import jitcode_lyap, y
    except ImportError:
        return None
    solver = jitcode_lyap(velocity(y), n_lyap=len(start), simplify=False, verbose=False)
    solver.compile_C(extra_compile_args=["-O2"], verbose=False)
    solver.set_integrator("dop853", rtol=1e-9, atol=1e-9)

    def run() -> Any:
        solver.set_initial_value(start, 0.0)
        local = [solver.integrate(t)[1] for t in np.arange(every, end + every / 2, every)]
        # The first holds the length of the random vectors it starts from.
        return np.mean(local[1:], axis=0)

    return run


def lorenz_symbols(y: Any) -> Any:
    return [10.0 * (y(1) - y(0)), y(0) * (28.0 - y(2)) - y(1), y(0) * y(1) - 8 / 3 * y(2)]


def ring_symbols(y: Any) -> Any:
    size = 40
    return [(y((i + 1) % size) - y((i - 2) % size)) * y((i - 1) % size) - y(i) + 8.0 for i in range(size)]


def first_and_median(fns: dict[str, Any], repeats: int) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Seconds of the first call of each, medians of later ones taken in turn, and what came out."""
    cold, results = {}, {}
    for name, fn in fns.items():
        began = time.perf_counter()
        results[name] = np.asarray(jax.block_until_ready(fn()))
        cold[name] = time.perf_counter() - began
    return cold, interleaved(fns, repeats=repeats, warmup=0), results


def lorenz_rows() -> list[list[Any]]:
    fns = {"separatrix": ours, "lyapax": with_lyapax(), "pynamicalsys": with_pynamicalsys()}
    fns["jitcode"] = with_jitcode(lorenz_symbols, START, END, 0.25)
    fns = {name: fn for name, fn in fns.items() if fn is not None}
    cold, medians, found = first_and_median(fns, 5)
    base = medians["separatrix"]
    return [
        [
            "Lorenz-63, T 1,000",
            name,
            medians[name],
            medians[name] / base,
            cold[name],
            abs(float(np.sum(found[name])) + 41 / 3),
        ]
        for name in fns
    ]


def ring_rows() -> list[list[Any]]:
    entry = sx.catalogue.entry("lorenz-96")
    flow, start = entry.build(), 8.0 + np.sin(np.arange(40.0))

    def call() -> Any:
        return sx.lyapunov_spectrum(flow, jnp.asarray(start), times=(0.0, LONG)).exponents

    fns = {"separatrix": call, "jitcode": with_jitcode(ring_symbols, start, LONG, 0.16)}
    fns = {name: fn for name, fn in fns.items() if fn is not None}
    cold, medians, found = first_and_median(fns, 3)
    base = medians["separatrix"]
    return [
        [
            "Lorenz-96, N 40, T 100",
            name,
            medians[name],
            medians[name] / base,
            cold[name],
            abs(float(np.sum(found[name])) + 40),
        ]
        for name in fns
    ]


def network_rows(size: int = 512) -> list[list[Any]]:
    network = sx.recurrent.random_network(size, 1.5, key=jax.random.key(0))
    start = jax.random.normal(jax.random.key(1), (size,))
    matrix = 1.5 * network.weight

    @jax.jit
    def floor(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            x, basis, logs = carry
            after = jnp.tanh(matrix @ x)
            basis, r = jnp.linalg.qr((1 - after**2)[:, None] * (matrix @ basis))
            return (after, basis, logs + jnp.log(jnp.abs(jnp.diagonal(r)))), None

        return jax.lax.scan(step, (x, jnp.eye(size), jnp.zeros(size)), length=STEPS)[0][2] / STEPS

    call = lambda: sx.lyapunov_spectrum(network, start, count=size, steps=STEPS, transient=0).exponents  # noqa: E731
    fns = {"separatrix": call, "product and QR": lambda: floor(start)}
    cold, medians, found = first_and_median(fns, 1)
    gap = float(np.abs(np.sum(found["separatrix"]) - np.sum(found["product and QR"])))
    base = medians["separatrix"]
    return [
        ["tanh, N 512, 1,000 steps", name, medians[name], medians[name] / base, cold[name], gap / size] for name in fns
    ]


def main() -> None:
    """Print and keep the rows: all, or those of the words `lorenz`, `ring`, `network`."""
    makers = {"lorenz": lorenz_rows, "ring": ring_rows, "network": network_rows}
    rows = [row for word in sys.argv[1:] or makers for row in makers[word]()]
    notes = (
        "Times of the peer over ours: above 1 we are faster. The last column is the sum of the exponents less its exact "
        "value (for the network, the mean difference of both). First calls compile; jitcode's C is compiled before."
    )
    columns = ["work", "by", "seconds", "of ours", "first call, s", "sum off by"]
    report("P4", "Lyapunov spectra", columns, rows, notes)


if __name__ == "__main__":
    main()
