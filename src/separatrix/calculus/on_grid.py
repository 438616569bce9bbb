r"""A fixed-step method on uneven steps: x[n+1] = F_h(t[n], x[n]), h = t[n+1] - t[n].

`discretize` makes a family of maps of one step size, which has a limit. Some clocks want steps of very different size, as
the noise level of a sampler does: on a grid the map is finite, and is what it is.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import float_dtype
from separatrix._types import Key, State, StepIndex
from separatrix.calculus.methods.base import Method
from separatrix.systems.flow import Flow
from separatrix.systems.map import FiniteMap
from separatrix.systems.sde import SDE


class GridMap(FiniteMap):
    """x[n+1] = method.advance(system, t[n], x[n], t[n+1] - t[n])."""

    system: Flow | SDE
    method: Method
    grid: Array
    length: int = eqx.field(static=True)

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        grid = self.grid.astype(float_dtype(state))
        return self.method.advance(self.system, grid[n], state, grid[n + 1] - grid[n], key=key)


def on_grid(system: Flow | SDE, method: Method, grid: Any) -> FiniteMap:
    r"""Return the finite map that a fixed-step method makes of a flow or an SDE on a grid of uneven steps.

        x[n+1] = F_h(t[n], x[n]),   h = t[n+1] - t[n]

    **Arguments:**

    - `system`: a `Flow` or `SDE`. `method`: of its kind, as in `discretize`.
    - `grid`: t[0], ..., t[N], rising; for a flow also falling, which runs it back.

    **Returns:** a `FiniteMap` of N steps.

    **Raises:** `ValueError` for a grid of fewer than two times.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> steps = sx.on_grid(sx.as_flow(lambda x: -x), sx.Euler(), jnp.array([0.0, 0.5, 0.75]))
    >>> sx.evolve(steps, jnp.array(1.0)).final.item()
    0.375
    """
    grid = jnp.asarray(grid)
    if grid.ndim != 1 or grid.shape[0] < 2:
        raise ValueError(explain("on_grid: grid", f"shape {grid.shape}", "at least two times", "Pass t[0], ..., t[N]."))
    return GridMap(system, method, grid, grid.shape[0] - 1)
