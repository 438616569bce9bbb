r"""P7: orders of samplers, and what a sampler costs beside the calls of its network.

Orders are measured without drawing: on normal data of spread 1/2 with the exact prediction a step is linear, and
covariances are carried along; from the exact law at the horizon of the variance-preserving process to that at
sigma/alpha = 0.1.

The cost is CPU time of N = 20 evaluations on a batch of 64 pictures of 16 x 16 by a U-Net, over N calls of the same network
on the same batch in one compiled loop.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _table import report

import separatrix as sx

D = sx.diffusion
VP = D.VP()
COUNTS = (128, 256, 512)
SAMPLERS = {
    "Euler in t": sx.Euler(), "Heun in t": sx.Heun(), "Euler-Maruyama": sx.EulerMaruyama(), "DDIM": D.DDIM(),
    "ancestral": D.Ancestral(), "Heun in sigma (EDM)": D.ChurnedHeun(), "the same, churn 0.1": D.ChurnedHeun(churn=0.1),
    "DPM-Solver++ 2M": D.DPMSolver(), "SDE-DPM-Solver++ 2M": D.DPMSolverSDE(),
    "predictor-corrector": D.PredictorCorrector(),
}  # fmt: skip


def grid(clock: str, steps: int, end: float = 0.1) -> Any:
    """Falling times of the process."""
    alpha, sigma = VP.marginal(1.0)
    first = sigma / alpha
    if clock == "t":
        return jnp.linspace(1.0, VP.time_of(end), steps + 1)
    if clock == "log-SNR":
        return VP.time_of(jnp.geomspace(first, end, steps + 1))
    return VP.time_of(jnp.linspace(first ** (1 / 7), end ** (1 / 7), steps + 1) ** 7)


def orders() -> tuple[list[str], list[list[Any]]]:
    """The order of each sampler in each clock, and its error of the end variance at 128 steps."""
    normal = D.GaussianMixture([1.0], [[0.0]], [0.5])
    prediction = D.Prediction(VP, normal.score_under(VP).clean, "clean")

    def map_of(method: Any, times: Any) -> Any:
        if isinstance(method, D.Sampler):
            return D.sampling_map(method, prediction, times)
        if isinstance(method, sx.EulerMaruyama):
            return sx.on_grid(sx.reverse(VP, horizon=1.0, score=prediction), method, 1.0 - times)
        return sx.on_grid(D.PredictedFlow(prediction), method, times)

    def variance(t: Any) -> Any:
        alpha, sigma = VP.marginal(t)
        return alpha**2 / 4 + sigma**2

    rows: list[list[Any]] = []
    for name, method in SAMPLERS.items():
        gap = jax.jit(
            lambda times, m=method: D.final_variance(map_of(m, times), variance(times[0])) - variance(times[-1])
        )
        row: list[Any] = [name]
        for clock in ("t", "log-SNR", "Karras"):
            errors = [abs(float(gap(grid(clock, n)))) for n in COUNTS]
            row += [round(float(-np.polyfit(np.log(COUNTS), np.log(errors), 1)[0]), 2), f"{errors[0]:.1e}"]
        rows.append(row)
    columns = ["sampler", *[f"{what} in {c}" for c in ("t", "log-SNR", "Karras") for what in ("order", "error")]]
    return columns, rows


def cost() -> list[list[Any]]:
    """CPU time of a sampler over that of its calls."""
    network = D.SmallUNet((16, 16), 16, key=jax.random.key(0))
    model, process, calls = D.Preconditioned(network, D.EDM(), 1.0), D.EDM(), 20
    x = jax.random.normal(jax.random.key(1), (64, 16, 16), jnp.float32)

    @jax.jit
    def bare(model: Any, x: Any) -> Any:
        return jax.lax.fori_loop(0, calls, lambda _, y: jax.vmap(lambda p: model(jnp.float32(1.0), p))(y), x)

    @jax.jit
    def ours(model: Any, key: Any) -> Any:
        prediction = D.network_prediction(process, model, "clean")
        settings = {"steps": calls, "method": D.DPMSolver(), "schedule": D.KarrasLevels(), "dtype": jnp.float32}
        return D.sample(process, prediction, key, x.shape, **settings).final

    spent: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(6):
        for name, call in (("bare", lambda: bare(model, x)), ("ours", lambda: ours(model, jax.random.key(2)))):
            start = time.process_time()
            jax.block_until_ready(call())
            spent[name].append(time.process_time() - start)
    floor, mine = (float(np.median(spent[name][1:])) for name in ("bare", "ours"))
    return [["20 steps of DPM-Solver++ over 20 calls, CPU time", round(mine / floor, 3), 1.05]]


def main() -> None:
    """Print both tables."""
    jax.config.update("jax_enable_x64", True)
    notes = "A corrector of fixed size keeps a bias of its own, so that it shows no order. Churn makes Heun's order 1."
    report("P7 orders", "order in law, and error of the end variance at 128 steps", *orders(), notes)
    report("P7", "what a sampler costs", ["what", "ratio", "aim"], cost())


if __name__ == "__main__":
    main()
