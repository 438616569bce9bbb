r"""Discovery of laws: which few terms of a library make up a velocity?

    V = Theta(X) Xi,     Theta(X) = [1, x, y, x^2, x y, ...]   (N, p),   Xi (p, d) with few nonzero entries.

Sequentially thresholded least squares solves on the terms that are left, drops coefficients below a threshold, and
begins again. That is a map on Xi,

    Xi_j <- argmin |Theta xi - V_j|^2  over xi with support {i : |Xi_ij| >= threshold},

whose supports only shrink: it reaches a fixed point in at most p steps.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix._errors import Diverged, explain
from separatrix._tree import all_finite
from separatrix._types import Checked, Function, Key, Scalar, State, StepIndex
from separatrix.evolution import evolve
from separatrix.systems import ranges
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map

_BLURRED = 1e8  # condition of a library from which its terms cannot be told apart


class Monomials(eqx.Module):
    """All monomials of some variables up to a degree, [1, x, y, x^2, x y, y^2, ...].

    **Arguments:**

    - `names`: one for each variable, no two the same.
    - `degree`: the highest total degree, >= 0.

    A library is a function (d,) -> (p,) with `names`, the variables, and `labels`, its p terms.

    **Raises:** `ValueError` for no names, a name given twice, or a degree that is negative or no whole number.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> library = sx.residual.Monomials(("x", "y"), 2)
    >>> library.labels
    ('1', 'x', 'y', 'x^2', 'x y', 'y^2')
    >>> library(jnp.array([2.0, 3.0])).tolist()
    [1.0, 2.0, 3.0, 4.0, 6.0, 9.0]
    """

    names: tuple[str, ...] = eqx.field(static=True)
    exponents: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __init__(self, names: Sequence[str], degree: Checked[int]):
        self.names = tuple(names)
        if len(set(self.names)) < len(self.names):
            do = "Give each variable a name of its own."
            raise ValueError(explain("Monomials: names", ", ".join(self.names), "different names", do))
        if not self.names or degree < 0:
            got, do = f"{len(self.names)} names and degree {degree}", 'Pass for example ("x", "y"), 3.'
            raise ValueError(explain("Monomials", got, "at least one name and a degree >= 0", do))
        degree = ranges.whole("Monomials: degree", degree, 'Pass for example ("x", "y"), 3.', least=0)
        factors = [
            chosen
            for total in range(degree + 1)
            for chosen in itertools.combinations_with_replacement(range(len(self.names)), total)
        ]
        self.exponents = tuple(tuple(chosen.count(i) for i in range(len(self.names))) for chosen in factors)

    @property
    def labels(self) -> tuple[str, ...]:
        """The terms, as text."""
        return tuple(_monomial(self.names, powers) for powers in self.exponents)

    def __call__(self, x: Any) -> Any:
        # An exponent that is zero must not be seen by the derivative, which is 0 x^-1 there.
        terms = [[x[i] ** power for i, power in enumerate(powers) if power] for powers in self.exponents]
        return jnp.stack([math.prod(factors, start=jnp.ones_like(x[0])) for factors in terms])


class ThresholdedLeastSquares(Map):
    """Xi_j <- argmin |Theta xi - V_j| over xi supported where |Xi_ij| >= threshold: one step of the algorithm."""

    terms: Any  # (N, p)
    velocities: Any  # (N, d)
    threshold: Any

    def init(self) -> Any:
        """Return the least-squares solution on all terms, shape (p, d)."""
        return jnp.linalg.lstsq(self.terms, self.velocities)[0]

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        kept = jnp.abs(state) >= self.threshold

        def solve(mask: Any, velocity: Any) -> Any:
            # The solution of least norm is zero, up to rounding, where the column is zero.
            return jnp.linalg.lstsq(jnp.where(mask[None, :], self.terms, 0.0), velocity)[0]

        return jnp.where(kept, jax.vmap(solve, in_axes=1, out_axes=1)(kept, self.velocities), 0.0)


class LibraryFlow(Flow):
    """dx/dt = Xi^T Theta(x)."""

    library: Function
    coefficients: Any

    def velocity(self, t: Scalar, state: State) -> State:
        return self.coefficients.astype(state.dtype).T @ self.library(state)


@dataclasses.dataclass(frozen=True, eq=False)
class Discovery:
    """What was found.

    - `coefficients`, shape (p, d): Xi; `library`: its terms.
    - `residual`: |V - Theta Xi| / |V|, in the Frobenius norm; 0 if both are.
    - `standard_errors`, shape (p, d): of least squares on the terms that are kept, s^2 (Theta^T Theta)^-1 with independent
      errors of the velocities; NaN for a term that is not there. Velocities by differences or smoothing have errors that
      hang together: then these are too small.
    - `condition`: of the library on these points, its columns scaled to one size; from 1e8 on its terms cannot be told
      apart.
    """

    library: Any
    coefficients: Any
    residual: float
    standard_errors: Any = None
    condition: float = math.nan

    @property
    def flow(self) -> Flow:
        """The law as a `Flow`."""
        return LibraryFlow(self.library, self.coefficients)

    @property
    def terms(self) -> dict[str, dict[str, float]]:
        """Variable to the coefficients that are not zero, by label."""
        table = np.asarray(self.coefficients).T
        return {
            name: {label: float(value) for label, value in zip(self.library.labels, row, strict=True) if value != 0}
            for name, row in zip(self.library.names, table, strict=True)
        }

    @property
    def equations(self) -> tuple[str, ...]:
        """The law as text, one equation for each variable."""
        return tuple(f"{name}' = {_sum(found)}" for name, found in self.terms.items())

    @property
    def latex(self) -> str:
        """The law as an aligned block of LaTeX."""
        rows = [rf"\dot{{{name}}} &= {_latex(_sum(found))}" for name, found in self.terms.items()]
        return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"

    @property
    def sympy(self) -> dict[str, Any]:
        """Variable to its right-hand side as an expression of SymPy, which must be installed."""
        import sympy

        symbols = dict(zip(self.library.names, sympy.symbols(self.library.names), strict=True))

        def read(label: str) -> Any:
            return sympy.sympify(re.sub(r"(?<=[\w)]) (?=\w)", "*", label).replace("^", "**"), locals=symbols)

        return {
            name: sum((value * read(label) for label, value in found.items()), sympy.Integer(0))
            for name, found in self.terms.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return terms, equations and residual as plain values."""
        return {"terms": self.terms, "equations": list(self.equations), "residual": self.residual}

    def __repr__(self) -> str:
        blurred = self.condition >= _BLURRED
        told = f"; condition {self.condition:.1g}: its terms cannot be told apart on these data" if blurred else ""
        return f"Discovery({'; '.join(self.equations)}; residual {self.residual:.2g}{told})"


def discover(
    points: Any, velocities: Any, library: Any, threshold: float | None = None, *, optimizer: Any = None
) -> Discovery:
    """Find a sparse law for velocities at points, by sequentially thresholded least squares.

    **Arguments:**

    - `points`, `velocities`: shape (N, d), with N at least the number of terms.
    - `library`: as `Monomials(names, degree)`: a function (d,) -> (p,) with `names` and `labels`.
    - `threshold`: the smallest coefficient that is kept, in the unit of its term, >= 0: above what noise and the errors
      of the velocities make, below what is sought.
    - `optimizer`: in place of the threshold, whatever solves Theta Xi = V: an object with `fit(Theta, V)` and then `coef_`,
      shape (d, p), as those of PySINDy (`pysindy.SR3(...)`) and the linear models of scikit-learn without an intercept.

    **Returns:** a `Discovery`.

    **Raises:** `TypeError` for an optimizer without `fit` or with another `coef_`, and for both or neither of threshold and
    optimizer; `ValueError` for shapes that do not fit, values or terms that are not finite, fewer points than terms, or a
    threshold that is negative or not finite; `Diverged` if the least squares have no finite solution.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> points = jax.random.uniform(jax.random.key(0), (50, 2))
    >>> x, y = points.T
    >>> velocities = jnp.stack([1.5 * x - x * y, x * y - 3.0 * y], axis=1)
    >>> sx.residual.discover(points, velocities, sx.residual.Monomials(("x", "y"), 3), threshold=0.1).equations
    ("x' = 1.5 x - 1 x y", "y' = -3 y + 1 x y")

    **Reference:** Brunton, Proctor & Kutz, *Discovering governing equations from data by sparse identification of
    nonlinear dynamical systems* (2016), section 3; Zhang & Schaeffer, *On the convergence of the SINDy algorithm* (2019),
    for the fixed point.
    """
    points, velocities = jnp.asarray(points), jnp.asarray(velocities)
    width, count = len(library.names), len(library.labels)
    if points.ndim != 2 or points.shape != velocities.shape or points.shape[1] != width or len(points) < count:
        got, do = f"points {points.shape} and velocities {velocities.shape}", "Give more points or a smaller library."
        raise ValueError(explain("discover", got, f"two arrays (N, {width}) with N >= {count} terms", do))
    if not (bool(jnp.isfinite(points).all()) and bool(jnp.isfinite(velocities).all())):
        raise ValueError(explain("discover", "values that are not finite", "finite numbers", "Drop them first."))
    if (threshold is None) == (optimizer is None):
        got = "neither" if optimizer is None else "both"
        raise TypeError(
            explain("discover: threshold, optimizer", got, "one of both", "Take for example threshold=0.1.")
        )
    if threshold is not None:
        ranges.nonnegative("discover: threshold", threshold, "Take 0 to keep all terms.")
    terms = jax.vmap(library)(points)
    ranges.finite("discover: the library's terms", terms, "Scale the variables, or take a lower degree.")
    if optimizer is not None:
        return _judged("discover", terms, velocities, library, _solved_by(optimizer, terms, velocities))
    return sparse_law("discover", terms, velocities, library, threshold)


def sparse_law(where: str, terms: Any, velocities: Any, library: Any, threshold: Any) -> Discovery:
    """Thresholded least squares Theta Xi = V, with what its coefficients are worth."""
    count = terms.shape[1]
    algorithm = ThresholdedLeastSquares(terms, velocities, jnp.asarray(threshold, terms.dtype))
    first = algorithm.init()
    path = evolve(algorithm, first, steps=count, save="last") if bool(all_finite(first)) else None
    if path is None or not bool(path.outcome.reached):
        do = "Scale the variables, drop terms that depend on each other, or give more points."
        raise Diverged(explain(where, "least squares without a finite solution", "finite coefficients", do))
    return _judged(where, terms, velocities, library, path.final)


def _judged(where: str, terms: Any, velocities: Any, library: Any, found: Any) -> Discovery:
    """What coefficients are worth, however they were found."""
    ranges.finite(f"{where}: coefficients", found, "Scale the variables, or give more points.")
    error, size = (float(jnp.linalg.norm(v)) for v in (velocities - terms @ found, velocities))
    errors = _standard_errors(np.asarray(terms, float), np.asarray(velocities, float), np.asarray(found, float))
    scaled = np.asarray(terms, float) / np.maximum(np.linalg.norm(np.asarray(terms, float), axis=0), 1e-300)
    return Discovery(library, found, error / size if size > 0 else error, errors, float(np.linalg.cond(scaled)))


def _solved_by(optimizer: Any, terms: Any, velocities: Any) -> Any:
    """Coefficients (p, d) that another library's solver finds."""
    if not callable(getattr(optimizer, "fit", None)):
        do = "Pass for example pysindy.STLSQ(threshold=0.1)."
        raise TypeError(explain("discover: optimizer", type(optimizer).__name__, "an object with fit(Theta, V)", do))
    optimizer.fit(np.asarray(terms, float), np.asarray(velocities, float))
    found, wanted = np.asarray(getattr(optimizer, "coef_", None)), (velocities.shape[1], terms.shape[1])
    if found.size != wanted[0] * wanted[1] or found.dtype == object:
        do = "Take a linear solver of all columns at once."
        raise TypeError(explain("discover: optimizer", f"coef_ of shape {found.shape}", f"{wanted}", do))
    return jnp.asarray(found.reshape(wanted).T, terms.dtype)


def _standard_errors(terms: Any, velocities: Any, found: Any) -> Any:
    errors = np.full(found.shape, np.nan)
    for j, column in enumerate(found.T):
        kept = np.flatnonzero(column)
        left = len(terms) - len(kept)
        if len(kept) and left > 0:
            chosen = terms[:, kept]
            variance = np.sum((velocities[:, j] - chosen @ column[kept]) ** 2) / left
            inverse = np.linalg.pinv(chosen)
            errors[kept, j] = np.sqrt(variance * np.sum(inverse**2, axis=1))
    return errors


def _monomial(names: tuple[str, ...], powers: tuple[int, ...]) -> str:
    factors = [name if power == 1 else f"{name}^{power}" for name, power in zip(names, powers, strict=True) if power]
    return " ".join(factors) or "1"


def _latex(text: str) -> str:
    return re.sub(r"\^(\d+)", r"^{\1}", re.sub(r"(\d)e([+-]?)0*(\d+)", r"\1 \\cdot 10^{\2\3}", text).replace("{+", "{"))


def _sum(found: dict[str, float]) -> str:
    parts = [f"{value:+.3g} {label}".removesuffix(" 1") for label, value in found.items()]
    text = " ".join(f"{part[0]} {part[1:]}" for part in parts) or "0"
    return f"-{text[2:]}" if text.startswith("- ") else text.removeprefix("+ ")
