r"""The random network: N tanh units, all-to-all with random weights.

    x[n+1] = tanh(g J x[n]),      J_ij ~ N(0, 1/N) independent.

As N -> infinity the fields h = g J x are Gaussian of variance q with

    q = g^2 E tanh^2(sqrt(q) z),      z ~ N(0, 1),

which is 0 for g <= 1; two orbits that start close part at the rate lambda = (1/2) ln(g^2 E sech^4(sqrt(q) z)), the
largest Lyapunov exponent. It is ln g below g = 1 and positive above: at the edge rest turns into chaos without a stop
between. Noise of variance s^2 in the fields, the same for both orbits, adds s^2 to q: it saturates the units, and
enough of it ends chaos (`critical_bias_variance("tanh", g^2)`).

At rest all exponents are those of the matrix: by the circular law the eigenvalues of g J fill the disc of radius g
evenly, so that of all exponents the part below s is

    map x' = tanh(g J x)            F(s) = exp(2 s)/g^2,                                      s <= ln g,
    flow dx/dt = -x + g J tanh(x)   F(s) = 1/2 + (u sqrt(1 - u^2) + asin u)/pi,   u = (s + 1)/g in [-1, 1],

and the leaky map x' = (1 - d) x + d tanh(g J x) has the largest ln(1 - d (1 - g)).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._errors import explain
from separatrix._types import Checked, Key, Scalar, State, StepIndex
from separatrix.recurrent.mean_fields import mean_field
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter, require_key
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map


class RandomNetwork(Map):
    """x -> (1 - d) x + d tanh(g J x + s z), with J, g, d, s as leaves: the gain can be swept, the weights drawn in a
    batch.

    The leak d is 1, and there is no noise, unless they are given; with noise a step needs a key.
    """

    weight: Array
    gain: Scalar
    leak: Scalar | None = None
    noise: Scalar | None = None

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        state = jnp.asarray(state)
        fields = jnp.asarray(self.gain, state.dtype) * (self.weight @ state)
        if self.noise is not None:
            normal = jax.random.normal(require_key(key, "RandomNetwork with noise"), state.shape, state.dtype)
            fields = fields + jnp.asarray(self.noise, state.dtype) * normal
        moved = jnp.tanh(fields)
        return moved if self.leak is None else state + jnp.asarray(self.leak, state.dtype) * (moved - state)


class RandomNetworkFlow(Flow):
    """dx/dt = -x + g J tanh(x): rest is unstable past g = 1, and as N grows chaos follows at once."""

    weight: Array
    gain: Scalar

    def velocity(self, t: Scalar, state: State) -> State:
        state = jnp.asarray(state)
        return -state + jnp.asarray(self.gain, state.dtype) * (self.weight @ jnp.tanh(state))


def random_network(
    size: Checked[int], gain: Any, *, key: Key, leak: Any = None, noise: Any = None, dtype: Any = None
) -> RandomNetwork:
    r"""Make the map x -> (1 - d) x + d tanh(g J x + s z) with J_ij ~ N(0, 1/N).

    **Arguments:**

    - `size`: N >= 1. `gain`: g >= 0; chaotic above 1 as N -> infinity.
    - `key`: J. `dtype`: of J; JAX's default float if None.
    - `leak`: d from 0 to 1; 1 if None. `noise`: s >= 0, the standard deviation of what is added to each field; none if
      None.

    **Returns:** a `RandomNetwork`, a `Map` on vectors of length N; random where there is noise.

    **Raises:** `ValueError` for a size that is not a whole number of at least 1, a negative gain or noise, or a leak
    outside [0, 1].

    **Example:** below g = 1 all activity dies out.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> network = sx.recurrent.random_network(100, 0.5, key=jax.random.key(0))
    >>> bool(jnp.max(jnp.abs(sx.evolve(network, jnp.ones(100), steps=100).final)) < 1e-20)
    True

    **Reference:** Sompolinsky, Crisanti & Sommers, *Chaos in random neural networks*, PRL 61 (1988), for the flow;
    Molgedey, Schuchhardt & Schuster, *Suppressing chaos in neural networks by noise*, PRL 69 (1992), for the map.
    """
    ranges.whole("random_network: size", size, "Pass at least one unit.")
    ranges.nonnegative("random_network: gain", gain, "Take about 1, the edge of chaos.")
    weight = jax.random.normal(key, (size, size), dtype) * size**-0.5
    if leak is not None:
        ranges.share("random_network: leak", leak, "Leave it out for 1.")
    if noise is not None:
        ranges.nonnegative("random_network: noise", noise, "Leave it out for none.")
    return RandomNetwork(weight, as_parameter(gain), as_parameter(leak), as_parameter(noise))


def random_network_flow(size: Checked[int], gain: Any, *, key: Key, dtype: Any = None) -> RandomNetworkFlow:
    r"""Make the flow dx/dt = -x + g J tanh(x) with J_ij ~ N(0, 1/N).

    **Arguments:** as of `random_network`.

    **Returns:** a `RandomNetworkFlow`.

    **Raises:** as `random_network`.

    **Example:** near rest it is linear, with velocity (g J - 1) x.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> flow = sx.recurrent.random_network_flow(3, 0.5, key=jax.random.key(0))
    >>> x = 1e-9 * jnp.ones(3)
    >>> bool(jnp.allclose(flow.velocity(0.0, x), 0.5 * flow.weight @ x - x, rtol=1e-6))
    True

    **Reference:** Sompolinsky, Crisanti & Sommers, PRL 61 (1988).
    """
    network = random_network(size, gain, key=key, dtype=dtype)
    return RandomNetworkFlow(network.weight, network.gain)


def exponents_at_rest(rate: Any, gain: Any, *, leak: Any = None, continuous: Checked[bool] = False) -> Any:
    r"""Return the part of the exponents of a wide random network at rest that lie below a rate.

        map  F(s) = exp(2 s)/g^2,        flow  F(s) = 1/2 + (u sqrt(1 - u^2) + asin u)/pi,   u = (s + 1)/g

    **Arguments:**

    - `rate`: s, nats a step or a unit of time; any shape. `gain`: g > 0.
    - `leak`: d of the leaky map, above 0 up to 1: its eigenvalues fill the disc of radius d g around 1 - d.
    - `continuous`: of dx/dt = -x + g J tanh(x), not of the map.

    **Returns:** F(s), from 0 to 1. The network is at rest for g <= 1; past it this is the spectrum of the unstable
    rest.

    **Raises:** `ValueError` for numbers outside their range, or a leak of the flow.

    **Example:**

    >>> import separatrix as sx
    >>> round(float(sx.recurrent.exponents_at_rest(-1.4, 0.8, continuous=True)), 7)
    0.1955011

    **Reference:** Girko (1985), Tao & Vu (2008) for the circular law.
    """
    ranges.positive("exponents_at_rest: gain", gain, "Pass for example 0.8.")
    s, g = np.asarray(rate, float), float(gain)
    if continuous:
        if leak is not None:
            raise ValueError(explain("exponents_at_rest: leak", leak, "none of a flow", "Leave it out."))
        u = np.clip((s + 1) / g, -1, 1)
        return 0.5 + (u * np.sqrt(1 - u**2) + np.arcsin(u)) / np.pi
    d = 1.0 if leak is None else leak
    ranges.positive("exponents_at_rest: leak", d, "Leave it out for 1.")
    ranges.share("exponents_at_rest: leak", d, "Leave it out for 1.")
    return _common_area(np.exp(s), d * g, 1 - d) / (np.pi * (d * g) ** 2)


def _common_area(first: Any, second: float, apart: float) -> Any:
    """The area that discs of radii a around 0 and b around c >= 0 have in common."""
    a, b, c = first, second, max(apart, 1e-300)
    inside = np.pi * np.minimum(a, b) ** 2
    with np.errstate(all="ignore"):
        alpha = np.arccos(np.clip((c**2 + a**2 - b**2) / (2 * c * a), -1, 1))
        beta = np.arccos(np.clip((c**2 + b**2 - a**2) / (2 * c * b), -1, 1))
        lens = a**2 * (alpha - np.sin(2 * alpha) / 2) + b**2 * (beta - np.sin(2 * beta) / 2)
    return np.where(c <= np.abs(a - b), inside, np.where(c >= a + b, 0.0, lens))


def mean_field_exponent(gain: float, *, noise: float = 0.0) -> float:
    r"""Return the largest Lyapunov exponent of the random network as N -> infinity.

        lambda = (1/2) ln(g^2 E sech^4(sqrt(q) z)),      q = g^2 E tanh^2(sqrt(q) z)

    **Arguments:** the gain g > 0; `noise`: variance s^2 >= 0 of what is added to each field, which adds to q.

    **Returns:** lambda in nats a step, to about 1e-14.

    **Raises:** `ValueError` for a gain that is not a positive number, or negative noise.

    **Example:** at rest the network is its linear part, with exponent ln g.

    >>> import separatrix as sx
    >>> round(sx.recurrent.mean_field_exponent(0.5), 6)
    -0.693147
    >>> sx.recurrent.mean_field_exponent(2.0) > 0
    True

    **Reference:** Molgedey, Schuchhardt & Schuster (1992); Poole et al., *Exponential expressivity in deep
    neural networks through transient chaos* (2016), equations 3 and 8.
    """
    ranges.positive("mean_field_exponent: gain", gain, "Pass for example 1.5.")
    ranges.nonnegative("mean_field_exponent: noise", noise, "Leave it out for none.")
    if noise > 0:
        return float(mean_field("tanh", float(gain) ** 2, noise).exponent)
    if gain <= 1:
        return float(np.log(gain))
    # In s = sqrt(q): g sqrt(E tanh^2(s z))/s falls with s. Because tanh^2 y lies between y^2 - 2 y^4/3 and 1, its
    # crossing of 1 lies between these.
    low, high = np.sqrt((1 - gain**-2) / 2), float(gain)
    while high - low > 4 * np.finfo(float).eps * high:
        s = (low + high) / 2
        low, high = (s, high) if gain * np.sqrt(normal_mean(lambda y: np.tanh(y) ** 2, s)) > s else (low, s)
    return float(np.log(gain) + 0.5 * np.log(normal_mean(lambda y: np.cosh(np.minimum(y, _FLAT)) ** -4.0, low)))


# Past this argument tanh^2 is 1 and sech^2 is 0 to 4 e^-48 = 6e-21.
_FLAT = 24.0
# Past this many standard deviations a normal variable is found with probability 2e-23.
_TAIL = 10.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


def normal_mean(function: Callable[[np.ndarray], np.ndarray], s: float) -> float:
    """E f(s z), z ~ N(0, 1), for an even f made of tanh: poles at +- i pi/2, flat past 24.

    Gauss-Legendre on panels of width at most 1 in s z up to there, and at most 1 in z after. Half a panel is then at
    most 0.32 of the distance to the nearest pole, so that 20 nodes err by less than rounding.
    """
    bend = min(_TAIL, _FLAT / s)
    edges = np.concatenate([np.linspace(0, bend, 25), np.linspace(bend, _TAIL, 11)[1:]])
    half = np.diff(edges)[:, None] / 2
    z = edges[:-1, None] + half * (1 + _NODES)
    return float(np.sum(half * _WEIGHTS * np.exp(-(z**2) / 2) * function(s * z)) * np.sqrt(2 / np.pi))
