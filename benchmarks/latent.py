r"""Spirals at uneven times: a latent ODE beside a GRU that is told the gaps, five seeds.

Spirals r = 0.3 theta, half of them turning left and half right, seen at instants of their own with noise. A model reads 30
rows and forecasts the next 15; so it is trained on 256 spirals. It is judged on 64 others, against the truth without noise:
on the next 15 rows, and on 15 more that no training has asked for. Both have some 3,000 weights, and the same rows, steps
and optimiser.

**Reference:** Chen et al., *Neural ordinary differential equations* (2018), section 5.1, for the spirals; Rubanova, Chen &
Duvenaud, *Latent ODEs for irregularly-sampled time series* (2019), section 4, for the task.
"""

import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import report

import separatrix as sx

READ, NEXT, BEYOND, NOISE, STEPS, BATCH = 30, 15, 15, 0.1, 1500, 32


def spirals(count, seed):
    """Times, values with noise and without: (N, T), (N, T, 2) twice; places in units of 2, times of 3."""
    random = np.random.default_rng(seed)
    rows = READ + NEXT + BEYOND
    times = np.sort(random.uniform(0, 12, (count, rows)), axis=1)
    times = times + 0.02 * np.arange(rows)  # no two instants too near
    angle = times + random.uniform(1, 7, (count, 1))
    turn = np.where(np.arange(count) % 2, 1.0, -1.0)[:, None]
    truth = 0.3 * angle[..., None] * np.stack([np.cos(angle), turn * np.sin(angle)], axis=2) / 2
    seen = truth + NOISE * random.normal(size=truth.shape)
    return tuple(jnp.asarray(part, jnp.float32) for part in ((times - times[:, :1]) / 3, seen, truth))


def latent_ode(key):
    keys = jax.random.split(key, 4)
    return sx.residual.LatentODE(
        eqx.nn.GRUCell(5, 20, key=keys[0]), eqx.nn.Linear(20, 8, key=keys[1]),
        sx.residual.NeuralODE(eqx.nn.MLP(4, 4, 32, 2, jnp.tanh, key=keys[2])), eqx.nn.Linear(4, 2, key=keys[3]),
        hidden=20, substeps=1,
    )  # fmt: skip


def latent_loss(model, batch, *, key):
    """Reads the first rows, and is asked for those and the next."""
    times, seen = batch

    def one(times, seen, key):
        mean, spread = model.start(times[:READ], seen[:READ])
        found = model.values(mean + spread * jax.random.normal(key, mean.shape, mean.dtype), times)
        divergence = jnp.sum((mean**2 + spread**2 - 1) / 2 - jnp.log(spread))
        return jnp.sum((found - seen) ** 2) / (2 * NOISE**2) + divergence

    return jnp.mean(jax.vmap(one)(times, seen, jax.random.split(key, len(times)))) / len(seen[0])


def latent_forecast(model, times, seen):
    return model.values(model.start(times[:READ], seen[:READ])[0], times)


class Gru(eqx.Module):
    cell: eqx.nn.GRUCell
    readout: eqx.nn.MLP

    def __call__(self, times, seen, read):
        """The values of the rows from the second on: of what was read the next, then of its own words."""
        gaps = jnp.diff(times)

        def step(carry, row):
            state, said = carry
            place, gap, heard = row
            value = jnp.where(heard, place, said)
            state = self.cell(jnp.append(value, gap), state)
            said = value + self.readout(state)
            return (state, said), said

        heard = jnp.arange(len(gaps)) < read
        first = jnp.zeros(self.cell.hidden_size, seen.dtype), seen[0]
        return jax.lax.scan(step, first, (seen[:-1], gaps, heard))[1]


def gru(key):
    keys = jax.random.split(key)
    return Gru(eqx.nn.GRUCell(3, 26, key=keys[0]), eqx.nn.MLP(26, 2, 16, 1, key=keys[1]))


def gru_loss(model, batch, *, key):
    times, seen = batch
    found = jax.vmap(lambda t, y: model(t, y, READ))(times, seen)
    return jnp.mean((found - seen[:, 1:]) ** 2) / (2 * NOISE**2)


def gru_forecast(model, times, seen):
    return jnp.concatenate([seen[:1], model(times, seen, READ)])


MODELS = {"latent ODE": (latent_ode, latent_loss, latent_forecast), "GRU": (gru, gru_loss, gru_forecast)}


def judged(name, seed):
    """Root mean square errors of the next rows and of those beyond, the number of weights, CPU seconds."""
    make, loss, forecast = MODELS[name]
    began = time.process_time()
    times, seen, _ = spirals(256, 100 + seed)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, STEPS)))
    rows = READ + NEXT
    model = sx.fit(
        loss, optimizer, (times[:, :rows], seen[:, :rows]), initial=make(jax.random.key(seed)), steps=STEPS,
        batch_size=BATCH, key=jax.random.key(seed),
    ).model  # fmt: skip
    spent = time.process_time() - began
    times, seen, truth = spirals(64, 900 + seed)
    found = jax.jit(jax.vmap(lambda t, y: forecast(model, t, y)))(times, seen)
    errors = np.asarray((found - truth) ** 2)
    weights = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    parts = errors[:, READ:rows], errors[:, rows:]
    return [*(float(np.sqrt(part.mean())) for part in parts), weights, spent]


def main():
    seeds = range(1 if "--short" in sys.argv else 5)  # --seeds 2:5 for some of them
    if "--seeds" in sys.argv:
        seeds = range(*map(int, sys.argv[sys.argv.index("--seeds") + 1].split(":")))
    rows = []
    for name in MODELS:
        found = np.array([judged(name, seed) for seed in seeds])
        told = [f"{np.mean(part):.3f} ({', '.join(f'{x:.3f}' for x in part)})" for part in found.T[:2]]
        rows.append([name, *told, int(found[0, 2]), float(np.median(found[:, 3]))])
    columns = ["model", "next 15 rows, rms error (seeds)", "15 rows beyond", "weights", "CPU s a seed"]
    report("latent", f"forecasts of spirals at uneven times, noise {NOISE}", columns, rows)


if __name__ == "__main__":
    main()
