r"""Linear recurrences with diagonal coefficients, by one associative scan.

    x[n+1] = a[n] x[n] + b[n],      (a, b) then (c, d) = (c a, c b + d)

The law of composition is associative, so that all of x[1], ..., x[N] take log N rounds. It is what one round of
`Parallel` solves; here there is no Newton, and the coefficients may be complex.

**Reference:** Blelloch, *Prefix sums and their applications* (1990), section 1.4.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from separatrix._errors import explain
from separatrix.evolution._newton import affine_scan


def linear_recurrence(slopes: Any, shifts: Any, first: Any) -> Array:
    r"""Return x[1], ..., x[N] of x[n+1] = a[n] x[n] + b[n], in parallel over time.

    **Arguments:**

    - `slopes`: a, shape (N, d), or (d,) for the same at each step. `shifts`: b, shape (N, d). `first`: x[0], shape (d,).

    **Returns:** shape (N, d).

    **Raises:** `ValueError` for shapes that do not fit.

    **Example:** a sum that forgets half at each step.

    >>> import jax.numpy as jnp
    >>> from separatrix.evolution.recurrences import linear_recurrence
    >>> linear_recurrence(jnp.array([0.5]), jnp.ones((3, 1)), jnp.zeros(1))[:, 0].tolist()
    [1.0, 1.5, 1.75]
    """
    slopes, shifts, first = jnp.asarray(slopes), jnp.asarray(shifts), jnp.asarray(first)
    fits = shifts.ndim == 2 and len(shifts) > 0 and first.shape == shifts.shape[1:]
    if not (fits and slopes.shape in (shifts.shape, shifts.shape[1:])):
        got = f"shapes {slopes.shape}, {shifts.shape}, {first.shape}"
        expected = "(N, d) or (d,), (N, d) with N >= 1, (d,)"
        raise ValueError(explain("linear_recurrence: slopes, shifts, first", got, expected, "Put time first."))
    slopes = jnp.broadcast_to(slopes, shifts.shape)
    return affine_scan(slopes, shifts.at[0].add(slopes[0] * first))
