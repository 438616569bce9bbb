r"""Helmholtz and Hodge: a field on a box as gradient, rotation, and what is both.

    f = -grad U + r + h,        div r = 0,   curl h = 0,   div h = 0,        |f|^2 = |grad U|^2 + |r|^2 + |h|^2

the norms being means over the box. On a torus h is the mean of f, and the parts are projections in Fourier space: of a
coefficient c at wavenumber k, the gradient takes k (k . c)/|k|^2 and the rotation the rest.

On a box without periods U vanishes on the boundary and r runs along it; then all three are at right angles, and what is
left to h is a gradient without divergence, which neither U nor r can hold. A field is a gradient iff r = 0, and has no
divergence iff U = 0. Here -U and h are fitted by least squares in products of Legendre polynomials, at the nodes of
Gauss's rule: the coefficients fall geometrically for an analytic field.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import legendre

from separatrix._errors import explain
from separatrix._types import Key
from separatrix.diagnostics.fields.field_split import field_of
from separatrix.diagnostics.region import corners
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import as_vector, from_vector, rate

_MOST = {True: 1 << 22, False: 2048}


class Helmholtz(Result):
    r"""A field at the nodes of a grid in d = 2 or 3 dimensions, in three parts.

    - `points`, `field`, `gradient`, `rotation`, `harmonic`, shape (n, ..., n, d): f = gradient + rotation + harmonic.
    - `potential`, shape (n, ..., n): U with gradient = -grad U; its mean is 0 on a torus, its boundary value on a box.
    - `shares`, shape (3,): mean squares of gradient, rotation and harmonic over that of the field.
    - `overlap`: the largest cosine between two parts: 0 but for rounding.
    - `unresolved`: share of the field in the finest third of the grid's wavenumbers or degrees: how much of it
      the grid does not see well.
    """

    points: Float[Array, "*n d"]
    field: Float[Array, "*n d"]
    gradient: Float[Array, "*n d"]
    rotation: Float[Array, "*n d"]
    harmonic: Float[Array, "*n d"]
    potential: Float[Array, "*n"]
    shares: Float[Array, "3"]
    overlap: Float[Array, ""]
    unresolved: Float[Array, ""]
    periodic: bool = eqx.field(static=True)

    def rows(self) -> list[Row]:
        shape = " x ".join(str(n) for n in self.points.shape[:-1])
        return [
            Row("grid", f"{shape}, {'periodic' if self.periodic else 'not periodic'}"),
            Row("share of the gradient", self.shares[0]),
            Row("share of the rotation", self.shares[1]),
            Row("share of the harmonic field", self.shares[2]),
            Row("unresolved", self.unresolved),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not self.unresolved < 1e-6:
            found.append(
                f"{float(self.unresolved):.1g} of the field is at the finest third of the grid: take a finer one"
                + (", or say periodic=False where the field is not periodic" if self.periodic else "")
            )
        if not self.periodic and self.shares[2] > 0.01:
            found.append(
                "the harmonic share is a gradient without divergence, and depends on the box: it belongs to what lies "
                "outside as much as to the field here"
            )
        if self.points.dtype == jnp.float32:
            found.append("float32: shares below 1e-10 are rounding")
        return tuple(found)


def helmholtz(
    system: Any,
    region: Any,
    *,
    resolution: int = 24,
    periodic: bool = False,
    like: Any = None,
    at: Any = 0,
    key: Key | None = None,
) -> Helmholtz:
    r"""Return a field on a box as gradient, rotation and harmonic rest.

        f = -grad U + r + h

    **Arguments:**

    - `system`: a system of 2 or 3 coordinates; its field is that of `field_split`.
    - `region`: `(low, high)`, the corners of the box, each of d numbers. The field should be smooth in it.
    - `resolution`: nodes along each side, at least 8; in all at most 2,048 on a box without periods.
    - `periodic`: whether the field repeats itself beyond the box.
    - `like`: a state whose form the system wants; an array of d numbers by default.
    - `at`, `key`: time or step number, and the randomness of a map.

    **Returns:** a `Helmholtz`.

    **Raises:** `ValueError` for other dimensions, an empty box, or a grid out of range.

    **Example:** on the torus, f = -grad U + (dH/dy, -dH/dx) with U = cos x and H = cos y: equal shares.

    >>> import jax.numpy as jnp, numpy as np, separatrix as sx
    >>> flow = sx.as_flow(lambda x: jnp.stack([jnp.sin(x[0]) - jnp.sin(x[1]), 0.0 * x[0]]))
    >>> found = sx.helmholtz(flow, (np.zeros(2), 2 * np.pi * np.ones(2)), resolution=16, periodic=True)
    >>> np.round(found.shares, 12).tolist()
    [0.5, 0.5, 0.0]

    **Reference:** Bhatia, Norgard, Pascucci & Bremer, *The Helmholtz-Hodge decomposition: a survey* (2013); Schwarz,
    *Hodge Decomposition* (1995), chapter 2, for the three parts and their boundary values.
    """
    low, high = corners(region)
    _check(low, resolution, periodic)
    form = jnp.asarray(low) if like is None else like
    field = field_of(system, key)
    nodes, split = (_torus if periodic else _box)(low, high, resolution)
    points = jnp.asarray(np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1), low.dtype)
    at = jnp.asarray(at)

    @eqx.filter_jit
    def everywhere(points: Any) -> Any:
        value = lambda p: as_vector(rate(field, from_vector(p, form), at=at))  # noqa: E731
        return jax.vmap(value)(points.reshape(-1, len(low))).reshape(points.shape)

    values = np.asarray(everywhere(points))
    if not np.isfinite(values).all():
        do = "Choose a region in which the field is defined."
        raise ValueError(explain("helmholtz: region", "a field that is not finite in it", "finite values", do))
    gradient, harmonic, potential, weights, unresolved = split(values.astype(float))
    rotation = values - gradient - harmonic
    shares, overlap = _shares((gradient, rotation, harmonic), values, weights)
    as_field = lambda part: jnp.asarray(part, low.dtype)  # noqa: E731
    return Helmholtz(points, as_field(values), as_field(gradient), as_field(rotation), as_field(harmonic),
                     as_field(potential), as_field(shares), as_field(overlap), as_field(unresolved), periodic)  # fmt: skip


def _check(low: np.ndarray, resolution: int, periodic: bool) -> None:
    if len(low) not in (2, 3):
        do = "Ask field_split in other dimensions."
        raise ValueError(explain("helmholtz: region", f"{len(low)} dimensions", "2 or 3", do))
    most = int(_MOST[periodic] ** (1 / len(low)) + 1e-9)
    if not 8 <= resolution <= most:
        do = f"Take resolution={min(24, most)}."
        raise ValueError(explain("helmholtz: resolution", resolution, f"8 to {most} here", do))


def _shares(parts: Any, field: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    def inner(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.sum(weights * np.sum(first * second, axis=-1)))

    total = inner(field, field)
    squares = np.array([inner(part, part) for part in parts]) / (total or 1.0)
    pairs = [(0, 1), (0, 2), (1, 2)]
    return squares, max(abs(inner(parts[i], parts[j])) for i, j in pairs) / (total or 1.0)


def _torus(low: np.ndarray, high: np.ndarray, n: int) -> tuple[list[np.ndarray], Any]:
    """Nodes of a periodic grid, and the projections in Fourier space."""
    nodes = [a + (b - a) * np.arange(n) / n for a, b in zip(low, high, strict=True)]
    numbers = np.fft.fftfreq(n, 1 / n)
    finest = np.stack(np.meshgrid(*[np.abs(numbers)] * len(low), indexing="ij")).max(axis=0) > n / 3
    # The wave of alternating sign has no odd derivative on the grid: it goes to the rotation, and is told as unresolved.
    odd = np.where(np.abs(numbers) == n / 2, 0.0, numbers)
    waves = np.stack(
        np.meshgrid(*[2 * np.pi * odd / (b - a) for a, b in zip(low, high, strict=True)], indexing="ij"), -1
    )
    axes = tuple(range(len(low)))

    def split(field: np.ndarray) -> tuple[Any, ...]:
        coefficients = np.fft.fftn(field, axes=axes)
        squares = np.sum(waves**2, axis=-1)
        along = np.sum(waves * coefficients, axis=-1) / np.where(squares, squares, 1.0)
        back = lambda c: np.fft.ifftn(c, axes=axes).real  # noqa: E731
        power = np.sum(np.abs(coefficients) ** 2, axis=-1)
        harmonic = np.broadcast_to(field.mean(axis=axes), field.shape)
        unresolved = power[finest].sum() / (power.sum() or 1.0)
        weights = np.full(field.shape[:-1], 1 / field[..., 0].size)
        return back(waves * along[..., None]), harmonic, back(1j * along), weights, unresolved

    return nodes, split


def _box(low: np.ndarray, high: np.ndarray, n: int) -> tuple[list[np.ndarray], Any]:
    """Gauss's nodes, and least squares on gradients of products of Legendre polynomials of degree below n - 1."""
    unit, weight = legendre.leggauss(n)
    half = (np.asarray(high, float) - low) / 2
    nodes = [a + h * (1 + unit) for a, h in zip(low, half, strict=True)]
    d = len(low)
    weights = _product([weight / 2] * d)
    roots = np.sqrt(weights).ravel()
    # Every gradient is that of a function zero on the boundary plus a harmonic one, at right angles to it.
    values = legendre.legvander(unit, n - 2)
    slopes = legendre.legval(unit, legendre.legder(np.eye(n - 1))).T
    bubble = (values[:, 2:] - values[:, :-2], slopes[:, 2:] - slopes[:, :-2])

    def split(field: np.ndarray) -> tuple[Any, ...]:
        target = (np.moveaxis(field, -1, 0).reshape(d, -1) * roots).ravel()
        gradient, potential = _project(bubble, half, roots, target)
        whole, _ = _project((values, slopes), half, roots, target)
        back = lambda part: np.moveaxis((part.reshape(d, -1) / roots).reshape(d, *weights.shape), 0, -1)  # noqa: E731
        unresolved = _finest(field, unit, weight)
        return back(gradient), back(whole - gradient), -potential.reshape(weights.shape), weights, unresolved

    return nodes, split


def _project(basis: tuple[np.ndarray, np.ndarray], half: np.ndarray, roots: np.ndarray, target: np.ndarray) -> Any:
    """(the gradient nearest to the target, the function it is of), both at the nodes."""
    value, slope = basis
    d = len(half)
    functions = _kron([value] * d)
    gradients = [_kron([slope / half[i] if i == j else value for j in range(d)]) * roots[:, None] for i in range(d)]
    matrix = np.concatenate(gradients)
    # The constant has no gradient: least squares of least norm leaves it out.
    found = np.linalg.lstsq(matrix, target, rcond=1e-13)[0]
    return matrix @ found, functions @ found


def _kron(factors: list[np.ndarray]) -> np.ndarray:
    whole = factors[0]
    for factor in factors[1:]:
        whole = np.kron(whole, factor)
    return whole


def _product(factors: list[np.ndarray]) -> np.ndarray:
    whole = factors[0]
    for factor in factors[1:]:
        whole = np.multiply.outer(whole, factor)
    return whole


def _finest(field: np.ndarray, unit: np.ndarray, weight: np.ndarray) -> float:
    """Share of the field in Legendre degrees above two thirds of the number of nodes."""
    n = len(unit)
    degrees = np.arange(n)
    # Rows: orthonormal polynomials times weights.
    transform = (legendre.legvander(unit, n - 1) * np.sqrt((2 * degrees + 1) / 2)).T * weight
    coefficients = field
    for axis in range(field.ndim - 1):
        coefficients = np.moveaxis(np.tensordot(transform, coefficients, (1, axis)), 0, axis)
    power = np.sum(coefficients**2, axis=-1)
    fine = np.stack(np.meshgrid(*[degrees] * power.ndim, indexing="ij")).max(axis=0) > 2 * n / 3
    return float(power[fine].sum() / (power.sum() or 1.0))
