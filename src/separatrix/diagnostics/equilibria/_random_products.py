r"""Products of random Jacobians: what becomes of a perturbation of a random map, almost surely and in mean square.

    delta[n+1] = J_n delta[n],  J_n independent draws:
    almost surely     (1/n) ln |delta[n]| -> lambda
    in mean square    E|delta[n]|^2 ~ rho^n,   rho the spectral radius of C -> E[J C J^T]

By Jensen's inequality lambda <= ln(rho)/2: what decays in mean square decays almost surely, and not the other way round.
A few rare draws can carry the mean. Both are estimated from so many draws, with standard errors.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from separatrix.linear.coordinates import Jacobian
from separatrix.systems.base import require_key

# Up to here E[J x J] is formed, with d^4 entries.
MOMENT = 32
# Draws, as many of them as hold so many numbers; and batches of an error.
_DRAWS, _NUMBERS, _BATCHES = 4096, 1 << 21, 32
_ITERATIONS = 1000


class Products(NamedTuple):
    """lambda and rho with their standard errors; rho is NaN where there are too many coordinates for it."""

    exponent: float
    exponent_error: float
    mean_square: float
    mean_square_error: float


NONE = Products(np.nan, np.nan, np.nan, np.nan)


def products(jacobian: Jacobian) -> Products:
    """Return what products of draws do; nothing where there is no key, or every draw is the same."""
    if jacobian.key is None:
        return NONE
    size = jacobian.size
    # What no draw changes is no random map; the second key is as good as any other.
    probe = jnp.cos(jnp.arange(size, dtype=jacobian.point.dtype))
    if bool(jnp.all(_pushed(jacobian, probe, jnp.asarray(0)) == _pushed(jacobian, probe, jnp.asarray(1)))):
        return NONE
    if size > MOMENT:
        logarithms = np.asarray(_logarithms(jacobian, probe, max(4 * _BATCHES, min(_DRAWS, _NUMBERS // size))), float)
        return Products(*_mean(logarithms), np.nan, np.nan)
    draws = np.asarray(_draws(jacobian, min(_DRAWS, _NUMBERS // size**2)), float)
    return Products(*_mean(_growths(draws)), *second_moment(draws))


def second_moment(draws: np.ndarray) -> tuple[float, float]:
    """rho of the mean of J x J over draws (K, d, d), and its standard error by first-order perturbation."""
    count, d, _ = draws.shape
    flat = draws.reshape(count, d * d)
    # E[J_ij J_kl] as the matrix from C_jl to (J C J^T)_ik.
    moment = (flat.T @ flat / count).reshape(d, d, d, d).transpose(0, 2, 1, 3).reshape(d * d, d * d)
    radius, right = _leading(moment)
    left = _leading(moment.T)[1]
    right, left = (part.reshape(d, d) for part in (right, left))
    # <L, J R J^T>/<L, R> has the mean rho.
    terms = np.einsum("ij,kim,kjm->k", left, draws @ right, draws, optimize=True)
    scale = float(np.sum(left * right))
    error = float(np.std(terms, ddof=1)) / np.sqrt(count) / scale if scale > 0 else np.nan
    return radius, error


def _leading(moment: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest eigenvalue of C -> E[J C J^T] and its C: it keeps positive matrices positive, so both are real."""
    d = int(np.sqrt(len(moment)))
    vector, radius = np.eye(d).ravel() / np.sqrt(d), 0.0
    for _ in range(_ITERATIONS):
        image = moment @ vector
        before, radius = radius, float(vector @ image)
        # Half of the vector stays, so that nothing on the same circle turns for ever.
        vector = vector + image / max(radius, 1e-300)
        vector = vector / np.linalg.norm(vector)
        if abs(radius - before) <= 1e-13 * radius:
            break
    return radius, vector


def _growths(draws: np.ndarray) -> np.ndarray:
    """ln of the growth of a vector in each of a row of products."""
    vector, logarithms = np.cos(np.arange(draws.shape[1])), []
    for draw in draws:
        image = draw @ vector
        size = float(np.linalg.norm(image))
        logarithms.append(np.log(size / np.linalg.norm(vector)) if size > 0 else -np.inf)
        vector = image / size if size > 0 else vector
    return np.array(logarithms)


def _mean(logarithms: np.ndarray) -> tuple[float, float]:
    """Mean and standard error, by batches, once the vector has turned to where it grows most."""
    kept = logarithms[len(logarithms) // 8 :]
    if not np.isfinite(kept).all():
        return float(np.mean(kept)), np.nan
    batches = np.array([batch.mean() for batch in np.array_split(kept, _BATCHES)])
    return float(kept.mean()), float(np.std(batches, ddof=1) / np.sqrt(_BATCHES))


def _drawn(jacobian: Jacobian, number: Any) -> Jacobian:
    """The Jacobian on the noise of another draw."""
    return Jacobian(
        jacobian.system,
        jacobian.state,
        at=jacobian.at,
        key=jax.random.fold_in(require_key(jacobian.key, "linear_stability"), number),
    )


@eqx.filter_jit
def _pushed(jacobian: Jacobian, vector: Any, number: Any) -> Any:
    return _drawn(jacobian, number).mv(vector)


@eqx.filter_jit
def _draws(jacobian: Jacobian, count: int) -> Any:
    return jax.lax.map(lambda number: _drawn(jacobian, number).matrix(), jnp.arange(count), batch_size=64)


@eqx.filter_jit
def _logarithms(jacobian: Jacobian, vector: Any, count: int) -> Any:
    def step(vector: Any, number: Any) -> tuple[Any, Any]:
        image = _drawn(jacobian, number).mv(vector)
        size = jnp.linalg.norm(image)
        return image / size, jnp.log(size)

    return jax.lax.scan(step, vector / jnp.linalg.norm(vector), jnp.arange(count))[1]
