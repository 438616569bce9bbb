"""The boundary of trainability at 1,024 x 1,024 runs, and its quadratic control.

A network 8-8-1 (tanh) on 8 points, full batch, 100 steps; a step size for each layer. What is measured is the time of a
million training runs, the box-counting dimension of their boundary, and that of a quadratic with two step sizes, which must
be near one. `--size 256` for a quick look; the picture goes to `results/trainability.png`.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _table import RESULTS, report

import separatrix as sx
from separatrix.optimization import LayerwiseDescent


def network() -> tuple[Any, Any]:
    """(objective, start)."""
    keys = jax.random.split(jax.random.key(0), 4)
    inputs = jax.random.normal(keys[0], (8, 8), jnp.float32)
    targets = jax.random.normal(keys[1], (8,), jnp.float32)
    begin = [
        jax.random.normal(keys[2], (8, 8), jnp.float32),
        jax.random.normal(keys[3], (8,), jnp.float32),
    ]

    def loss(p: Any) -> Any:
        return jnp.mean((jnp.tanh(inputs @ p[0].T / 8**0.5) @ p[1] / 8**0.5 - targets) ** 2)

    return sx.as_objective(loss), begin


def picture(found: Any) -> None:
    """Blue where runs train, the darker the lower their loss; red where they break, the darker the sooner."""
    from matplotlib.image import imsave

    good = -np.log10(np.where(found.trained, found.losses, 1) + 1e-9)
    bad = np.where(found.broke_at < 0, found.steps, found.broke_at) / found.steps
    scaled = np.where(found.trained, 0.5 + 0.5 * good / max(good.max(), 1e-9), 0.5 * bad)
    RESULTS.mkdir(exist_ok=True)
    imsave(RESULTS / "trainability.png", scaled, cmap="RdBu", vmin=0, vmax=1, origin="lower")


def main() -> None:
    """Run both planes, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    size = parser.parse_args().size
    objective, begin = network()
    bowl = sx.optimization.Quadratic(jnp.array([1.0, 4.0], jnp.float32))
    planes = {
        "network": (lambda a, b: LayerwiseDescent(objective, [a, b]), begin, np.geomspace(1.0, 1e3, size), 100),
        "quadratic": (
            lambda a, b: LayerwiseDescent(bowl, jnp.stack([a, b / 4])), jnp.ones(2, jnp.float32),
            np.linspace(0.02, 3.0, size), 2000,
        ),
    }  # fmt: skip
    rows = []
    for name, (build, start, values, steps) in planes.items():
        found = sx.optimization.trainability(build, start, first=values, second=values, steps=steps)
        if name == "network":
            picture(found)
        border = sx.boundary_dimension(found.trained)
        rows.append(
            [
                name,
                found.trained.size,
                steps,
                found.seconds,
                float(found.trained.mean()),
                float(border.dimension),
                float(border.error),
            ]
        )
    columns = ["plane", "runs", "steps", "seconds", "share that trains", "dimension", "error"]
    report("trainability", "the boundary of trainability", columns, rows, "Seconds with compilation, float32.")


if __name__ == "__main__":
    main()
