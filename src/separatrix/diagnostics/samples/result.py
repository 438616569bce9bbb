"""A distance of two samples beside what two samples of one law would show."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix.diagnostics.result import Result, Row, number

# Below this many points in the smaller sample asymptotic standard errors are rough.
_FEW = 50


class Distance(Result):
    r"""One distance of two samples.

    - `value`, `error`: the distance and its standard error.
    - `p_value`: the share of label permutations with at least this value, (1 + #)/(1 + P): under one law at most alpha with
      probability alpha. `null`, shape (P,): the values under permutations.
    - `floor`: the mean of those, what two samples of one law and these sizes show: a value near it is no distance.
    - `name`; `statement`: what exactly was measured, kernel or features included; `details`: further numbers by name.
    - `sizes`: of the samples, and their dimension.
    """

    value: Float[Array, ""]
    error: Float[Array, ""]
    p_value: Float[Array, ""]
    floor: Float[Array, ""]
    null: Float[Array, " p"]
    details: dict[str, Any]
    name: str = eqx.field(static=True)
    statement: str = eqx.field(static=True)
    sizes: tuple[int, int, int] = eqx.field(static=True)

    def rows(self) -> list[Row]:
        return [
            Row(self.name, self.value, self.error),
            Row("what", self.statement),
            Row("under one law", self.floor),
            Row("p-value", self.p_value),
            *[Row(name, value) for name, value in self.details.items()],
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found, (first, second, dimension) = [], self.sizes
        if not np.isfinite(self.value):
            return ("not finite: the samples are not, or they are too large for their dtype; nothing is known",)
        if min(first, second) < _FEW:
            found.append(f"{min(first, second)} points in the smaller sample: standard errors are rough")
        if self.name == "Frechet distance" and min(first, second) <= dimension:
            found.append(f"covariances of {dimension} features from {min(first, second)} points are singular")
        if self.null.size and float(self.value) < 2 * float(self.floor) and self.biased and self.p_value < 0.05:
            found.append(
                "most of the value is what two samples of one law show: read it against `floor`, or take more points"
            )
        if not self.null.size:
            found.append("no permutations: neither a p-value nor the value under one law")
        return tuple(found)

    @property
    def biased(self) -> bool:
        """Whether the estimate is positive under one law too."""
        return self.name.startswith(("sliced", "Frechet"))


class Distances(Result):
    """Several distances of the same two samples, by kind; `found["energy_distance"]` is one of them."""

    kinds: dict[str, Distance]

    def __getitem__(self, kind: str) -> Distance:
        return self.kinds[kind]

    @property
    def p_value(self) -> float:
        """The smallest p-value times their number (Bonferroni), at most 1; NaN where one of them is not known."""
        smallest = np.min([float(found.p_value) for found in self.kinds.values()])
        return float(np.minimum(1.0, smallest * len(self.kinds)))

    def rows(self) -> list[Row]:
        def told(found: Distance) -> str:
            value = number(float(found.value), float(found.error))
            return f"{value}   (under one law {float(found.floor):.3g}, p = {float(found.p_value):.3g})"

        rows = [Row(found.name, told(found)) for found in self.kinds.values()]
        return [*rows, Row("smallest p-value, times their number", self.p_value)]

    @property
    def cautions(self) -> tuple[str, ...]:
        return tuple(f"{found.name}: {text}" for found in self.kinds.values() for text in found.cautions)


def told(
    value: Any, error: Any, null: Any, *, name: str, statement: str, sizes: Any, details: Any = None, size: Any = None
) -> Distance:
    """Build a `Distance` from its value and its values under permutations, none of them where there is no test.

    `size`: of the terms that the value is a difference of, to whose rounding two values count as equal; the value itself by
    default. Where the value, or one under a permutation, is not a number there is no p-value.
    """
    value = jnp.asarray(value)
    count = null.shape[0]
    rounding = 64 * jnp.finfo(value.dtype).eps * (jnp.abs(value) if size is None else size)
    above = jnp.sum(null >= value - rounding).astype(value.dtype)
    known = jnp.isfinite(value) & jnp.all(jnp.isfinite(null))
    unknown = jnp.full_like(value, jnp.nan)
    p_value = jnp.where(known, (1 + above) / (1 + count), unknown) if count else unknown
    floor = jnp.mean(null) if count else unknown
    return Distance(value, jnp.asarray(error), p_value, floor, null, details or {}, name, statement, tuple(sizes))
