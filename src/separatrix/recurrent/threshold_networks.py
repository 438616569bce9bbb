r"""Threshold networks: units of +-1, each hearing K others and one common input.

    x_i[n+1] = sgn( sum_{j in K_i} w_ij x_j[n] + u[n] ),     w_ij ~ N(0, variance),     u[n] = ubar +- 1

How two states of the same network part (damage) is told by the part d of units in which they differ. If the weights
were drawn anew at each step (the annealed approximation, right for N -> infinity and short times), then of the K
inputs of a unit c ~ Binomial(K, d) differ, its two fields are Gaussian of variance K w and correlation 1 - 2c/K, and

    d' = sum_c Binomial(K, d)(c) P_c(u),     P_c(u) = 4 T(u/sqrt(K variance), sqrt(c/(K - c))),

with Owen's function T the chance that one field is above -u and the other is not. The network is chaotic where a single
difference makes more than one: K E_u P_1(u) > 1. Without input, P_1(0) = (2/pi) atan(1/sqrt(K - 1)): K = 2 gives
exactly K P_1(0) = 1, and is never chaotic.

**Reference:** Bertschinger & Natschlaeger, *Real-time computation at the edge of chaos in recurrent neural networks*,
Neural Computation 16 (2004), sections 2 and 3; Derrida & Pomeau (1986) for the annealed approximation; Owen (1956) for
T.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Int

from separatrix._errors import explain
from separatrix._types import Checked, Key, State, StepIndex
from separatrix.recurrent._roots import bracketed_root
from separatrix.recurrent._wiring import distinct
from separatrix.systems import ranges
from separatrix.systems.open import OpenMap


class ThresholdNetwork(OpenMap):
    """x' = sgn(sum_j w_ij x_j + u), +1 where the sum is 0; states of +-1 as floats, shape (N,), and one input a
    step."""

    columns: Int[Array, "units inputs"]
    weight: Float[Array, "units inputs"]

    def step(self, n: StepIndex, state: State, inputs: Any, *, key: Key | None = None) -> State:
        state = jnp.asarray(state)
        fields = jnp.sum(self.weight.astype(state.dtype) * state[self.columns], axis=1)
        return jnp.where(fields + jnp.asarray(inputs, state.dtype) >= 0, 1.0, -1.0).astype(state.dtype)


def threshold_network(size: Checked[int], inputs: Checked[int], variance: Any, *, key: Key) -> ThresholdNetwork:
    r"""Make a network of N threshold units that each hear K others.

    **Arguments:**

    - `size`: N. `inputs`: K, at least 1 and below N: drawn without repetition, and never the unit itself.
    - `variance`: of each weight, above 0. `key`: who hears whom, and how strongly.

    **Returns:** a `ThresholdNetwork`, to be driven: `sx.drive(network, u)`, with u[n] of shape (T,).

    **Raises:** `ValueError` for numbers outside their range.

    **Example:**

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> network = sx.recurrent.threshold_network(100, 4, 1.0, key=jax.random.key(0))
    >>> path = sx.evolve(sx.drive(network, jnp.ones(20)), jnp.ones(100))
    >>> sorted(set(path.final.tolist()))
    [-1.0, 1.0]
    """
    inputs = ranges.whole("threshold_network: inputs", inputs, "Take 4.")
    size = ranges.whole("threshold_network: size", size, "Take more units than inputs.", least=inputs + 1)
    ranges.positive("threshold_network: variance", variance, "Take about 1.")
    whom, how = jax.random.split(key)
    # A number below N - 1 for each unit, moved past the unit itself.
    others = distinct(whom, size, size - 1, inputs)
    columns = others + (others >= jnp.arange(size, dtype=others.dtype)[:, None]).astype(others.dtype)
    normal = jax.random.normal(how, (size, inputs))
    return ThresholdNetwork(columns, normal * jnp.sqrt(jnp.asarray(variance, normal.dtype)))


def flip_probability(differing: Any, inputs: Checked[int], variance: Any, field: Any = 0.0) -> Float[np.ndarray, "..."]:
    r"""Return P_c(u): the chance that a unit differs if c of its K inputs do.

    **Arguments:**

    - `differing`: c, from 0 to K. `inputs`: K. `variance`: of a weight. `field`: u.

    **Returns:** 4 T(u/sqrt(K variance), sqrt(c/(K - c))), of the shape of c and u together.

    **Raises:** `ValueError` for numbers outside their range.

    **Example:**

    >>> import separatrix as sx
    >>> round(float(sx.recurrent.flip_probability(1, 4, 1.0)), 12)
    0.333333333333
    """
    inputs = ranges.whole("flip_probability: inputs", inputs, "Take 4.")
    ranges.positive("flip_probability: variance", variance, "Take about 1.")
    ranges.finite("flip_probability: field", field, "Pass the common input u.")
    c, u = np.broadcast_arrays(np.asarray(differing, float), np.asarray(field, float))
    if not ((c >= 0) & (c <= inputs)).all():
        raise ValueError(explain("flip_probability: differing", differing, f"0 to {inputs}", "Pass how many differ."))
    with np.errstate(divide="ignore"):
        ratio = np.sqrt(c / (inputs - c))
    return np.asarray(4 * scipy.special.owens_t(u / np.sqrt(inputs * float(variance)), ratio))


def damage_map(
    distance: Any, inputs: Checked[int], variance: Any, *, mean: Any = 0.0, share: Any = 0.5
) -> Float[np.ndarray, "..."]:
    r"""Return d', the part of units that differ after a step, from d: the annealed approximation.

    **Arguments:**

    - `distance`: d, from 0 to 1. `inputs`, `variance`: K, and that of a weight.
    - `mean`: ubar of the input u = ubar +- 1. `share`: how often it is ubar + 1.

    **Returns:** d', of the shape of d.

    **Raises:** `ValueError` for numbers outside their range.

    **Example:** two states that have nothing in common, without more than the input to agree on.

    >>> import separatrix as sx
    >>> float(sx.recurrent.damage_map(0.0, 4, 1.0))
    0.0

    **Reference:** Bertschinger & Natschlaeger (2004), equation 3.
    """
    ranges.share("damage_map: distance", distance, "Pass the part of units that differ.")
    ranges.share("damage_map: share", share, "Take 0.5.")
    ranges.finite("damage_map: mean", mean, "Take 0.")
    d = np.asarray(distance, float)[..., None]
    c = np.arange(inputs + 1)
    chance = scipy.special.comb(inputs, c) * d**c * (1 - d) ** (inputs - c)
    up, down = (flip_probability(c, inputs, variance, float(mean) + sign) for sign in (1, -1))
    return np.asarray(np.sum(chance * (float(share) * up + (1 - float(share)) * down), axis=-1))


def damage_gain(inputs: Checked[int], variance: Any, *, mean: Any = 0.0, share: Any = 0.5) -> float:
    r"""Return K E_u P_1(u), the slope of the damage map at 0: how many differences one makes; chaos above 1.

    **Arguments:** as of `damage_map`.

    **Returns:** the gain.

    **Raises:** `ValueError` for numbers outside their range.

    **Example:** two inputs a unit are never chaotic.

    >>> import separatrix as sx
    >>> sx.recurrent.damage_gain(2, 1e9) < 1
    True
    """
    ranges.share("damage_gain: share", share, "Take 0.5.")
    ranges.finite("damage_gain: mean", mean, "Take 0.")
    up, down = (float(flip_probability(1, inputs, variance, float(mean) + sign)) for sign in (1, -1))
    return inputs * (float(share) * up + (1 - float(share)) * down)


def critical_variance(inputs: Checked[int], *, mean: Any = 0.0, share: Any = 0.5) -> float:
    r"""Return the variance of weights at which one difference makes one: K E_u P_1(u) = 1.

    **Arguments:** as of `damage_map`.

    **Returns:** the variance; infinite where no network of so many inputs is chaotic (K = 1 and 2).

    **Raises:** `ValueError` for numbers outside their range.

    **Example:**

    >>> import separatrix as sx
    >>> round(sx.recurrent.critical_variance(4), 6), sx.recurrent.critical_variance(2)
    (0.478588, inf)

    **Reference:** Bertschinger & Natschlaeger (2004), equation 5 and figure 4.
    """
    inputs = ranges.whole("critical_variance: inputs", inputs, "Take 4.")
    # The gain rises with the variance, as u/sqrt(K variance) falls, to K P_1(0).
    if inputs * float(flip_probability(1, inputs, 1.0)) <= 1 + 1e-12:
        return float("inf")
    excess = lambda log: damage_gain(inputs, float(np.exp(log)), mean=mean, share=share) - 1  # noqa: E731
    low, high = -1.0, 1.0
    while excess(low) > 0:
        low -= 5
        if low < -200:
            return 0.0
    while excess(high) < 0:
        high += 5
    return float(np.exp(bracketed_root(excess, low, high, atol=1e-14, rtol=1e-14)))
