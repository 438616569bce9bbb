"""One name for all figures of results: `plot(result)`.

Each kind of result registers the function that draws it, in a file beside this one named after its question.
"""

import functools
from typing import Any

from separatrix._errors import explain


@functools.singledispatch
def plot(result: Any, *, axes: Any = None) -> Any:
    """Return a figure of a result.

    **Arguments:**

    - `result`: the answer to a question of `separatrix.diagnostics`.
    - `axes`: where to draw; a new figure by default.

    **Returns:** the figure.

    **Raises:** `TypeError` for anything that is no such answer.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> found = sx.linear_stability(sx.as_map(lambda x: 0.5 * x), jnp.ones(3))
    >>> type(sx.plotting.plot(found)).__name__
    'Figure'
    """
    do = "Pass what a question returned, or draw a trajectory with plot_trajectory."
    raise TypeError(explain("plot: result", type(result).__name__, "the answer to a question", do))
