r"""P7: orders of samplers, and what a sampler costs beside the calls of its network.

Orders are measured without drawing: on normal data of spread 1/2 with the exact prediction a step is linear, and
covariances are carried along; from the exact law at the horizon of the variance-preserving process to that at
sigma/alpha = 0.1.

The cost is CPU time of N = 20 steps on a batch of 64 pictures of 16 x 16 by a U-Net, over N calls of the same network on
the same batch in one compiled loop. Beside it, where diffusers is installed, its scheduler around the same network.
"""

import importlib.metadata
import importlib.util
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _table import report

import separatrix as sx

D = sx.diffusion
VP = D.VP()
COUNTS = (128, 256, 512)
CALLS = 20
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


class Timed(eqx.Module):
    """A U-Net whose times go to 1000."""

    inside: Any

    def __call__(self, t: Any, x: Any) -> Any:
        return self.inside(jnp.asarray(t, x.dtype) / 1000, x)


def bare(network: Any, x: Any) -> Any:
    """The calls alone."""
    return jax.lax.fori_loop(0, CALLS, lambda _, y: jax.vmap(lambda p: network(jnp.float32(500), p))(y), x)


def ours(network: Any, x: Any) -> Any:
    """Two-step DPM-Solver++ on the noising chain of DDPM."""
    process = D.DDPM()
    map = D.sampling_map(
        D.DPMSolver(), D.network_prediction(process, network, "noise"), D.WholeTimes().times(process, CALLS)
    )
    return sx.evolve(map, D.DPMSolver().begin(x), save="last").final[0]


def theirs(network: Any, x: Any) -> Any:
    """The same by the scheduler of diffusers, in a loop as its pipelines write it."""
    from diffusers import FlaxDPMSolverMultistepScheduler

    scheduler: Any = FlaxDPMSolverMultistepScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02)
    state = scheduler.set_timesteps(scheduler.create_state(), CALLS, x.shape)

    def step(n: Any, carry: Any) -> Any:
        y, state = carry
        t = jnp.asarray(state.timesteps)[n]
        found = scheduler.step(state, jax.vmap(lambda p: network(t, p))(y), t, y)
        return found.prev_sample, found.state

    return jax.lax.fori_loop(0, CALLS, step, (x, state))[0]


def cost() -> list[list[Any]]:
    """CPU time of samplers over that of their calls, in turns."""
    network = Timed(D.SmallUNet((16, 16), 16, key=jax.random.key(0)))
    x = jax.random.normal(jax.random.key(1), (64, 16, 16), jnp.float32)
    names = {"bare": bare, "DPM-Solver++ 2M": ours}
    if importlib.util.find_spec("diffusers"):
        names[f"diffusers {importlib.metadata.version('diffusers')}, the same"] = theirs
    compiled = {name: eqx.filter_jit(call) for name, call in names.items()}
    spent: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(8):
        for name, call in compiled.items():
            start = time.process_time()
            jax.block_until_ready(call(network, x))
            spent[name].append(time.process_time() - start)
    medians = {name: float(np.median(times[1:])) for name, times in spent.items()}
    floor = medians.pop("bare")
    return [[f"{CALLS} steps of {name} over {CALLS} calls", round(m / floor, 3), 1.05] for name, m in medians.items()]


def main() -> None:
    """Print both tables."""
    costs = cost()  # in float32 throughout, which the scheduler of diffusers asks for
    jax.config.update("jax_enable_x64", True)
    notes = "A corrector of fixed size keeps a bias of its own, so that it shows no order. Churn makes Heun's order 1."
    report("P7 orders", "order in law, and error of the end variance at 128 steps", *orders(), notes)
    report("P7", "what a sampler costs", ["what", "ratio", "aim"], costs)


if __name__ == "__main__":
    main()
