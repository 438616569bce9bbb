r"""A Krylov space and what a matrix is in it: Arnoldi's method on products alone, orthonormal to rounding.

    V_k of span(b, A b, ..., A^{k-1} b),   A V_k = V_k T + r e_k^T,   T = V_k^T A V_k

Eigenvalues of T (Ritz values) near those of A, the outer ones first. Of a symmetric A the least of them is a Rayleigh
quotient: never below the least eigenvalue, so that a negative one proves a negative eigenvalue. (Saad, *Numerical Methods
for Large Eigenvalue Problems* (2011), algorithm 6.2 and proposition 6.8.)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# A new direction below this share of the product is rounding: the space is closed.
_CLOSED = 1e-6


class Krylov(NamedTuple):
    """V, shape (d, k); T, shape (k, k); |r|, 0 of a closed space."""

    basis: Any
    projected: Any
    beyond: float

    def residual(self, vector: Any) -> float:
        """|A V y - theta V y| of a unit eigenvector y of T."""
        return self.beyond * float(abs(vector[-1]))


def arnoldi(multiply: Callable[[Any], Any], start: Any, room: int) -> Krylov:
    """The Krylov space of `room` vectors at most, each orthogonalised twice."""
    found, images = [start / np.linalg.norm(start)], []
    while True:
        image = np.asarray(multiply(found[-1]))
        images.append(image)
        space, vector = np.stack(found, axis=1), image
        for _ in range(2):
            vector = vector - space @ (space.T @ vector)
        size = float(np.linalg.norm(vector))
        closed = not size > _CLOSED * np.linalg.norm(image)
        if closed or len(found) == room:
            return Krylov(space, space.T @ np.stack(images, axis=1), 0.0 if closed else size)
        found.append(vector / size)
