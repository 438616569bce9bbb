"""What the chapter on games measures: how much of a field turns, and which modes a generator reaches."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import separatrix as sx
from separatrix._tree import add, dot, subtract


def antisymmetric_share(flow: Any, state: Any, key: Any, probes: int = 64) -> tuple[float, float]:
    r"""(|A|^2/(|A|^2 + |S|^2), its standard error) for the parts A, S of the Jacobian J = A + S of a field.

    For standard normal v the mean of |Jv -+ J^T v|^2/4 is |A|^2, |S|^2 (Hutchinson): two products a probe, no matrix.
    """
    values = np.asarray(_probe(flow, state, jax.random.split(key, probes)), float)
    turning, total = values[:, 0], values.sum(axis=1)
    share = turning.mean() / total.mean()
    return float(share), float(np.std(turning - share * total) / total.mean() / np.sqrt(probes))


@eqx.filter_jit
def _probe(flow: Any, state: Any, keys: Any) -> Any:
    """(|Jv - J^T v|^2, |Jv + J^T v|^2) for a normal v of each key."""
    jacobian = sx.linearize(flow, state)
    transposed = jacobian.transpose()
    flat, restore = ravel_pytree(state)

    def one(key: Any) -> Any:
        v = restore(jax.random.normal(key, flat.shape, flat.dtype))
        forward, backward = jacobian.mv(v), transposed.mv(v)
        parts = subtract(forward, backward), add(forward, backward)
        return jnp.stack([dot(part, part) for part in parts])

    return jax.vmap(one)(keys)


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
