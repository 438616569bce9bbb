r"""Features of our own in which samples are compared: the leading principal components of a reference set.

x -> V^T (x - mean),        V the leading right singular vectors of the centred set
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix.diagnostics.checks import check_count
from separatrix.diagnostics.samples._samples import sample_of


class PrincipalFeatures(eqx.Module):
    """x (n, ...) -> V^T (x - mean), shape (n, count)."""

    mean: Float[Array, " d"]
    components: Float[Array, "count d"]

    @property
    def name(self) -> str:
        """What these features are."""
        return f"{self.components.shape[0]} principal components"

    def __call__(self, sample: Any) -> Float[Array, "n count"]:
        array = sample_of(sample, "principal features: sample", 1)
        flat = array.reshape(array.shape[0], -1).astype(self.mean.dtype)
        if flat.shape[1] != self.mean.size:
            got, do = f"points of {flat.shape[1]} numbers", "Pass points like those of the reference."
            raise ValueError(explain("principal features: sample", got, f"{self.mean.size}", do))
        return (flat - self.mean[None, :]) @ self.components.T


def principal_features(reference: Any, count: int = 20) -> PrincipalFeatures:
    """Return the function of the leading principal components of a set.

    **Arguments:** `reference`, shape (n, ...): the real data, not the generated. `count`: at most min(n - 1, d).

    **Returns:** a function (m, ...) -> (m, count), uncorrelated and with falling spread on the reference.

    **Raises:** `ValueError` for more components than there are.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> data = jax.random.normal(jax.random.key(0), (100, 4)) * jnp.array([[1.0, 5.0, 1.0, 1.0]])
    >>> features = sx.diagnostics.principal_features(data, 2)
    >>> int(jnp.argmax(jnp.abs(features.components[0]))), features.name
    (1, '2 principal components')

    **Reference:** Jolliffe, *Principal Component Analysis* (2002), chapter 1.
    """
    array = sample_of(reference, "principal_features: reference")
    flat = array.reshape(array.shape[0], -1)
    most = min(flat.shape[0] - 1, flat.shape[1])
    if check_count("principal_features: count", count, 1) > most:
        do = "Ask for fewer, or pass more examples."
        raise ValueError(explain("principal_features: count", count, f"at most {most}", do))
    mean = jnp.mean(flat, axis=0)
    vectors = jnp.linalg.svd(flat - mean[None, :], full_matrices=False)[2]
    return PrincipalFeatures(mean, vectors[:count])
