r"""P7: orders of samplers, and what a sampler costs beside the calls of its network.

Orders are measured without drawing: on normal data of spread 1/2 with the exact prediction a step is linear, and
covariances are carried along; from the exact law at the horizon of the variance-preserving process to that at
sigma/alpha = 0.1.

The cost is CPU time of N = 20 steps on a batch of 64 pictures of 16 x 16 by a U-Net, over N calls of the same network on
the same batch in one compiled loop. Beside it, where diffusers and PyTorch are installed, the schedulers of diffusers
around the same network, compiled, in the Python loop that its pipelines write; arrays change hands without a copy. Both
take the same times, so that their ends must agree.
"""

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
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
CALLS, ROUNDS = 20, 8
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
    """A guess of noise by a U-Net whose times go to 1000."""

    inside: Any

    def __call__(self, t: Any, x: Any) -> Any:
        return x + self.inside(jnp.asarray(t, x.dtype) / 1000, x)


def network_of(key: Any) -> Timed:
    """An untrained one, its last layer no longer zero."""
    inside = D.SmallUNet((16, 16), 16, key=key)
    weight = 0.1 * jax.random.normal(key, inside.last.weight.shape, jnp.float32)
    return Timed(eqx.tree_at(lambda net: net.last.weight, inside, weight))


def bare(network: Any, x: Any) -> Any:
    """The calls alone."""
    return jax.lax.fori_loop(0, CALLS, lambda _, y: jax.vmap(lambda p: network(jnp.float32(500), p))(y), x)


def ours(sampler: Any, times: Any) -> Callable[[Any, Any], Any]:
    """A sampler on the noising chain of DDPM."""
    process = D.DDPM()

    def sampled(network: Any, x: Any) -> Any:
        map = D.sampling_map(sampler, D.network_prediction(process, network, "noise"), times)
        return sampler.seen(sx.evolve(map, sampler.begin(x), save="last").final)

    return eqx.filter_jit(sampled)


def theirs(scheduler: Any) -> Callable[[Any, Any], Any]:
    """A scheduler of diffusers."""
    import torch

    guess = eqx.filter_jit(lambda network, t, y: jax.vmap(lambda p: network(t, p))(y))

    def sampled(network: Any, x: Any) -> Any:
        scheduler.set_timesteps(CALLS)
        y = torch.from_dlpack(x)
        for t in scheduler.timesteps:
            found = guess(network, jnp.float32(int(t)), jnp.from_dlpack(y))
            y = scheduler.step(torch.from_dlpack(found), t, y).prev_sample.contiguous()
        return jnp.from_dlpack(y)

    return sampled


def pairs() -> dict[str, tuple[Any, Any]]:
    """Name to our sampler and the scheduler of diffusers, where it is there."""
    named = {
        "DPM-Solver++ 2M": (D.DPMSolver(), "DPMSolverMultistepScheduler", {}),
        "DDIM": (D.DDIM(), "DDIMScheduler", {"clip_sample": False}),
    }
    if any(importlib.util.find_spec(name) is None for name in ("diffusers", "torch")):
        return {name: (sampler, None) for name, (sampler, *_) in named.items()}
    import diffusers
    import torch

    torch.set_num_threads(1)  # their steps are elementwise; waiting threads would be counted
    chain: dict[str, Any] = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
    return {
        name: (sampler, getattr(diffusers, scheduler)(**chain, **more))
        for name, (sampler, scheduler, more) in named.items()
    }


def cost() -> list[list[Any]]:
    """CPU time of samplers over that of their calls, in turns; and how far their ends are from each other."""
    network = network_of(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (64, 16, 16), jnp.float32)
    calls: dict[str, Callable[[Any, Any], Any]] = {"bare": eqx.filter_jit(bare)}
    for name, (sampler, scheduler) in pairs().items():
        times = D.WholeTimes().times(D.DDPM(), CALLS)
        if scheduler is not None:
            scheduler.set_timesteps(CALLS)
            times = jnp.asarray(np.append(scheduler.timesteps.numpy() + 1.0, 0.0))
            calls[f"diffusers {importlib.metadata.version('diffusers')}, {name}"] = theirs(scheduler)
        calls[name] = ours(sampler, times)
    ends = {name: np.asarray(call(network, x)) for name, call in calls.items()}
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            jax.block_until_ready(call(network, x))
            spent[name].append(time.process_time() - start)
    medians = {name: float(np.median(times[1:])) for name, times in spent.items()}
    floor = medians.pop("bare")

    def apart(name: str) -> float | None:
        own = ends[name.rpartition(", ")[2]]
        return float(np.abs(ends[name] - own).max() / own.std()) if ends[name] is not own else None

    return [
        [f"{CALLS} steps of {name} over {CALLS} calls", m / floor, 1.05, apart(name)] for name, m in medians.items()
    ]


def main() -> None:
    """Print both tables."""
    costs = cost()  # in float32 throughout, which the scheduler of diffusers asks for
    jax.config.update("jax_enable_x64", True)
    notes = "A corrector of fixed size keeps a bias of its own, so that it shows no order. Churn makes Heun's order 1."
    report("P7 orders", "order in law, and error of the end variance at 128 steps", *orders(), notes)
    report("P7", "what a sampler costs", ["what", "ratio", "aim", "largest difference from ours / spread"], costs)


if __name__ == "__main__":
    main()
