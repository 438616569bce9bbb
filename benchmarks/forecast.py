r"""For how long a forecast is valid: reservoir, GRU with generalised teacher forcing, and reservoirpy, on the same rows.

Lorenz-63 (10, 28, 8/3), a row each 0.02, all three coordinates; and the Mackey-Glass equation x' = 0.2 y/(1 + y^10) -
0.1 x, y = x(t - 17), by Euler's method at 0.1, a row each 1. From 5,000 rows each model learns; then 20 forecasts begin
at rows that it has not seen, and are valid until their error is 0.4 of the spread of the series. Times are in Lyapunov
times of the exponent that is measured here, of the same map that makes the series.

The two reservoirs have the same numbers of units, radius, leak, gains and ridge. The GRU is trained by Adam on pieces;
before each stage the strength of the forcing is the least for which the forced loop does not part orbits.
"""

import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _table import report

import separatrix as sx

TRAIN, STARTS, APART, HEARD, UNITS, THRESHOLD = 5000, 20, 150, 200, 300, 0.4
SET = {
    "Lorenz-63": {
        "spectral_radius": 0.4,
        "leak": 1.0,
        "input_gain": 0.3,
        "bias_gain": 1.0,
        "ridge": 1e-10,
        "ahead": 900,
    },
    "Mackey-Glass": {
        "spectral_radius": 1.25,
        "leak": 0.3,
        "input_gain": 1.0,
        "bias_gain": 0.2,
        "ridge": 1e-9,
        "ahead": 1400,
    },
}


class MackeyGlass(sx.Map):
    """Euler's method of step 0.1 on x' = 0.2 y/(1 + y^10) - 0.1 x, y = x(t - 17): the last 170 values, newest first."""

    def step(self, n: Any, state: Any, *, key: Any = None) -> Any:
        x, y = state[0], state[-1]
        return jnp.concatenate([(x + 0.1 * (0.2 * y / (1 + y**10) - 0.1 * x))[None], state[:-1]])


def lorenz(rows: int) -> tuple[Any, float, Any]:
    """The series, its largest exponent in nats a row, and the whole spectrum of the map from row to row."""
    flow, spacing = sx.catalogue.entry("lorenz").build(), 0.02
    series = sx.evolve(flow, jnp.ones(3), times=np.arange(rows + 1000) * spacing).states[1000:]
    found = sx.lyapunov_spectrum(flow, series[0], times=(0.0, 1000.0))
    return series, float(found.exponents[0]) * spacing, (found.exponents * spacing, found.standard_errors * spacing)


def mackey_glass(rows: int) -> tuple[Any, float, Any]:
    """Likewise."""
    path = sx.evolve(MackeyGlass(), jnp.full(170, 0.9), steps=10 * (rows + 500), save=lambda x: x[0])
    found = sx.lyapunov_spectrum(MackeyGlass(), jnp.full(170, 0.9), count=3, steps=200_000, interval=100)
    return (
        path.states[5000::10][:rows, None],
        float(found.exponents[0]) * 10,
        (found.exponents * 10, found.standard_errors * 10),
    )


def trained_gru(series: Any, steps: int, width: int = 40) -> tuple[Any, list[float]]:
    """A GRU by stages: the strength of the forcing is measured, then it is trained with it."""
    key = jax.random.key(0)
    cell = eqx.nn.GRUCell(series.shape[1], width, key=key, dtype=jnp.float64)
    model = sx.recurrent.forecaster(cell, series, key=jax.random.key(1))
    length = 100
    pieces = series[: TRAIN // length * length].reshape(-1, length, series.shape[1])
    strengths = []
    for stage in range(6):
        a = 1.0 if stage == 0 else max(sx.recurrent.forcing_strength(model, series[:1000], halvings=5), 0.05)
        strengths.append(a)
        rate = optax.cosine_decay_schedule(5e-3 * 0.7**stage, steps // 6, 0.1)
        adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
        loss = lambda model, batch, a=a: sx.recurrent.forced_loss(model, batch, a, listen=30)  # noqa: E731
        model = sx.fit(
            loss, adam, pieces, initial=model, steps=steps // 6, batch_size=16, key=jax.random.key(stage)
        ).model
    return model, strengths


def reservoirpy_times(series: Any, starts: Any, ahead: int, numbers: dict[str, Any]) -> Any:
    """Rows for which forecasts of reservoirpy are valid, by the same definition."""
    from reservoirpy.mat_gen import uniform
    from reservoirpy.nodes import Reservoir, Ridge

    series = np.asarray(series)
    mean, scale = series[:TRAIN].mean(axis=0), series[:TRAIN].std(axis=0)
    scaled = (series - mean) / scale
    gain, bias = numbers["input_gain"], numbers["bias_gain"]
    net = Reservoir(UNITS, sr=numbers["spectral_radius"], lr=numbers["leak"], seed=0, rc_connectivity=10 / UNITS,
                    input_connectivity=1.0,
                    Win=uniform(low=-gain, high=gain), bias=uniform(low=-bias, high=bias))  # fmt: skip
    esn = net >> Ridge(ridge=numbers["ridge"] * TRAIN)
    esn.fit(scaled[: TRAIN - 1], scaled[1:TRAIN], warmup=200)
    valid = []
    for at in starts:
        esn.reset()
        said, count = esn.run(scaled[at - HEARD : at])[-1], 0
        while count < ahead and np.sqrt(np.mean((said - scaled[at + count]) ** 2)) <= THRESHOLD:
            said, count = np.ravel(esn.step(said)), count + 1
        valid.append(count)
    return np.array(valid, float)


def main(steps: int) -> None:
    """Both series, three models each."""
    rows: list[tuple[Any, ...]] = []
    for name, make in (("Lorenz-63", lorenz), ("Mackey-Glass", mackey_glass)):
        numbers = SET[name]
        ahead = numbers["ahead"]
        series, exponent, truth = make(TRAIN + 300 + STARTS * APART + ahead)
        starts = TRAIN + 250 + APART * np.arange(STARTS)
        columns = series.shape[1]
        own = {name: numbers[name] for name in ("spectral_radius", "leak", "input_gain", "bias_gain")}
        cell = sx.recurrent.reservoir(columns, UNITS, key=jax.random.key(0), **own)
        solved = sx.recurrent.train_reservoir(cell, series[:TRAIN], washout=200, ridge=numbers["ridge"])
        gru, strengths = trained_gru(series[:TRAIN], steps)
        print(f"{name}: exponent {exponent:.5f} nats a row; strengths of forcing {strengths}", flush=True)
        for what, model in (("reservoir", solved), ("GRU, generalised forcing", gru)):
            found = sx.recurrent.valid_time(
                model, series, starts, ahead, listen=HEARD, exponent=exponent, threshold=THRESHOLD
            )
            rows.append(
                (f"{name}, {what}", float(found.mean), float(found.error), float(found.spread), int(found.censored))
            )
            print(rows[-1], flush=True)
            hidden = model.listen(series[TRAIN : TRAIN + HEARD])
            seen = sx.lyapunov_spectrum(model.loop(), hidden, count=3, steps=15_000)
            values, errors = np.asarray(seen.exponents), np.asarray(seen.standard_errors)
            dimension = f"dimension {float(seen.kaplan_yorke):.3f}"
            print(f"  exponents of the loop, nats a row: {values} +- {errors}; {dimension}", flush=True)
            orbit = model.unscaled(sx.evolve(model.loop(), hidden, steps=6000, save=model.said).states)
            for measure in (sx.recurrent.state_space_divergence, sx.recurrent.spectrum_distance):
                print("  " + str(measure(series, orbit)).replace("\n", "; "), flush=True)
        print(f"  of the system: {np.asarray(truth[0])[:3]} +- {np.asarray(truth[1])[:3]}", flush=True)
        times = reservoirpy_times(series, starts, ahead, numbers) * exponent
        spread, censored = times.std(ddof=1), int(np.sum(times >= ahead * exponent))
        rows.append((f"{name}, reservoirpy", times.mean(), spread / STARTS**0.5, spread, censored))
        print(rows[-1], flush=True)
    columns = ["model", "valid time, Lyapunov times", "error", "spread", "outlast the horizon"]
    report("forecast", "20 forecasts, valid to 0.4 spreads", columns, [list(row) for row in rows])


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
