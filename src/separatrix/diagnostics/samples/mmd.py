r"""Maximum mean discrepancy: how far apart two laws are in the space of a kernel.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),      x, x' ~ P,  y, y' ~ Q, independent,

estimated without bias by the U-statistic, which may therefore be negative. Kernels, with r = |x - y|:

    gaussian   exp(-r^2/(2 s^2))
    mixture    the mean of gaussian over s/4, s/2, s, 2s, 4s
    energy     -r, whose MMD^2 is the energy distance
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Key
from separatrix.diagnostics.checks import check_count, check_key, check_number
from separatrix.diagnostics.samples._kernels import Kernel, discrepancy
from separatrix.diagnostics.samples._samples import Samples, memberships, samples, squared_distances
from separatrix.diagnostics.samples.result import Distance, told

_OCTAVES = (0.25, 0.5, 1.0, 2.0, 4.0)
# The median of so many points' distances has a relative error of a few per cent.
_MEDIAN_OF = 1000


def maximum_mean_discrepancy(
    first: Any, second: Any, *, key: Key, kernel: str = "gaussian", bandwidth: Any = None, permutations: int = 200
) -> Distance:
    r"""Return the squared maximum mean discrepancy of two samples, unbiased.

        MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

    **Arguments:**

    - `first`, `second`: shape (n, ...) and (m, ...), points flattened.
    - `key`: for permutations, and for the points of the median.
    - `kernel`: "gaussian", "mixture" (five bandwidths, for laws whose scale is not known), or "energy" (no bandwidth).
    - `bandwidth`: s > 0; the median distance among 1,000 of the pooled points by default, which does not see the labels.
      Where more than half of the pairs coincide it is the root mean square distance.
    - `permutations`: P of the p-value; 0 for none.

    **Returns:** a `Distance`. Its standard error is that of the jackknife: conservative under one law.

    **Raises:** `ValueError` for another kernel, a bandwidth that is not positive, or samples of different shapes, of fewer
    than two points or not finite.

    **Example:**

    >>> import jax, separatrix as sx
    >>> x = jax.random.normal(jax.random.key(0), (200, 3))
    >>> found = sx.maximum_mean_discrepancy(x, x[:100] + 1.0, key=jax.random.key(1))
    >>> bool(found.p_value < 0.01), bool(found.value > 4 * found.error)
    (True, True)

    **Reference:** Gretton, Borgwardt, Rasch, Scholkopf & Smola, *A kernel two-sample test* (2012), lemma 6.
    """
    pair = samples(first, second, "maximum_mean_discrepancy")
    check_count("maximum_mean_discrepancy: permutations", permutations, 0)
    check_key("maximum_mean_discrepancy", key, needed=True)
    if bandwidth is not None:
        check_number("maximum_mean_discrepancy: bandwidth", bandwidth, above=0.0)
    if kernel not in ("gaussian", "mixture", "energy"):
        expected = '"gaussian", "mixture" or "energy"'
        raise ValueError(explain("maximum_mean_discrepancy: kernel", repr(kernel), expected, "Choose one of these."))
    shuffled, chosen = jax.random.split(key)
    width = _median(chosen, pair) if bandwidth is None else jnp.asarray(bandwidth, pair.pooled.dtype)
    scales = _OCTAVES if kernel == "mixture" else (1.0,)
    found = discrepancy(
        Kernel(scales, None if kernel == "energy" else width), pair, memberships(shuffled, pair, permutations)
    )
    return told(
        found.value, found.error, found.null, name="MMD^2", sizes=pair.sizes,
        statement=f"{_STATED[kernel]}, U-statistic",
        details={} if kernel == "energy" else {"bandwidth": width}, size=found.size,
    )  # fmt: skip


_STATED = {
    "gaussian": "kernel exp(-r^2/(2 s^2))",
    "mixture": "kernel mean of exp(-r^2/(2 c^2)) over c = s/4, s/2, s, 2s, 4s",
    "energy": "kernel -r",
}


@eqx.filter_jit
def _median(key: Key, pair: Samples) -> Any:
    """Median distance of pairs among some of the pooled points; without ties at 0, where it would be no scale."""
    total = pair.n + pair.m
    some = pair.pooled[jax.random.permutation(key, total)[: min(total, _MEDIAN_OF)]]
    squares = squared_distances(some, some)
    apart = jnp.triu(jnp.ones_like(squares, bool), 1)
    median = jnp.nanmedian(jnp.where(apart, squares, jnp.nan))
    mean = jnp.sum(jnp.where(apart, squares, 0)) / jnp.sum(apart.astype(squares.dtype))
    # Of squares of numbers of size one hundred eps are rounding: two equal points may be so far apart.
    rounding = 100 * jnp.finfo(squares.dtype).eps * jnp.max(jnp.sum(some**2, axis=1))
    scale = jnp.where(median > rounding, median, jnp.where(mean > rounding, mean, 1))
    # Points that are not finite have no scale.
    return jnp.where(jnp.all(jnp.isfinite(pair.pooled)), jnp.sqrt(scale), jnp.nan)
