r"""The leading singular values of a long product P = J[N-1] ... J[0] that is never formed, with bounds on their errors.

In a space spanned by the orthonormal rows of B (at the end), singular values theta_i of P^T B^T are those of P from below,

    P^T u_i = theta_i v_i,      P v_i = theta_i (u_i + r_i),      u_i in the space, r_i at right angles to it.

The next space is that of the leading u, their residuals r, and the u before them (LOBPCG: it converges as Lanczos does,
with three blocks in store). Along the leading k vectors P is lower triangular, and with G = (r_1, ..., r_k)

    P = (Theta 0; G Theta F) = (I 0; G I) (Theta 0; 0 F),     so    |ln s_i - ln theta_i| <= asinh(|G|/2),     i <= k,

for a factor on the left changes singular values by its own at most, if all that is left, F, is smaller than theta_k. From a
random start that is so where |G| is small, and then errors are of second order in it. Where |G| is not small F may be
larger, by a factor 1 + |G| or so: the bound reported is asinh(|G| (1 + |G|)/2). Bounds are relative, whatever the ratios of
the theta_i: what a leading direction leaves of rounding in a residual that is e^30 times smaller does not count.

**Reference:** Knyazev, *Toward the optimal preconditioned eigensolver* (2001), for the three blocks; Golub & Van Loan,
*Matrix Computations* (2013), sections 8.6 and 10.4; Eisenstat & Ipsen, *Relative perturbation techniques for singular value
problems* (1995), theorem 3.3, for the bound.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from separatrix.diagnostics.along._transport import BackwardSweep, start_of
from separatrix.evolution import evolve
from separatrix.linear.log_svd import log_svd

# Factors beyond e^30 are below rounding where they multiply what is orthogonal to rounding.
_RANGE = 30.0
# Blocks in store: leading vectors, residuals, and the leading vectors before.
BLOCKS = 3


class Leading(NamedTuple):
    """The leading left vectors (b, d), the bounds on ln s (b,), and how many sweeps forth and back it took."""

    vectors: Array
    errors: Array
    sweeps: Array


class _Search(NamedTuple):
    basis: Array  # (m, d), orthonormal rows
    vectors: Array  # (b, d)
    errors: Array  # (b,)
    sweeps: Array


def leading(transports: tuple[Any, Any], steps: int, basis: Array, block: int, goal: tuple[int, Any, Any]) -> Leading:
    """Search in the orthonormal rows of a basis at the end, by sweeps (forth, back).

    `goal`: how many, to which error of ln s, in how many sweeps at most.
    """
    count, tol, limit = goal
    forth, back = (lambda rows, t=t: _swept(t, steps, rows) for t in transports)

    def improve(now: _Search) -> _Search:
        before, logs, mix = back(now.basis)
        theta, left, right = log_svd(logs, mix)
        u, v = right[:block] @ now.basis, left[:block] @ before
        after, sizes, shares = forth(v)
        outside = after - (after @ now.basis.T) @ now.basis
        # P v_k/theta_k = sum_j exp(l_j - theta_k) U_jk w_j, without what is rounding of much larger ones.
        scale = sizes[None] - theta[:block, None]
        weights = jnp.where(scale < _RANGE, jnp.exp(jnp.minimum(scale, _RANGE)), 0) * shares.T
        residuals = weights @ outside
        lengths = jnp.linalg.norm(residuals, axis=1)
        size = jnp.sqrt(jnp.cumsum(lengths**2))
        errors = jnp.arcsinh(size / 2 * (1 + size))
        ahead = residuals / jnp.where(lengths > 0, lengths, 1)[:, None]
        # Householder's Q is orthonormal whether or not what it is given is independent.
        basis = jnp.linalg.qr(jnp.concatenate([u, ahead, now.vectors])[: now.basis.shape[0]].T)[0].T
        return _Search(basis, u, errors, now.sweeps + 1)

    def go_on(now: _Search) -> Any:
        worst = jnp.max(now.errors[:count])
        return (worst > tol) & (now.sweeps < limit)

    start = _Search(basis, basis[:block], jnp.full(block, jnp.inf, basis.dtype), jnp.zeros((), int))
    found = jax.lax.while_loop(go_on, improve, start)
    return Leading(found.vectors, found.errors, found.sweeps)


def _swept(transport: Any, steps: int, rows: Array) -> tuple[Array, Array, Array]:
    """Orthonormal rows Q and diag(exp l) U with Q^T diag(exp l) U what became of the columns of rows^T."""
    start = start_of(rows, jnp.zeros_like(rows[0]), 0.0)
    final: Any = evolve(BackwardSweep(transport, steps), start, save="last").final
    return final[0], final[1], final[2]
