r"""The stationary covariance about a stable fixed point, by Lyapunov's equation.

    map    x[n+1] = J x[n] + noise of covariance Q        X = J X J^T + Q
    SDE    dx = J x dt + g dW,  Q = g g^T                  J X + X J^T + Q = 0

J is the Jacobian of the mean step or of the drift at the fixed point, Q the noise there. For a linear system with noise
that does not depend on the state X is exact; otherwise it is the leading term as the noise goes to zero: curvature beyond
the Hessian, and noise that varies over the stationary cloud, are left out.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float

from separatrix._errors import explain
from separatrix._tree import float_dtype
from separatrix._types import Key, State
from separatrix.calculus.undefined import undefined
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import Jacobian, as_vector, from_vector
from separatrix.linear.derivatives import require_derivatives
from separatrix.systems.map import Map
from separatrix.systems.sde import SDE

# X has d^2 entries and costs O(d^3): 512^2 float64 are 2 MiB and take a second.
_DENSE = 512
# Batches of keys over whose answers the standard error is taken.
_BATCHES = 8


class StationaryCovariance(Result):
    """The covariance of a system's fluctuations about a fixed point.

    - `covariance`, shape (d, d), in the real coordinates of the state (leaves in order, ravelled); NaN where the fixed
      point is not stable. `error`, the same shape: its standard error from measuring the noise; 0 where it was given.
    - `noise`: Q. `margin`: spectral radius less 1, or spectral abscissa; negative is stable.
    - `displacement`: how far the fixed point is from the state by one Newton step, over the root of the trace of X.
    """

    covariance: Float[Array, "d d"]
    error: Float[Array, "d d"]
    noise: Float[Array, "d d"]
    margin: Float[Array, ""]
    displacement: Float[Array, ""]
    single_precision: Bool[Array, ""]

    def rows(self) -> list[Row]:
        deviations = np.sqrt(np.diag(self.covariance))
        safe = np.where(deviations > 0, deviations, 1)
        return [
            Row("trace", np.trace(self.covariance)),
            Row("standard deviations", deviations, np.diag(self.error) / (2 * safe)),
            Row("largest variance", np.max(np.linalg.eigvalsh(self.covariance), initial=-np.inf)
                if np.isfinite(self.covariance).all() else np.nan),
            Row("margin of stability", self.margin),
        ]  # fmt: skip

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if not self.margin < 0:
            found.append(
                f"the fixed point is not stable (margin {float(self.margin):.2g}): there is no such covariance"
            )
        elif self.margin > -1e-6:
            found.append("the fixed point is close to neutral: the covariance is as uncertain as the margin")
        if self.displacement > 0.1:
            found.append(
                f"the state is no fixed point: one is {float(self.displacement):.2g} standard deviations away, and the "
                "Jacobian and the noise are taken here"
            )
        if np.any(np.asarray(self.error) > 0.1 * np.sqrt(np.outer(d := np.diag(self.covariance), d)) + 1e-300):
            found.append("the noise was measured over few keys: entries are uncertain by more than 10 %")
        if self.single_precision:
            found.append("float32: digits past the sixth mean nothing, less near neutral stability")
        return tuple(found)


def stationary_covariance(
    system: Any, state: State, *, key: Key | None = None, samples: int = 4096, at: Any = 0
) -> StationaryCovariance:
    r"""Return the covariance with which a random system fluctuates about a stable fixed point.

        X = J X J^T + Q  (map),        J X + X J^T + Q = 0  (SDE)

    **Arguments:**

    - `system`: an `SDE`; or a random `Map` that without a key is its mean, as stochastic gradient descent is.
    - `state`: a fixed point of the mean map or of the drift.
    - `key`, `samples`: of a map, the draws over which the covariance of a step is measured.
    - `at`: step number or time at which the system is taken.

    **Returns:** a `StationaryCovariance`. Its relative standard error is about sqrt(2/samples) for a map.

    **Raises:** `TypeError` for a `Flow`, which has no noise; `ValueError` for a map without a key, or a state of more than
    512 coordinates.

    **Example:** SGD on a quadratic with unit gradient noise has variance h/(2 - h).

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> descent = sx.catalogue.entry("stochastic-gradient-descent").build()
    >>> found = sx.optimization.stationary_covariance(descent, jnp.zeros(1), key=jax.random.key(0))
    >>> bool(abs(found.covariance[0, 0] - 0.1 / 1.9) < 4 * found.error[0, 0])
    True

    **Reference:** Mandt, Hoffman & Blei, *Stochastic gradient descent as approximate Bayesian inference* (2017);
    Gardiner, *Stochastic Methods* (2009), chapter 4, for the continuous equation.
    """
    if not isinstance(system, Map | SDE):
        raise undefined("stationary_covariance", system, "a random Map or an SDE", "Add noise with as_sde.")
    _check_sampling(system, key, samples)
    jacobian = Jacobian(system, state, at=at)
    if jacobian.size > _DENSE:
        do = "Ask it of a part of the state, or run the system and take the covariance of what it visits."
        raise ValueError(
            explain("stationary_covariance: state", f"{jacobian.size} coordinates", f"at most {_DENSE}", do)
        )
    matrix = require_derivatives("stationary_covariance", jacobian, jacobian.matrix()).astype(float)
    value = np.asarray(jacobian.value(), float)
    discrete = isinstance(system, Map)
    noises = _noises(system, jacobian, key, samples, at)
    spectrum = np.linalg.eigvals(matrix)
    margin = np.max(np.abs(spectrum)) - 1 if discrete else np.max(spectrum.real)
    solutions = np.stack([_solve(matrix, part, discrete, margin) for part in noises])
    covariance, size, dtype = np.mean(solutions, axis=0), len(noises), jacobian.point.dtype
    scatter = np.sum((solutions - covariance[None]) ** 2, axis=0)
    shift = _newton(matrix, value, np.asarray(jacobian.point, float), discrete)
    return StationaryCovariance(
        covariance=jnp.asarray(covariance, dtype),
        error=jnp.asarray(np.sqrt(scatter / max(size * (size - 1), 1)), dtype),
        noise=jnp.asarray(np.mean(noises, axis=0), dtype),
        margin=jnp.asarray(margin, dtype),
        displacement=jnp.asarray(_ratio(shift, float(np.sqrt(np.trace(covariance)))), dtype),
        single_precision=jnp.asarray(float(jnp.finfo(dtype).eps) > 1e-10),
    )


def _check_sampling(system: Any, key: Any, samples: int) -> None:
    if isinstance(system, Map) and key is None:
        do = "Pass key=jax.random.key(0): the noise of a step is measured over draws from it."
        raise ValueError(explain("stationary_covariance: key", "None", "a PRNG key, for a random map", do))
    if samples < 2 * _BATCHES:
        do = "A covariance with an error bar needs a spread."
        raise ValueError(explain("stationary_covariance: samples", samples, f"at least {2 * _BATCHES}", do))


def _noises(system: Any, jacobian: Jacobian, key: Any, samples: int, at: Any) -> np.ndarray:
    """Q of an SDE, alone; or Q of a map over each batch of keys, (batches, d, d)."""
    if isinstance(system, SDE):
        return np.asarray(_given_noise(jacobian), float)[None]
    keys = jax.random.split(key, (_BATCHES, samples // _BATCHES))
    return np.asarray(_measured_noise(jacobian, keys), float)


@eqx.filter_jit
def _given_noise(jacobian: Jacobian) -> Float[Array, "d d"]:
    """g g^T."""
    state = jacobian.state
    operator = jacobian.system.diffusion(jnp.asarray(jacobian.at, float_dtype(state)), state)  # pyright: ignore

    def column(unit: Any) -> Any:
        return as_vector(operator.mv(operator.T.mv(from_vector(unit, state))))

    return jax.vmap(column, out_axes=1)(jnp.eye(jacobian.size, dtype=jacobian.point.dtype))


@eqx.filter_jit
def _measured_noise(jacobian: Jacobian, keys: Any) -> Float[Array, "batches d d"]:
    """The sample covariance of a step, about the mean over all keys."""

    def step(key: Any) -> Any:
        return as_vector(jacobian.system.step(jacobian.at, jacobian.state, key=key))  # pyright: ignore

    steps = jax.vmap(jax.vmap(step))(keys)  # (batches, K, d)
    centred = steps - jnp.mean(steps, axis=(0, 1), keepdims=True)
    count = keys.shape[0] * keys.shape[1]
    return jnp.einsum("bki,bkj->bij", centred, centred) * (keys.shape[0] / (count - 1))


def _solve(matrix: np.ndarray, noise: np.ndarray, discrete: bool, margin: Any) -> np.ndarray:
    if not margin < 0:
        return np.full_like(noise, np.nan)
    solve = scipy.linalg.solve_discrete_lyapunov if discrete else scipy.linalg.solve_continuous_lyapunov
    solution = solve(matrix, noise if discrete else -noise)
    return (solution + solution.T) / 2


def _newton(matrix: np.ndarray, value: np.ndarray, point: np.ndarray, discrete: bool) -> float:
    """Distance to the fixed point of the linearisation: (I - J)^-1 (F(x) - x), or -J^-1 f(x)."""
    moved = value - point if discrete else value
    generator = matrix - np.eye(len(matrix)) if discrete else matrix
    return float(np.linalg.norm(np.linalg.lstsq(generator, -moved, rcond=None)[0]))


def _ratio(length: float, spread: float) -> float:
    if np.isnan(spread):
        return np.nan
    return 0.0 if length == 0 else length / spread if spread > 0 else np.inf
