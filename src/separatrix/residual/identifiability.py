r"""What data say of a coefficient beside a network: its profile, and networks that leave it less room.

A network beside a known law may take over a part of it: then a coefficient can be traded for weights, and no fit tells its
value. The profile of a coefficient c says so. With S(c) the least mean squared residual of N numbers when c is held and all
else is fitted,

    D(c) = N ln (S(c)/min S),      95 % interval: {c : D(c) <= 3.84},

which is twice the difference of log-likelihoods under normal noise of unknown size. A flat profile is a coefficient that
the data do not hold. The signed root sign(c - c_best) sqrt(S(c)/min S - 1) is what is interpolated: it is a straight line
where the model is linear.

Knowledge of the unknown term makes profiles narrower: that it lies between bounds, or never falls.

**Reference:** Raue et al., *Structural and practical identifiability analysis of partially observed dynamical models by
exploiting the profile likelihood* (2009), equations 6 to 8; Sill, *Monotonic networks* (1998), for weights of one sign.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix._types import Checked, Function, Key
from separatrix.diagnostics.result import Result, Row
from separatrix.systems import ranges
from separatrix.training import fit


class CoefficientProfile(Result):
    """The least loss at each value of a coefficient, and the interval that it leaves.

    - `values`, shape (P,), increasing. `losses`, shape (P,): S(c). `deviances`, shape (P,): D(c).
    - `best`: the value of the free fit. `interval`, shape (2,): infinite where no value on that side is ruled out.
    - NaN stands where a fit broke; the interval is then not known.
    """

    values: Float[Array, " P"]
    losses: Float[Array, " P"]
    deviances: Float[Array, " P"]
    best: Float[Array, ""]
    interval: Float[Array, "2"]
    level: float = eqx.field(static=True)

    def rows(self) -> list[Row]:
        low, high = (float(end) for end in self.interval)
        return [
            Row("best value", self.best),
            Row(f"{100 * self.level:g} % interval", f"{low:.6g} to {high:.6g}"),
            Row("largest deviance of the values asked", jnp.max(self.deviances)),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if np.isnan(np.asarray(self.losses)).any() or np.isnan(self.best):
            return ("not known: a fit broke; lower the learning rate, or ask for values nearer to the best",)
        if not np.isfinite(np.asarray(self.interval)).all():
            found.append(
                "not identified within the values asked: ask for a wider range, or bound, regularise or shape the network"
            )
        if np.any(np.asarray(self.deviances) < -0.1):
            found.append("the free fit is not the least: take more steps")
        return tuple(found)


def coefficient_profile(
    loss: Function,
    optimizer: Any,
    data: Any,
    *,
    initial: Any,
    where: Function,
    values: Any,
    count: Checked[int],
    steps: Checked[int],
    level: float = 0.95,
    **options: Any,
) -> CoefficientProfile:
    r"""Return the profile of one coefficient of a model: the least loss with it held at each of some values.

        S(c) = min over all else of l(model with c, data)

    **Arguments:**

    - `loss`: l(model, data), the mean of N squared residuals, as `trajectory_loss` makes. `count`: N.
    - `optimizer`, `steps`, `options`: of `fit`, for each value; each starts where its neighbour ended.
    - `data`: what the loss takes; `initial`: the model to start from.
    - `where`: model -> the coefficient, a scalar leaf. `values`: shape (P,), P >= 3, increasing.
    - `level`: of the interval, between 0 and 1.

    **Returns:** a `CoefficientProfile`.

    **Raises:** `ValueError` for values that do not increase, a coefficient that is no number, or counts below 1.

    **Example:** y = a x + b x^2: the curve holds a.

    >>> import jax.numpy as jnp, numpy as np, optax, separatrix as sx
    >>> x = jnp.linspace(0.0, 1.0, 30)
    >>> y = 2 * x + x**2 + 0.01 * jnp.asarray(np.random.default_rng(0).standard_normal(30))
    >>> squares = lambda m, d: jnp.mean((m["a"] * d[0] + m["b"] * d[0] ** 2 - d[1]) ** 2)
    >>> found = sx.residual.coefficient_profile(
    ...     squares, optax.lbfgs(), (x, y), initial={"a": jnp.array(0.0), "b": jnp.array(0.0)}, where=lambda m: m["a"],
    ...     values=jnp.linspace(1.9, 2.1, 5), count=30, steps=15)
    >>> bool(found.interval[0] < 2 < found.interval[1]), bool(found.interval[1] - found.interval[0] < 0.1)
    (True, True)

    **Reference:** Raue et al. (2009), equations 6 to 8.
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 3 or not (np.isfinite(values).all() and (np.diff(values) > 0).all()):
        do = "Pass for example jnp.linspace(0.5, 1.5, 9)."
        raise ValueError(explain("coefficient_profile: values", values, "three or more, finite, increasing", do))
    leaf = where(initial)
    if not eqx.is_inexact_array(leaf) or leaf.shape != ():
        got = f"shape {jnp.shape(leaf)}, {jnp.result_type(leaf)}" if eqx.is_array_like(leaf) else type(leaf).__name__
        do = "Point at one floating-point number of the model."
        raise ValueError(explain("coefficient_profile: where", got, "a scalar array", do))
    count = ranges.whole("coefficient_profile: count", count, "Say of how many numbers the loss is the mean.")
    ranges.require("coefficient_profile: level", level, "a number between 0 and 1", lambda p: 0 < p < 1)
    arguments = {"steps": steps, **options}
    free, least = _fitted(loss, optimizer, data, initial, arguments)
    best = float(where(free)) if np.isfinite(least) else np.nan
    losses = np.full(len(values), np.nan)
    middle = int(np.clip(np.searchsorted(values, best), 0, len(values) - 1))
    for places in (range(middle, len(values)), range(middle - 1, -1, -1)):
        model = free
        for place in places:
            held = _held(loss, where, jnp.asarray(values[place], leaf.dtype))
            model, losses[place] = _fitted(held, optimizer, data, model, arguments)
    deviances = count * np.log(losses / least)
    bound = np.sqrt(np.expm1(scipy.stats.chi2.ppf(level, 1) / count))
    ends = (
        _interval(values, losses / least - 1, best, float(bound)) if np.isfinite(losses).all() else np.full(2, np.nan)
    )
    parts = (jnp.asarray(part, leaf.dtype) for part in (values, losses, deviances, best, ends))
    return CoefficientProfile(*parts, level=level)


def _fitted(loss: Function, optimizer: Any, data: Any, initial: Any, arguments: dict[str, Any]) -> tuple[Any, float]:
    """The model and its loss; from where it started, and NaN, where the fit broke."""
    found = fit(loss, optimizer, data, initial=initial, **arguments)
    if not bool(found.outcome.reached):
        return initial, np.nan
    return found.model, float(eqx.filter_jit(loss)(found.model, data))


def _held(loss: Function, where: Function, value: Any) -> Function:
    """The loss of a model whose coefficient is the value."""
    return lambda model, data: loss(eqx.tree_at(where, model, value), data)


def _interval(values: np.ndarray, excess: np.ndarray, best: float, bound: float) -> np.ndarray:
    """Where the signed root of S/min S - 1, 0 at the best value, passes the bound on either side."""
    roots = np.sign(values - best) * np.sqrt(np.maximum(excess, 0))
    places, heights = np.append(values, best), np.append(roots, 0.0)
    order = np.argsort(places, kind="stable")
    places, heights = places[order], heights[order]
    here = int(np.flatnonzero(order == len(values))[0])
    high = _passed(places[here:], heights[here:], bound)
    low = _passed(-places[here::-1], -heights[here::-1], bound)
    return np.array([-low, high])


def _passed(places: np.ndarray, heights: np.ndarray, bound: float) -> float:
    """The first place, going up, at which the height is the bound; infinite where it is never reached."""
    above = np.flatnonzero(heights >= bound)
    if not len(above):
        return np.inf
    k = int(above[0])
    share = (bound - heights[k - 1]) / (heights[k] - heights[k - 1])
    return float(places[k - 1] + share * (places[k] - places[k - 1]))


class MonotoneNetwork(eqx.Module):
    r"""A network whose output never falls in any of its inputs, nor rises where `signs` says -1.

        y = W_2 tanh(W_1 (s x) + b_1) + b_2,      entries of W_1 and W_2 are exp of what is trained

    **Arguments:** `inputs`, `outputs`, `width` >= 1; `signs`: +1 or -1 for each input, all +1 by default; `key`.

    **Raises:** `ValueError` for counts below 1, or signs that do not fit.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> net = sx.residual.MonotoneNetwork(2, 1, 8, signs=(1, -1), key=jax.random.key(0))
    >>> slope = jax.jacfwd(net)(jnp.array([0.3, -1.0]))[0]
    >>> bool(slope[0] > 0), bool(slope[1] < 0)
    (True, True)

    **Reference:** Sill, *Monotonic networks* (1998), section 2.
    """

    first: Float[Array, "width inputs"]
    bias: Float[Array, " width"]
    second: Float[Array, "outputs width"]
    offset: Float[Array, " outputs"]
    signs: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, inputs: int, outputs: int, width: int, *, key: Key, signs: Any = None, dtype: Any = None
    ) -> None:
        for name, size in (("inputs", inputs), ("outputs", outputs), ("width", width)):
            ranges.whole(f"MonotoneNetwork: {name}", size, "Pass a count.")
        signs = (1,) * inputs if signs is None else tuple(int(sign) for sign in signs)
        if len(signs) != inputs or any(sign not in (1, -1) for sign in signs):
            do = "Say for each input whether the output rises (1) or falls (-1) with it."
            raise ValueError(explain("MonotoneNetwork: signs", signs, f"{inputs} of 1 or -1", do))
        keys = jax.random.split(key, 3)
        dtype = jnp.zeros((), dtype).dtype
        self.first = jax.random.normal(keys[0], (width, inputs), dtype) / 2
        self.bias = 2 * jax.random.normal(keys[1], (width,), dtype)
        self.second = jax.random.normal(keys[2], (outputs, width), dtype) / 2 - jnp.log(jnp.asarray(width, dtype))
        self.offset = jnp.zeros(outputs, dtype)
        self.signs = signs

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        hidden = jnp.tanh(jnp.exp(self.first) @ (x * jnp.asarray(self.signs, x.dtype)) + self.bias)
        return jnp.exp(self.second) @ hidden + self.offset


class BoundedNetwork(eqx.Module):
    r"""A network whose outputs lie between bounds, low + (high - low)/(1 + exp(-net(x))).

    **Arguments:** `network`: x -> outputs; `low` < `high`: numbers, or one for each output.

    **Raises:** `ValueError` for bounds that cross or are not finite.

    **Example:**

    >>> import jax.numpy as jnp, separatrix as sx
    >>> sx.residual.BoundedNetwork(lambda x: 1000 * x, 0.0, 2.0)(jnp.array([-1.0, 0.0, 1.0])).tolist()
    [0.0, 1.0, 2.0]

    **Reference:** the logistic map of an interval; as for rates in Raue et al. (2009).
    """

    network: Function
    low: Any
    high: Any

    def __check_init__(self) -> None:
        if is_traced(self.low, self.high):
            return
        low, high = np.asarray(self.low, float), np.asarray(self.high, float)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            do = "Pass for example low=0.0, high=1.0."
            raise ValueError(explain("BoundedNetwork: low, high", f"{low}, {high}", "finite, low < high", do))

    def __call__(self, x: Any) -> Any:
        y = self.network(x)
        low, high = (jax.lax.stop_gradient(jnp.asarray(end, y.dtype)) for end in (self.low, self.high))
        return low + (high - low) * jax.nn.sigmoid(y)
