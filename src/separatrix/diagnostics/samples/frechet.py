r"""Frechet distance: the squared Wasserstein-2 distance of two normal laws with the means and covariances of the samples.

    F = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2})

It sees two moments, in the features it is given, and nothing else: name the features. The estimate is biased up, by about
tr-like terms over n, so values of different sample sizes do not compare; `floor` is what one law shows at these sizes.

Standard error. With T = C_1^{-1/2} (C_1^{1/2} C_2 C_1^{1/2})^{1/2} C_1^{-1/2}, the map from the first normal law to the
second, dF/dm_1 = 2 (m_1 - m_2) and dF/dC_1 = I - T, so a point x counts for

    2 (m_1 - m_2) . (x - m_1) + (x - m_1)^T (I - T) (x - m_1),

and likewise y with T^{-1}. Under one law this part vanishes, and the spread under permutations stands for it.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._types import Function, Key
from separatrix.diagnostics.checks import check_count, check_key
from separatrix.diagnostics.samples._samples import Samples, memberships, samples
from separatrix.diagnostics.samples.result import Distance, told


def frechet_distance(
    first: Any, second: Any, *, key: Key, features: Function | None = None, permutations: int = 200
) -> Distance:
    r"""Return the squared Frechet distance of two samples, taken as normal in a space of features.

        F = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2})

    **Arguments:**

    - `first`, `second`: shape (n, ...) and (m, ...).
    - `key`, `permutations`: of the p-value; 0 permutations for none. Each takes two symmetric eigenproblems of the
      number of features.
    - `features`: a function of a sample (n, ...) that gives (n, d), as `principal_features(real)`; the flattened points
      by default. Take d well below n: else the covariances are singular, and the bias is large.

    **Returns:** a `Distance`, in the squared unit of the features.

    **Raises:** `ValueError` for samples of different shapes.

    **Example:**

    >>> import jax, separatrix as sx
    >>> x, y = jax.random.normal(jax.random.key(0), (2, 400, 2))
    >>> found = sx.frechet_distance(x, y, key=jax.random.key(1))
    >>> bool(found.p_value > 0.05), bool(found.value < 0.1)
    (True, True)

    **Reference:** Dowson & Landau, *The Frechet distance between multivariate normal distributions* (1982); Heusel et al.,
    *GANs trained by a two time-scale update rule* (2017), for its use; Chong & Forsyth, *Effectively unbiased FID and
    Inception score and where to find them* (2020), for the bias.
    """
    name = (
        "coordinates"
        if features is None
        else getattr(features, "name", getattr(features, "__name__", "features given"))
    )
    if features is not None:
        first, second = features(first), features(second)
    pair = samples(first, second, "frechet_distance")
    check_count("frechet_distance: permutations", permutations, 0)
    check_key("frechet_distance", key, needed=True)
    value, error, null, size = _all(pair, key, permutations)
    error = jnp.maximum(error, jnp.std(null)) if permutations else error
    statement = f"of normal laws in {pair.sizes[2]} features: {name}"
    return told(value, error, null, name="Frechet distance", sizes=pair.sizes, statement=statement, size=size)


@eqx.filter_jit
def _all(pair: Samples, key: Key, permutations: int) -> tuple[Any, Any, Any, Any]:
    """Value, standard error, values under permutations, and the size of the terms whose difference they are."""
    labels = memberships(key, pair, permutations)
    given = _moments(pair, labels[0])
    value = _distance(*given)
    null = (
        jax.lax.map(lambda z: _distance(*_moments(pair, z)), labels[1:]) if permutations else jnp.zeros(0, value.dtype)
    )
    size = jnp.sum((given[0] - given[1]) ** 2) + jnp.trace(given[2]) + jnp.trace(given[3])
    return value, _error(pair, *given), null, size


def _moments(pair: Samples, first: Any) -> tuple[Any, Any, Any, Any]:
    """Means and covariances (divided by n - 1) of both samples."""
    means, covariances = [], []
    for chosen, count in ((first, pair.n), (~first, pair.m)):
        weight = chosen.astype(pair.pooled.dtype)
        mean = weight @ pair.pooled / count
        off = weight[:, None] * (pair.pooled - mean[None, :])
        means.append(mean)
        covariances.append(off.T @ off / (count - 1))
    return means[0], means[1], covariances[0], covariances[1]


def _distance(m1: Any, m2: Any, c1: Any, c2: Any) -> Any:
    root = _power(c1, 0.5)
    shared = jnp.sum(jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(root @ c2 @ root), 0)))
    return jnp.sum((m1 - m2) ** 2) + jnp.trace(c1) + jnp.trace(c2) - 2 * shared


def _power(matrix: Any, exponent: float) -> Any:
    """A symmetric power, on the range of the matrix."""
    values, vectors = jnp.linalg.eigh(matrix)
    kept = values > values.shape[0] * jnp.finfo(values.dtype).eps * values[-1]
    powers = jnp.where(kept, jnp.where(kept, values, 1) ** exponent, 0)
    return (vectors * powers[None, :]) @ vectors.T


def _error(pair: Samples, m1: Any, m2: Any, c1: Any, c2: Any) -> Any:
    root, unroot = _power(c1, 0.5), _power(c1, -0.5)
    middle = root @ c2 @ root
    there, back = unroot @ _power(middle, 0.5) @ unroot, root @ _power(middle, -0.5) @ root
    first = _influence(pair.pooled[: pair.n] - m1[None, :], m1 - m2, there)
    second = _influence(pair.pooled[pair.n :] - m2[None, :], m2 - m1, back)
    return jnp.sqrt(jnp.var(first) / pair.n + jnp.var(second) / pair.m)


def _influence(off: Any, gap: Any, transport: Any) -> Any:
    return 2 * off @ gap + jnp.sum((off - off @ transport) * off, axis=1)
