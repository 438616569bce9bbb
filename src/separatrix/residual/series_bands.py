r"""Forecasts with bands: where the state is, how far that is known, and what becomes of it under each member.

From the last rows of an experiment each member finds the state x_0 at the first of them by least squares,

    x_0 = argmin sum_j |(g(x(t_j; x_0)) - y_j)/sigma|^2 + |x_0|^2/3^2,      cov x_0 = (J^T J + I/3^2)^-1,

with J the Jacobian of the misfits there. Draws of it, followed under all members, make a cloud: its mean is the forecast,

    band = mean +- c z sqrt(var + sigma^2),

with z the quantile of the normal law. c makes it good: on a part of the series that did not train, the quantile of
|y - mean|/sqrt(var + sigma^2) over z (split conformal prediction, with its guarantee where forecasts are exchangeable).
Of n values below level/(1 - level), 19 at 0.95, it is the largest, and the bands hold n/(n + 1) at least.

**Reference:** Lakshminarayanan et al., *Simple and scalable predictive uncertainty estimation using deep ensembles*
(2017); Lei et al., *Distribution-free predictive inference for regression* (2018), section 2, for the factor.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from scipy.stats import norm

from separatrix.diagnostics import lyapunov_spectrum
from separatrix.residual.series_model import InputPath, SeriesField, SeriesFlow, path_of
from separatrix.residual.shooting import Segments, ShootingModel

_WIDE = 3.0  # spreads of a column: how far a state may be from its mean before data are asked
_FAR = 1e3  # what a misfit is where an orbit breaks
_SEARCH = 40
_LONG = 200.0  # units of scaled time that an exponent is measured over


class SeriesWindow(NamedTuple):
    """Of each experiment the rows that its state is found from, and the instants after them, in scaled variables.

    - `times`: (E, W). `values`: (E, W, columns), 0 where nothing was seen. `present`: the same shape.
    - `ahead`: (E, T), from the last of `times` on; a shorter one repeats its last.
    """

    times: Any
    values: Any
    present: Any
    ahead: Any


class Bands(NamedTuple):
    """Means and spreads over the cloud, (E, W + T, columns): of the rows of the window, then of what is ahead.

    `known`, (E,): the spread of the state at the end of the window, as root mean square over coordinates and members.
    """

    mean: Any
    spread: Any
    known: Any


@eqx.filter_jit
def bands_of(
    fields: SeriesField,
    second: bool,
    window: SeriesWindow,
    sigma: Any,
    substeps: int,
    draws: int,
    key: Any,
    inputs: InputPath | None = None,
) -> Bands:
    """The cloud of all members, in scaled variables."""
    columns = window.values.shape[2]
    more = 0 if inputs is None else inputs.values.shape[1]

    def one(field: SeriesField, times: Any, values: Any, present: Any, ahead: Any, key: Any) -> Any:
        size = field.linear.shape[1] - more

        def misfits(start: Any, _: Any = None) -> Any:
            path = path_of(field, second, times, start, substeps, inputs)[:, :columns]
            errors = jnp.where(present, (path - values) / sigma[None], 0.0)
            errors = jnp.where(jnp.isfinite(errors), errors, _FAR)
            return jnp.concatenate([errors.ravel(), start / _WIDE])

        first = jnp.zeros(size, values.dtype).at[:columns].set(_first_seen(values, present))
        solver = optx.LevenbergMarquardt(rtol=1e-6, atol=1e-6)
        found = optx.least_squares(misfits, solver, first, max_steps=_SEARCH, throw=False).value
        jacobian = jax.jacfwd(misfits)(found)
        factor = jnp.linalg.cholesky(jnp.linalg.inv(jacobian.T @ jacobian))
        starts = found[None] + jax.random.normal(key, (draws, size), found.dtype) @ factor.T
        instants = jnp.concatenate([times, ahead])
        path = jax.vmap(lambda start: path_of(field, second, instants, start, substeps, inputs))(starts)
        return path[..., :columns], path[:, len(times) - 1]

    by_member = eqx.filter_vmap(one, in_axes=(eqx.if_array(0), None, None, None, None, 0))
    by_experiment = eqx.filter_vmap(by_member, in_axes=(None, 0, 0, 0, 0, 0))
    members = jax.tree.leaves(fields)[0].shape[0]
    keys = jax.random.split(key, (len(window.times), members))
    clouds, ends = by_experiment(fields, *window, keys)  # (E, M, K, W + T, columns), (E, M, K, size)
    known = jnp.sqrt(jnp.mean(jnp.var(ends, axis=2), axis=(1, 2)))
    return Bands(jnp.mean(clouds, axis=(1, 2)), jnp.std(clouds, axis=(1, 2)), known)


def _first_seen(values: Any, present: Any) -> Any:
    """Of each column the first value that was seen."""
    return jnp.take_along_axis(values, jnp.argmax(present, axis=0)[None], axis=0)[0]


def calibrated(found: Bands, values: Any, present: Any, sigma: Any, level: float, skip: int) -> float:
    """The factor c of bands whose truth is known: `values` and `present`, (E, T, columns), ahead of `skip` rows."""
    spread = np.sqrt(np.asarray(found.spread)[:, skip:] ** 2 + np.asarray(sigma) ** 2)
    scores = (np.abs(values - np.asarray(found.mean)[:, skip:]) / spread)[np.asarray(present, bool)]
    scores = np.sort(np.where(np.isfinite(scores), scores, np.inf))
    if not scores.size:
        return 1.0
    rank = min(int(np.ceil((len(scores) + 1) * level)), len(scores))
    return float(scores[rank - 1] / half_width(level))


def half_width(level: float) -> float:
    """z of a level: 1.96 of 0.95."""
    return float(norm.ppf(0.5 + level / 2))


@eqx.filter_jit
def piece_misfits(
    model: ShootingModel, second: bool, pieces: Segments, substeps: int, inputs: InputPath | None = None
) -> Any:
    """The root mean square of each column's misfit, over members and pieces."""

    def one(field: Any, starts: Any) -> Any:
        follow = jax.vmap(lambda times, start: path_of(field, second, times, start, substeps, inputs))
        path = follow(pieces.times, starts)[..., : pieces.states.shape[2]]
        return jnp.where(pieces.present, (path - pieces.states) ** 2, 0.0)  # (S, n + 1, columns)

    squares = eqx.filter_vmap(one, in_axes=(eqx.if_array(0), 0))(model.model, model.starts)
    counts = jnp.sum(pieces.present, (0, 1)).astype(squares.dtype)
    return jnp.maximum(jnp.sqrt(jnp.mean(jnp.sum(squares, (1, 2)) / counts[None], axis=0)), 1e-9)


def member_exponents(model: ShootingModel, second: bool, inputs: InputPath | None = None) -> tuple[Any, Any]:
    """The largest exponent of each member in scaled time, from where its last piece begins, and its error.

    `inputs`: held at one value.
    """

    def one(field: Any, start: Any) -> Any:
        flow = SeriesFlow(field, second, inputs)
        found = lyapunov_spectrum(flow, start, count=1, times=(0.0, _LONG), step_size=0.1, batches=16)
        return found.exponents[0], found.standard_errors[0]

    both = eqx.filter_jit(eqx.filter_vmap(one, in_axes=(eqx.if_array(0), 0)))(model.model, model.starts[:, -1])
    return np.asarray(both[0]), np.asarray(both[1])
