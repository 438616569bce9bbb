r"""P10: memory of the gradient through 10,000 steps of a map on 100,000 numbers.

The map is leapfrog on independent pendulums, q += h p; p -= h k sin q, in float32; the loss is the squared length of
the end; the gradient is with respect to the start and k. Each variant runs in a process of its own: its peak of
resident memory, less what it had before the gradient, stands beside what the compiler says that it allocates.

    python benchmarks/memory.py             the row
    python benchmarks/memory.py sqrt 1000   one variant at another number of steps, as JSON
"""

import json
import resource
import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from _table import machine, median_time, report

import separatrix as sx
from separatrix.evolution.memory import iterate_map

STEPS, SIZE = 10_000, 100_000
VARIANTS = ("linear", "sqrt", "reversible")
STEP_SIZE = 0.01
# The plain scan runs only where its 4 GB fit beside everything else.
ROOM_GIB = 12


class Leapfrog(sx.InvertibleMap):
    """q += h p; p -= h k sin q."""

    stiffness: jax.Array

    def step(self, n: Any, state: Any, *, key: Any = None) -> Any:
        q, p = state
        q = q + STEP_SIZE * p
        return q, p - STEP_SIZE * self.stiffness * jnp.sin(q)

    def inverse_step(self, n: Any, state: Any) -> Any:
        q, p = state
        p = p + STEP_SIZE * self.stiffness * jnp.sin(q)
        return q - STEP_SIZE * p, p


def problem() -> tuple[Leapfrog, tuple[jax.Array, jax.Array]]:
    half = SIZE // 2
    return Leapfrog(jnp.linspace(0.5, 1.5, half)), (jnp.linspace(-1.0, 1.0, half), jnp.zeros(half))


def gradient(memory: str, steps: int) -> Any:
    """The compiled gradient as a function of (map, state)."""

    def loss(arguments: Any) -> Any:
        q, p = iterate_map(*arguments, steps, memory=memory)
        return jnp.sum(q**2) + jnp.sum(p**2)

    return eqx.filter_jit(eqx.filter_grad(loss)).lower(problem()).compile()


def said(memory: str, steps: int) -> float:
    """Temporary memory in MB that the compiler plans."""
    return gradient(memory, steps).compiled.memory_analysis().temp_size_in_bytes / 1e6


def peak() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(memory: str, steps: int) -> dict[str, float]:
    """Peak memory and median time of one variant, to be called in a fresh process."""
    compiled, arguments = gradient(memory, steps), problem()
    before = peak()
    seconds = median_time(lambda: compiled(arguments), repeats=3)
    result = compiled(arguments)
    size = float(jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(eqx.filter(result, eqx.is_array)))))
    return {"peak": peak() - before, "seconds": seconds, "norm": size}


def fresh(memory: str, steps: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, memory, str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Print and keep the row."""
    room = machine()["memory_gib"] >= ROOM_GIB
    runs = {name: fresh(name, STEPS) if name != "linear" or room else None for name in VARIANTS}
    base = runs["linear"]["seconds"] if runs["linear"] else None
    rows = []
    for name in VARIANTS:
        run = runs[name] or {"peak": None, "seconds": None, "norm": None}
        ratio = run["seconds"] / base if base and run["seconds"] else None
        planned = said(name, STEPS)
        rows.append([name, planned, run["peak"], said(name, 4 * STEPS) / planned, ratio, run["norm"]])
    columns = ["memory", "compiler, MB", "peak, MB", "growth at 4x steps", "time / linear", "norm of gradient"]
    notes = (
        "Leapfrog on 50,000 pendulums, float32, 10,000 steps: one state is 0.4 MB, the whole orbit 4 GB. "
        "The norms show that all three take the same gradient."
    )
    report("P10", "memory of a gradient through 10,000 steps, state 1e5", columns, rows, notes)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
