r"""The largest Lyapunov exponent of a map, with its standard error.

    v[n+1] = DF(n, x[n]) v[n] / s[n],    s[n] = |DF(n, x[n]) v[n]|,        lambda = lim (1/N) sum_n ln s[n]

A perturbation is carried along and brought back to length one after each step (Benettin); this is itself a map, on
(x, v, sum of ln s). The sum is read at the ends of B equal batches: their means are nearly independent where a batch is
longer than the memory of the orbit, and give the standard error of the whole as their deviation over sqrt(B).
"""

import warnings
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import asarrays, float_dtype, is_inexact, norm, scale
from separatrix._types import Key, State, StepIndex
from separatrix.calculus.tangent import TangentState, tangent
from separatrix.evolution import Save, evolve
from separatrix.systems.map import FiniteMap, Map
from separatrix.systems.trajectory import Outcome

# Left out at first, in batches: an eighth of what counts.
_TRANSIENT = 4


class Exponent(eqx.Module):
    """A Lyapunov exponent in nats a step.

    - `value`, `standard_error`: the mean over batches and its error. `batches`, shape (B,): the mean of each.
    - `outcome`: of the orbit; where it did not complete, the value is NaN.
    """

    value: Float[Array, "..."]
    standard_error: Float[Array, "..."]
    batches: Float[Array, "... batches"]
    outcome: Outcome

    def __repr__(self) -> str:
        if jnp.ndim(self.value):
            return f"Exponent({jnp.shape(self.value)} values)"
        return f"Exponent({float(self.value):.6g} +- {float(self.standard_error):.1g}; {self.outcome.name})"


class StretchingMap(Map):
    """(x, v, sum of ln s) -> (F(x), DF(x) v / s, sum + ln s), s = |DF(x) v|."""

    map: Map

    def step(self, n: StepIndex, state: State, *, key: Key | None = None) -> State:
        pair, growth = state
        point, pushed = cast(Map, tangent(self.map)).step(n, TangentState(*pair), key=key)
        length = norm(pushed)
        return TangentState(point, scale(1 / length, pushed)), growth + jnp.log(length)


def largest_exponent(
    map: Any,
    state: Any,
    *,
    steps: int | None = None,
    key: Key | None = None,
    transient: int | None = None,
    batches: int = 32,
    direction: Any = None,
) -> Exponent:
    r"""Measure the largest Lyapunov exponent of a map.

    **Arguments:**

    - `map`: any `Map`; a driven one for the exponent conditional on its inputs, a random one with its `key`.
    - `state`: where the orbit starts, in float64.
    - `steps`: how many count, rounded down to whole batches; by default as many as a `FiniteMap` has left.
    - `transient`: steps before that, in which the orbit settles and the perturbation turns; by default an eighth of
      `steps`.
    - `batches`: into how many equal parts the steps are divided, at least 2. The standard error is right where one part is
      longer than the orbit's memory.
    - `direction`: the perturbation at the start; by default a fixed one without symmetry.

    **Returns:** an `Exponent`.

    **Raises:** `ValueError` for steps that are fewer than the batches or more than the map has; `TypeError` for anything
    but a `Map`.

    **Example:** the logistic map at r = 4 doubles a perturbation on average: ln 2 = 0.693.

    >>> import separatrix as sx
    >>> logistic = sx.as_map(lambda x: 4.0 * x * (1.0 - x))
    >>> round(sx.largest_exponent(logistic, 0.3, steps=200_000).value.item(), 3)
    0.693

    **Reference:** Benettin, Galgani, Giorgilli & Strelcyn, *Lyapunov characteristic exponents for smooth dynamical
    systems*, Meccanica 15 (1980), part 2; Flegal & Jones, *Batch means and spectral variance estimators in Markov chain
    Monte Carlo* (2010), for the standard error.
    """
    if not isinstance(map, Map):
        do = "Discretise a flow first, and divide by the step size."
        raise TypeError(explain("largest_exponent", type(map).__name__, "a Map", do))
    state = asarrays(state)
    _warn_of_float32(state)
    length, transient = _plan(map, steps, transient, batches)
    direction = _generic(state) if direction is None else asarrays(direction)
    start = TangentState(state, scale(1 / norm(direction), direction)), jnp.zeros((), float_dtype(state))
    borders = transient + length * np.arange(batches + 1)
    path = evolve(StretchingMap(map), start, steps=int(borders[-1]), key=key, save=Save(borders, _growth))
    means = jnp.diff(path.states) / length
    error = jnp.std(means, ddof=1) / batches**0.5
    return Exponent(jnp.mean(means), error, means, path.outcome)


def _plan(map: Map, steps: Any, transient: Any, batches: int) -> tuple[int, int]:
    """(steps in a batch, steps before the first)."""
    available = map.length if isinstance(map, FiniteMap) else None
    if steps is None:
        if available is None:
            raise ValueError(
                explain("largest_exponent: steps", "None", "a whole number", "Say how many: steps=10_000.")
            )
        share = batches / (batches + _TRANSIENT)
        steps = available - transient if transient is not None else int(available * share)
    length = int(steps) // max(batches, 1)
    if batches < 2 or length < 1:
        expected = "at least 2 batches of one step or more"
        do = "Take more steps, or fewer batches."
        raise ValueError(explain("largest_exponent", f"{steps} steps in {batches} batches", expected, do))
    transient = _TRANSIENT * length if transient is None else int(transient)
    if available is not None and transient + length * batches > available:
        got = f"{transient} + {length * batches} steps"
        do = "Take fewer steps, or a longer record of inputs."
        raise ValueError(explain("largest_exponent: steps", got, f"at most the {available} this map has", do))
    return length, transient


def _growth(state: State) -> Any:
    return state[1]


def _generic(state: State) -> State:
    """A fixed perturbation that no symmetry or subspace is likely to hold."""
    leaves, structure = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    parts = [jax.random.normal(key, jnp.shape(leaf), leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, parts)


def _warn_of_float32(state: State) -> None:
    if any(is_inexact(leaf) for leaf in jax.tree.leaves(state)) and jnp.finfo(float_dtype(state)).bits < 64:
        do = "Enable x64 and give a float64 state; single precision shadows a chaotic orbit for about 20 steps only."
        got = str(float_dtype(state))
        warnings.warn(explain("largest_exponent: state", got, "float64", do), RuntimeWarning, stacklevel=3)
