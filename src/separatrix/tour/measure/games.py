"""What the chapter on games measures: which modes a generator reaches."""

from typing import Any

import jax
import jax.numpy as jnp


def ring(key: Any, count: int, modes: int = 8, radius: float = 2.0, spread: float = 0.1) -> Any:
    """Points of a ring of Gaussians, float32."""
    which, noise = jax.random.split(key)
    angles = 2 * jnp.pi * jax.random.randint(which, (count,), 0, modes).astype(jnp.float32) / modes
    centres = radius * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return centres.astype(jnp.float32) + spread * jax.random.normal(noise, (count, 2), jnp.float32)


def modes_reached(points: Any, modes: int = 8, radius: float = 2.0, spread: float = 0.1) -> tuple[Any, Any]:
    """(number of modes that hold at least a quarter of their due, share of points within 3 spreads of a mode)."""
    angles = 2 * jnp.pi * jnp.arange(modes, dtype=points.dtype) / modes
    centres = radius * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    distances = jnp.linalg.norm(points[:, None] - centres[None], axis=-1)
    near = distances < 3 * spread
    shares = jnp.mean(near, axis=0, dtype=points.dtype)
    return jnp.sum(shares > 0.25 / modes), jnp.mean(near.any(axis=1), dtype=points.dtype)
