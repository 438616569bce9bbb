r"""Embedded Runge-Kutta pairs in one form, read off diffrax's solvers.

    k_i = f(t + c_i h, x + h sum_{j<i} a_ij k_j),  x' = x + h sum_i b_i k_i,  error = h sum_i e_i k_i

The last stage is always taken at (t + h, x'), where the next step begins; for a pair that does not do so by itself it is
added with weight zero. Between the ends the solution is x + h sum_i w_i(theta) k_i, theta in [0, 1], with polynomials
w_i: the pair's own interpolant where it has one (Tsit5, Dopri5, Dopri8), the cubic Hermite interpolant for pairs of order
three and less. Pairs of higher order without one are left to diffrax.
"""

import dataclasses
from typing import Any

import diffrax
import numpy as np

Row = tuple[float, ...]

# Tsitouras, Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption (2011), section 4:
# coefficients of theta, theta^2, theta^3, theta^4 for each stage.
_TSITOURAS = (
    (1.0, -2.763706197274826, 2.9132554618219126, -1.0530884977290216),
    (0.0, 0.13169999999999998, -0.2234, 0.1017),
    (0.0, 3.9302962368947516, -5.941033872131505, 2.490627285651253),
    (0.0, -12.411077166933676, 30.33818863028232, -16.548102889244902),
    (0.0, 37.50931341651104, -88.1789048947664, 47.37952196281928),
    (0.0, -27.896526289197286, 65.09189467479366, -34.87065786149661),
    (0.0, 1.5, -4.0, 2.5),
)


@dataclasses.dataclass(frozen=True)
class Tableau:
    """An explicit pair whose last stage is the first of the next step.

    `rolled` says that the stages go in a loop instead of one after the other, for a velocity that is long to compile.
    """

    a: tuple[Row, ...]
    b: Row
    error: Row
    c: Row
    weights: tuple[Row, ...]
    order: int
    rolled: bool = False

    @property
    def stages(self) -> int:
        """Number of stages, the shared one included."""
        return len(self.b)


def tableau_of(solver: diffrax.AbstractERK) -> Tableau:
    """Read the pair of a diffrax solver."""
    pair: Any = solver.tableau
    a: list[Row] = [(), *[tuple(map(float, row)) for row in pair.a_lower]]
    b, error = tuple(map(float, pair.b_sol)), tuple(map(float, pair.b_error))
    c: Row = (float(pair.c1), *map(float, pair.c))
    if not (pair.fsal and pair.ssal):
        a, b, error, c = [*a, b], (*b, 0.0), (*error, 0.0), (*c, 1.0)
    return Tableau(tuple(a), b, error, c, _own_weights(solver, b) or _hermite(b), int(solver.order(None) or 1))


def _own_weights(solver: diffrax.AbstractERK, b: Row) -> tuple[Row, ...] | None:
    """The polynomials of the pair's own interpolant, lowest power first."""
    if isinstance(solver, diffrax.Tsit5):
        return _TSITOURAS
    form: Any = getattr(solver, "interpolation_cls", None)
    if isinstance(solver, diffrax.Dopri8) and hasattr(form, "eval_coeffs"):
        return tuple(tuple(map(float, row[::-1])) for row in form.eval_coeffs)
    if isinstance(solver, diffrax.Dopri5) and hasattr(form, "c_mid"):
        return _quartic(b, form.c_mid)
    return None


def _quartic(b: Row, middle: Any) -> tuple[Row, ...]:
    """The quartic through both ends, with their slopes, and through the point of weights `middle` at theta = 1/2."""
    table = np.outer(b, [0.0, -5.0, 14.0, -8.0]) + np.outer(middle, [0.0, 16.0, -32.0, 16.0])
    table[0] += [1.0, -4.0, 5.0, -2.0]
    table[-1] += [0.0, 1.0, -3.0, 2.0]
    return tuple(tuple(map(float, row)) for row in table)


def _hermite(b: Row) -> tuple[Row, ...]:
    """x + (3 theta^2 - 2 theta^3)(x' - x) + h (theta - 2 theta^2 + theta^3) f + h (theta^3 - theta^2) f'."""
    table = np.outer(b, [0.0, 3.0, -2.0])
    table[0] += [1.0, -2.0, 1.0]
    table[-1] += [0.0, -1.0, 1.0]
    return tuple(tuple(map(float, row)) for row in table)


def can_run(solver: Any) -> bool:
    """Whether a diffrax solver is an explicit pair with an error estimate."""
    if not isinstance(solver, diffrax.AbstractERK):
        return False
    pair: Any = solver.tableau
    if pair.implicit or not np.any(pair.b_error):
        return False
    tableau = tableau_of(solver)
    return tableau.order <= 3 or _own_weights(solver, tableau.b) is not None
