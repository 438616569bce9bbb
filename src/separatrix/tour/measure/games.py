"""What the chapter on games trains on: a ring of Gaussians."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SPREAD = 0.1
_ANGLES = 2 * np.pi * np.arange(8) / 8
MODES = 2.0 * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1).astype(np.float32)


def ring(key: Any, count: int) -> Any:
    """Points of a ring of eight Gaussians of radius 2, float32."""
    which, noise = jax.random.split(key)
    centres = jnp.asarray(MODES)[jax.random.randint(which, (count,), 0, len(MODES))]
    return centres + SPREAD * jax.random.normal(noise, (count, 2), jnp.float32)
