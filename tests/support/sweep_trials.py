"""Functions of trials that other processes import: what a sweep runs must stand at the top of a module."""

import os
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp

import separatrix as sx


def descend(learning_rate, momentum=0.0):
    """Heavy ball on x^2 / 2 in float32, and how it ended: stable iff learning_rate < 2 (1 + momentum)."""
    rate, friction = (jnp.asarray(number, jnp.float32) for number in (learning_rate, momentum))

    def step(state):
        x, v = state
        v = friction * v - rate * x
        return x + v, v

    start = (jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32))
    path = sx.evolve(sx.as_map(step), start, steps=300, save="last")
    return {"path": path, "loss": jnp.abs(path.last[0])}


def square(x, key):
    """x^2, and a number of the trial's own key."""
    return {"square": x**2, "noise": jax.random.normal(key, dtype=jnp.float64)}


def killed_once(x, home):
    """x, in a process that SIGKILL meets at the first call for this x."""
    mark = Path(home) / f"{x:g}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.001)
    return float(x)


def raises_past_one(x):
    """x, or an error past one: not a number that can be traced."""
    if x > 1:
        raise RuntimeError(f"{x} is past one")
    return float(x)
