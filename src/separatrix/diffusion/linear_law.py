r"""The law that a sampler ends with on normal data, exactly and without drawing.

With the exact prediction of normal data a step is linear, x' = M x + C z, so that covariances obey

    V[n+1] = M V[n] M^T + C C^T,

with M and C the Jacobians of the step in its state and in its noise. What is left of the difference from the law of the
data is the sampler's own error, which has an order in the number of steps.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from separatrix._errors import explain
from separatrix.calculus.methods import EulerMaruyama
from separatrix.calculus.methods.base import FlowMethod
from separatrix.calculus.own_grid import GridMap
from separatrix.diffusion.samplers import SamplingMap
from separatrix.evolution import evolve
from separatrix.systems.functions import as_map
from separatrix.systems.sde import SDE


def final_variance(map: Any, variance: Any) -> Array:
    r"""Return the variance that a linear sampler ends with, from a variance at its first time.

        V[n+1] = M V[n] M^T + C C^T

    **Arguments:**

    - `map`: what `sampling_map` gives with the exact prediction of normal data, in one dimension; or `on_grid` with a
      method for flows or `EulerMaruyama`.
    - `variance`: of x at its first time.

    **Returns:** a scalar.

    **Raises:** `TypeError` for another map.

    **Example:** one step of DDIM on data N(0, 1) from pure noise ends at 0.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> unit = sx.diffusion.GaussianMixture([1.0], [[0.0]], [1.0])
    >>> path = sx.diffusion.StraightPath()
    >>> prediction = sx.diffusion.Prediction(path, unit.score_under(path).clean, "clean")
    >>> map = sx.diffusion.sampling_map(sx.diffusion.DDIM(), prediction, jnp.array([1.0, 0.0]))
    >>> float(sx.diffusion.final_variance(map, 1.0))
    0.0
    """
    x = jnp.zeros(1)
    state = map.sampler.begin(x) if isinstance(map, SamplingMap) else x
    flat, unravel = ravel_pytree(state)

    def step(n: Any, vector: Array, noise: Array) -> Array:
        return ravel_pytree(_advance(map, n, unravel(vector), noise))[0]

    count = map.sampler.draws if isinstance(map, SamplingMap) else 1
    first = jnp.zeros((flat.size, flat.size)).at[0, 0].set(variance)
    noise = jnp.zeros((count, 1))

    def spread(n: Any, covariance: Array) -> Array:
        moved, drawn = jax.jacfwd(lambda v, z: step(n, v, z), argnums=(0, 1))(flat, noise)
        drawn = drawn.reshape(flat.size, -1)
        return moved @ covariance @ moved.T + drawn @ drawn.T

    return evolve(as_map(spread), first, steps=map.length, save="last").final[0, 0]


def _advance(map: Any, n: Any, state: Any, noise: Array) -> Any:
    """One step under given standard normal noise."""
    if isinstance(map, SamplingMap):
        return map.advance(n, state, noise)
    if isinstance(map, GridMap) and isinstance(map.method, FlowMethod):
        return map.step(n, state)
    if isinstance(map, GridMap) and isinstance(map.method, EulerMaruyama) and isinstance(map.system, SDE):
        size = map.grid[n + 1] - map.grid[n]
        return map.method.advance_with(map.system, map.grid[n], state, size, jnp.sqrt(size) * noise[0])
    got, do = type(map).__name__, "Pass sampling_map(...), or on_grid(...) with a method for flows or EulerMaruyama()."
    raise TypeError(explain("final_variance: map", got, "a map on a grid of noise levels", do))
