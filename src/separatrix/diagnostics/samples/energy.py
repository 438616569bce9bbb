r"""Energy distance: the MMD^2 of the kernel -|x - y|, without a bandwidth to choose.

    D^2 = 2 E|x - y| - E|x - x'| - E|y - y'|,       in one dimension 2 int (F(t) - G(t))^2 dt,

zero only for equal laws. `scipy.stats.energy_distance` returns its square root, of empirical laws, so with |x_i - x_i|
counted among the pairs; this is D^2 itself, without bias.
"""

from typing import Any

from separatrix._types import Key
from separatrix.diagnostics.checks import check_count, check_key
from separatrix.diagnostics.samples._kernels import Kernel, discrepancy
from separatrix.diagnostics.samples._samples import memberships, samples
from separatrix.diagnostics.samples.result import Distance, told


def energy_distance(first: Any, second: Any, *, key: Key, permutations: int = 200) -> Distance:
    r"""Return the energy distance D^2 of two samples, unbiased.

        D^2 = 2 E|x - y| - E|x - x'| - E|y - y'|

    **Arguments:**

    - `first`, `second`: shape (n, ...) and (m, ...), points flattened; finite first moments.
    - `key`, `permutations`: of the p-value; 0 permutations for none.

    **Returns:** a `Distance`, in the unit of the points; `details["of empirical laws"]` counts the pairs (i, i), as the
    square of `scipy.stats.energy_distance` does.

    **Raises:** `ValueError` for samples of different shapes, of fewer than two points, or with a number that is not finite;
    `TypeError` for complex ones.

    **Example:**

    >>> import jax.numpy as jnp, jax, separatrix as sx
    >>> x, y = jnp.array([0.0, 1.0]), jnp.array([2.0, 3.0])
    >>> found = sx.energy_distance(x, y, key=jax.random.key(0), permutations=0)
    >>> float(found.value), float(found.details["of empirical laws"])
    (2.0, 3.0)

    **Reference:** Szekely & Rizzo, *Energy statistics: a class of statistics based on distances* (2013).
    """
    pair = samples(first, second, "energy_distance")
    check_count("energy_distance: permutations", permutations, 0)
    check_key("energy_distance", key, needed=True)
    found = discrepancy(Kernel(()), pair, memberships(key, pair, permutations))
    return told(
        found.value, found.error, found.null, name="energy distance", sizes=pair.sizes,
        statement="2 E|x - y| - E|x - x'| - E|y - y'|, U-statistic",
        details={"of empirical laws": found.biased}, size=found.size,
    )  # fmt: skip
