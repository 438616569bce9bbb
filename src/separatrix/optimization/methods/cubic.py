r"""Newton's method with a cubic regularisation, which leaves strict saddles.

    s = argmin  g.s + 1/2 s.H s + (M/6)|s|^3,    x <- x + s

The minimum is global though the model is not convex: with rho = |s| it solves

    (H + (M rho/2) I) s = -g,    H + (M rho/2) I >= 0,

one equation in rho. At a strict saddle, where g = 0, it is s = +-rho v with H v = l v the lowest eigenvalue and
rho = -2 l/M. Where grad^2 L is Lipschitz with constant M, L never rises, and the iterates cannot converge to a strict
saddle. In h = sqrt(2/M) the method is near the identity: with s = h u

    |u| u + h H u = -g,

so that h -> 0 gives the rescaled gradient flow x' = -grad L/sqrt|grad L|, along which L' = -|grad L|^{3/2}.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree

from separatrix._errors import explain
from separatrix._types import Function, Key, Scalar, State
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import FromParameters
from separatrix.optimization.methods.second_order import DENSE
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.ranges import positive


class CubicNewton(FromParameters, NearIdentityMap):
    r"""x <- x + argmin_s g.s + 1/2 s.H s + (M/6)|s|^3.

    **Arguments:**

    - `objective`: L(parameters), twice differentiable, with at most 512 parameters: the Hessian is formed.
    - `lipschitz`: M > 0, a Lipschitz constant of the Hessian; the step size of the family is h = sqrt(2/M).

    **Example:** from the saddle of the double well, where gradient descent and Newton's method stay for ever.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> cubic = sx.optimization.CubicNewton(sx.optimization.DoubleWell(), lipschitz=10.0)
    >>> end = sx.evolve(cubic, cubic.init(jnp.array([0.0])), steps=20).final
    >>> round(abs(float(end[0])), 9)
    1.0

    **Reference:** Nesterov & Polyak, *Cubic regularization of Newton method and its global performance* (2006), section 2
    for the step and 5 for its computation; Wibisono, Wilson & Jordan, *A variational perspective on accelerated methods
    in optimization* (2016), for rescaled gradient flow, p = 3.
    """

    objective: Objective
    step_size: Scalar

    def __init__(self, objective: Objective | Function, lipschitz: Any):
        self.objective = as_objective(objective)
        self.step_size = jnp.sqrt(2 / positive("CubicNewton: lipschitz", lipschitz))

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        x, unravel = ravel_pytree(state)
        if x.size > DENSE:
            do = "Use Newton with lineax.CG, or gradient descent with noise, which leaves saddles too."
            raise ValueError(explain("CubicNewton", f"{x.size} parameters", f"at most {DENSE}", do))

        def slope(vector: Any) -> Any:
            return ravel_pytree(gradient(self.objective, unravel(vector), key))[0]

        h = jnp.asarray(step_size, x.dtype)
        return unravel(x + h * cubic_step(slope(x), h * jax.jacfwd(slope)(x)))


def cubic_step(g: Any, curvature: Any) -> Any:
    """The global minimiser u of g.u + 1/2 u.K u + |u|^3/3, for a symmetric K."""
    # Its values come from a spectral decomposition; its derivatives from two Newton steps on |u| u + K u + g = 0 about
    # it, right to third order whether or not eigenvalues are distinct.
    u = jax.lax.stop_gradient(_by_spectrum(jax.lax.stop_gradient(g), jax.lax.stop_gradient(curvature)))
    return _polished(_polished(u, g, curvature), g, curvature)


def _by_spectrum(g: Any, curvature: Any) -> Any:
    """Solve (K + rho) u = -g with rho = |u| = floor + excess, floor = max(0, -lowest eigenvalue)."""
    values, vectors = jnp.linalg.eigh(curvature)
    parts, size, tiny = vectors.T @ g, jnp.linalg.norm(g), jnp.finfo(g.dtype).tiny
    floor = jnp.maximum(0.0, -values[0])

    def solution(excess: Any) -> Any:
        return -parts / jnp.maximum(excess + (values + floor), tiny)

    def gap(excess: Any, _: Any) -> Any:
        # Below every root |u| > rho; where there is none (g has no part along the lowest eigenvector) excess goes to 0.
        return jnp.where(excess <= 0, -1.0, floor + excess - jnp.linalg.norm(solution(excess)))

    # rho (rho - floor) <= |g| bounds the root.
    top = 1.001 * (jnp.sqrt(floor**2 + 4 * size) - floor) / 2 + tiny**0.5
    bracket = {"lower": jnp.zeros_like(top), "upper": top}
    solver = optx.Bisection(rtol=1e-12, atol=0.0)
    excess = optx.root_find(gap, solver, top, options=bracket, max_steps=256, throw=False).value
    return vectors @ _completed(solution(excess), parts, floor + excess, excess < 1e-9 * floor)


def _completed(u: Any, parts: Any, rho: Any, hard: Any) -> Any:
    """The part along the lowest eigenvector from |u| = rho, where the equation itself hardly determines it."""
    rest = jnp.sum(u[1:] ** 2)
    lowest = jnp.where(parts[0] > 0, -1.0, 1.0) * jnp.sqrt(jnp.maximum(rho**2 - rest, 0.0))
    return u.at[0].set(jnp.where(hard, lowest, u[0]))


def _polished(u: Any, g: Any, curvature: Any) -> Any:
    """One Newton step on |u| u + K u + g = 0; none where its matrix is singular."""
    rho = jnp.sqrt(jnp.maximum(u @ u, jnp.finfo(u.dtype).tiny))
    matrix = curvature + rho * jnp.eye(u.size, dtype=u.dtype) + u[:, None] * u[None, :] / rho
    step = jnp.linalg.solve(matrix, rho * u + curvature @ u + g)
    return jnp.where(jnp.all(jnp.isfinite(step)), u - step, u)
