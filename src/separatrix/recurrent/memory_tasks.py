r"""A task with memory, and a look inside the net that solves it.

    u[n] in {-1, 0, 1}^b, mostly 0;      y[n] = the last u that was not 0, bit by bit, and 0 before the first

b flip-flops have 2^b states to remember, and a net that has learned them has as many stable fixed points at u = 0,
with saddles between, along whose unstable directions a pulse pushes it over. They are seen in the plane of the two
principal axes of its states: the eigenvectors of their covariance with the largest eigenvalues.

**Reference:** Sussillo & Barak, *Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural
networks* (2013), section 3; Gao & Ganguli (2015), for the participation ratio (sum v)^2/sum v^2 of variances v.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._types import Checked, Key
from separatrix.diagnostics.equilibria.fixed_points import FixedPoints
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import as_vector, from_vector
from separatrix.systems import ranges


def flip_flops(
    sequences: Checked[int],
    steps: Checked[int],
    *,
    key: Key,
    bits: Checked[int] = 3,
    rate: Any = 0.1,
    dtype: Any = None,
) -> tuple[Float[Array, "sequences steps bits"], Float[Array, "sequences steps bits"]]:
    r"""Draw inputs and targets of the flip-flop task.

    **Arguments:** how many `sequences` of so many `steps`; `bits`: b; `rate`: probability of a pulse, above 0 up to 1,
    at each step in each bit, of either sign alike.

    **Returns:** inputs and targets.

    **Raises:** `ValueError` for numbers outside their range.

    **Example:**

    >>> import jax, separatrix as sx
    >>> pulses, kept = sx.recurrent.flip_flops(1, 100, key=jax.random.key(0), bits=1)
    >>> last = [n for n in range(100) if pulses[0, n, 0] != 0][-1]
    >>> bool((kept[0, last:, 0] == pulses[0, last, 0]).all())
    True

    **Reference:** Sussillo & Barak (2013), section 3.1.
    """
    for name, value in (("sequences", sequences), ("steps", steps), ("bits", bits)):
        ranges.whole(f"flip_flops: {name}", value, "Pass how many.")
    ranges.positive("flip_flops: rate", rate, "Take 0.1.")
    ranges.share("flip_flops: rate", rate, "Take 0.1.")
    of_times, of_signs = jax.random.split(key)
    shape = (sequences, steps, bits)
    there = jax.random.bernoulli(of_times, rate, shape)
    pulses = jnp.where(there, jax.random.rademacher(of_signs, shape, jnp.zeros((), dtype).dtype), 0)
    # The place of the last pulse up to each step; there the target is what the pulse was.
    place = jax.lax.cummax(jnp.where(there, jnp.arange(steps)[None, :, None], -1), axis=1)
    kept = jnp.take_along_axis(pulses, jnp.maximum(place, 0), axis=1)
    return pulses, jnp.where(place < 0, 0, kept)


class PrincipalPortrait(Result):
    """States of a net on the plane of their two principal axes.

    - `mean`, `axes` (2, d): the plane. `shares`: parts of the variance along all principal axes, largest first.
    - `orbits`, shape (runs, T, 2); `points`, shape (P, 2); `stable`, shape (P,).
    - `directions`: unstable directions, shape (D, 2), each from the point `owners`, shape (D,): the real and imaginary
      part of a complex pair. `growth`, shape (D,): |multiplier|, or the real part of the eigenvalue of a flow.
    """

    mean: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "2 d"]
    shares: Float[np.ndarray, " k"]
    orbits: Float[np.ndarray, "runs time 2"]
    points: Float[np.ndarray, "P 2"]
    stable: Any
    directions: Float[np.ndarray, "D 2"]
    owners: Any
    growth: Any

    @property
    def dimension(self) -> float:
        """(sum v)^2/sum v^2: over how many axes the variance is spread."""
        return float(1 / np.sum(self.shares**2))

    def rows(self) -> list[Row]:
        return [
            Row("share of the variance in the plane", float(self.shares[:2].sum())),
            Row("participation dimension", self.dimension),
            Row("points, stable of these", f"{len(self.points)}, {int(np.sum(self.stable))}"),
            Row("unstable directions", str(len(self.directions))),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        low = float(self.shares[:2].sum()) < 0.5
        return ("the plane holds less than half of the variance: points that look close may not be",) if low else ()


def principal_portrait(system: Any, orbits: Any, points: FixedPoints) -> PrincipalPortrait:
    r"""Look at a net's states, its fixed points and their unstable directions in its two principal axes.

    **Arguments:**

    - `system`: a `Map` or `Flow`, the one whose points they are. `orbits`: states, shape (runs, T, d).
    - `points`: from `fixed_points`.

    **Returns:** a `PrincipalPortrait`; `plot_principal_portrait` of the plotting room draws it.

    **Raises:** `ValueError` for orbits that are not finite, of another size, or do not move.

    **Example:** along x1 a saddle grows.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> saddle = sx.as_map(lambda x: jnp.array([2.0, 0.5, 0.1]) * x)
    >>> points = sx.fixed_points(saddle, jnp.zeros((1, 3)))
    >>> orbits = jnp.array([[[4.0, 0.0, 0.0], [-4.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]])
    >>> found = sx.recurrent.principal_portrait(saddle, orbits, points)
    >>> abs(found.directions).round(6).tolist(), found.growth.round(6).tolist(), round(float(found.shares[0]), 4)
    ([[1.0, 0.0]], [2.0], 0.9412)

    **Reference:** Sussillo & Barak (2013), section 3.2.
    """
    paths = np.asarray(orbits, float)
    size = points.coordinates.shape[1]
    if paths.ndim != 3 or paths.shape[2] != size or size < 2 or not np.isfinite(paths).all():
        got = f"shape {paths.shape}" + ("" if np.isfinite(paths).all() else " with values that are not finite")
        do = "Save the states of several runs as vectors."
        raise ValueError(explain("principal_portrait: orbits", got, f"finite, (runs, T, {size}), d >= 2", do))
    rows = paths.reshape(-1, size)
    mean = rows.mean(axis=0)
    _, sizes, axes = np.linalg.svd(rows - mean, full_matrices=False)
    if not sizes[0] > 0:
        raise ValueError(explain("principal_portrait: orbits", "states that do not move", "some that do", "Drive it."))
    plane = axes[:2]
    places = np.asarray(points.coordinates, float)
    directions, owners, growth = _unstable(system, points)
    return PrincipalPortrait(
        mean, plane, sizes**2 / np.sum(sizes**2), (paths - mean) @ plane.T, (places - mean) @ plane.T,
        np.asarray(points.indices) == 0, directions @ plane.T, owners, growth,
    )  # fmt: skip


def _unstable(system: Any, points: FixedPoints) -> tuple[Any, Any, Any]:
    """Eigenvectors past the border of stability, whose point they are of, and how fast they grow."""
    like = jax.tree.map(lambda leaf: leaf[0], points.points)
    step = system.step if points.kind == "map" else system.velocity
    jacobian = eqx.filter_jit(jax.jacfwd(lambda vector: as_vector(step(0, from_vector(vector, like)))))
    found, owners, growth = [np.zeros((0, points.coordinates.shape[1]))], [], []
    for number, place in enumerate(points.coordinates):
        if int(points.indices[number]) == 0:
            continue
        values, vectors = np.linalg.eig(np.asarray(jacobian(jnp.asarray(place))))
        sizes = np.abs(values) if points.kind == "map" else np.real(values)
        border = float(points.tolerances[number]) + (points.kind == "map")
        for k in np.flatnonzero((sizes > border) & (np.imag(values) >= 0)):
            parts = [np.real(vectors[:, k])] + ([np.imag(vectors[:, k])] if np.imag(values[k]) > 0 else [])
            found.append(np.stack(parts))
            owners += [number] * len(parts)
            growth += [sizes[k]] * len(parts)
    return np.concatenate(found), np.array(owners, int), np.array(growth)
