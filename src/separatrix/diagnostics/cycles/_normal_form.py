r"""The coefficient that tells what is born at a bifurcation: stable or unstable.

With A = DF or Df, B and C the second and third derivatives, A q = mu q, p* A = mu p*, <p, q> = p* q = 1:

    Hopf              l_1 = 1/(2 omega) Re <p, C(q,q,q*) - 2 B(q, A^-1 B(q,q*)) + B(q*, (2 i omega - A)^-1 B(q,q))>
    Neimark-Sacker    d = 1/2 Re e^{-i theta} <p, C(q,q,q*) + 2 B(q, (1-A)^-1 B(q,q*))
                                                 + B(q*, (e^{2 i theta} - A)^-1 B(q,q))>
    period doubling   c = <p, C(q,q,q)>/6 + <p, B(q, (1-A)^-1 B(q,q))>/2

l_1 < 0, d < 0, c > 0: supercritical, the new orbit is stable where the old one is not. The sign does not depend on the
length of q.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@eqx.filter_jit
def _second(problem: Any, z: Float[Array, " m"], u: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
    """B(u, v)."""
    f = lambda x: problem.image(jnp.append(x, z[-1]))  # noqa: E731
    return jax.jvp(lambda x: jax.jvp(f, (x,), (u,))[1], (z[:-1],), (v,))[1]


@eqx.filter_jit
def _third(problem: Any, z: Any, u: Any, v: Any, w: Any) -> Float[Array, " d"]:
    """C(u, v, w)."""
    f = lambda x: problem.image(jnp.append(x, z[-1]))  # noqa: E731
    second = lambda x: jax.jvp(lambda x: jax.jvp(f, (x,), (u,))[1], (x,), (v,))[1]  # noqa: E731
    return jax.jvp(second, (z[:-1],), (w,))[1]


class Expansion:
    """A, B and C at a point, on complex vectors."""

    def __init__(self, problem: Any, z: Any):
        self.problem, self.z = problem, z
        self.a = np.asarray(problem.derivatives(z)[2], float)

    def b(self, u: Any, v: Any) -> Any:
        """B(u, v), linear in both over the complex numbers."""
        parts = [[self._real(_second, x, y) for y in (np.real(v), np.imag(v))] for x in (np.real(u), np.imag(u))]
        return parts[0][0] - parts[1][1] + 1j * (parts[0][1] + parts[1][0])

    def c(self, q: Any) -> Any:
        """C(q, q, q*)."""
        r, s = np.real(q), np.imag(q)
        real = self._real(_third, r, r, r) + self._real(_third, r, s, s)
        return real + 1j * (self._real(_third, r, r, s) + self._real(_third, s, s, s))

    def _real(self, derivative: Any, *vectors: Any) -> Any:
        dtype = self.z.dtype
        return np.asarray(derivative(self.problem, self.z, *[jnp.asarray(v, dtype) for v in vectors]), float)


def coefficient(problem: Any, kind: str, z: Any) -> float:
    """The coefficient of a Hopf, Neimark-Sacker or period-doubling point at rest; NaN for other kinds."""
    if kind not in ("hopf", "neimark-sacker", "period doubling"):
        return float("nan")
    form = Expansion(problem, z)
    mu, q = eigenvector(form.a, kind)
    left = eigenvector(form.a.T, kind)[1]
    left = left / (left @ q)  # <p, x> = left . x
    unit = np.eye(len(form.a))
    solve = np.linalg.solve
    cubic = form.c(q)
    if kind == "period doubling":
        return float(np.real(left @ (cubic / 6 + form.b(q, solve(unit - form.a, form.b(q, q))) / 2)))
    mixed, double = form.b(q, np.conj(q)), form.b(q, q)
    if kind == "hopf":
        slow, fast = -2 * solve(form.a, mixed), solve(2 * mu * unit - form.a, double)
        weight = 1 / (2 * np.imag(mu))
    else:
        slow, fast = 2 * solve(unit - form.a, mixed), solve(mu**2 * unit - form.a, double)
        weight = np.conj(mu) / 2
    return float(np.real(weight * (left @ (cubic + form.b(q, slow) + form.b(np.conj(q), fast)))))


def eigenvector(matrix: np.ndarray, kind: str) -> tuple[complex, np.ndarray]:
    """The critical eigenvalue, of positive imaginary part for a pair, and its unit vector with Re q across Im q."""
    values, vectors = np.linalg.eig(matrix)
    distance = {
        "hopf": np.abs(np.real(values)),
        "neimark-sacker": np.abs(np.abs(values) - 1),
        "torus": np.abs(np.abs(values) - 1),
        "period doubling": np.abs(values + 1),
    }[kind]
    if kind != "period doubling":
        distance = np.where(np.imag(values) > 0, distance, np.inf)
    best = int(np.argmin(distance))
    q = vectors[:, best] / np.linalg.norm(vectors[:, best])
    # Turn q so that q^T q = |Re q|^2 - |Im q|^2 + 2i <Re q, Im q> is real and not negative.
    turn = np.exp(-0.5j * np.angle(q @ q))
    return complex(values[best]), q * turn
