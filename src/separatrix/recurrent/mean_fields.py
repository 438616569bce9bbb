r"""Mean field of wide random nets: what their layers, or their steps in time, do to a signal and to a gradient.

With weights of variance s_w/N, biases of variance s_b and N -> infinity, the fields of a layer are Gaussian:

    size          q' = s_w E phi(sqrt(q) z)^2 + s_b                                  -> q*
    gradient      chi = s_w E phi'(sqrt(q*) z)^2           (mean squared gain of a layer)
    likeness      c' = (s_w E phi(u_1) phi(u_2) + s_b)/q*,    u_1, u_2 of variance q* and correlation c    -> c*

chi < 1: two inputs become alike and gradients vanish (c* = 1); chi > 1: they part and gradients explode; chi = 1 is the
critical line. The depth over which size or likeness settles is xi = -1/ln of the slope of its map at the fixed point,

    xi_q = -1/ln(s_w E[phi'^2 + phi phi'']),        xi_c = -1/ln(s_w E phi'(u_1) phi'(u_2)) at c*.

In time the same holds of x' = phi(W x + h) whose inputs h have variance s_b, new at each step: the largest Lyapunov
exponent is (1/2) ln chi. Closed critical lines: sine q - tanh q = s_b, s_w = 1 + tanh q; erf s_w = (pi/4) sqrt(1 + 4
q); (leaky) ReLU of slope a, s_w = 2/(1 + a^2) with s_b = 0 alone.

**Reference:** Poole et al., *Exponential expressivity in deep neural networks through transient chaos* (2016),
equations 3 to 8; Schoenholz et al., *Deep information propagation* (2017), equations 8 and 10; Klambauer et al.,
*Self-normalizing neural networks* (2017), for SELU; He et al. (2015) for rectifiers.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from separatrix._errors import explain, unknown
from separatrix.diagnostics.result import Result, Row
from separatrix.recurrent._roots import bracketed_root
from separatrix.systems import ranges

# SELU's constants, for which a standard normal input keeps its mean and variance (Klambauer et al., equation 14).
_SCALE, _ALPHA = 1.0507009873554805, 1.6732632423543772
# Past this many standard deviations a normal variable is found with probability 2e-23.
_TAIL = 10.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
# Sizes outside are 0 and infinity.
_LEAST, _MOST, _NOTHING = 1e-14, 1e12, 1e-18
# Sums of some thousand terms are right to this.
_ROUNDING = 1e-12


def _selu(x: np.ndarray) -> np.ndarray:
    return _SCALE * np.where(x > 0, x, _ALPHA * np.expm1(np.minimum(x, 0)))


def _selu_slope(x: np.ndarray) -> np.ndarray:
    return _SCALE * np.where(x > 0, 1.0, _ALPHA * np.exp(np.minimum(x, 0)))


def _square_of_sech(x: np.ndarray) -> np.ndarray:
    return np.cosh(np.minimum(np.abs(x), 300.0)) ** -2.0


# phi and phi' by name; the slope of a leaky rectifier is an argument of its own.
_SMOOTH: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "tanh": (np.tanh, _square_of_sech),
    "erf": (scipy.special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
    "sine": (np.sin, np.cos),
    "selu": (_selu, _selu_slope),
}
ACTIVATIONS = (*_SMOOTH, "relu", "leaky_relu")


class MeanField(Result):
    """A wide random net at its fixed point.

    - `size`: q*, variance of the fields; infinite where they grow without end.
    - `chi`: mean squared gain of a gradient a layer (or a step). `exponent`: (1/2) ln chi, nats a step.
    - `likeness`: c*, to which the correlation of two inputs tends.
    - `depth_of_size`, `depth_of_likeness`: xi_q, xi_c in layers (or steps).
    """

    size: Float[Array, ""]
    chi: Float[Array, ""]
    exponent: Float[Array, ""]
    likeness: Float[Array, ""]
    depth_of_size: Float[Array, ""]
    depth_of_likeness: Float[Array, ""]
    activation: str = eqx.field(static=True)

    def rows(self) -> list[Row]:
        return [
            Row("activation", self.activation),
            Row("variance of the fields, q*", self.size),
            Row("squared gain of a gradient, chi", self.chi),
            Row("exponent, nats a step", self.exponent),
            Row("correlation of two inputs, c*", self.likeness),
            Row("depth scale of the size", self.depth_of_size),
            Row("depth scale of the likeness", self.depth_of_likeness),
        ]

    @property
    def cautions(self) -> tuple[str, ...]:
        return () if np.isfinite(float(self.size)) else ("fields grow without end: no size of a signal is kept",)


def mean_field(activation: Any, weight_variance: Any, bias_variance: Any = 0.0, *, slope: Any = 0.01) -> MeanField:
    r"""Return the fixed point of a wide random net.

        q* = s_w E phi(sqrt(q*) z)^2 + s_b,      chi = s_w E phi'(sqrt(q*) z)^2

    **Arguments:**

    - `activation`: "tanh", "erf", "sine", "selu", "relu" or "leaky_relu"; `slope`: of the last for negative fields.
    - `weight_variance`: s_w > 0, N times the variance of a weight. `bias_variance`: s_b >= 0, of biases and inputs.

    **Returns:** a `MeanField`. At chi = 1 the depth scale of the likeness is infinite.

    **Raises:** `ValueError` for another activation or numbers outside their range.

    **Example:** on the critical line of tanh gradients keep their size.

    >>> import separatrix as sx
    >>> found = sx.recurrent.mean_field("tanh", 1.76095464, 0.05)
    >>> round(float(found.chi), 6), round(float(found.size), 5)
    (1.0, 0.57005)

    **Reference:** Poole et al. (2016), equations 3, 5 and 8; Schoenholz et al. (2017), equations 8 and 10.
    """
    phi, derivative = _functions("mean_field", activation, slope)
    ranges.positive("mean_field: weight_variance", weight_variance, "Take 1, or what is critical.")
    ranges.nonnegative("mean_field: bias_variance", bias_variance, "Leave it out for none.")
    s_w, s_b = float(weight_variance), float(bias_variance)
    q = _fixed_size(phi, derivative, s_w, s_b, _is_homogeneous(activation))
    root = np.sqrt(q) if np.isfinite(q) else 1.0
    chi = s_w * _mean(lambda x: derivative(x) ** 2, root)
    c, along = 1.0, chi
    if chi > 1 + _ROUNDING and _LEAST < q < np.inf and not _is_homogeneous(activation):
        c = _fixed_likeness(phi, root, s_w, s_b, q)
        along = s_w * _pair_mean(derivative, root, c)
    # d/dq E phi(sqrt(q) z)^2 = E phi phi' z/sqrt(q), by parts E[phi'^2 + phi phi''], and E phi'^2 at q = 0.
    slope_of_size = s_w * (_mean(lambda x: phi(x) * derivative(x) * x, root) / q if q > _LEAST else chi / s_w)
    numbers = (q, chi, 0.5 * np.log(chi), c, _depth(slope_of_size), _depth(along))
    return MeanField(*(jnp.asarray(float(number)) for number in numbers), activation=activation)


def critical_weight_variance(activation: Any, bias_variance: Any = 0.0, *, slope: Any = 0.01) -> float:
    r"""Return the variance s_w of weights for which chi = 1, given that of biases and inputs.

    **Arguments:** as of `mean_field`.

    **Returns:** s_w; for tanh and erf above it is chaos, below it order.

    **Raises:** `ValueError` for (leaky) ReLU with s_b > 0: their fields then grow without end at chi = 1; and where an
    activation has no critical variance with this s_b.

    **Example:**

    >>> import separatrix as sx
    >>> round(sx.recurrent.critical_weight_variance("tanh", 0.05), 6)
    1.760955
    >>> sx.recurrent.critical_weight_variance("relu")
    2.0

    **Reference:** Poole et al. (2016), figure 1; Schoenholz et al. (2017), section 3.
    """
    phi, derivative = _functions("critical_weight_variance", activation, slope)
    ranges.nonnegative("critical_weight_variance: bias_variance", bias_variance, "Leave it out for none.")
    s_b = float(bias_variance)
    weights = lambda q: 1 / _mean(lambda x: derivative(x) ** 2, np.sqrt(q))  # noqa: E731
    if _is_homogeneous(activation):
        if s_b > 0:
            do = "Leave biases and inputs out of it, or take tanh."
            raise ValueError(_no_line("critical_weight_variance", f"{activation} with variance {s_b:g}", do))
        return float(weights(1.0))
    if s_b == 0:
        return float(weights(_NOTHING))
    # q - s_w(q) E phi^2 = s_b along the line that q runs through.
    missing = lambda q: q - weights(q) * _mean(lambda x: phi(x) ** 2, np.sqrt(q)) - s_b  # noqa: E731
    most = s_b
    while missing(most) < 0:
        most *= 2
        if most > 1e4:
            do = "Take less of it, or another activation."
            raise ValueError(_no_line("critical_weight_variance", f"{activation} with variance {s_b:g}", do))
    return float(weights(bracketed_root(missing, s_b / 2, most, atol=1e-15, rtol=1e-14)))


def critical_bias_variance(activation: Any, weight_variance: Any) -> float:
    r"""Return the variance s_b of biases, inputs or noise for which chi = 1: of x' = tanh(g J x + xi) the noise that
    ends chaos.

    **Arguments:** "tanh", "erf" or "sine"; s_w above 1/phi'(0)^2, so that without them there is chaos.

    **Returns:** s_b.

    **Raises:** `ValueError` for another activation, or weights that are not chaotic without biases.

    **Example:** noise of this variance in the fields ends chaos at gain 1.5.

    >>> import separatrix as sx
    >>> round(sx.recurrent.critical_bias_variance("tanh", 1.5**2), 8)
    0.18614375

    **Reference:** Molgedey, Schuchhardt & Schuster, *Suppressing chaos in neural networks by noise*, PRL 69 (1992).
    """
    if activation not in ("tanh", "erf", "sine"):
        raise ValueError(unknown("critical_bias_variance", activation, ("tanh", "erf", "sine"), "Choose one of them."))
    phi, derivative = _functions("critical_bias_variance", activation, 0.0)
    ranges.positive("critical_bias_variance: weight_variance", weight_variance, "Take for example 2.")
    s_w = float(weight_variance)
    gain = lambda q: s_w * _mean(lambda x: derivative(x) ** 2, np.sqrt(q)) - 1  # noqa: E731
    # chi(q) of sine tends to s_w/2 from above: past 2 it never comes down to 1.
    if not gain(_NOTHING) > _ROUNDING or not gain(1e6) < 0:
        do = "Take weights that are chaotic without biases" + (
            ", of variance below 2." if activation == "sine" else "."
        )
        raise ValueError(_no_line("critical_bias_variance", f"{activation} with weights of variance {s_w:g}", do))
    q = bracketed_root(gain, _NOTHING, 1e6, atol=1e-15, rtol=1e-14)
    return float(q - s_w * _mean(lambda x: phi(x) ** 2, np.sqrt(q)))


def _functions(where: str, activation: Any, slope: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    if activation in _SMOOTH:
        return _SMOOTH[activation]
    if activation not in ACTIVATIONS:
        raise ValueError(unknown(f"{where}: activation", activation, ACTIVATIONS, "Choose one of them."))
    ranges.finite(f"{where}: slope", slope, "Take 0.01.")
    a = 0.0 if activation == "relu" else float(slope)
    return lambda x: np.where(x > 0, x, a * x), lambda x: np.where(x > 0, 1.0, a)


def _is_homogeneous(activation: str) -> bool:
    """phi(s x) = s phi(x) for s > 0: chi does not depend on the size."""
    return activation in ("relu", "leaky_relu")


def _mean(function: Callable[[np.ndarray], np.ndarray], s: float) -> float:
    """E f(s z): Gauss-Legendre on panels of width at most 1 in s z, with a border at the kink 0."""
    panels = int(np.ceil(_TAIL * min(max(s, 2.5), 1e4)))
    edges = np.linspace(0, _TAIL, panels + 1)
    half = np.diff(edges)[:, None] / 2
    z = edges[:-1, None] + half * (1 + _NODES)
    density = half * _WEIGHTS * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return float(np.sum(density * (function(s * z) + function(-s * z))))


def _pair_mean(function: Callable[[np.ndarray], np.ndarray], s: float, c: float) -> float:
    """E f(u_1) f(u_2) for Gaussian u of variance s^2 and correlation c.

    Over u_2, given u_1, the panels have a border where u_2 = 0, so that a kink lies between them.
    """
    z, weight = _panels(np.array(-_TAIL), np.array(_TAIL), 2 * int(np.ceil(_TAIL * max(1.0, s))))
    across = np.sqrt((1 - c) * (1 + c))
    border = np.clip(-c * z / max(across, 1e-300), -_TAIL, _TAIL)
    total = np.zeros_like(z)
    for low, high in ((np.full_like(border, -_TAIL), border), (border, np.full_like(border, _TAIL))):
        y, share = _panels(low, high, int(np.ceil(_TAIL * max(1.0, s))))
        total += np.sum(share * np.exp(-(y**2) / 2) * function(s * (c * z[:, None] + across * y)), axis=-1)
    return float(np.sum(weight * np.exp(-(z**2) / 2) * function(s * z) * total) / (2 * np.pi))


def _panels(low: np.ndarray, high: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of composite Gauss-Legendre from low to high, on a new last axis."""
    edges = np.linspace(low, high, count + 1, axis=-1)
    half = np.diff(edges, axis=-1)[..., None] / 2
    nodes, weights = edges[..., :-1, None] + half * (1 + _NODES), half * _WEIGHTS
    shape = (*np.shape(low), -1)
    return nodes.reshape(shape), weights.reshape(shape)


def _fixed_size(phi: Any, derivative: Any, s_w: float, s_b: float, homogeneous: bool) -> float:
    """The stable q = s_w E phi^2 + s_b that is reached from 1."""
    if homogeneous:
        kept = 1 - s_w * _mean(lambda x: phi(x) ** 2, 1.0)
        if abs(kept) < 1e-14:
            return 1.0 if s_b == 0 else np.inf
        return s_b / kept if kept > 0 else np.inf
    if s_b == 0 and phi(np.zeros(1))[0] == 0 and s_w * derivative(np.zeros(1))[0] ** 2 <= 1 and phi is not _selu:
        return 0.0  # phi^2 <= phi'(0)^2 x^2
    growth = lambda q: s_w * _mean(lambda x: phi(x) ** 2, np.sqrt(q)) + s_b - q  # noqa: E731
    low = high = 1.0
    while low > _LEAST and growth(low) < 0:
        low /= 2
    while high < _MOST and growth(high) > 0:
        high *= 2
    if low <= _LEAST:
        return 0.0 if s_b == 0 else s_b
    return np.inf if high >= _MOST else bracketed_root(growth, low, high, atol=1e-16, rtol=1e-14)


def _fixed_likeness(phi: Any, root: float, s_w: float, s_b: float, q: float) -> float:
    """c* < 1 of a net with chi > 1: the map is convex, with slope chi at its fixed point 1."""
    excess = lambda c: (s_w * _pair_mean(phi, root, c) + s_b) / q - c  # noqa: E731
    if excess(0.0) <= 1e-13:
        return 0.0
    far = 0.5
    while excess(1 - far) > 0 and far < 1:
        far /= 2
        if far < 1e-9:
            return 1.0
    return bracketed_root(excess, 0.0, 1 - far, atol=1e-12, rtol=1e-12)


def _depth(slope: float) -> float:
    """-1/ln of the size of a slope below 1: 0 for none, infinite at 1, where nothing settles, NaN above."""
    slope = abs(slope)
    if slope == 0:
        return 0.0
    if abs(slope - 1) < _ROUNDING:
        return float("inf")
    return float(-1 / np.log(slope)) if slope < 1 else float("nan")


def _no_line(where: str, got: str, do: str) -> str:
    return explain(where, got, "parameters with a point where chi = 1", do)
