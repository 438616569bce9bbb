"""What the chapter on residual networks measures: errors of a state at a depth, and forecasts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import separatrix as sx


def widen(model: Any) -> Any:
    """A model with its float32 weights in float64, so that truncation is seen and rounding is not."""
    return jax.tree.map(lambda leaf: leaf.astype(float) if leaf.dtype == jnp.float32 else leaf, model)


def depth_errors(model: Any, inputs: Any, depths: list[int], methods: dict[str, Any]) -> dict[str, list[float]]:
    """Largest distance of the hidden state z(T) at each depth from that of the neural ODE, by method, over inputs."""
    starts = jax.vmap(model.encoder)(inputs)
    span = (0.0, model.horizon)
    # One state holds all inputs, so that one adaptive solve serves them all.
    flow = sx.as_flow(lambda t, z: jax.vmap(lambda row: model.flow.velocity(t, row))(z))
    truth = sx.evolve(flow, starts, times=span, rtol=1e-12, atol=1e-13, save="last").final
    errors: dict[str, list[float]] = {}
    for name, method in methods.items():
        finals = [
            sx.evolve(flow, starts, times=span, steps=depth, method=method, save="last").final for depth in depths
        ]
        errors[name] = [float(jnp.max(jnp.linalg.norm(final - truth, axis=-1))) for final in finals]
    return errors


def root_mean_square(first: Any, second: Any) -> float:
    """sqrt(mean |a - b|^2)."""
    return float(np.sqrt(np.mean((np.asarray(first) - np.asarray(second)) ** 2)))


def from_upright(angles: Any) -> Any:
    """Distance of pendulum angles from the upright position, in degrees, however often it went round."""
    return np.degrees(np.abs((np.asarray(angles, float) % (2 * np.pi)) - np.pi))
