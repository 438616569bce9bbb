r"""What stands at a point of a game too large for its Jacobian to be formed: outer eigenvalues by products alone.

    least of H_ii           Lanczos on v -> (H (0, v, 0))_i: an upper bound of the least eigenvalue
    least of the answered   the same on v -> H_11 v - H_12 H_22^{-1} H_21 v, each solve by conjugate gradients
    spectrum of -H          Arnoldi; |A|^2 and |S|^2 by random probes z: E|(H - H^T) z|^2/4, E|(H + H^T) z|^2/4

A negative bound is proof that a point is no minimum; a positive one is none that it is.
"""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from separatrix.linear.coordinates import Jacobian
from separatrix.linear.derivatives import require_derivatives
from separatrix.linear.krylov import arnoldi

# Vectors of each space, of each space whose products are solves, and probes of the share that turns.
ROOM, ROOM_OF_SOLVES, PROBES = 60, 15, 16


def of_products(jacobian: Jacobian, sizes: tuple[int, ...], eps: float) -> dict[str, Any]:
    """Numbers of a `PointOfGame` from products with H = -J and its transpose."""
    draw, ends = np.random.default_rng(0), np.cumsum((0, *sizes))
    parts = [slice(start, end) for start, end in itertools.pairwise(ends)]

    def times(vector: Any) -> Any:
        found = jacobian.mv(jnp.asarray(vector, jacobian.point.dtype))
        return -require_derivatives("classify", jacobian, found).astype(float)

    def back(vector: Any) -> Any:
        return -np.asarray(jacobian.rmv(jnp.asarray(vector, jacobian.point.dtype)), float)

    def block(row: slice, column: slice, vector: Any) -> Any:
        whole = np.zeros(sum(sizes))
        whole[column] = vector
        return times(whole)[row]

    def least(multiply: Any, count: int, room: int) -> tuple[float, float]:
        space = arnoldi(multiply, draw.standard_normal(count), min(room, count))
        values = np.linalg.eigvalsh((space.projected + space.projected.T) / 2)
        return float(values[0]), float(np.max(np.abs(values)))

    field = arnoldi(times, draw.standard_normal(sum(sizes)), ROOM)
    values, vectors = np.linalg.eig(-field.projected)
    order = np.lexsort((-np.imag(values), -np.real(values).round(12)))
    own = [
        least(lambda v, part=part: block(part, part, v), count, ROOM) for part, count in zip(parts, sizes, strict=True)
    ]
    size = max([float(np.max(np.abs(values))), *(largest for _, largest in own)])
    tolerance = eps**0.5 * max(size, 1.0)
    probes = [np.sign(draw.standard_normal(sum(sizes))) for _ in range(PROBES)]
    pushed = [(times(z), back(z)) for z in probes]
    turning, falling = (float(sum(np.sum((a + sign * b) ** 2) for a, b in pushed)) for sign in (-1, 1))
    answered = np.nan
    if len(parts) == 2 and own[1][0] > tolerance and _opposed(times, back, parts, probes[0], tolerance):
        answered = _answered(lambda v: block(parts[0], parts[0], v), block, parts, least)
    return {
        "size": size,
        "spectrum": values[order].astype(complex),
        "curvatures": np.array([value for value, _ in own]),
        "answered": answered,
        "turning": turning / (turning + falling) if turning + falling > 0 else 0.0,
        "residual": field.residual(vectors[:, order[0]]),
        "tolerance": tolerance,
    }


def _opposed(times: Any, back: Any, parts: list[slice], probe: Any, tolerance: float) -> bool:
    """Whether H_12 = -H_21^T, on one probe."""
    second = np.zeros_like(probe)
    second[parts[1]] = probe[parts[1]]
    across, turned = times(second)[parts[0]], back(second)[parts[0]]
    return float(np.linalg.norm(across + turned)) <= tolerance * float(np.linalg.norm(second))


def _answered(own: Any, block: Any, parts: list[slice], least: Any) -> float:
    """The least of H_11 - H_12 H_22^{-1} H_21 as found; NaN where a solve does not end."""
    first, second = parts
    counts = [int(part.stop - part.start) for part in parts]
    answer = LinearOperator((counts[1],) * 2, matvec=lambda v: block(second, second, v.ravel()), dtype=float)  # pyright: ignore[reportCallIssue]
    failed = []

    def multiply(vector: Any) -> Any:
        solved, code = cg(answer, block(second, first, vector), rtol=1e-6, maxiter=200)
        failed.append(code != 0)
        return own(vector) - block(first, second, solved)

    found = least(multiply, counts[0], ROOM_OF_SOLVES)[0]
    return np.nan if any(failed) else found
