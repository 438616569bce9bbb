r"""What `error_budget` predicts of a sampler, beside the distance that is measured.

Three tables. On N(0, v) a score that is wrong by a factor 1 + e: sliced Wasserstein's distance to first order, in closed
form (the end has the variance v (v/(v + T^2))^e) and as 20,000 samples have it. Near the data: powers of 1/sigma with which
the slope of the score grows, on a line, at one of two points and halfway between them, beside closed forms. And of a net
trained on a ring of eight normal laws: what its prior, score and steps do for samplers of few and of many steps, beside the
distance of 10,000 samples from the ends of the exact flow from the same noise.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _table import report

import separatrix as sx

D = sx.diffusion
TOP, KEY = 80.0, jax.random.key(0)
EDM = D.EDM(TOP)


def on_a_normal_law() -> list[list[Any]]:
    """Score errors from half a percent to twenty."""
    v, law = 0.25, D.GaussianMixture([1.0], [[0.0]], [0.5])
    times, rows = D.UniformLogSNR(1e-3).times(EDM, 400), []
    start = jnp.sqrt(v + TOP**2) * jax.scipy.special.ndtri((jnp.arange(20_000) + 0.5) / 20_000)[:, None]
    fresh = law.sample(KEY, 20_000)
    for e in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
        wrong = D.Prediction(EDM, lambda t, x, e=e: -(1 + e) * x / (v + t**2), "score")
        map = D.sampling_map(D.DPMSolver(), wrong, times)
        found = D.error_budget(map, law, start[::100])
        end = sx.evolve(map, map.sampler.begin(start), save="last").final[0]
        measured = sx.sliced_wasserstein(end, fresh, key=KEY, permutations=0)
        closed = abs(v**0.5 - (v * (v / (v + TOP**2)) ** e) ** 0.5)
        rows.append([f"{e:.1%}", float(found.score), closed, float(measured.value), float(measured.error)])
    return rows


def near_data() -> list[list[Any]]:
    """Powers between sigma/alpha = 0.02 and 0.01, found and in closed form."""
    levels, narrow = np.array([0.02, 0.01]), 1e-4
    line = D.GaussianMixture([1.0], [[0.0]], [0.6])

    def clean(t: Any, x: Any) -> Any:
        return jnp.concatenate([line.posterior_mean(EDM, t, x[:, :1]), jnp.zeros_like(x[:, 1:])], axis=1)

    pair = D.GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [narrow, narrow])
    of_pair = D.Prediction(EDM, pair.score_under(EDM).clean, "clean")
    cases = {
        "along a line of variance 0.36": (D.Prediction(EDM, clean, "clean"), [0.3, 0.0], -1, 1 / (0.36 + levels**2)),
        "across it": (D.Prediction(EDM, clean, "clean"), [0.3, 0.0], 0, 1 / levels**2),
        "at one of two points": (of_pair, [1.0, 0.0], 0, 1 / (narrow**2 + levels**2)),
        "halfway between them": (of_pair, [0.0, 0.0], -1, (1 / (w := narrow**2 + levels**2) - 1) / w),
    }
    rows = []
    for name, (prediction, point, which, sizes) in cases.items():
        found = D.score_growth(prediction, jnp.asarray(point), levels)
        rows.append([name, float(found.powers[0, which]), float(np.log(sizes[1] / sizes[0]) / np.log(2))])
    return rows


def of_a_network() -> list[list[Any]]:
    """Samplers of a trained network: predicted shares and bound, measured distance."""
    angles = 2 * np.pi * np.arange(8) / 8
    law = D.GaussianMixture(np.full(8, 1 / 8), np.stack([np.cos(angles), np.sin(angles)], 1) * 2**0.5, np.full(8, 0.15))
    data = np.asarray(law.sample(KEY, 20_000), np.float32)
    model = D.DiffusionModel.fit(data, key=KEY, steps=2000, batch_size=256, width=64)
    # The network was trained on scaled data: (x - center)/spread, a spread for each column, which are nearly equal.
    center, spread = jnp.asarray(model.center, float), jnp.asarray(model.spread, float).mean()
    scaled = D.GaussianMixture(law.weights, (law.means - center[None]) / spread, law.scales / spread)
    guess = D.network_prediction(EDM, model.model, "clean")
    exact = D.Prediction(EDM, scaled.score_under(EDM).clean, "clean")
    start = EDM.prior(jax.random.key(1), (10_000, 2), jnp.float32)
    fine = D.sampling_map(D.ChurnedHeun(), exact, D.KarrasLevels(1e-3).times(EDM, 300))
    truth = sx.evolve(fine, start.astype(float), save="last").final
    rows = []
    for name, sampler in {"DDIM": D.DDIM(), "DPM-Solver++ 2M": D.DPMSolver()}.items():
        for steps in (5, 10, 20, 50):
            map = D.sampling_map(sampler, guess, D.KarrasLevels(0.004).times(EDM, steps))
            found = D.error_budget(map, scaled, start[:500])
            end = sampler.seen(sx.evolve(map, sampler.begin(start), save="last").final).astype(float)
            measured = sx.sliced_wasserstein(end, truth, key=KEY, permutations=0)
            along = float(jnp.sqrt(jnp.mean((end - truth) ** 2)))
            parts = [float(part) for part in (found.prior, found.score, found.steps, found.bound)]
            rows.append([f"{name}, {steps}", *parts, along, float(measured.value)])
    return rows


def main() -> None:
    """Print the three tables."""
    jax.config.update("jax_enable_x64", True)
    began = time.process_time()
    columns = ["wrong by", "to first order", "closed form", "measured", "error"]
    report("Budget normal", "A score that is wrong by a factor, on N(0, 1/4)", columns, on_a_normal_law())
    report("Budget growth", "Powers of 1/sigma of the score's slope", ["where", "found", "closed form"], near_data())
    columns = ["sampler, steps", "prior", "score", "steps", "bound", "same noise", "sliced"]
    rows = of_a_network()
    notes = (
        "In spreads of the data. `same noise`: root mean square distance a coordinate from the end of the exact flow from "
        f"the same noise, of which the bound is the first order. {time.process_time() - began:.0f} CPU s in all."
    )
    report("Budget network", "A trained network on a ring of eight normal laws", columns, rows, notes)


if __name__ == "__main__":
    main()
