"""A trial of heavy ball on x^2 / 2, for `separatrix sweep`: examples/heavy_ball.toml says over what.

v <- momentum v - learning_rate x,  x <- x + v  is stable iff learning_rate < 2 (1 + momentum).
"""

from typing import Any

import jax.numpy as jnp

import separatrix as sx


def trial(learning_rate: Any, momentum: Any, steps: int = 40_000) -> dict[str, Any]:
    """The distance from the minimum at the end, and how the run ended; float32, which overflows sooner."""
    rate, friction = (jnp.asarray(number, jnp.float32) for number in (learning_rate, momentum))

    def step(state: Any) -> Any:
        x, v = state
        v = friction * v - rate * x
        return x + v, v

    start = (jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32))
    path = sx.evolve(sx.as_map(step), start, steps=steps, save="last")
    return {"path": path, "loss": path.last[0] ** 2 / 2}


if __name__ == "__main__":
    found = sx.sweep(trial, {"learning_rate": [1.0, 2.5, 3.5], "momentum": [0.0, 0.5]}, together=True)
    print(found)
