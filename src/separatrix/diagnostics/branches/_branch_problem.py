r"""What is zero along a branch, as G(z) = 0 with z = (unknowns, parameter), one unknown more than equations.

    equilibria of a flow    G = f(x; p)                                  spectrum: Df
    fixed points of a map   G = F(x; p) - x                              spectrum: DF (of F^k for k-cycles)
    cycles of a flow        G = (phi_T(x; p) - x, <n, x - x_ref>)        spectrum: D phi_T across the orbit

phi is the flow of N equal steps of a fixed-step method. The last equation takes the point of the cycle that lies in the
plane through x_ref with normal n, the velocity there. The multiplier 1 along the orbit is split off exactly: with Q an
orthonormal basis of what is perpendicular to f(x), the other multipliers of M = D phi_T are those of Q^T M Q, the
linearised return map, since M f(x) = f(phi_T(x)) = f(x).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Float

from separatrix._types import State
from separatrix.calculus.discretize import discretize
from separatrix.calculus.methods import Method
from separatrix.diagnostics._coordinates import as_vector, from_vector, rate
from separatrix.diagnostics.branches._parameter import Family, cast
from separatrix.evolution.evolve import evolve
from separatrix.systems.iterate import iterate
from separatrix.systems.map import Map

_NEWTON_STEPS = 10


class Phase(NamedTuple):
    """The plane <n, x - x_ref> = 0 in which a cycle's point lies."""

    point: Any
    normal: Any


class Rest(eqx.Module):
    """G = f(x) or F^k(x) - x, on z = (x, p)."""

    family: Family
    like: State
    at: Any
    iterations: int = eqx.field(static=True)

    def system(self, parameter: Any) -> Any:
        """S(p), its k-th iterate for k-cycles."""
        system = self.family(cast(parameter, self.family.value(), parameter.dtype))
        return iterate(system, self.iterations) if self.iterations > 1 else system

    def points(self, z: Float[Array, " m"]) -> State:
        """The k points of a k-cycle of a map."""
        system = self.family(cast(z[-1], self.family.value(), z.dtype))
        return evolve(system, from_vector(z[:-1], self.like), steps=self.iterations - 1).states

    def image(self, z: Float[Array, " m"]) -> Float[Array, " d"]:
        """f(x; p) or F^k(x; p)."""
        return as_vector(rate(self.system(z[-1]), from_vector(z[:-1], self.like), at=self.at))

    def residual(self, z: Float[Array, " m"], phase: Any = None) -> Float[Array, " d"]:
        """G(z)."""
        image = self.image(z)
        return image - z[:-1] if isinstance(self.system(z[-1]), Map) else image

    def matrix(self, z: Float[Array, " m"], jacobian: Float[Array, "d m"]) -> Float[Array, "d d"]:
        """What has the spectrum, from DG: Df or DF^k."""
        inner = jacobian[:, :-1]
        return inner + jnp.eye(len(inner), dtype=z.dtype) if isinstance(self.system(z[-1]), Map) else inner


class Cycle(eqx.Module):
    """G = (phi_T(x) - x, <n, x - x_ref>), on z = (x, T, p)."""

    family: Family
    like: State
    method: Method
    steps: int = eqx.field(static=True)
    iterations: int = eqx.field(static=True)

    def velocity(self, x: Float[Array, " d"], parameter: Any) -> Float[Array, " d"]:
        """f(x; p)."""
        return as_vector(rate(self._flow(parameter), from_vector(x, self.like)))

    def _flow(self, parameter: Any) -> Any:
        return self.family(cast(parameter, self.family.value(), parameter.dtype))

    def orbit(self, z: Float[Array, " m"], save: Any = "last", finer: int = 1) -> Any:
        """The evolution over one period, in `finer` times as many steps."""
        map = discretize(self._flow(z[-1]), self.method, z[-2] / (finer * self.steps))
        return evolve(map, from_vector(z[:-2], self.like), steps=finer * self.steps, save=save)

    def points(self, z: Float[Array, " m"]) -> State:
        """The orbit over one period in twice as many steps."""
        return self.orbit(z, "all", 2).states

    def image(self, z: Float[Array, " m"]) -> Float[Array, " d"]:
        """phi_T(x; p), NaN where the orbit breaks off."""
        path = self.orbit(z)
        return jnp.where(path.outcome.completed, as_vector(path.final), jnp.nan)

    def residual(self, z: Float[Array, " m"], phase: Any = None) -> Float[Array, " n"]:
        """G(z)."""
        x = z[:-2]
        return jnp.append(self.image(z) - x, jnp.dot(phase.normal, x - phase.point))

    def phase(self, z: Float[Array, " m"]) -> Phase:
        """The plane across the orbit at x."""
        normal = self.velocity(z[:-2], z[-1])
        return Phase(z[:-2], normal / jnp.linalg.norm(normal))

    def across(self, z: Float[Array, " m"]) -> Float[Array, "d e"]:
        """Q, whose columns are an orthonormal basis of what is perpendicular to f(x)."""
        along = self.velocity(z[:-2], z[-1])
        # The first column of the orthogonal factor is f/|f| up to its sign.
        columns = jnp.concatenate([along[:, None], jnp.eye(len(along), dtype=along.dtype)], axis=1)
        return jnp.linalg.qr(columns)[0][:, 1:]

    def matrix(self, z: Float[Array, " m"], jacobian: Float[Array, "n m"]) -> Float[Array, "e e"]:
        """What has the spectrum, from DG: the linearised return map."""
        basis, size = self.across(z), len(z) - 2
        return basis.T @ (jacobian[:size, :size] + jnp.eye(size, dtype=z.dtype)) @ basis


class Solved(NamedTuple):
    """A corrected point: z, |G(z)|, DG(z) and the matrix whose eigenvalues are its spectrum."""

    z: Any
    residual: Any
    jacobian: Any
    matrix: Any
    newton_steps: Any


@eqx.filter_jit
def correct(problem: Any, guess: Float[Array, " m"], normal: Float[Array, " m"], phase: Phase | None) -> Solved:
    """Newton's method for G(z) = 0, <normal, z - guess> = 0."""

    def equations(z: Array, _: Any) -> Array:
        return jnp.append(problem.residual(z, phase), jnp.dot(normal, z - guess))

    # Newton converges quadratically: an update of eps^(3/5) is followed by an error below rounding.
    tolerance = float(jnp.finfo(guess.dtype).eps) ** 0.6
    newton = optx.Newton(rtol=tolerance, atol=tolerance, linear_solver=lx.AutoLinearSolver(well_posed=True))
    found = optx.root_find(equations, newton, guess, max_steps=_NEWTON_STEPS, throw=False)
    # At a branch point itself the equations are singular: there the guess is left as it is.
    z = jnp.where(jnp.isfinite(found.value).all(), found.value, guess)
    jacobian = jax.jacfwd(lambda z: problem.residual(z, phase))(z)
    size = jnp.max(jnp.abs(problem.residual(z, phase)))
    return Solved(z, size, jacobian, problem.matrix(z, jacobian), found.stats["num_steps"])


@eqx.filter_jit
def derivatives(
    problem: Any, z: Float[Array, " m"], phase: Phase | None
) -> tuple[Float[Array, "n m"], Float[Array, "e e"]]:
    """(DG, what has the spectrum) at a point."""
    jacobian = jax.jacfwd(lambda z: problem.residual(z, phase))(z)
    return jacobian, problem.matrix(z, jacobian)


@eqx.filter_jit
def at_branch_point(
    problem: Any, z: Float[Array, " m"], left: Float[Array, " n"], phase: Phase | None
) -> Float[Array, " m"]:
    """Moore's equations G + mu phi = 0, DG^T phi = 0, <phi, phi> = 1, regular at a simple branch point, where mu = 0."""

    def equations(unknowns: Any, _: Any) -> Any:
        z, mu, phi = unknowns
        value, pull = jax.vjp(lambda z: problem.residual(z, phase), z)
        return value + mu * phi, pull(phi)[0], jnp.dot(phi, phi) - 1

    tolerance = float(jnp.finfo(z.dtype).eps) ** 0.6
    newton = optx.Newton(rtol=tolerance, atol=tolerance, linear_solver=lx.AutoLinearSolver(well_posed=True))
    start = (z, jnp.zeros((), z.dtype), left)
    return optx.root_find(equations, newton, start, max_steps=_NEWTON_STEPS, throw=False).value[0]


@eqx.filter_jit
def phase_at(problem: Any, z: Float[Array, " m"]) -> Phase | None:
    """The plane of a cycle's point; none at rest."""
    return problem.phase(z) if isinstance(problem, Cycle) else None
