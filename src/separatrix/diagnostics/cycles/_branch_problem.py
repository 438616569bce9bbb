r"""What is zero along a branch, as G(z) = 0 with z = (unknowns, parameter), one unknown more than equations.

    equilibria of a flow    G = f(x; p)                                  spectrum: Df
    fixed points of a map   G = F(x; p) - x                              spectrum: DF (of F^k for k-cycles)
    cycles of a flow        by collocation: see `_cycle`

A problem says G and DG at a point (`linearized`), bordered by a row so that the system is square. Newton's method on it is

    [DG; n] dz = -[G; <n, z - z_0>],      z <- z + s dz,

with s = 1 near a branch, and along a longer way s = 1, 1/2, 1/4, ... until the next step of the same matrix is shorter
(Deuflhard's natural monotonicity, which no scaling of the equations changes).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._tree import float_dtype
from separatrix._types import State
from separatrix.diagnostics.parameter import Family, cast
from separatrix.linear.closed_orbits import Anchor, ClosedOrbit
from separatrix.linear.prepared import prepared
from separatrix.linear.root_search import newton_from

# From a predicted point; from a guess of the user's, and how short its steps may become.
NEAR, FAR = 10, 100
_SHORTEST = 2.0**-20


class Rest(eqx.Module):
    """G = f(x) or F^k(x) - x, on z = (x, p)."""

    family: Family
    like: State
    at: Any
    iterations: int = eqx.field(static=True)
    discrete: bool = eqx.field(static=True)

    def orbit(self, parameter: Any) -> ClosedOrbit:
        """The equation at p."""
        system = self.family(cast(parameter, self.family.value(), parameter.dtype))
        return ClosedOrbit(system, self.at, None, "steps" if self.discrete else "rest", self.iterations)

    @eqx.filter_jit
    def points(self, z: Float[Array, " m"]) -> Float[Array, "k d"]:
        """The k points of a k-cycle of a map; the one of an equilibrium."""
        return z[None, :-1] if self.iterations == 1 else self.orbit(z[-1]).samples(z[None, :-1], None, self.like)

    def image(self, z: Float[Array, " m"]) -> Float[Array, " d"]:
        """f(x; p) or F^k(x; p)."""
        return self.orbit(z[-1]).image(z[:-1], Anchor(self.like))

    def residual(self, z: Float[Array, " m"]) -> Float[Array, " d"]:
        """G(z)."""
        return self.orbit(z[-1])(z[:-1], Anchor(self.like))

    def derivatives(self, z: Float[Array, " m"]) -> tuple[Any, Any, Any]:
        """(G, DG, what has the spectrum: Df or DF^k)."""
        jacobian = jax.jacfwd(self.residual)(z)
        inner = jacobian[:, :-1]
        shift = jnp.eye(len(inner), dtype=z.dtype) if self.discrete else 0
        return self.residual(z), jacobian, inner + shift

    def prepared(self) -> Callable[..., "Dense"]:
        """`linearized` as a function, for many calls."""
        dtype, discrete, derivatives = float_dtype(self.like), self.discrete, prepared(Rest.derivatives, self)

        def linearized(z: np.ndarray, phase: Any = None) -> Dense:
            residual, jacobian, matrix = (np.asarray(part, float) for part in derivatives(np.asarray(z, dtype)))
            if not (np.isfinite(residual).all() and np.isfinite(jacobian).all()):
                raise ArithmeticError
            return Dense(residual, jacobian, matrix, discrete)

        return linearized

    def linearized(self, z: np.ndarray, phase: Any = None) -> "Dense":
        """G and DG at a point."""
        return self.prepared()(z)

    def jacobian(self, z: np.ndarray, phase: Any = None) -> np.ndarray:
        """DG."""
        return self.linearized(z).jacobian

    def place(self, z: np.ndarray, mesh: Any = None) -> np.ndarray:
        """What tells points of a branch apart."""
        return z


class Dense(NamedTuple):
    """G, DG and the matrix that has the spectrum."""

    residual: np.ndarray
    jacobian: np.ndarray
    matrix: np.ndarray
    discrete: bool

    def bordered(self, normal: np.ndarray) -> "DenseBordered":
        """[DG; normal], to be solved with."""
        return DenseBordered(np.vstack([self.jacobian, normal]))

    def spectrum(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Eigenvalues, the fastest first, how each grows (|mu| - 1 or Re mu), and what of that is rounding."""
        values = np.linalg.eigvals(self.matrix).astype(complex)
        growth = np.abs(values) - 1 if self.discrete else np.real(values)
        order = np.lexsort((-np.imag(values), -growth))
        noise = np.finfo(float).eps ** 0.5 * max(1.0, float(np.max(np.abs(values), initial=0)))
        return values[order], growth[order], noise


class DenseBordered(NamedTuple):
    """[DG; normal]."""

    matrix: np.ndarray

    def solve(self, right: np.ndarray) -> np.ndarray:
        """[DG; normal] z = right; at a branch point itself, where the matrix is singular, the shortest such z."""
        try:
            return np.linalg.solve(self.matrix, right)
        except np.linalg.LinAlgError:
            return np.linalg.lstsq(self.matrix, right, rcond=None)[0]

    @property
    def sign(self) -> float:
        """The sign of the determinant."""
        return float(np.linalg.slogdet(self.matrix)[0])

    def smallest(self, scales: np.ndarray) -> tuple[float, float]:
        """The smallest singular value of DG and its norm, in units of the scales."""
        values = np.linalg.svd(self.matrix[:-1] * scales, compute_uv=False)
        return float(values[-1]), float(values[0])


class CorrectedPoint(NamedTuple):
    """A point, what is linear there, and how many Newton steps it took."""

    z: np.ndarray
    linear: Any
    steps: int


def newton(
    linearized: Callable[..., Any],
    guess: np.ndarray,
    normal: np.ndarray,
    phase: Any,
    scales: np.ndarray,
    eps: float,
    most: int,
    damped: bool,
) -> CorrectedPoint | None:
    """Newton's method for G(z) = 0, <normal, z - guess> = 0, in so many steps; None where it breaks off."""
    z = np.asarray(guess, float)
    try:
        linear = linearized(z, phase)
        for number in range(1, most + 1):
            matrix = linear.bordered(normal)
            step = -matrix.solve(np.append(linear.residual, normal @ (z - guess)))
            length = _norm(step, scales)
            if not np.isfinite(length):
                return None
            z, linear, length = (_damped if damped else _whole)(
                linearized, z, step, matrix, (normal, guess, phase, scales)
            )
            # It converges quadratically: a step of eps^(3/5) is followed by an error below rounding.
            if length <= eps**0.6 * (1 + _norm(z, scales)):
                return CorrectedPoint(z, linear, number)
    except (ArithmeticError, np.linalg.LinAlgError):
        return None
    # By a branch point it converges slowly: whether it is near enough is for the residual to say.
    return CorrectedPoint(z, linear, most)


def _whole(linearized: Any, z: Any, step: Any, matrix: Any, plane: Any) -> tuple[Any, Any, float]:
    z = z + step
    return z, linearized(z, plane[2]), _norm(step, plane[3])


def _damped(linearized: Any, z: Any, step: Any, matrix: Any, plane: Any) -> tuple[Any, Any, float]:
    """A part of the step after which the step that the same matrix asks for is shorter."""
    normal, guess, phase, scales = plane
    length, part = _norm(step, scales), 1.0
    while part > _SHORTEST:
        there = z + part * step
        try:
            linear = linearized(there, phase)
            following = _norm(matrix.solve(np.append(linear.residual, normal @ (there - guess))), scales)
            if following <= (1 - part / 4) * length:
                return there, linear, part * length if part < 1 else length
        except ArithmeticError:
            pass
        part /= 2
    if length <= 1e-6 * (1 + _norm(z, scales)):
        return z + step, linearized(z + step, phase), length
    raise ArithmeticError


def _norm(vector: np.ndarray, scales: np.ndarray) -> float:
    return float(np.linalg.norm(vector / scales))


class BranchPointEquations(eqx.Module):
    """Moore's equations G + mu phi = 0, DG^T phi = 0, <phi, phi> = 1 in (z, mu, phi), regular where two branches cross."""

    problem: Rest

    def __call__(self, unknowns: Float[Array, " k"], like: State) -> Float[Array, " k"]:
        size = len(unknowns) // 2
        z, mu, phi = unknowns[:size], unknowns[size], unknowns[size + 1 :]
        value, pull = jax.vjp(self.problem.residual, z)
        return jnp.concatenate([value + mu * phi, pull(phi)[0], jnp.dot(phi, phi)[None] - 1])


def at_branch_point(problem: Rest, z: Float[Array, " m"], left: Float[Array, " n"]) -> Float[Array, " m"]:
    """The simple branch point near z, where mu = 0, from the left null vector of DG there."""
    start = jnp.concatenate([z, jnp.zeros(1, z.dtype), left])
    return jnp.asarray(newton_from(BranchPointEquations(problem), start[None], jnp.zeros(1)).values[0, : len(z)])
