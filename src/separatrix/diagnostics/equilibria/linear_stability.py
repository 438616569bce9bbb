r"""Linear stability: what becomes of a small perturbation of a state.

    map         delta[n+1] = J delta[n]       decays iff every multiplier has |mu| < 1
    flow        d delta/dt = J delta          decays iff every eigenvalue has Re mu < 0
    random map  delta[n+1] = J_n delta[n]; its second moment decays iff E[J x J] has spectral radius below 1
    SDE         d delta = J delta dt + sum_k B_k delta dW_k; its second moment decays iff
                I x J + J x I + sum_k B_k x B_k has eigenvalues of negative real part

Eigenvalues say where a perturbation ends, not which way it goes there. A matrix that is not normal makes it grow first:
at the rate of the numerical abscissa, the largest eigenvalue of (J + J^T)/2 (a flow), by the largest singular value in one
step (a map), and by sup_n |J^n| or sup_t |exp(t J)| at most.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Complex, Float

from separatrix._errors import explain
from separatrix._types import Key, State
from separatrix.diagnostics.applies import has_tangent
from separatrix.diagnostics.equilibria._random_products import MOMENT, NONE, products
from separatrix.diagnostics.equilibria._transient_growth import of_flow, of_map
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.questions import Question, register
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import Jacobian, as_vector, from_vector, kind_of
from separatrix.linear.derivatives import require_derivatives
from separatrix.linear.spectrum import DECISIVE, ORDERS, euler_edge, leading_part, least_stable_first, ordered
from separatrix.systems.map import FiniteMap
from separatrix.systems.sde import SDE

# Up to here a Jacobian is formed: 512 columns are 2 MB, and its eigenvalues take a tenth of a second.
_DENSE = 512

# A perturbation that grows tenfold before it decays is seen in practice; a network's nonlinearity acts on it first.
_GROWTH = 10.0
_AT_REST = 1e-4


class LinearStability(Result):
    r"""The linearisation of a system at a state.

    - `spectrum`, shape (k,): eigenvalues (multipliers of a map), the least stable first, or in the order `which`;
      `residuals`: |J v - mu v| of unit eigenvectors. All where `size` (the number of coordinates) is at most 512, else the
      leading ones. `least_stable`: the eigenvalue nearest to growth, which decides, whatever the order.
    - `singular_values`: leading ones of J. `numerical_abscissa`: the largest eigenvalue of (J + J^T)/2.
    - `transient_growth`, `transient_time`: the largest |J^n| or |exp(t J)| and its n or t; infinite for an unstable
      system, NaN where J was not formed. `transient_searched`: up to which n or t, infinite where none beyond can be
      larger; `transient_complete`: whether every power was looked at (of a flow, steps that turn no mode by more than 1/8).
    - `departure`: Henrici's distance from normality, sqrt(|J|^2 - sum |mu|^2)/|J|, 0 for a normal matrix.
    - `mean_square`: of an SDE the rate of the second moment, stable below 0; of a random map its factor a step, stable
      below 1, with `mean_square_error`, the standard error over draws of the noise. NaN for other kinds.
    - `almost_sure`, `almost_sure_error`: of a random map, the exponent a step of products of draws; NaN for other kinds.
    - `displacement`: |F(x) - x| or |f(x)|: 0 at a fixed point. `tolerance`: how near the border counts as neutral.
    """

    spectrum: Complex[Array, " k"]
    residuals: Float[Array, " k"]
    least_stable: Complex[Array, ""]
    singular_values: Float[Array, " m"]
    numerical_abscissa: Float[Array, ""]
    transient_growth: Float[Array, ""]
    transient_time: Float[Array, ""]
    transient_searched: Float[Array, ""]
    transient_complete: Bool[Array, ""]
    departure: Float[Array, ""]
    mean_square: Float[Array, ""]
    mean_square_error: Float[Array, ""]
    almost_sure: Float[Array, ""]
    almost_sure_error: Float[Array, ""]
    displacement: Float[Array, ""]
    tolerance: Float[Array, ""]
    kind: str = eqx.field(static=True)
    which: str = eqx.field(static=True)
    size: int = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    @property
    def spectral_radius(self) -> float:
        """Largest |mu|."""
        return float(np.max(np.abs([*np.asarray(self.spectrum), complex(self.least_stable)])))

    @property
    def spectral_abscissa(self) -> float:
        """Largest real part."""
        return float(np.max(np.real([*np.asarray(self.spectrum), complex(self.least_stable)])))

    @property
    def unstable(self) -> int:
        """How many of the eigenvalues given are past the border, by more than `tolerance`."""
        past = np.abs(self.spectrum) - 1 if self.kind == "map" else np.real(self.spectrum)
        return int(np.sum(past > float(self.tolerance)))

    @property
    def random(self) -> bool:
        """Whether this is a random map: products of draws decide, and the spectrum is that of one draw."""
        return self.kind == "map" and not bool(np.isnan(self.almost_sure))

    @property
    def criterion(self) -> tuple[str, float, float]:
        """What decides: its name, its value, and the border below which it is stable."""
        if np.isfinite(self.mean_square):
            of_map = self.kind == "map"
            return "mean-square factor" if of_map else "mean-square rate", float(self.mean_square), float(of_map)
        if self.random:
            return "almost-sure exponent", float(self.almost_sure), 0.0
        if self.kind == "map":
            return "spectral radius", self.spectral_radius, 1.0
        return "spectral abscissa", self.spectral_abscissa, 0.0

    @property
    def margin(self) -> float:
        """How far past the border of stability by the criterion; negative is stable."""
        _, value, border = self.criterion
        return value - border

    @property
    def verdict(self) -> str:
        """Return "stable", "neutral" (within `tolerance` of the border, or two standard errors) or "unstable".

        Of the linearisation. A random map's names its sense: "stable in mean square" (and so almost surely), "stable
        almost surely, unstable in mean square", or "unstable"; without a second moment "stable almost surely" is all.
        """
        if np.isnan(self.margin):
            return "unknown"
        errors = np.nan_to_num([self.mean_square_error, self.almost_sure_error])
        with_moment = np.isfinite(self.mean_square)
        slack = float(self.tolerance) + 2 * float(errors[0 if with_moment else 1])
        if abs(self.margin) <= slack:
            return "neutral"
        if not self.random:
            return "stable" if self.margin < 0 else "unstable"
        if self.margin < 0:
            return "stable in mean square" if with_moment else "stable almost surely"
        decays = with_moment and float(self.almost_sure) < -2 * float(errors[1])
        return "stable almost surely, unstable in mean square" if decays else "unstable"

    @property
    def euler_step_size(self) -> float:
        r"""The step size up to which Euler's steps of a flow fall, |1 + h lambda| <= 1: min -2 Re lambda/|lambda|^2.

        Past it they grow, or spiral outward where lambda is complex. 0 where some eigenvalue does not fall; NaN for other
        kinds, and where not all eigenvalues are known.
        """
        values = np.asarray(self.spectrum)
        if self.kind != "flow" or len(values) < self.size:
            return float("nan")
        return euler_edge(values, float(self.tolerance))

    def rows(self) -> list[Row]:
        border = Row("spectral radius", self.spectral_radius)
        if self.kind != "map":
            border = Row("spectral abscissa", self.spectral_abscissa)
        rows = [
            Row("verdict", f"{self.verdict} ({self.kind}, {self.size} coordinates)"),
            border,
            Row("spectrum", self.spectrum),
            Row("largest singular value", self.singular_values[0]),
            Row("numerical abscissa", self.numerical_abscissa),
        ]
        if self.random:
            rows.insert(1, Row("almost-sure exponent", self.almost_sure, self.almost_sure_error))
        if np.isfinite(self.mean_square):
            rows.insert(1, Row(self.criterion[0], self.mean_square, self.mean_square_error if self.random else None))
        if np.isfinite(self.transient_growth):
            rows.append(
                Row("transient growth", f"{float(self.transient_growth):.4g} at {float(self.transient_time):.4g}")
            )
        if 0 < self.euler_step_size < np.inf:
            rows.append(Row("Euler's steps fall up to a step size of", self.euler_step_size))
        if np.isfinite(self.departure):
            rows.append(Row("departure from normality", self.departure))
        return rows

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not self.displacement <= 1e-4:
            found.append(
                f"the state is no fixed point (it moves by {float(self.displacement):.2g}): this is the linearisation "
                "there, and says nothing of where it goes in the long run"
            )
        scale = np.maximum(np.abs(self.spectrum), 1.0)
        if np.any(~(np.asarray(self.residuals) <= 1e-2 * scale)):
            found.append(f"eigenvalues did not converge: largest residual {float(np.max(self.residuals)):.2g}")
        if self.kind == "sde" and not np.isfinite(self.mean_square):
            found.append(f"the second moment of {self.size} coordinates was not formed: this is the drift alone")
        if self.random:
            found.append("the map is random: the spectrum is that of one draw, and products of draws decide")
        if self.random and not np.isfinite(self.mean_square):
            found.append(
                f"the second moment of {self.size} coordinates was not formed: what decays almost surely can still grow "
                "in mean square"
            )
        if not np.isinf(self.transient_searched) and np.isfinite(self.transient_growth):
            found.append(
                f"transient growth was searched up to {float(self.transient_searched):.3g}: so near to the border of "
                "stability it may be larger later"
            )
        elif not self.transient_complete and np.isfinite(self.transient_growth):
            found.append(
                "transient growth was searched among 64 powers an octave and around the largest of them: a peak that is "
                "narrower is not seen"
            )
        if self.single_precision:
            found.append(
                "float32: digits past the sixth mean nothing, less for eigenvalues of a matrix far from normal"
            )
        return tuple(found)


def linear_stability(
    system: Any,
    state: State,
    *,
    at: Any = 0,
    key: Key | None = None,
    which: str | None = None,
    count: int = 6,
    tol: float = 1e-6,
) -> LinearStability:
    r"""Return the spectrum of a system's Jacobian at a state, and how far perturbations grow before they obey it.

        J v = mu v;     stable iff |mu| < 1 (map), Re mu < 0 (flow), mean square (SDE)

    **Arguments:**

    - `system`: a `Map`, `Flow` or `SDE`. `state`: where to linearise: a fixed point, for the verdict to mean anything.
    - `at`: step number or time. `key`: randomness of a random map, or of a random velocity (a game on a sample), held
      fixed for the spectrum. A map that it changes is random: growth almost surely and in mean square are measured over
      up to 4,096 draws of `fold_in(key, i)`.
    - `which`: the order of the spectrum: "largest_real", "imaginary" (largest |Im mu|: what turns fastest, as in the cycle
      of a game) or "magnitude". By default what decides: "magnitude" for a map, else "largest_real". Of more than 512
      coordinates those that lead in this order are found; the one that decides is found beside them.
    - `count`: how many eigenvalues and singular values of a system with more than 512 coordinates, found by Arnoldi and
      Lanczos on products alone; smaller ones are given whole.
    - `tol`: relative accuracy of those.

    **Returns:** a `LinearStability`.

    **Raises:** `TypeError` for anything but a system; `ValueError` for a count below 1, an unknown order, a state
    without floats, or one at which the system has no derivatives.

    **Example:** a normal and a non-normal matrix with the same eigenvalues.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> tilted = sx.as_flow(lambda x: jnp.array([[-1.0, 10.0], [0.0, -2.0]]) @ x)
    >>> found = sx.linear_stability(tilted, jnp.zeros(2))
    >>> found.verdict, found.spectral_abscissa, round(float(found.numerical_abscissa), 3)
    ('stable', -1.0, 3.525)

    A product of random factors can decay in every run while its mean square grows.

    >>> import jax
    >>> noisy = sx.as_map(lambda x, key: (0.5 + jax.random.normal(key, dtype=x.dtype)) * x)
    >>> sx.linear_stability(noisy, jnp.zeros(1), key=jax.random.key(0)).verdict
    'stable almost surely, unstable in mean square'

    **Reference:** Trefethen & Embree, *Spectra and Pseudospectra* (2005), chapters 14 to 16; Arnold, *Stochastic
    Differential Equations* (1974), section 11.3, for the second moment; Lehoucq, Sorensen & Yang, *ARPACK Users' Guide*
    (1998).
    """
    if count < 1:
        raise ValueError(explain("linear_stability: count", count, "at least 1", "Ask for count=6."))
    if which is not None and which not in ORDERS:
        words = ", ".join(f'"{word}"' for word in ORDERS)
        raise ValueError(
            explain("linear_stability: which", repr(which), f"one of {words}", "Choose one, or leave it out.")
        )
    kind = kind_of(system)
    which = DECISIVE[kind] if which is None else which
    jacobian = Jacobian(system, state, at=at, key=key)
    point, value = np.asarray(jacobian.point), np.asarray(jacobian.value())
    if not (np.isfinite(point).all() and np.isfinite(value).all()):
        do = "Start from a finite state at which the system is defined."
        raise ValueError(explain("linear_stability: state", "a value that is not finite", "finite numbers", do))
    moved = value - point if kind == "map" else value
    eps = float(np.finfo(point.dtype).eps)
    whole = jacobian.size <= _DENSE
    parts = _dense(jacobian, kind, which, eps) if whole else leading_part(jacobian, kind, which, count, tol)
    size = max(1.0, float(parts["singular_values"][0]))
    # An eigenvalue of a matrix that is no better known than to rounding moves by about sqrt(eps) where two meet.
    tolerance = eps**0.5 * size + float(np.max(parts["residuals"]))
    drawn = products(jacobian) if kind == "map" else NONE
    if kind == "sde" and jacobian.size <= MOMENT:
        drawn = drawn._replace(mean_square=_mean_square(system, jacobian, at))
    return LinearStability(
        **{name: jnp.asarray(part) for name, part in parts.items()},
        mean_square=jnp.asarray(drawn.mean_square),
        mean_square_error=jnp.asarray(drawn.mean_square_error),
        almost_sure=jnp.asarray(drawn.exponent),
        almost_sure_error=jnp.asarray(drawn.exponent_error),
        displacement=jnp.asarray(np.linalg.norm(moved) / max(1.0, float(np.linalg.norm(point)))),
        tolerance=jnp.asarray(tolerance),
        kind=kind,
        which=which,
        size=jacobian.size,
        single_precision=eps > 1e-10,
    )


def _dense(jacobian: Jacobian, kind: str, which: str, eps: float) -> dict[str, Any]:
    """All of it, from the matrix."""
    matrix = require_derivatives("linear_stability", jacobian, jacobian.matrix()).astype(float)
    values, vectors = np.linalg.eig(matrix)
    order = ordered(values, which)
    values, vectors = values[order], vectors[:, order]
    total = float(np.sum(matrix**2))
    excess = max(0.0, total - float(np.sum(np.abs(values) ** 2)))
    sizes = np.linalg.svd(matrix, compute_uv=False)
    grown = (of_map if kind == "map" else of_flow)(matrix, values, eps**0.5 * max(1.0, float(sizes[0])))
    return {
        "spectrum": values.astype(complex),
        "least_stable": values[least_stable_first(values, kind)[0]].astype(complex),
        "residuals": np.linalg.norm(matrix @ vectors - vectors * values, axis=0),
        "singular_values": sizes,
        "numerical_abscissa": np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1],
        "transient_growth": grown.growth,
        "transient_time": grown.time,
        "transient_searched": grown.searched,
        "transient_complete": grown.complete,
        "departure": np.sqrt(excess / total) if total else 0.0,
    }


def _mean_square(system: Any, jacobian: Jacobian, at: Any) -> float:
    """Largest real part of I x J + J x I + sum_k B_k x B_k, B_k the Jacobian of the k-th column of the noise."""
    drift = np.asarray(jacobian.matrix(), float)
    unit = np.eye(len(drift))
    moment = np.kron(unit, drift) + np.kron(drift, unit)
    for column in np.asarray(_noise_jacobians(system, jacobian, at), float):
        moment = moment + np.kron(column, column)
    return float(np.max(np.real(np.linalg.eigvals(moment))))


@eqx.filter_jit
def _noise_jacobians(sde: SDE, jacobian: Jacobian, at: Any) -> Any:
    """d(g e_k)/dx for each k, shape (K, d, d)."""
    state, point = jacobian.state, jacobian.point
    time = jnp.asarray(at, point.dtype)
    noise = sde.diffusion(time, state).in_structure()
    flat, restore = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), noise))

    def columns(vector: Any) -> Any:
        operator = sde.diffusion(time, from_vector(vector, state))
        return jax.vmap(lambda unit: as_vector(operator.mv(restore(unit))))(jnp.eye(flat.size, dtype=flat.dtype))

    return jax.jacfwd(columns)(point)


def _judge(answer: LinearStability, system: Any) -> list[Finding]:
    """At a point of rest perturbations die, and do not grow much before; elsewhere that they grow is a caution."""
    name, evidence, border = answer.criterion
    error = answer.mean_square_error if np.isfinite(answer.mean_square) else answer.almost_sure_error
    slack = border + float(answer.tolerance) + 2 * float(np.nan_to_num(error))
    if not float(answer.displacement) <= _AT_REST:
        if isinstance(system, FiniteMap):
            # Layers, or a record of inputs: another map at each step, which has no point of rest.
            return []
        moved = f"it moves by {float(answer.displacement):.2g} there, so this says nothing of the long run"
        do = "Ask at a point of rest: `fixed_points` finds those around the state."
        name = f"{name} of the linearisation at this state, which is no rest"
        return [Finding(name, evidence, "<=", slack, f"perturbations grow at first; {moved}", do, "caution")]
    grows = "perturbations grow" if answer.random else f"{answer.unstable} direction(s) grow under the linearisation"
    do = "Lower the step size or add damping; `linear_stability` has the directions' spectrum."
    found = [Finding(f"{name} of the fixed point is not past its border", evidence, "<=", slack, grows, do)]
    growth = float(answer.transient_growth)
    if np.isfinite(growth):
        cause = "eigenvectors are far from orthogonal: a perturbation grows long before it decays"
        do = "Judge stability by singular values, not by the spectral radius."
        found.append(Finding("transient growth of perturbations", growth, "<=", _GROWTH, cause, do))
    return found


register(Question("linear_stability", "spectrum of the Jacobian here", linear_stability, has_tangent, _judge, rank=1))
