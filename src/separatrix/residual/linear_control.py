r"""Linear control in closed form: regulators, and the least energy from one state to another.

    x' = A x + B u              u = -K x,  K = R^-1 B^T P,               A^T P + P A - P B R^-1 B^T P + Q = 0
    x[n+1] = A x[n] + B u[n]    u = -K x,  K = (R + B^T P B)^-1 B^T P A,  P by Riccati's recursion

minimise the integral (the sum) of x^T Q x + u^T R u.

From x_0 to x_1 in the time T the least of integral |u|^2 dt is reached by

    u(t) = B^T e^{A^T (T - t)} W^-1 (x_1 - e^{A T} x_0),     W = integral_0^T e^{A s} B B^T e^{A^T s} ds

and is d^T W^-1 d with d = x_1 - e^{A T} x_0. All are oracles for policies that are trained.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from separatrix._errors import explain
from separatrix._types import Checked, Function
from separatrix.systems import ranges


def lqr(a: Any, b: Any, q: Any, r: Any, *, discrete: bool = False) -> Any:
    r"""Return the gain K of the policy u = -K x that minimises the integral of x^T Q x + u^T R u for x' = A x + B u.

        K = R^-1 B^T P,     A^T P + P A - P B R^-1 B^T P + Q = 0

    **Arguments:**

    - `a`: (d, d). `b`: (d, m). `q`: (d, d), positive semidefinite. `r`: (m, m), positive definite.
    - `discrete`: of the map x[n+1] = A x[n] + B u[n] and the sum of costs instead of the integral.

    **Returns:** K, shape (m, d).

    **Raises:** `ValueError` for shapes that do not fit, values that are not finite, Q or R that are not symmetric, Q with a
    negative eigenvalue, R with one that is not positive, or where the equation has no stabilising solution.

    **Example:** the double integrator, gain (1, sqrt 3).

    >>> import numpy as np, separatrix as sx
    >>> gain = sx.residual.lqr([[0.0, 1.0], [0.0, 0.0]], [[0.0], [1.0]], np.eye(2), [[1.0]])
    >>> [round(float(value), 4) for value in gain[0]]
    [1.0, 1.7321]

    **Reference:** Anderson & Moore, *Optimal Control: Linear Quadratic Methods* (1990), chapter 3; solved by SciPy.
    """
    a, b, q, r = _checked("lqr", a, b, q, r)
    solution = _riccati("lqr", a, b, q, r, discrete)
    if discrete:
        return jnp.asarray(np.linalg.solve(r + b.T @ solution @ b, b.T @ solution @ a))
    return jnp.asarray(np.linalg.solve(r, b.T @ solution))


def lqr_cost(a: Any, b: Any, q: Any, r: Any, *, discrete: bool = False) -> Any:
    r"""Return the matrix P of the least cost x^T P x from a state on, that of the policy `lqr`.

        A^T P + P A - P B R^-1 B^T P + Q = 0

    **Arguments:** as in `lqr`.

    **Returns:** P, shape (d, d), symmetric.

    **Raises:** `ValueError` as `lqr`.

    **Example:** x' = u with cost x^2 + u^2: from 2 on it costs 4.

    >>> import separatrix as sx
    >>> sx.residual.lqr_cost([[0.0]], [[1.0]], [[1.0]], [[1.0]]).round(6).tolist()
    [[1.0]]

    **Reference:** Anderson & Moore, *Optimal Control: Linear Quadratic Methods* (1990), chapter 3; solved by SciPy.
    """
    return jnp.asarray(_riccati("lqr_cost", *_checked("lqr_cost", a, b, q, r), discrete))


def lqr_gains(a: Any, b: Any, q: Any, r: Any, steps: Checked[int], *, terminal: Any = None) -> Any:
    r"""Return the gains of the policy u[n] = -K_n x[n] that minimises a finite sum for x[n+1] = A x[n] + B u[n].

        J = sum_{n<N} (x[n]^T Q x[n] + u[n]^T R u[n]) + x[N]^T G x[N]
        K_n = (R + B^T P_{n+1} B)^-1 B^T P_{n+1} A,    P_n = Q + A^T P_{n+1} (A - B K_n),    P_N = G

    **Arguments:**

    - `a`, `b`, `q`, `r`: as in `lqr`, for a map. `steps`: N >= 1. `terminal`: G, (d, d), >= 0; Q by default.

    **Returns:** K_0, ..., K_{N-1}, shape (N, m, d). Far from the end they are those of `lqr(..., discrete=True)`.

    **Raises:** `ValueError` as `lqr`, and for steps below 1.

    **Example:** one step with no cost on the way puts all weight on the end: K = B^T G A/(R + B^T G B).

    >>> import separatrix as sx
    >>> gains = sx.residual.lqr_gains([[2.0]], [[1.0]], [[0.0]], [[1.0]], 1, terminal=[[3.0]])
    >>> gains.tolist()
    [[[1.5]]]

    **Reference:** Anderson & Moore, *Optimal Control: Linear Quadratic Methods* (1990), section 2.4.
    """
    a, b, q, r = _checked("lqr_gains", a, b, q, r)
    steps = ranges.whole("lqr_gains: steps", steps, "Say how far to look.")
    cost = q if terminal is None else np.asarray(terminal, float)
    if cost.shape != q.shape:
        raise ValueError(explain("lqr_gains: terminal", f"shape {cost.shape}", f"{q.shape}", "Pass (d, d)."))
    _require_cost("lqr_gains: terminal", cost, ">= 0", lambda least, rounding: least >= -rounding)
    gains = np.empty((steps, b.shape[1], a.shape[0]))
    for n in reversed(range(steps)):
        gains[n] = np.linalg.solve(r + b.T @ cost @ b, b.T @ cost @ a)
        cost = q + a.T @ cost @ (a - b @ gains[n])
        cost = (cost + cost.T) / 2
    return jnp.asarray(gains)


def gramian(a: Any, b: Any, horizon: float) -> Any:
    r"""Return the controllability Gramian W = integral_0^T e^{A s} B B^T e^{A^T s} ds.

    **Arguments:**

    - `a`: (d, d). `b`: (d, m). `horizon`: T > 0.

    **Returns:** W, shape (d, d), symmetric; of full rank iff every state can be reached.

    **Raises:** `ValueError` for shapes that do not fit, values that are not finite, or a horizon that is not positive.

    **Example:** the double integrator.

    >>> import separatrix as sx
    >>> sx.residual.gramian([[0.0, 1.0], [0.0, 0.0]], [[0.0], [1.0]], 3.0).round(6).tolist()
    [[9.0, 4.5], [4.5, 3.0]]

    **Reference:** Van Loan, *Computing integrals involving the matrix exponential* (1978), theorem 1.
    """
    a, b = _pair("gramian", a, b)
    ranges.positive("gramian: horizon", horizon, "Pass the time there is.")
    size = a.shape[0]
    block = np.block([[-a, b @ b.T], [np.zeros((size, size)), a.T]])
    exponential = scipy.linalg.expm(block * horizon)
    found = exponential[size:, size:].T @ exponential[:size, size:]
    return jnp.asarray((found + found.T) / 2)


def least_energy(a: Any, b: Any, start: Any, end: Any, horizon: float) -> tuple[Function, float]:
    r"""Return the input u(t) of least energy that leads from one state to another, and the energy integral |u|^2 dt.

        u(t) = B^T e^{A^T (T - t)} W^-1 (x_1 - e^{A T} x_0)

    **Arguments:**

    - `a`: (d, d). `b`: (d, m). `start`, `end`: shape (d,). `horizon`: T > 0.

    **Returns:** (u, energy), with u a function of t in [0, T] that gives shape (m,).

    **Raises:** `ValueError` as `gramian`, for states of another shape, and where no input leads there.

    **Example:** a unit mass moved by 1 in unit time, from rest to rest: the force is 6 (1 - 2 t), its energy 12.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> force, energy = sx.residual.least_energy([[0.0, 1.0], [0.0, 0.0]], [[0.0], [1.0]], [0.0, 0.0], [1.0, 0.0], 1.0)
    >>> round(energy, 6), [round(float(force(t)[0]), 6) for t in (0.0, 0.25, 1.0)]
    (12.0, [6.0, 3.0, -6.0])

    **Reference:** Brockett, *Finite Dimensional Linear Systems* (1970), section 22.
    """
    matrices = _pair("least_energy", a, b)
    weight = np.asarray(gramian(*matrices, horizon))
    first, last = np.asarray(start, float), np.asarray(end, float)
    size = weight.shape[0]
    if first.shape != (size,) or last.shape != (size,):
        got = f"start {first.shape} and end {last.shape}"
        raise ValueError(explain("least_energy", got, f"({size},) each", "Pass two states."))
    ranges.finite("least_energy: start", first, "Pass finite states.")
    ranges.finite("least_energy: end", last, "Pass finite states.")
    gap = last - scipy.linalg.expm(matrices[0] * horizon) @ first
    least, *_, greatest = np.linalg.eigvalsh(weight) if size > 1 else (weight[0, 0], weight[0, 0])
    multiplier = np.linalg.lstsq(weight, gap, rcond=None)[0]
    if not np.allclose(weight @ multiplier, gap, rtol=1e-6, atol=1e-9 * (1 + np.abs(gap).max())):
        got = f"a Gramian of eigenvalues {least:.1e} to {greatest:.1e}"
        raise ValueError(explain("least_energy", got, "a state that can be reached", "Add inputs, or take more time."))
    back, pull = jnp.asarray(matrices[0].T), jnp.asarray(matrices[1].T)
    costate = jnp.asarray(multiplier)

    def force(t: Any) -> Any:
        return pull @ (jax.scipy.linalg.expm(back * (horizon - t)) @ costate)

    return force, float(gap @ multiplier)


def _riccati(where: str, a: Any, b: Any, q: Any, r: Any, discrete: bool) -> Any:
    solve = scipy.linalg.solve_discrete_are if discrete else scipy.linalg.solve_continuous_are
    try:
        return solve(a, b, q, r)
    except (np.linalg.LinAlgError, ValueError) as error:
        do = "Check that (A, B) can be stabilised, Q >= 0 and R > 0."
        raise ValueError(explain(where, f"no solution ({error})", "a stabilising one", do)) from error


def _checked(where: str, a: Any, b: Any, q: Any, r: Any) -> tuple[Any, Any, Any, Any]:
    a, b, q, r = (np.asarray(matrix, float) for matrix in (a, b, q, r))
    size, inputs = b.shape if b.ndim == 2 else (-1, -1)
    if a.shape != (size, size) or q.shape != (size, size) or r.shape != (inputs, inputs):
        got = f"A {a.shape}, B {b.shape}, Q {q.shape}, R {r.shape}"
        raise ValueError(explain(where, got, "(d, d), (d, m), (d, d), (m, m)", "Give two axes to each matrix."))
    for name, matrix in (("A", a), ("B", b), ("Q", q), ("R", r)):
        ranges.finite(f"{where}: {name}", matrix, "Look at where this value was made.")
    _require_cost(f"{where}: Q", q, ">= 0", lambda least, rounding: least >= -rounding)
    _require_cost(f"{where}: R", r, "> 0", lambda least, rounding: least > rounding)
    return a, b, q, r


def _pair(where: str, a: Any, b: Any) -> tuple[Any, Any]:
    a, b = np.asarray(a, float), np.asarray(b, float)
    if b.ndim != 2 or a.shape != (b.shape[0], b.shape[0]):
        got = f"A {a.shape}, B {b.shape}"
        raise ValueError(explain(where, got, "(d, d) and (d, m)", "Give two axes to each matrix."))
    for name, matrix in (("A", a), ("B", b)):
        ranges.finite(f"{where}: {name}", matrix, "Look at where this value was made.")
    return a, b


def _require_cost(name: str, matrix: Any, sign: str, holds: Function) -> None:
    """Refuse the matrix of a cost that is not symmetric, or has an eigenvalue of the wrong sign."""
    size = float(np.max(np.abs(matrix), initial=0.0))
    if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-10 * size):
        raise ValueError(explain(name, "a matrix that is not symmetric", "a symmetric one", "Take (M + M^T)/2."))
    least = float(np.min(np.linalg.eigvalsh(matrix)))
    if not holds(least, 1e-12 * size):
        do = "A cost must not reward what it weighs."
        raise ValueError(explain(name, f"an eigenvalue {least:g}", f"eigenvalues {sign}", do))
