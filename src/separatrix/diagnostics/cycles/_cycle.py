r"""A cycle of a flow as a zero: collocation in time, the period as an unknown, and a phase condition.

    u' = T f(u; p) at the Gauss points,     u(1) = u(0),     int <u - u_ref, u_ref'> dt = 0

in z = (u at the base points, T, p), one unknown more than equations. In each interval the inner base points are eliminated
by an orthogonal factor, which leaves

    C0_n u(t_n) + C1_n u(t_{n+1}) + a_n dT + b_n dp = r_n,     n = 1, ..., N

a system of N d + 2 unknowns with the phase condition and the bordering row, solved whole with pivots: no error is carried
once around the cycle, so that an unstable cycle costs nothing. With f = (C0, C1) of all intervals M_n = -C1_n^-1 C0_n takes
a perturbation from one end to the next. M_n f(t_n) = f(t_{n+1}) is split off at each end: with Q_n an orthonormal basis of
what is perpendicular to f(u(t_n)) the multipliers are those of the product of Q_{n+1}^T M_n Q_n. Of such a product the
eigenvalues are taken by orthogonal iteration and never from the product itself, so that small ones keep their digits
beside large ones.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from separatrix._tree import float_dtype
from separatrix._types import State
from separatrix.diagnostics.cycles._collocation import (
    DEGREE,
    SLOPES,
    VALUES,
    base_times,
    blocks,
    equidistributed,
    error,
    evaluated,
    extremes,
    functional,
)
from separatrix.diagnostics.parameter import Family, cast
from separatrix.linear.closed_orbits import across
from separatrix.linear.coordinates import as_vector, from_vector, rate
from separatrix.linear.spectrum import product_spectrum

# A mesh is left as it is while no interval has more than so many times its share of the error.
_UNEVEN = 1.5
# max T h |Df| of an interval on which four Gauss points give exp to 1e-5, and how often intervals are halved for it.
_RATE, _PARTS = 2.0, 6
# What ln |mu| may be off by, next to a change of stability.
_NOISE = 1e-7
# Below this part of its own size, or of one, a cycle is a point of rest.
_POINT = 1e-6


class Phase(NamedTuple):
    """<normal, u - point> = 0 on values at the base points of a mesh."""

    point: np.ndarray
    normal: np.ndarray
    mesh: np.ndarray


class Cycle(eqx.Module):
    """The equations of a cycle, on z = (u, T, p)."""

    family: Family
    like: State
    dimension: int = eqx.field(static=True)
    intervals: int = eqx.field(static=True)
    iterations: int = eqx.field(static=True)

    def parts(self, z: np.ndarray) -> tuple[np.ndarray, float, float]:
        """(u, T, p)."""
        return z[:-2].reshape(-1, self.dimension), float(z[-2]), float(z[-1])

    @eqx.filter_jit
    def field(self, points: Any, parameter: Any) -> tuple[Any, Any]:
        """f at points (M, d) and its derivatives in (x, p), (M, d, d + 1)."""

        def one(point: Any) -> tuple[Any, Any]:
            def velocity(both: Any) -> Any:
                return as_vector(rate(self.system(both[-1]), from_vector(both[:-1], self.like)))

            both = jnp.append(point, parameter)
            return velocity(both), jax.jacfwd(velocity)(both)

        return jax.vmap(one)(points)

    def system(self, parameter: Any) -> Any:
        """S(p)."""
        return self.family(cast(parameter, self.family.value(), parameter.dtype))

    def linearized(self, z: np.ndarray, phase: Phase) -> "Linearized":
        """G and DG at a point."""
        return linearized(self, z, phase)

    def prepared(self) -> Callable[..., "Linearized"]:
        """`linearized` as a function, for many calls."""
        return functools.partial(linearized, self)

    def jacobian(self, z: np.ndarray, phase: Phase) -> np.ndarray:
        """DG, whole: what a branch point asks for once."""
        count, d = len(phase.mesh), self.dimension
        matrix, shift = collocated(self, z, phase.mesh).matrix, d * DEGREE
        rows = np.zeros((count * shift + 1, len(z)))
        for n, block in enumerate(matrix):
            place, after = slice(n * shift, (n + 1) * shift), (n + 1) % count * shift
            rows[place, place] += block[:, :shift]
            rows[place, after : after + d] += block[:, shift:-2]
            rows[place, -2:] = block[:, -2:]
        rows[-1, :-2] = phase.normal.ravel()
        return rows

    def phase(self, z: np.ndarray, mesh: np.ndarray) -> Phase:
        """The integral condition that keeps a cycle in phase with this one."""
        values = self.parts(z)[0]
        return Phase(values, functional(values), mesh)

    def error(self, z: np.ndarray, mesh: np.ndarray) -> float:
        """Of the values between ends of intervals, relative to 1 + |u|."""
        return error(self.parts(z)[0], mesh)

    def extremes(self, z: np.ndarray) -> np.ndarray:
        """Least and largest first coordinate."""
        return extremes(self.parts(z)[0])

    def renewed(self, z: np.ndarray, mesh: np.ndarray) -> np.ndarray | None:
        """A mesh that spreads the error evenly; None where this one does nearly."""
        new = equidistributed(self.parts(z)[0], mesh, len(mesh))
        old_ends, new_ends = (np.concatenate([[0.0], np.cumsum(part)]) for part in (mesh, new))
        # How many of the new intervals lie in each of the old.
        share = np.diff(np.interp(old_ends, new_ends, np.arange(len(new) + 1.0)))
        return new if np.max(share) > _UNEVEN else None

    def moved(self, rows: np.ndarray, mesh: np.ndarray, new: np.ndarray) -> np.ndarray:
        """A point or a direction on another mesh."""
        values = rows[:-2].reshape(-1, self.dimension)
        return np.concatenate([evaluated(values, mesh, base_times(new)).ravel(), rows[-2:]])

    def rests(self, z: np.ndarray) -> bool:
        """Whether the cycle is a point."""
        values = self.parts(z)[0]
        return bool(np.max(np.ptp(values, axis=0)) <= _POINT * max(1.0, float(np.max(np.abs(values)))))

    def place(self, z: np.ndarray, mesh: np.ndarray) -> np.ndarray:
        """What does not depend on where the cycle begins or on its mesh: mean, spread, T, p."""
        values, period, parameter = self.parts(z)
        even = evaluated(values, mesh, np.arange(256) / 256)
        return np.concatenate([even.mean(axis=0), even.std(axis=0), [period, parameter]])


class Linearized(NamedTuple):
    """G, and DG with the inner base points of each interval eliminated."""

    defect: np.ndarray  # (N, m, d)
    shift: float
    phase: Phase
    factors: np.ndarray  # Q^T, (N, m d, m d)
    inner: np.ndarray  # R, (N, (m - 1) d, (m - 1) d)
    top: np.ndarray  # of the inner rows: columns u_n, u_{n+1}, T, p
    ends: np.ndarray  # (C0, C1, a, b), (N, d, 2 d + 2)
    velocities: np.ndarray  # f at the ends of intervals, (N, d)
    stiffness: float  # max T h |Df|
    split: Any  # the same on intervals cut in so many parts

    @property
    def residual(self) -> np.ndarray:
        """G."""
        return np.append(self.defect.ravel(), self.shift)

    def bordered(self, normal: np.ndarray) -> "Bordered":
        """[DG; normal], to be solved with."""
        return bordered(self, normal)

    def spectrum(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Multipliers but for the one along the cycle, ln |mu| of each, and what of that is rounding.

        A rate times the length of an interval that is large is no longer an exponential to four Gauss points: there the
        perturbations are followed along the same cycle on parts of the intervals.
        """
        parts = 2 ** int(np.clip(np.ceil(np.log2(max(self.stiffness / _RATE, 1.0))), 0, _PARTS))
        fine = self.split(parts) if parts > 1 else self
        return *product_spectrum(fine._across()), _NOISE

    def _across(self) -> np.ndarray:
        """Q_{n+1}^T M_n Q_n, (N, d - 1, d - 1)."""
        d = self.velocities.shape[1]
        return across(-np.linalg.solve(self.ends[:, :, d : 2 * d], self.ends[:, :, :d]), self.velocities)

    def turned(self) -> np.ndarray:
        """The perturbation v with v(1) = -v(0), at the base points: what a period doubling begins with."""
        count, d = self.velocities.shape
        matrix, rows = np.zeros((count, d, count, d)), np.arange(count)
        matrix[rows, :, rows] += self.ends[:, :, :d]
        matrix[rows, :, (rows + 1) % count] += (
            self.ends[:, :, d : 2 * d] * np.where(rows == count - 1, -1, 1)[:, None, None]
        )
        nodes = np.linalg.svd(matrix.reshape(count * d, -1))[2][-1].reshape(count, d)
        after = np.concatenate([nodes[1:], -nodes[:1]])
        right = np.einsum("nij,nj->ni", self.top[:, :, : 2 * d], np.concatenate([nodes, after], axis=1))
        inner = -np.linalg.solve(self.inner, right[:, :, None])[:, :, 0].reshape(count, DEGREE - 1, d)
        return np.concatenate([nodes[:, None], inner], axis=1).reshape(-1, d)


class Collocated(NamedTuple):
    """Of each interval G, (N, m, d); DG in base values, T and p, (N, m d, (m + 1) d + 2); f at its start; max T h |Df|."""

    defect: np.ndarray
    matrix: np.ndarray
    velocities: np.ndarray
    stiffness: float


def collocated(problem: Cycle, z: np.ndarray, mesh: np.ndarray) -> Collocated:
    """Evaluate the field once at all points."""
    values, period, parameter = problem.parts(z)
    rows, dtype = blocks(values), float_dtype(problem.like)
    count, d = len(rows), values.shape[1]
    points = np.einsum("kj,njd->nkd", VALUES, rows)
    everywhere = np.concatenate([points.reshape(-1, d), values[::DEGREE]])
    found = problem.field(jnp.asarray(everywhere, dtype), jnp.asarray(parameter, dtype))
    velocity, derivative = (np.asarray(part, float) for part in found)
    inside = count * DEGREE
    f, df = velocity[:inside].reshape(count, DEGREE, d), derivative[:inside].reshape(count, DEGREE, d, d + 1)
    h = mesh[:, None, None]
    defect = np.einsum("kj,njd->nkd", SLOPES, rows) - h * period * f
    pushed = (h * period)[..., None, None] * np.einsum("kj,nkab->nkajb", VALUES, df[..., :d])
    matrix = np.einsum("kj,ab->kajb", SLOPES, np.eye(d)) - pushed
    columns = [matrix.reshape(count, DEGREE * d, -1), (-h * f).reshape(count, -1, 1)]
    columns.append((-h * period * df[..., d]).reshape(count, -1, 1))
    whole = np.concatenate(columns, axis=2)
    if not (np.isfinite(whole).all() and np.isfinite(defect).all()):
        raise ArithmeticError
    stiffness = float(np.max(mesh * period * np.max(np.linalg.norm(df[..., :d], axis=(2, 3)), axis=1)))
    return Collocated(defect, whole, velocity[inside:], stiffness)


def linearized(problem: Cycle, z: np.ndarray, phase: Phase) -> Linearized:
    """Collocate, and eliminate the inner base points of each interval."""
    defect, matrix, velocities, stiffness = collocated(problem, z, phase.mesh)
    d = velocities.shape[1]
    inner = matrix[:, :, d : DEGREE * d]
    others = np.concatenate([matrix[:, :, :d], matrix[:, :, DEGREE * d :]], axis=2)
    factors, triangle = np.linalg.qr(inner, mode="complete")
    factors = np.swapaxes(factors, 1, 2)
    rest, size = factors @ others, inner.shape[2]
    shift = float(np.sum(phase.normal * (problem.parts(z)[0] - phase.point)))

    def split(parts: int) -> Linearized:
        mesh = np.repeat(phase.mesh / parts, parts)
        fine = problem.moved(z, phase.mesh, mesh)
        return linearized(problem, fine, problem.phase(fine, mesh))

    triangle, top, ends = triangle[:, :size], rest[:, :size], rest[:, size:]
    return Linearized(defect, shift, phase, factors, triangle, top, ends, velocities, stiffness, split)


class Bordered(NamedTuple):
    """[DG; normal] in the ends of intervals, T and p, factored."""

    linear: Linearized
    rows: np.ndarray  # of phase and normal on the inner base points, (2, N, (m - 1) d)
    matrix: np.ndarray
    lower: Any

    def solve(self, right: np.ndarray) -> np.ndarray:
        """[DG; normal] z = right."""
        linear, count = self.linear, len(self.linear.ends)
        d, size = linear.velocities.shape[1], linear.inner.shape[1]
        turned = np.einsum("nij,nj->ni", linear.factors, right[:-2].reshape(count, -1))
        border = right[-2:] - np.einsum("ani,ni->a", self.rows, turned[:, :size])
        small = scipy.linalg.lu_solve(self.lower, np.concatenate([turned[:, size:].ravel(), border]))
        nodes = small[:-2].reshape(count, d)
        known = np.concatenate([nodes, np.roll(nodes, -1, axis=0), np.broadcast_to(small[-2:], (count, 2))], axis=1)
        inner = turned[:, :size] - np.einsum("nij,nj->ni", linear.top, known)
        inner = np.linalg.solve(linear.inner, inner[:, :, None])[:, :, 0].reshape(count, DEGREE - 1, d)
        return np.concatenate([np.concatenate([nodes[:, None], inner], axis=1).ravel(), small[-2:]])

    @property
    def sign(self) -> float:
        """The sign of the determinant, up to one that is the same on all of a mesh."""
        diagonal = np.diagonal(self.lower[0])
        swaps = np.sum(self.lower[1] != np.arange(len(diagonal)))
        inner = np.prod(np.sign(np.diagonal(self.linear.inner, axis1=1, axis2=2)))
        turns = np.prod(np.linalg.slogdet(self.linear.factors)[0])
        return float(np.prod(np.sign(diagonal)) * (-1.0) ** swaps * inner * turns)

    def smallest(self, scales: np.ndarray) -> tuple[float, float]:
        """The smallest singular value and the norm, in units of the scales."""
        d = self.linear.velocities.shape[1]
        units = np.concatenate([np.full(len(self.matrix) - 2, scales[0]), scales[-2:]])
        vector = np.cos(np.arange(len(units)) % (7 * d))
        value = np.inf
        for _ in range(6):
            image = scipy.linalg.lu_solve(self.lower, vector / np.linalg.norm(vector)) / units
            size = float(np.linalg.norm(image))
            value, vector = 1 / size, scipy.linalg.lu_solve(self.lower, image / size / units, trans=1)
        return value, float(np.max(np.sum(np.abs(self.matrix * units), axis=1)))


def bordered(linear: Linearized, normal: np.ndarray) -> Bordered:
    """Assemble and factor."""
    count, d = linear.velocities.shape
    size = count * d
    matrix = np.zeros((size + 2, size + 2))
    blocks_ = matrix[:size, :size].reshape(count, d, count, d)
    rows = np.arange(count)
    blocks_[rows, :, rows] += linear.ends[:, :, :d]
    blocks_[rows, :, (rows + 1) % count] += linear.ends[:, :, d : 2 * d]
    matrix[:size, size:] = linear.ends[:, :, 2 * d :].reshape(size, 2)
    inner = []
    for place, row in enumerate((np.append(linear.phase.normal.ravel(), [0.0, 0.0]), normal)):
        parts = row[:-2].reshape(count, DEGREE, d)
        weight = np.linalg.solve(np.swapaxes(linear.inner, 1, 2), parts[:, 1:].reshape(count, -1, 1))[:, :, 0]
        on = -np.einsum("ni,nij->nj", weight, linear.top)
        matrix[size + place, :size] = (parts[:, 0] + on[:, :d] + np.roll(on[:, d : 2 * d], 1, axis=0)).ravel()
        matrix[size + place, size:] = row[-2:] + on[:, 2 * d :].sum(axis=0)
        inner.append(weight)
    with np.errstate(all="ignore"):
        lower = scipy.linalg.lu_factor(matrix, check_finite=False)
    return Bordered(linear, np.stack(inner), matrix, lower)
