r"""The order at which a discretisation, or any near-identity map, approaches a flow or an SDE.

    flow     e(h) = max_j |x_h(t_j) - x(t_j)|                  over the times t_j of the coarsest step
    strong   e(h) = (E |x_h(T) - x(T)|^2)^(1/2)                on the same Brownian path
    weak     e(h) = |E f(x_h(T)) - E f(x(T))|                  of an observable f

and p is the slope of ln e over ln h in the asymptotic window: above the floor of rounding (and of the reference), below
the step sizes at which higher terms still matter.

Both expectations are means over sampled paths, each driven through all step sizes and through the exact solution: the
errors of the means are then those of differences, and correlated over h. By the delta method, with m(h) the mean of the
contributions c_j(h) of sample j (|x_h - x|^2, or f(x_h) - f(x)) and w(h) the weights of the least squares line,

    p = sum_h w(h) ln e(h),      var p = var_j(sum_h w(h) q (c_j(h) - m(h))/m(h)) / samples,     q = 1/2 strong, 1 weak.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from separatrix._errors import explain
from separatrix._tree import is_traced, norm as euclidean
from separatrix._types import Function, Key
from separatrix.calculus.discretization import discretize
from separatrix.calculus.methods import FlowMethod, SDEMethod
from separatrix.calculus.modified_equations import Modified
from separatrix.calculus.undefined import undefined
from separatrix.diagnostics.checks import check_count, check_key, check_number, checked_state
from separatrix.diagnostics.orders._expected import strong_order_on
from separatrix.diagnostics.orders._order_errors import ErrorMeasure, errors_along_a_flow, errors_along_paths
from separatrix.diagnostics.orders._order_runs import Clock, common_clock
from separatrix.diagnostics.orders._order_search import search
from separatrix.diagnostics.orders._order_window import ABOVE_FLOOR, fit
from separatrix.diagnostics.result import Result, Row
from separatrix.systems.flow import Flow
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.sde import SDE

# Of an interval with no step size given: its first part, and how often that is halved for a flow, an SDE, and a map.
_COARSEST, _HALVINGS, _SAMPLED, _OF_A_MAP = 8, 6, 4, 5
_EXPECTED = "a NearIdentityMap, or a method such as RK4()"


class MeasuredOrder(Result):
    r"""Errors over step sizes, and the order they fall at.

    - `step_sizes`, `errors`, shape (K,), the largest step first; `errors_error`: standard errors of the errors, 0 where
      nothing was sampled.
    - `slopes`, `slopes_error`, shape (K - 1,): local slopes from one step size to the next.
    - `window`, shape (K,): which points are in the asymptotic window. `floor`, shape (K,): errors below 30 of it are
      rounding, or errors of the reference.
    - `order`, `order_error`: slope over the window. Its standard error comes from the samples; where nothing was sampled
      from the scatter about the line, which is curvature rather than chance.
    - `stated`: what the method says of itself, for this equation: Euler-Maruyama has strong order 1 where the noise is
      additive, Milstein's 1/2 where it does not commute. NaN for a map that says nothing.
    - `kind`: "flow", "strong" or "weak"; `samples`: how many paths, 0 for a flow.
    """

    step_sizes: Float[Array, " k"]
    errors: Float[Array, " k"]
    errors_error: Float[Array, " k"]
    slopes: Float[Array, " s"]
    slopes_error: Float[Array, " s"]
    window: Bool[Array, " k"]
    floor: Float[Array, " k"]
    order: Float[Array, ""]
    order_error: Float[Array, ""]
    stated: Float[Array, ""]
    kind: str = eqx.field(static=True)
    samples: int = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    def rows(self) -> list[Row]:
        rows = [Row("order", self.order, self.order_error)]
        if np.isfinite(self.stated):
            rows.append(Row("stated order", self.stated))
        inside = f"{int(np.sum(self.window))} of {len(self.window)} step sizes"
        sampled = self.errors_error if self.samples else None
        return [
            *rows,
            Row("asymptotic window", inside),
            Row("step sizes", self.step_sizes),
            Row("errors", self.errors, sampled),
            Row("local slopes", self.slopes, self.slopes_error if self.samples else None),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found, errors = [], np.asarray(self.errors)
        at_floor = int(np.sum(errors <= ABOVE_FLOOR * np.asarray(self.floor)))
        if np.sum(self.window) < 3 or not np.isfinite(self.order):
            found.append(
                f"fewer than three step sizes lie in an asymptotic window ({at_floor} of {errors.size} errors are at the "
                "floor of rounding): halve the smallest step, or, where the errors are at the floor, start from a larger "
                "one, over a longer time"
            )
        if not np.isfinite(errors).all():
            found.append(f"{int(np.sum(~np.isfinite(errors)))} of the runs stopped being finite")
        if self.samples and np.isfinite(self.order) and not self.order_error <= 0.1:
            found.append(f"the order is known to {float(self.order_error):.1g} only: raise samples")
        beyond = float(self.order - self.stated)
        # Without an error (fewer than three points, or no scatter) the order itself is all there is.
        if abs(beyond) > 0.15 + 2 * float(np.nan_to_num(self.order_error)):
            why = "errors fall faster: what leads them vanishes on this problem"
            if beyond < 0:
                why = "the problem is too rough, or not yet resolved"
            found.append(f"the method states order {float(self.stated):g}: {why}")
        if self.single_precision:
            found.append("float32: errors below about 1e-5 of the state are rounding")
        return tuple(found)


def measured_order(
    discretization: Any,
    flow: Any,
    state: Any,
    *,
    end: Any = None,
    step_sizes: Any = None,
    norm: Function | None = None,
    exact: Function | None = None,
    rtol: Any = None,
    kind: str | None = None,
    observable: Function | None = None,
    key: Key | None = None,
    samples: int = 1000,
) -> MeasuredOrder:
    r"""Return the order in h at which a discretisation or a map approaches a flow or an SDE, with its standard error.

        e(h) = C h^p (1 + O(h))

    **Arguments:**

    - `discretization`: a method (`sx.RK4()`, `sx.Milstein()`), or a `NearIdentityMap`, whose family F_h is read at every
      step size while its other parameters stay (heavy ball at fixed friction, not at fixed momentum).
    - `flow`: the `Flow` it is held against: `limit(map)`, a field of your own, or `modified(map)`, which is taken anew at
      every step size; an `SDE` for a random method.
    - `state`: where both start. `end`: T > 0; both run over [0, T]. By default 1, or longer for a flow so slow that one
      step over it is exact to rounding.
    - `step_sizes`: three or more, each dividing `end`, on one grid: halvings. By default six halvings of T/8 (four for an
      SDE), or five of the step size of a map; of a flow, eightfold larger or smaller ones if those are at the floor of
      rounding or do not resolve it.
    - `norm`: of a difference of states; Euclidean over all leaves by default.
    - `exact`: the solution where it is known: x(t) of a flow, x(t, W(t)) of an SDE. Else a flow is solved at relative
      tolerance `rtol` (1e-12 in float64), an SDE along the same path at a sixteenth of the smallest step.
    - `kind`: "strong" or "weak", for an SDE. `observable`: f of a weak order, a scalar or an array of which the norm is
      taken; the state itself by default.
    - `key`, `samples`: randomness and number of Brownian paths, for an SDE.

    **Returns:** a `MeasuredOrder`.

    **Raises:** `TypeError` for what is no method or near-identity map; `ValueError` for step sizes without a common grid,
    an end, tolerance or count out of range, a state that is not finite, or an SDE without kind and key.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> pendulum = sx.as_flow(lambda x: jnp.stack([x[1], -jnp.sin(x[0])]))
    >>> found = sx.measured_order(sx.RK4(), pendulum, jnp.array([1.0, 0.0]))
    >>> round(float(found.order), 1), found.cautions
    (4.0, ())

    **Reference:** Hairer, Norsett & Wanner, *Solving Ordinary Differential Equations I* (1993), section II.3; Kloeden &
    Platen, *Numerical Solution of Stochastic Differential Equations* (1992), sections 9.6 and 9.7.
    """
    if not isinstance(flow, Flow | SDE):
        raise undefined("measured_order", flow, "against a Flow or an SDE", "Make one with as_flow, as_sde or limit.")
    if not isinstance(discretization, FlowMethod | SDEMethod | NearIdentityMap):
        do = "Write a map as advance(t, x, h) with as_near_identity(advance, step_size)."
        raise TypeError(explain("measured_order: discretization", type(discretization).__name__, _EXPECTED, do))
    state = checked_state("measured_order: state", state)
    for what, value in (("end", 1.0 if end is None else end), ("rtol", 1.0 if rtol is None else rtol)):
        check_number(f"measured_order: {what}", value, above=0.0)
    span, free = (1.0 if end is None else float(end)), step_sizes is None
    first, halvings = _default_ladder(discretization, span)
    clock = common_clock(span / (first * 2.0 ** np.arange(halvings + 1)) if free else step_sizes, span)
    if isinstance(flow, SDE):
        method = _sde_method(discretization, kind, key, samples)
        gauge = ErrorMeasure(norm or euclidean, exact, observable if kind == "weak" else None, kind == "weak")
        stated = strong_order_on(method, flow, state, span) if kind == "strong" else method.weak_order
        sampled, floor = errors_along_paths(flow, method, state, clock, gauge, key, samples)
        return _from_samples(clock.step_sizes, sampled, floor, str(kind), float(stated))
    if kind not in (None, "flow"):
        do = "Pass the SDE itself for a strong or weak order, or leave kind out."
        raise ValueError(explain("measured_order: kind", repr(kind), "none, for a Flow", do))
    map = discretize(flow, discretization, 1.0) if isinstance(discretization, FlowMethod) else discretization
    if not isinstance(map, NearIdentityMap):
        raise TypeError(explain("measured_order: discretization", type(map).__name__, "a FlowMethod for a Flow",
                                "Pass the SDE that this method is for."))  # fmt: skip
    stated = np.nan
    if not isinstance(flow, Modified):
        stated = getattr(getattr(map, "method", discretization), "order", np.nan)

    def measure(clock: Clock) -> MeasuredOrder:
        errors, floor = errors_along_a_flow(map, flow, state, clock, norm or euclidean, exact, rtol)
        return fit_order(clock.step_sizes, errors, floor=floor, stated=stated)

    return search(measure, first, halvings, span, longer=end is None) if free else measure(clock)


def fit_order(
    step_sizes: Any, errors: Any, *, errors_error: Any = None, floor: Any = 0.0, stated: Any = np.nan
) -> MeasuredOrder:
    r"""Return the order of errors that were measured elsewhere.

    **Arguments:**

    - `step_sizes`, `errors`: shape (K,), K >= 3.
    - `errors_error`: standard errors of the errors, independent of one another; none by default.
    - `floor`: below 30 times this an error is taken for rounding; a number or shape (K,).
    - `stated`: the order that is expected, for the text.

    **Returns:** a `MeasuredOrder`.

    **Raises:** `ValueError` for fewer than three points, or shapes that differ.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> h = 0.5 ** jnp.arange(6.0)
    >>> round(float(sx.diagnostics.fit_order(h, 3 * h**2 * (1 + 0.1 * h)).order), 2)
    2.02
    """
    sizes, errors = jnp.asarray(step_sizes), jnp.asarray(errors)
    if sizes.ndim != 1 or sizes.shape != errors.shape or sizes.size < 3:
        got, do = f"shapes {sizes.shape} and {errors.shape}", "Give an error for each of three or more step sizes."
        raise ValueError(explain("fit_order: step_sizes, errors", got, "(K,) and (K,) with K >= 3", do))
    if not is_traced(sizes) and not (np.isfinite(sizes).all() and np.all(np.asarray(sizes) > 0)):
        got, do = np.asarray(sizes).tolist(), "Give the step sizes themselves, not their logarithms."
        raise ValueError(explain("fit_order: step_sizes", got, "positive numbers", do))
    if not is_traced(sizes) and np.unique(sizes).size < sizes.size:
        raise ValueError(
            explain("fit_order: step_sizes", np.asarray(sizes).tolist(), "different ones", "Drop doubles.")
        )
    known = errors_error is not None
    given = sizes, errors, jnp.asarray(floor, errors.dtype), jnp.asarray(errors_error if known else 0, errors.dtype)
    sizes, errors, floor, spread, slopes_error, line, propagated = _fitted(*given)
    error = propagated if known else line.residual_error
    return MeasuredOrder(
        sizes, errors, spread, line.slopes, slopes_error, line.window, floor, line.order, error,
        jnp.asarray(stated, errors.dtype), "flow", 0, bool(jnp.finfo(errors.dtype).eps > 1e-10),
    )  # fmt: skip


@jax.jit
def _fitted(sizes: Any, errors: Any, floor: Any, spread: Any) -> tuple[Any, ...]:
    """All from the largest step to the smallest; the errors of the slopes, the line, and its error from theirs."""
    sizes = sizes.astype(errors.dtype)
    order = jnp.argsort(-sizes)
    sizes, errors, floor, spread = (jnp.broadcast_to(x, errors.shape)[order] for x in (sizes, errors, floor, spread))
    relative = spread / errors
    slopes_error = jnp.hypot(relative[:-1], relative[1:]) / jnp.abs(jnp.diff(jnp.log(sizes)))
    line = fit(sizes, errors, floor, slopes_error)
    return sizes, errors, floor, spread, slopes_error, line, jnp.sqrt(jnp.nansum((line.weights * relative) ** 2))


def _default_ladder(discretization: Any, end: float) -> tuple[int, int]:
    """How many of the largest steps fill the interval, and how often they are halved: a map's own step, or an eighth."""
    if not isinstance(discretization, NearIdentityMap):
        return _COARSEST, _SAMPLED if isinstance(discretization, SDEMethod) else _HALVINGS
    own = abs(float(discretization.step_size))
    return max(1, round(end / own)) if 0 < own < np.inf else _COARSEST, _OF_A_MAP


def _sde_method(discretization: Any, kind: Any, key: Any, samples: Any) -> SDEMethod:
    """The method of an SDE, with all that its errors need."""
    method = getattr(discretization, "method", discretization)
    if not isinstance(method, SDEMethod):
        do = "Pass EulerMaruyama(), Milstein(), StochasticHeun() or SRA1(), or its discretisation."
        raise TypeError(
            explain("measured_order: discretization", type(discretization).__name__, "a method for an SDE", do)
        )
    if kind not in ("strong", "weak"):
        do = "Strong compares paths, weak the mean of an observable."
        raise ValueError(explain("measured_order: kind", repr(kind), '"strong" or "weak", for an SDE', do))
    if key is None:
        raise ValueError(
            explain("measured_order: key", "None", "a PRNG key, for an SDE", "Pass key=jax.random.key(0).")
        )
    check_key("measured_order", key)
    check_count("measured_order: samples", samples, 2)
    return method


def _from_samples(sizes: Any, contributions: Any, floor: Any, kind: str, stated: float) -> MeasuredOrder:
    """The order and its error from contributions (samples, K), by the delta method."""
    power, samples = (0.5 if kind == "strong" else 1.0), contributions.shape[0]
    sizes = jnp.asarray(sizes, contributions.dtype)
    mean = jnp.mean(contributions, axis=0)
    relative = power * (contributions - mean[None]) / mean[None]
    error = lambda values: jnp.std(values, axis=0, ddof=1) / np.sqrt(samples)  # noqa: E731
    errors = mean**power
    slopes_error = error((relative[:, :-1] - relative[:, 1:]) / -jnp.diff(jnp.log(sizes))[None])
    line = fit(sizes, errors, floor, slopes_error)
    chosen = jnp.where(line.window[None], relative, 0.0)
    return MeasuredOrder(
        sizes, errors, errors * error(relative), line.slopes, slopes_error, line.window, floor, line.order,
        error(chosen @ line.weights), jnp.asarray(stated, errors.dtype), kind, samples,
        bool(jnp.finfo(errors.dtype).eps > 1e-10),
    )  # fmt: skip
