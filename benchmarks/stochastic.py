r"""P3: a fixed-step SDE, the Ornstein-Uhlenbeck process dx = theta (m - x) dt + s dW over 1,000 steps on 2,000 paths.

All draw one normal number for each path and step and keep the end, in float32. The floor is a scan written by hand
that draws its normals from a key folded with the step number, as ours does.
"""

import time
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from _table import interleaved, report

import separatrix as sx

THETA, MEAN, NOISE = 2.0, 1.0, 0.5
STEPS, PATHS, STEP_SIZE = 1_000, 2_000, 0.0005
END = STEPS * STEP_SIZE
STATE = jnp.full(PATHS, 3.0)


@jax.jit
def by_hand(state: Any, key: Any) -> Any:
    """The scan that a user would write."""

    def step(x: Any, n: Any) -> tuple[Any, None]:
        noise = jax.random.normal(jax.random.fold_in(key, n), x.shape, x.dtype)
        return x + THETA * (MEAN - x) * STEP_SIZE + NOISE * jnp.sqrt(STEP_SIZE) * noise, None

    return jax.lax.scan(step, state, jnp.arange(STEPS))[0]


PROCESS = sx.as_sde(lambda x: THETA * (MEAN - x), lambda x: NOISE)


def ours(state: Any, key: Any) -> Any:
    """The front door as it is called, outside any jit."""
    return sx.evolve(PROCESS, state, steps=STEPS, step_size=STEP_SIZE, key=key, save="last").final


def theirs(path: Any) -> Any:
    """diffrax's Euler over one of its Brownian paths."""

    @eqx.filter_jit
    def run(state: Any, key: Any) -> Any:
        form = jax.ShapeDtypeStruct(state.shape, state.dtype)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, x, args: THETA * (MEAN - x)),
            diffrax.ControlTerm(lambda t, x, args: lx.DiagonalLinearOperator(jnp.full_like(x, NOISE)), path(form, key)),
        )
        solution = diffrax.diffeqsolve(terms, diffrax.Euler(), 0.0, END, STEP_SIZE, state, max_steps=2 * STEPS,
                                       adjoint=diffrax.ForwardMode())  # fmt: skip
        return solution.ys[0]

    return run


def tree(form: Any, key: Any) -> Any:
    return diffrax.VirtualBrownianTree(0.0, END, STEP_SIZE / 2, form, key)


def unsafe(form: Any, key: Any) -> Any:
    return diffrax.UnsafeBrownianPath(form, key)


def torchsde_solver() -> Any:
    """The same process for torchsde, or None where it is not installed."""
    try:
        import torch
        import torchsde
    except ImportError:
        return None

    class Process(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, y: Any) -> Any:
            return THETA * (MEAN - y)

        def g(self, t: Any, y: Any) -> Any:
            return torch.full_like(y, NOISE)

    process, state = Process(), torch.full((PATHS, 1), 3.0)
    times = torch.tensor([0.0, END])

    def run() -> Any:
        with torch.no_grad():
            return torchsde.sdeint(process, state, times, method="euler", dt=STEP_SIZE)[-1, :, 0].numpy()

    return run


def main() -> None:
    """Print and keep the row."""
    key = jax.random.key(0)
    with_tree, with_path = theirs(tree), theirs(unsafe)
    fns = {
        "scan by hand": lambda: by_hand(STATE, key),
        "separatrix.evolve": lambda: ours(STATE, key),
        "diffrax, UnsafeBrownianPath": lambda: with_path(STATE, key),
    }
    cold = {}
    for name, fn in fns.items():
        began = time.perf_counter()
        jax.block_until_ready(fn())
        cold[name] = time.perf_counter() - began
    medians = interleaved(fns, repeats=21)
    slow = {"diffrax, VirtualBrownianTree": lambda: with_tree(STATE, key)}
    if (peer := torchsde_solver()) is not None:
        slow["torchsde"] = peer
    medians |= interleaved(slow, repeats=3)
    ends = {name: np.asarray(fn()) for name, fn in (fns | slow).items()}
    floor = medians["scan by hand"]
    rows = [
        [name, 1e3 * seconds, seconds / floor, cold.get(name), float(ends[name].mean()), float(ends[name].var())]
        for name, seconds in medians.items()
    ]
    decay = np.exp(-THETA * END)
    variance = NOISE**2 * (1 - decay**2) / (2 * THETA)
    notes = (
        f"Exact mean {MEAN + 2 * decay:.4f} (standard error {np.sqrt(variance / PATHS):.4f}), variance {variance:.5f}. "
        "Ours runs as a user calls it, outside any jit."
    )
    columns = ["solver", "ms", "of the scan", "first call, s", "mean", "variance"]
    report("P3", "Ornstein-Uhlenbeck, 1,000 steps on 2,000 paths", columns, rows, notes)


if __name__ == "__main__":
    main()
