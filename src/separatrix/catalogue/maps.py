"""Classical maps."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from separatrix.catalogue.listing import Entry
from separatrix.systems import as_map
from separatrix.systems.base import as_parameter


class Logistic(eqx.Module):
    """x -> r x (1 - x)."""

    r: Any = eqx.field(default=4.0, converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        return self.r * x * (1.0 - x)


class Henon(eqx.Module):
    """(x, y) -> (1 - a x^2 + y, b x)."""

    a: Any = eqx.field(default=1.4, converter=as_parameter)
    b: Any = eqx.field(default=0.3, converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        return jnp.stack([1.0 - self.a * x[0] ** 2 + x[1], self.b * x[0]])


class Standard(eqx.Module):
    """Kicked rotor: p' = p + k sin q, q' = q + p'."""

    k: Any = eqx.field(default=0.9, converter=as_parameter)

    def __call__(self, x: Any) -> Any:
        momentum = x[1] + self.k * jnp.sin(x[0])
        return jnp.stack([x[0] + momentum, momentum])


class CatMap(eqx.Module):
    """(x, y) -> (2x + y, x + y) mod 1."""

    def __call__(self, x: Any) -> Any:
        return jnp.mod(jnp.stack([2.0 * x[0] + x[1], x[0] + x[1]]), 1.0)


ENTRIES = (
    Entry("logistic", "map", "the logistic map at r = 4, chaotic on the unit interval", "x' = r x (1 - x)",
          "Lyapunov exponent ln 2; invariant density 1/(pi sqrt(x (1 - x))) (Ulam & von Neumann 1947)",
          lambda: as_map(Logistic()), lambda: jnp.asarray(0.3), 20),
    Entry("henon", "map", "the Henon map at (1.4, 0.3)", "x' = 1 - a x^2 + y, y' = b x",
          "determinant -b everywhere, so the exponents sum to ln 0.3; exponents 0.419307, -1.623280",
          lambda: as_map(Henon()), lambda: jnp.array([0.1, 0.1]), 20),
    Entry("standard", "map", "Chirikov's standard map at k = 0.9", "p' = p + k sin q, q' = q + p'",
          "area-preserving: determinant 1 everywhere", lambda: as_map(Standard()), lambda: jnp.array([1.0, 0.2]), 20),
    Entry("cat", "map", "Arnold's cat map of the torus", "(x, y)' = (2x + y, x + y) mod 1",
          "exponents +-ln((3 + sqrt 5)/2)", lambda: as_map(CatMap()), lambda: jnp.array([0.31, 0.42]), 20),
)  # fmt: skip
