r"""Spectra of a linearisation: the order of eigenvalues, the border of stability, and the leading part by products alone.

    J v = mu v:     a map is stable inside |mu| = 1, a flow left of Re mu = 0

Of large states J is never formed. Its leading eigenvalues come by the restarted Arnoldi method, its singular values and the
numerical abscissa by Lanczos on J^T J and (J + J^T)/2. (Lehoucq, Sorensen & Yang, *ARPACK Users' Guide* (1998).)
"""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs, eigsh

from separatrix._errors import explain
from separatrix.linear.coordinates import Jacobian
from separatrix.linear.derivatives import require_derivatives

_SPARE = 2
# Sweeps of orthogonal iteration at most: two are enough where multipliers differ by much.
_SWEEPS = 32
# Digits of small multipliers that a product of neighbouring factors may lose.
_MIXED = 1e4
# A basis has settled where it turns by less than this from sweep to sweep.
_SPLIT = 1e-9


# Which eigenvalues lead: a name, ARPACK's word for it, and the size that is compared.
ORDERS = {
    "largest_real": ("LR", np.real),
    "imaginary": ("LI", lambda values: np.abs(np.imag(values))),
    "magnitude": ("LM", np.abs),
}
# What decides the stability of each kind.
DECISIVE = {"map": "magnitude", "flow": "largest_real", "sde": "largest_real"}


def ordered(values: np.ndarray, which: str) -> np.ndarray:
    """Return the order of eigenvalues, the leading one first; of a pair the one with positive imaginary part."""
    return np.lexsort((-np.imag(values), -ORDERS[which][1](values).round(12)))


def least_stable_first(values: np.ndarray, kind: str) -> np.ndarray:
    """Return the order of eigenvalues, the nearest to growth first."""
    return ordered(values, DECISIVE[kind])


def euler_edge(values: np.ndarray, rounding: float) -> float:
    """The least -2 Re lambda/|lambda|^2: up to that step size |1 + h lambda| <= 1; real parts within rounding are 0.

    0 where one does not fall, infinite where none moves.
    """
    moving = values[np.abs(values) > rounding]
    real = np.where(np.abs(np.real(moving)) > rounding, np.real(moving), 0.0)
    return float(np.min(np.where(real < 0, -2 * real / np.abs(moving) ** 2, 0.0), initial=np.inf))


def leading_part(jacobian: Jacobian, kind: str, which: str, count: int, tol: float) -> dict[str, Any]:
    """The leading eigenvalues in some order and the one that decides, from products with J and its transpose."""
    dtype = jacobian.point.dtype

    def product(multiply: Any) -> Any:
        def apply(v: Any) -> Any:
            found = multiply(jnp.asarray(v.ravel(), dtype))
            return require_derivatives("linear_stability", jacobian, found).astype(float)

        return LinearOperator((jacobian.size, jacobian.size), matvec=apply, dtype=float)  # pyright: ignore[reportCallIssue]

    start = np.random.default_rng(0).standard_normal(jacobian.size)
    values, vectors = _iterate(eigs, product(jacobian.mv), count, ORDERS[which][0], start, tol)
    order = ordered(values, which)[:count]
    values, vectors = values[order], vectors[:, order]
    decisive = values
    if which != DECISIVE[kind]:
        decisive = _iterate(eigs, product(jacobian.mv), 1, ORDERS[DECISIVE[kind]][0], start, tol)[0]
    pushed = np.stack([_complex_product(jacobian, vector) for vector in vectors.T], axis=1)
    squares, _ = _iterate(eigsh, product(lambda v: jacobian.rmv(jacobian.mv(v))), count, "LA", start, tol)
    symmetric = product(lambda v: (jacobian.mv(v) + jacobian.rmv(v)) / 2)
    return {
        "spectrum": values.astype(complex),
        "least_stable": decisive[least_stable_first(decisive, kind)[0]].astype(complex),
        "residuals": np.linalg.norm(pushed - vectors * values, axis=0),
        "singular_values": np.sqrt(np.maximum(np.sort(squares)[::-1][:count], 0)),
        "numerical_abscissa": np.max(_iterate(eigsh, symmetric, 1, "LA", start, tol)[0]),
        "transient_growth": np.nan,
        "transient_time": np.nan,
        "transient_searched": np.nan,
        "transient_complete": False,
        "departure": np.nan,
    }


def _iterate(method: Any, operator: Any, count: int, which: str, start: np.ndarray, tol: float) -> tuple[Any, Any]:
    """Arnoldi or Lanczos, restarted; what has not converged in time is given as it is, for its residual tells."""
    # A few more than asked for: the last of those sought may be passed over for one behind it.
    wanted = min(count + _SPARE, operator.shape[0] - 2)
    try:
        return method(operator, k=wanted, which=which, v0=start, tol=tol, ncv=min(2 * wanted + 4, operator.shape[0]))
    except ArpackNoConvergence as error:
        if len(error.eigenvalues):
            return error.eigenvalues, error.eigenvectors
        do = "Ask for fewer eigenvalues or a larger tol."
        raise ValueError(explain("linear_stability", "no eigenvalue that converged", f"{count}", do)) from None


def _complex_product(jacobian: Jacobian, vector: np.ndarray) -> np.ndarray:
    parts = [
        np.asarray(jacobian.mv(jnp.asarray(part, jacobian.point.dtype))) for part in (np.real(vector), np.imag(vector))
    ]
    return parts[0] + 1j * parts[1]


def product_spectrum(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of W_N ... W_1 and ln |mu|, the largest first, each to its own digits.

    A sweep turns a basis through all factors, W_n B = B' R_n; B then settles to nested invariant subspaces, and the product
    in it to B^T W B = (B^T B') R_N ... R_1, nearly triangular and graded from large to small.
    """
    d = factors.shape[1]
    if d == 0:
        return np.zeros(0, complex), np.zeros(0)
    # Neighbours whose product keeps its digits are one factor.
    while len(factors) > 1 and len(factors) % 2 == 0:
        pairs = factors[1::2] @ factors[::2]
        if not np.max(np.linalg.cond(pairs)) < _MIXED:
            break
        factors = pairs
    basis, turn, matrix, scale = np.eye(d), np.eye(d), np.eye(d), 0.0
    splits: list[int] = []
    if len(factors) == 1:
        values = np.linalg.eigvals(factors[0]).astype(complex)
        with np.errstate(divide="ignore"):
            return _largest_first(values, np.maximum(np.log(np.abs(values)), -745.0))
    for _ in range(_SWEEPS):
        first, matrix, scale = basis, np.eye(d), 0.0
        for factor in factors:
            basis, triangle = np.linalg.qr(factor @ basis)
            matrix = triangle @ matrix
            size = float(np.max(np.abs(matrix))) or 1.0
            matrix, scale = matrix / size, scale + float(np.log(size))
        turn = first.T @ basis
        # Where the basis has settled its turn is block diagonal, up to rounding, which must not carry large to small.
        splits = [k for k in range(1, d) if np.max(np.abs(turn[k:, :k])) <= _SPLIT]
        sizes = np.abs(np.diagonal(matrix))
        if all(k in splits or sizes[k - 1] <= _MIXED * sizes[k] for k in range(1, d)):
            break
    ranges = [slice(a, b) for a, b in itertools.pairwise([0, *splits, d])]
    diagonal = [turn[block, block] @ matrix[block, block] for block in ranges]
    values = np.concatenate([np.linalg.eigvals(block).astype(complex) for block in diagonal])
    with np.errstate(divide="ignore"):
        logarithms = np.maximum(np.log(np.abs(values)) + scale, -745.0)
    values = np.exp(np.clip(logarithms, -700, 700)) * np.exp(1j * np.angle(values))
    return _largest_first(values, logarithms)


def _largest_first(values: np.ndarray, logarithms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((-np.imag(values), -logarithms))
    return values[order], logarithms[order]
