r"""A fixed-step method on uneven steps: x[n+1] = F_h(t[n], x[n]), h = t[n+1] - t[n].

`discretize` makes a family of maps of one step size, which has a limit. Some clocks want steps of very different size, as
the noise level of a sampler does: on a grid the map is finite, and is what it is.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_traced
from separatrix._types import Key, State, StepIndex
from separatrix.calculus.discretization import require_pair
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
    - `grid`: t[0], ..., t[N], rising throughout; for a flow also falling throughout, which runs it back.

    **Returns:** a `FiniteMap` of N steps.

    **Raises:** `ValueError` for a grid of fewer than two times, one that is not finite or turns back, or a falling one of
    an SDE; `TypeError` for a pair that does not fit.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> steps = sx.on_grid(sx.as_flow(lambda x: -x), sx.Euler(), jnp.array([0.0, 0.5, 0.75]))
    >>> sx.evolve(steps, jnp.array(1.0)).final.item()
    0.375
    """
    require_pair("on_grid", system, method)
    grid = jnp.asarray(grid)
    if grid.ndim != 1 or grid.shape[0] < 2:
        raise ValueError(explain("on_grid: grid", f"shape {grid.shape}", "at least two times", "Pass t[0], ..., t[N]."))
    if not is_traced(grid):
        _check_order(np.asarray(grid), isinstance(system, SDE))
    return GridMap(system, method, grid, grid.shape[0] - 1)


def _check_order(grid: np.ndarray, random: bool) -> None:
    """Refuse times that are not finite, that turn back or repeat, or that fall where noise is to be drawn."""
    steps = np.diff(grid)
    if np.isfinite(grid).all() and ((steps > 0).all() or ((steps < 0).all() and not random)):
        return
    if not np.isfinite(grid).all():
        got = f"t[{int(np.argmin(np.isfinite(grid)))}] = {grid[np.argmin(np.isfinite(grid))]}"
    else:
        off = int(np.argmin(steps > 0)) if random or steps[0] > 0 else int(np.argmin(steps < 0))
        got = f"t[{off}] = {grid[off]:g}, t[{off + 1}] = {grid[off + 1]:g}"
    expected = "finite times that rise" + ("" if random else " throughout, or fall throughout")
    do = "Sort them, drop repeats; to run an SDE backwards take reverse(sde, score=..., horizon=...)."
    raise ValueError(explain("on_grid: grid", got, expected, do))
