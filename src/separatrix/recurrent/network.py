r"""The random network: N tanh units, all-to-all with random weights.

    x[n+1] = tanh(g J x[n]),      J_ij ~ N(0, 1/N) independent.

As N -> infinity the fields h = g J x are Gaussian of variance q with

    q = g^2 E tanh^2(sqrt(q) z),      z ~ N(0, 1),

which is 0 for g <= 1; two orbits that start close part at the rate lambda = (1/2) ln(g^2 E sech^4(sqrt(q) z)), the largest
Lyapunov exponent. It is ln g below g = 1 and positive above: at the edge rest turns into chaos without a stop between.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from separatrix._types import Checked, Key, Scalar, State, StepIndex
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter
from separatrix.systems.map import Map


class RandomNetwork(Map):
    """x -> tanh(g J x), with J and g as leaves: the gain can be swept, the weights drawn in a batch."""

    weight: Array
    gain: Scalar

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        state = jnp.asarray(state)
        return jnp.tanh(jnp.asarray(self.gain, state.dtype) * (self.weight @ state))


def random_network(size: Checked[int], gain: Any, *, key: Key, dtype: Any = None) -> RandomNetwork:
    r"""Make the map x -> tanh(g J x) with J_ij ~ N(0, 1/N).

    **Arguments:**

    - `size`: N >= 1. `gain`: g >= 0; chaotic above 1 as N -> infinity.
    - `key`: J. `dtype`: of J; JAX's default float if None.

    **Returns:** a `RandomNetwork`, a `Map` on vectors of length N.

    **Raises:** `ValueError` for a size that is not a whole number of at least 1, or a negative gain.

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
    return RandomNetwork(weight, as_parameter(gain))


def mean_field_exponent(gain: float) -> float:
    r"""Return the largest Lyapunov exponent of the random network as N -> infinity.

        lambda = (1/2) ln(g^2 E sech^4(sqrt(q) z)),      q = g^2 E tanh^2(sqrt(q) z)

    **Arguments:** the gain g > 0.

    **Returns:** lambda in nats a step, to about 1e-14.

    **Raises:** `ValueError` for a gain that is not a positive number.

    **Example:** at rest the network is its linear part, with exponent ln g.

    >>> import separatrix as sx
    >>> round(sx.recurrent.mean_field_exponent(0.5), 6)
    -0.693147
    >>> sx.recurrent.mean_field_exponent(2.0) > 0
    True

    **Reference:** Molgedey, Schuchhardt & Schuster (1992), without noise; Poole et al., *Exponential expressivity in deep
    neural networks through transient chaos* (2016), equations 3 and 8.
    """
    ranges.positive("mean_field_exponent: gain", gain, "Pass for example 1.5.")
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

    Gauss-Legendre on panels of width at most 1 in s z up to there, and at most 1 in z after. Half a panel is then at most
    0.32 of the distance to the nearest pole, so that 20 nodes err by less than rounding.
    """
    bend = min(_TAIL, _FLAT / s)
    edges = np.concatenate([np.linspace(0, bend, 25), np.linspace(bend, _TAIL, 11)[1:]])
    half = np.diff(edges)[:, None] / 2
    z = edges[:-1, None] + half * (1 + _NODES)
    return float(np.sum(half * _WEIGHTS * np.exp(-(z**2) / 2) * function(s * z)) * np.sqrt(2 / np.pi))
